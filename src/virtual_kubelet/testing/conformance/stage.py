"""What one check is given: a user, a node, pods that do what it wants of them, and the node's end and return."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from virtual_kubelet.objects.core_v1 import Event, Pod
from virtual_kubelet.testing.cluster_user import ClusterUser
from virtual_kubelet.testing.conformance.declaration import Declaration
from virtual_kubelet.testing.conformance.expectations import PromiseBrokenError
from virtual_kubelet.testing.conformance.statuses import terminated
from virtual_kubelet.testing.pods import PodBuilder, a_pod
from virtual_kubelet.testing.user_streams import CommandResult

__all__ = ["Stage"]

T = TypeVar("T")


@dataclass(slots=True)
class Stage:
    """One check's own. Pods have names of its own, are bound to the node by hand, and have a grace period of 5 s.

    Attributes:
        check: its name.
        user: sees and does everything by the API.
        node_name: the node that is judged.
        patience: seconds that one thing may take to happen.
        created: the pods that the check has made, for the report and for cleaning up.
    """

    check: str
    user: ClusterUser
    node_name: str
    declaration: Declaration
    patience: float
    _restart: Callable[[Callable[[], Awaitable[None]] | None], Awaitable[None]] = field(repr=False)
    created: list[Pod] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def name(self) -> str:
        """A name that nobody else has."""
        return self.check.replace(".", "-")[:54].rstrip("-") + f"-{next(self._numbers)}"

    # Pods that do something

    def pod(self, name: str = "") -> PodBuilder:
        """A pod that is not told yet what to do; it does not restart."""
        made = a_pod(name or self.name(), image=self.declaration.image, node=self.node_name, restart_policy="Never")
        return made.grace(5).spec(automount_service_account_token=False)

    def does(self, workload: str, pod: PodBuilder | None = None, **values: object) -> PodBuilder:
        """A pod that does this; or ``pod``, whose newest container is to do it. See ``WORKLOADS``."""
        return self.declaration.make(pod or self.pod(), workload, values)

    def runs(self, pod: PodBuilder | None = None) -> PodBuilder:
        """… that runs until it is asked to end."""
        return self.does("runs", pod)

    def exits(self, code: int, pod: PodBuilder | None = None, *, seconds: float = 0) -> PodBuilder:
        """… that ends with this exit code."""
        return self.does("exits", pod, code=code, seconds=f"{seconds:g}")

    def prints(self, text: str, pod: PodBuilder | None = None) -> PodBuilder:
        """… that prints this, and runs. No quotes, percent signs or backslashes."""
        return self.does(
            "prints", pod, text=text if self.declaration.workloads.get("prints") else text.replace("\n", "\\n")
        )

    def shell(self, script: str, pod: PodBuilder | None = None) -> PodBuilder:
        """… that runs this shell script."""
        return self.declaration.script(pod or self.pod(), script)

    def command(self, name: str) -> tuple[str, ...]:
        """A command for exec; see ``COMMANDS``."""
        return tuple(self.declaration.command(name))

    async def create(self, pod: PodBuilder | Pod) -> Pod:
        made = await self.user.create(pod)
        self.created.append(made)
        return made

    async def start(self, pod: PodBuilder | Pod) -> Pod:
        """Create it and wait until it is Running and Ready."""
        return await self.user.running(await self.create(pod))

    async def finish(self, pod: PodBuilder | Pod, seconds: float | None = None) -> Pod:
        """Create it and wait until it is Succeeded or Failed."""
        return await self.user.ended(await self.create(pod), seconds)

    async def execute(self, pod: Pod, script: str, **options: Any) -> CommandResult:
        """Run a shell script in a pod's container."""
        assert self.declaration.shell is not None
        return await self.user.execute(pod, *self.declaration.shell, script, **options)

    async def sees(
        self,
        look: Callable[[], Awaitable[T]],
        holds: Callable[[T], object],
        expected: str,
        seconds: float | None = None,
    ) -> T:
        """What ``look`` gives, once ``holds`` is true of it. Raises ``PromiseBrokenError``."""
        limit = self.patience if seconds is None else seconds
        found: T | None = None
        try:
            async with asyncio.timeout(limit):
                while True:
                    found = await look()
                    if holds(found):
                        return found
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise PromiseBrokenError(expected, f"{_shown(found)} after {limit:g} s") from None

    async def told(self, pod: Pod, reason: str) -> Event:
        """The first event on the pod with this reason, once there is one."""
        return await self.user.event(pod, reason)

    def reported_end(self, pod: Pod) -> Pod:
        """The pod when its container was first reported as terminated. Raises ``PromiseBrokenError`` if it never was."""
        last = self.user.history(pod).first(lambda one: terminated(one) is not None)
        if last is None:
            raise PromiseBrokenError("its container is reported as terminated", "it never was")
        return last

    async def seconds(self, seconds: float) -> None:
        """Let time go by, for what must not happen in it."""
        await asyncio.sleep(seconds)

    # The node

    async def node_is_killed(self, meanwhile: Callable[[], Awaitable[None]] | None = None) -> None:
        """The node's process is killed and another one started, once for all checks that wait for that.

        ``meanwhile`` is awaited while there is none. Returns when the node is Ready again.
        """
        await self._restart(meanwhile)


def _shown(found: object) -> str:
    text = repr(found)
    return text if len(text) <= 500 else f"{text[:250]} … {text[-250:]}"
