"""Notices that containers end: by the engine's events, and by looking when those break off and now and then.

Events only wake: what ended, and how, is asked of the engine. So nothing is lost while it is restarted, and a container that
somebody removed behind our back counts as ended. What cannot be asked is said once, and asked again until it can.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from virtual_kubelet import ContainerExit, TransientError
from virtual_kubelet_docker.daemon import Daemon, DaemonError
from virtual_kubelet_docker.instances import container_exit, was_started
from virtual_kubelet_docker.labels import Owner

__all__ = ["ExitWatch"]

#: Seconds until a broken stream of events is opened again, or a look that failed is repeated: doubled from first to second.
_RETRY: Final = (0.2, 5.0)
#: Seconds between two looks at all that is thought to run; what an engine forgets to tell is noticed then.
_LOOK: Final = 30.0
#: Seconds that the engine is given to note what it has told.
_NOTED: Final = 0.1
_GONE: Final = "the container engine does not know it any more"


class ExitWatch:
    """Run ``run`` as a task. Knows which containers run, for as long as this process lives."""

    def __init__(
        self, daemon: Daemon, owner: Owner, log: logging.LoggerAdapter[logging.Logger], *, look_every: float = _LOOK
    ) -> None:
        self._daemon = daemon
        self._owner = owner
        self._log = log
        self._look_every = look_every
        self._exited: Callable[[str, ContainerExit], None] = lambda container_id, ended: None
        self._running: set[str] = set()
        self._killed: set[str] = set()
        self._look = asyncio.Event()
        self._check: asyncio.Queue[str] = asyncio.Queue()

    def notify_exits(self, callback: Callable[[str, ContainerExit], None]) -> None:
        self._exited = callback

    def runs(self, container_id: str) -> None:
        """It was seen running, or is about to be started: its end will be told."""
        self._running.add(container_id)

    def forget(self, container_id: str) -> None:
        self._running.discard(container_id)
        self._killed.discard(container_id)

    def kill_requested(self, container_id: str) -> None:
        self._killed.add(container_id)

    def was_killed(self, container_id: str) -> bool:
        """Whether somebody asked the engine to kill it, as far as this process has heard."""
        return container_id in self._killed

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen(), name="engine events")
            tasks.create_task(self._look_now_and_then(), name="look at containers")
            tasks.create_task(self._inspect_ended(), name="inspect ended containers")

    async def _listen(self) -> None:
        retry, lost = _RETRY[0], False
        filters = self._owner.filters(type=["container"], event=["die", "kill", "destroy", "died", "remove"])
        while True:
            try:
                # What ended between two streams is found by looking, once the new one is open.
                async with self._daemon.open("GET", "events", params={"filters": filters}) as response:
                    if lost:
                        self._log.info("the container engine is back")
                    retry, lost = _RETRY[0], False
                    self._look.set()
                    async for event in self._daemon.values(response):
                        self._heard(event)
            except TransientError as error:
                if not lost:
                    self._log.warning("the container engine's events have broken off: %s", error)
                lost = True
            self._look.set()
            await asyncio.sleep(retry)
            retry = min(_RETRY[1], retry * 2)

    def _heard(self, event: Mapping[str, Any]) -> None:
        attributes = (event.get("Actor") or {}).get("Attributes") or {}
        if not self._owner.owns(attributes):
            return
        container_id, action = str((event.get("Actor") or {}).get("ID") or event.get("id") or ""), event.get("Action")
        if action == "kill":
            if str(attributes.get("signal")) in ("9", "SIGKILL", "KILL", "None"):
                self._killed.add(container_id)
        elif container_id in self._running:  # else it was never started, or is removed by us
            self._check.put_nowait(container_id)

    async def _inspect_ended(self) -> None:
        while True:
            container_id = await self._check.get()
            try:
                if not await self._inspect(container_id):
                    # The event may come before the engine has noted the end. Whoever is missed is found by the next look.
                    await asyncio.sleep(_NOTED)
                    await self._inspect(container_id)
            except TransientError as error:
                self._log.warning("container %s, which has ended, cannot be inspected: %s", container_id[:12], error)
                self._look.set()

    async def _look_now_and_then(self) -> None:
        retry, failing = _RETRY[0], False
        while True:
            try:
                async with asyncio.timeout(retry if failing else self._look_every):
                    await self._look.wait()
            except TimeoutError:
                pass
            self._look.clear()
            try:
                await self._look_at_all()
            except TransientError as error:
                if not failing:
                    self._log.warning("which containers run cannot be seen just now: %s", error)
                retry = min(_RETRY[1], retry * 2) if failing else _RETRY[0]
                failing = True
            else:
                if failing:
                    self._log.info("which containers run can be seen again")
                failing = False

    async def _look_at_all(self) -> None:
        filters = self._owner.filters(status=["running", "paused"])
        listed = await self._daemon.get("containers/json", all=True, filters=filters)
        for container_id in self._running - {one["Id"] for one in listed}:
            await self._inspect(container_id)

    async def _inspect(self, container_id: str) -> bool:
        """Whether it does not run any more, which is told; an engine may have several events of one end."""
        if container_id not in self._running:
            return True
        try:
            inspected = await self._daemon.get(f"containers/{container_id}/json")
        except DaemonError as error:
            if error.status != 404:
                raise
            gone = ContainerExit(137, datetime.now(UTC), reason="ContainerStatusUnknown", message=_GONE)
            self._tell(container_id, gone)
            return True
        if not was_started(inspected):
            return False
        ended = container_exit(inspected, killed=container_id in self._killed)
        if ended is not None:
            self._tell(container_id, ended)
        return ended is not None

    def _tell(self, container_id: str, ended: ContainerExit) -> None:
        if container_id in self._running:  # it may have been removed by us meanwhile
            self._running.discard(container_id)
            self._exited(container_id, ended)
