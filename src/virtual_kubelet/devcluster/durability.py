"""Keeps what is stored on disk, too: an answer is sent when what it says is there, a watch event likewise.

Writes happen in memory first, one after the other, and are written to disk in batches by a thread. A batch that cannot
be written is undone, and all that came after it: nobody has been told of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from virtual_kubelet.devcluster.cluster_state import ClusterState
from virtual_kubelet.devcluster.data_directory import DataDirectory, NotStored, Row, Saved, Write
from virtual_kubelet.devcluster.generic_registry import GenericRegistry
from virtual_kubelet.devcluster.statuses import StatusError
from virtual_kubelet.devcluster.storage import Change
from virtual_kubelet.telemetry.logs import get_logger

__all__ = ["Durability", "insufficient_storage"]

log = get_logger(__name__)

#: After a failure the cluster's own controllers wait so long; a client's request is tried at once.
_PAUSE: Final = 1.0
_REVISION: Final = "revision"


def insufficient_storage(why: str) -> StatusError:
    """As a real server whose etcd is full, which says 500, too."""
    return StatusError(500, "InternalError", f"Internal error occurred: the cluster's state could not be stored: {why}")


class Durability:
    """One task that writes; ``settled`` waits for it."""

    def __init__(self, state: ClusterState, directory: DataDirectory, executor: ThreadPoolExecutor) -> None:
        """``executor``: of one thread, which the directory was opened in."""
        self._state = state
        self._directory = directory
        self._executor = executor
        self._pending: list[tuple[GenericRegistry, Change]] = []
        self._wake = asyncio.Event()
        self._asked = asyncio.Event()
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._undoing = False
        self._failing = False

    def load(self, saved: Saved) -> None:
        """Take what an earlier run has left, and listen from now on. The controllers hear of each object as of a new one."""
        registries = {registry.resource.key: registry for registry in self._state.registries}
        for (group, plural, _, _), raw in saved.objects:
            registry = registries.get((group, plural))
            if registry is not None:
                stored = registry.objects.load(raw)
                registry.resource.allocate(stored.decode())
        self._state.store.resume(int(saved.values.get(_REVISION, b"0")))
        for registry in registries.values():
            registry.objects.listen(partial(self._on_change, registry))
        self._state.store.hold_back()

    def _on_change(self, registry: GenericRegistry, change: Change) -> None:
        if not self._undoing:
            self._pending.append((registry, change))
            self._wake.set()

    @property
    def behind(self) -> bool:
        """Whether there is anything that is not on disk yet."""
        return self._state.store.durable_revision < self._state.store.revision

    async def settled(self) -> None:
        """Until all that there is now is on disk. Raises ``StatusError`` 500 if it was undone instead."""
        if not self.behind:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((self._state.store.revision, future))
        self._asked.set()
        await future

    async def run(self) -> None:
        """Until cancelled; what is pending then is for ``finish``."""
        while True:
            await self._wake.wait()
            if self._failing:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._asked.wait(), _PAUSE)
            writing = asyncio.ensure_future(self._write())
            try:
                await asyncio.shield(writing)
            except asyncio.CancelledError:
                # What has begun is brought to its end; the disk's time is short.
                await writing
                raise

    async def finish(self) -> None:
        """Write what is pending: nothing changes any more. Raises ``StatusError`` if that fails."""
        while self._pending:
            await self._write()
            if self._failing:
                raise insufficient_storage("see the log")

    async def _write(self) -> None:
        self._wake.clear()
        self._asked.clear()
        batch, self._pending = self._pending, []
        if not batch:
            return
        revision = batch[-1][1].revision
        writes = [_write(registry, change) for registry, change in batch]
        values = {_REVISION: str(revision).encode()}
        try:
            await self._in_thread(lambda: self._directory.write(writes, values))
        except NotStored as error:
            self._failed(batch, error)
            return
        if self._failing:
            log.warning("the cluster's state is written again")
            self._failing = False
        self._state.store.durable_revision = revision
        for registry, change in batch:
            registry.objects.publish(change)
        waiters, self._waiters = self._waiters, []
        for wanted, future in waiters:
            if wanted > revision:
                self._waiters.append((wanted, future))
            elif not future.done():
                future.set_result(None)

    def _failed(self, batch: list[tuple[GenericRegistry, Change]], error: NotStored) -> None:
        if not self._failing:
            log.error("the cluster's state cannot be written, writes are refused: %s", error)
            self._failing = True
        undone, self._pending = [*batch, *self._pending], []
        self._undoing = True
        try:
            for registry, change in reversed(undone):
                registry.undo(change)
        finally:
            self._undoing = False
        self._state.store.revision = self._state.store.durable_revision
        waiters, self._waiters = self._waiters, []
        for _, future in waiters:
            if not future.done():
                future.set_exception(insufficient_storage(str(error)))

    async def _in_thread(self, call: Callable[[], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._executor, call)


def _write(registry: GenericRegistry, change: Change) -> Write:
    group, plural = registry.resource.key
    row: Row = (group, plural, *change.last.key)
    return Write(row, change.after.raw if change.after is not None else None)
