"""Removes containers, those last that others have joined.

Podman removes no container whose network or processes others have joined: a pod's infra container, and one that a debug
container looks at. Such a one is ended at once, and goes with the last of those; Docker removes it as it is.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

from virtual_kubelet_docker.daemon import Daemon, DaemonError

__all__ = ["Removals", "dependents"]

_JOINED: Final = "has dependent containers"
_ID: Final = re.compile(r"\b[0-9a-f]{64}\b")


class Removals:
    """Of one engine."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._left: dict[str, frozenset[str]] = {}

    @property
    def left(self) -> Collection[str]:
        """Ids of those that are removed for everybody but the engine: ended, and kept for others."""
        return self._left.keys()

    async def remove(self, container_id: str) -> None:
        """End and remove it; it is no error if it is not there. Raises ``DaemonError``."""
        pending = [container_id]
        while pending:
            one = pending.pop()
            if await self._removed(one):
                self._left = {kept: others - {one} for kept, others in self._left.items()}
                pending = [kept for kept, others in self._left.items() if not others]

    async def sweep(self, there: Collection[str]) -> None:
        """Remove those whose others are not ``there`` any more, whoever has removed them. Raises ``DaemonError``."""
        for kept, others in list(self._left.items()):
            if others.isdisjoint(there):
                await self.remove(kept)

    async def _removed(self, container_id: str) -> bool:
        """Whether the engine does not have it any more."""
        try:
            await self._daemon.request("DELETE", f"containers/{container_id}", params={"force": True, "v": True})
        except DaemonError as error:
            others = dependents(str(error))
            if others is not None:
                await self._end(container_id)
                self._left[container_id] = others
                return False
            if error.status != 404 and not (error.status == 409 and await self._is_going(container_id, error)):
                raise
        self._left.pop(container_id, None)
        return True

    async def _is_going(self, container_id: str, error: DaemonError) -> bool:
        """Whether somebody removes it already."""
        if "already in progress" in str(error):  # Docker, whose state of it does not say so at once
            return True
        try:
            state = (await self._daemon.get(f"containers/{container_id}/json"))["State"]
        except DaemonError as error:
            if error.status != 404:
                raise
            return True
        return bool(state.get("Status") == "removing")

    async def _end(self, container_id: str) -> None:
        try:
            await self._daemon.request("POST", f"containers/{container_id}/kill", params={"signal": 9})
        except DaemonError as error:
            if error.status == 404:
                return
            if (await self._daemon.get(f"containers/{container_id}/json"))["State"].get("Running"):
                raise


def dependents(message: str) -> frozenset[str] | None:
    """Who has joined a container, of Podman's refusal to remove it; None if that is not what it says. Pure.

    Podman names them by their whole ids, after "must be removed before it".
    """
    _, found, rest = message.partition(_JOINED)
    return frozenset(_ID.findall(rest)) if found else None
