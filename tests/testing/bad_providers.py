"""Providers that break one promise each, on purpose, and the one that they are made of, which keeps them.

All are the mock provider with faults in its way; like a real backend it outlives the node that talks to it.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeVar

import msgspec

from virtual_kubelet import AttachIO, ContainerLogOptions, LogLine, PodKey, PortStream, ProviderContext, TransientError
from virtual_kubelet.objects.core_v1 import ContainerStatus, Pod, PodStatus, ResourceRequirements
from virtual_kubelet.objects.stats_v1alpha1 import Summary
from virtual_kubelet.providers.mock import MockProvider
from virtual_kubelet.testing import ProviderFault, ProviderFaults

S = TypeVar("S", bound=msgspec.Struct)
Factory = Callable[[ProviderContext], Any]


def whole(kind: Callable[[ProviderContext], Any] = MockProvider) -> Factory:
    """A provider that forgets nothing when its node is made anew."""
    kept: dict[str, Any] = {}

    def factory(context: ProviderContext) -> Any:
        if context.node_name not in kept:
            kept[context.node_name] = kind(context)
        return kept[context.node_name]

    return factory


def _lying(change: Callable[[PodStatus], PodStatus]) -> Factory:
    faults = ProviderFaults()
    faults.lie_about_statuses(change)
    made: Factory = faults.around(whole())
    return made


def _with(fault: ProviderFault, call: str) -> Factory:
    faults = ProviderFaults()
    faults.add(fault, call=call, times=None)
    made: Factory = faults.around(whole())
    return made


def _of_containers(change: Callable[[ContainerStatus], None]) -> Factory:
    def changed(status: PodStatus) -> PodStatus:
        status = copy.deepcopy(status)
        for one in status.container_statuses or ():
            change(one)
        return status

    return _lying(changed)


def loses_exit_codes() -> Factory:
    def change(one: ContainerStatus) -> None:
        if one.state is not None and one.state.terminated is not None:
            one.state.terminated.exit_code = 0

    return _of_containers(change)


def calls_failure_success() -> Factory:
    return _lying(lambda status: _replaced(status, phase="Succeeded") if status.phase == "Failed" else status)


def says_running_for_ever() -> Factory:
    """… of what has ended, unless it was asked to end it."""

    def change(status: PodStatus) -> PodStatus:
        ended = status.phase in ("Succeeded", "Failed") and status.reason is None
        return PodStatus(phase="Running", start_time=status.start_time) if ended else status

    return _lying(change)


def never_says_ready() -> Factory:
    return _lying(
        lambda status: _replaced(status, conditions=[c for c in status.conditions or () if c.type != "Ready"])
    )


def has_no_addresses() -> Factory:
    return _lying(lambda status: _replaced(status, pod_ip=None, pod_ips=None))


def has_no_container_ids() -> Factory:
    return _of_containers(lambda one: setattr(one, "container_id", None))


def lists_containers_twice() -> Factory:
    def change(status: PodStatus) -> PodStatus:
        twice = [
            one for status_ in status.container_statuses or () for one in (status_, _replaced(status_, name="main2"))
        ]
        return _replaced(status, container_statuses=twice)

    return _lying(change)


def hangs_in_create() -> Factory:
    return _with(ProviderFault.hang(), "create_pod")


def hangs_in_delete() -> Factory:
    return _with(ProviderFault.hang(), "delete_pod")


def ignores_deletion() -> Factory:
    return _with(ProviderFault.drop(), "delete_pod")


def is_slow_to_tell() -> Factory:
    return _with(ProviderFault.delay(60), "notify")


def never_stops_talking() -> Factory:
    """Polled, and each answer has another message."""
    numbers = itertools.count()

    class Chatty(MockProvider):
        notify_pods = None  # type: ignore[assignment]

        async def get_pod_status(self, key: PodKey) -> PodStatus | None:
            status = await super().get_pod_status(key)
            return None if status is None else _replaced(status, message=f"still there {next(numbers)}")

    return whole(Chatty)


def forgets_everything() -> Factory:
    """… when its node is made anew."""
    return MockProvider


def loses_pods_at_restart() -> Factory:
    """… and does not say that they may run again."""

    class Forgetful(MockProvider):
        rerun_is_safe = False

    return Forgetful


def mistakes_one_uid_for_another() -> Factory:
    """What it lists has UIDs of its own."""

    class Confused(MockProvider):
        rerun_is_safe = False

        async def get_pods(self) -> Sequence[Pod]:
            return [_renamed(pod) for pod in await super().get_pods()]

        async def get_pod(self, key: PodKey) -> Pod | None:
            return None

        async def get_pod_status(self, key: PodKey) -> PodStatus | None:
            return None

    def _renamed(pod: Pod) -> Pod:
        pod = copy.deepcopy(pod)
        pod.metadata.uid = f"{pod.metadata.uid}-wrong"
        return pod

    return whole(Confused)


def loses_the_last_line() -> Factory:
    class Lossy(MockProvider):
        async def get_container_logs(
            self, key: PodKey, container: str, options: ContainerLogOptions
        ) -> AsyncIterator[LogLine]:
            held: LogLine | None = None
            async for line in super().get_container_logs(key, container, options):
                if held is not None:
                    yield held
                held = line

    return whole(Lossy)


def does_not_follow() -> Factory:
    class Hasty(MockProvider):
        async def get_container_logs(
            self, key: PodKey, container: str, options: ContainerLogOptions
        ) -> AsyncIterator[LogLine]:
            async for line in super().get_container_logs(key, container, ContainerLogOptions()):
                yield line

    return whole(Hasty)


def follows_for_ever() -> Factory:
    class Endless(MockProvider):
        async def get_container_logs(
            self, key: PodKey, container: str, options: ContainerLogOptions
        ) -> AsyncIterator[LogLine]:
            async for line in super().get_container_logs(key, container, ContainerLogOptions()):
                yield line
            if options.follow:
                await _for_ever()

    return whole(Endless)


def resizes_nothing() -> Factory:
    """And seems to be one that can: its containers' statuses say what they have, for ever."""
    amounts = {"cpu": "100m", "memory": "64Mi"}
    has = ResourceRequirements(limits=amounts, requests=amounts)
    return _of_containers(lambda one: setattr(one, "resources", has))


def loses_exit_codes_of_commands() -> Factory:
    return _with(ProviderFault.lie(lambda code: 0), "run_in_container")


def commands_that_hang() -> Factory:
    return _with(ProviderFault.hang(), "run_in_container")


def mixes_stdout_and_stderr() -> Factory:
    class Mixing(MockProvider):
        async def run_in_container(self, key: PodKey, container: str, command: Sequence[str], streams: AttachIO) -> int:
            mixed = AttachIO(streams.stdin, streams.stdout, streams.stdout, streams.tty, streams.resizes)
            return await super().run_in_container(key, container, command, mixed)

    return whole(Mixing)


def cuts_stdin() -> Factory:
    class Cutting(MockProvider):
        async def run_in_container(self, key: PodKey, container: str, command: Sequence[str], streams: AttachIO) -> int:
            if streams.stdin is not None and streams.stdout is not None:
                await streams.stdout.write(await streams.stdin.read(1000))
                return 0
            return await super().run_in_container(key, container, command, streams)

    return whole(Cutting)


def attaches_for_a_moment() -> Factory:
    return _with(ProviderFault.drop(), "attach_to_container")


def forwards_half() -> Factory:
    class Half(MockProvider):
        async def port_forward(self, key: PodKey, port: int, stream: PortStream) -> None:
            data = await stream.read()
            await stream.write(bytes(data)[: len(data) // 2])

    return whole(Half)


def forwards_anything() -> Factory:
    class Open(MockProvider):
        async def port_forward(self, key: PodKey, port: int, stream: PortStream) -> None:
            await stream.write(b"welcome to whatever this is")

    return whole(Open)


def counts_nothing() -> Factory:
    class Blind(MockProvider):
        async def get_stats_summary(self, *, only_cpu_and_memory: bool) -> Summary:
            return _replaced(await super().get_stats_summary(only_cpu_and_memory=only_cpu_and_memory), pods=[])

    return whole(Blind)


def drops_every_third_pod() -> Factory:
    numbers = itertools.count(1)

    class Dropping(MockProvider):
        async def create_pod(self, pod: Pod) -> None:
            if next(numbers) % 3:
                await super().create_pod(pod)

    return whole(Dropping)


def knows_pods_by_name() -> Factory:
    """A pod of a name that it has seen is the one that it has seen."""

    class ByName(MockProvider):
        def __init__(self, context: ProviderContext) -> None:
            super().__init__(context)
            self.seen: set[tuple[str, str]] = set()

        async def create_pod(self, pod: Pod) -> None:
            name = (pod.metadata.namespace or "", pod.metadata.name or "")
            if name in self.seen:
                return
            self.seen.add(name)
            await super().create_pod(pod)

    return whole(ByName)


class TakesItsNodeDown(MockProvider):
    """The process ends with the first pod."""

    async def create_pod(self, pod: Pod) -> None:
        print("about to end", file=sys.stderr, flush=True)
        os._exit(9)


def fails_at_first() -> Factory:
    """Each call about pods fails for the first time, or does what is asked and fails all the same: no promise is broken."""
    faults = ProviderFaults()
    faults.add(ProviderFault.error(TransientError("not now")), call="create_pod", times=2)
    faults.add(ProviderFault.lose_answer(), call="create_pod")
    faults.add(ProviderFault.lose_answer(), call="delete_pod", times=2)
    faults.add(ProviderFault.twice(), call="notify", times=None)
    faults.add(ProviderFault.lie(lambda pods: [*pods, *pods]), call="get_pods", times=None)
    made: Factory = faults.around(whole())
    return made


def _replaced(struct: S, **changes: Any) -> S:
    return msgspec.structs.replace(struct, **changes)


async def _for_ever() -> None:
    await asyncio.get_running_loop().create_future()
