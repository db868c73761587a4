"""Removes what is kept for a time only: events, an hour after their last change."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

from virtual_kubelet.devcluster.cluster_state import ClusterState
from virtual_kubelet.devcluster.storage import Change, Key

__all__ = ["Expiry"]

_PERIOD: Final = 30.0


class Expiry:
    """One task for all kinds with a ``time_to_live``."""

    def __init__(self, state: ClusterState) -> None:
        self._state = state
        self._written: dict[tuple[tuple[str, str], Key], float] = {}
        for registry in state.registries:
            if registry.resource.time_to_live is not None:
                resource = registry.resource.key
                registry.objects.listen(partial(self._note, resource))

    def _note(self, resource: tuple[str, str], change: Change) -> None:
        key = (resource, change.last.key)
        self._written.pop(key, None)
        if change.after is not None:
            # At the end: the dictionary stays in order of time.
            self._written[key] = self._state.clock.monotonic()

    def sweep(self) -> None:
        """Remove what is over."""
        now = self._state.clock.monotonic()
        for registry in self._state.registries:
            limit = registry.resource.time_to_live
            if limit is None:
                continue
            old: list[Key] = []
            for (resource, key), written in self._written.items():
                if resource == registry.resource.key:
                    if now - written < limit:
                        break
                    old.append(key)
            for key in old:
                stored = registry.objects.get(*key)
                if stored is not None:
                    registry.objects.remove(stored)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(_PERIOD)
            self.sweep()
