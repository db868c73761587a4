"""A node for the tests of a provider's author, in three lines, with faults in its way."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from virtual_kubelet import PodNotifier, ProviderContext, StatsSummary, TransientError
from virtual_kubelet.errors import ProviderConfigError
from virtual_kubelet.objects.core_v1 import Pod
from virtual_kubelet.providers.mock import MockProvider
from virtual_kubelet.testing import Fault, NotSeenError, ProviderFault, ProviderFaults, a_pod, running_node
from virtual_kubelet.testing.pod_history import status_line


async def test_three_lines_are_enough() -> None:
    async with running_node(MockProvider) as node:
        pod = await node.user.create(a_pod("web", node=node.name))
        await node.user.running(pod)
        await node.user.delete(pod)
        await node.user.gone(pod)
        assert node.user.history(pod).lines()[-1].endswith("gone")


async def test_what_is_not_seen_is_told_beside_what_was() -> None:
    async with running_node(MockProvider, patience=60) as node:
        pod = await node.user.create(a_pod("web", node=node.name))
        await node.user.running(pod)
        with pytest.raises(NotSeenError, match=r"expected: the pod is Succeeded or Failed\nseen: .*Running; Ready"):
            await node.user.ended(pod, seconds=0.5)
        with pytest.raises(NotSeenError, match="an event with reason Nothing"):
            await node.user.event(pod, "Nothing", seconds=0.5)


async def test_the_same_node_twice_keeps_its_state(tmp_path: Path) -> None:
    made: list[Path] = []

    def provider(context: ProviderContext) -> MockProvider:
        made.append(context.state_directory)
        return MockProvider(context)

    for _ in range(2):
        async with running_node(provider, state_directory=tmp_path / "state"):
            continue
    assert made == [tmp_path / "state"] * 2


async def test_a_provider_that_cannot_be_made_is_the_error() -> None:
    def refuses(context: ProviderContext) -> MockProvider:
        raise ProviderConfigError("no backend")

    with pytest.raises(ProviderConfigError, match="no backend"):
        async with running_node(refuses):
            raise AssertionError("there is no node")


async def test_a_node_that_ends_ends_the_block_with_its_error() -> None:
    def broken(pod: Pod) -> bool:
        raise RuntimeError("broken on purpose")

    with pytest.raises(RuntimeError, match="broken on purpose"):
        async with running_node(MockProvider, pod_event_filter=broken) as node:
            pod = await node.user.create(a_pod("web", node=node.name))
            await node.user.running(pod)


async def test_what_the_block_raises_stays_what_it_is() -> None:
    with pytest.raises(KeyError, match="mine"):
        async with running_node(MockProvider):
            raise KeyError("mine")


async def test_faults_of_the_cluster_are_in_reach() -> None:
    async with running_node(MockProvider) as node:
        fault = node.cluster.faults.add(Fault.status(500), verb="patch", resource="pods/status")
        pod = await node.user.create(a_pod("web", node=node.name))
        await node.user.running(pod)
        assert fault.met == 1


async def test_a_provider_fault_is_met_as_often_as_it_is_told() -> None:
    faults = ProviderFaults()
    async with running_node(faults.around(MockProvider)) as node:
        broken = faults.add(ProviderFault.error(TransientError("no room")), call="create_pod", pod="web", times=2)
        pod = await node.user.create(a_pod("web", node=node.name))
        await node.user.running(pod)
        assert broken.met == 2
        assert any(event.message == "no room" for event in await node.user.events(pod))
        other = await node.user.create(a_pod("other", node=node.name))
        await node.user.running(other)


async def test_statuses_can_be_lied_about_dropped_and_told_twice() -> None:
    faults = ProviderFaults()
    faults.lie_about_statuses(lambda status: type(status)(phase="Running", message="a lie"), pod="lied")
    faults.add(ProviderFault.drop(), call="notify", pod="silent", times=None)
    faults.add(ProviderFault.twice(), call="notify", pod="twice", times=None)
    async with running_node(faults.around(MockProvider)) as node:
        lied = await node.user.create(a_pod("lied", node=node.name))
        await node.user.until(lied, lambda pod: pod.status.message == "a lie", "the lie")
        silent = await node.user.create(a_pod("silent", node=node.name))
        twice = await node.user.create(a_pod("twice", node=node.name))
        await node.user.running(twice)
        newest = node.user.history(silent).newest
        assert newest is not None
        assert status_line(newest) == "Pending"


async def test_a_faulty_provider_offers_just_what_the_real_one_does() -> None:
    class Plain:
        async def create_pod(self, pod: object) -> None: ...
        async def update_pod(self, pod: object) -> None: ...
        async def delete_pod(self, pod: object) -> None: ...
        async def get_pod(self, key: object) -> None: ...
        async def get_pod_status(self, key: object) -> None: ...
        async def get_pods(self) -> list[object]:
            return []

    faults = ProviderFaults()
    wrapped = faults.around(Plain())  # type: ignore[arg-type]
    assert not isinstance(wrapped, PodNotifier)
    assert not isinstance(wrapped, StatsSummary)
    assert await wrapped.get_pods() == []
    with faults.during(ProviderFault.hang(), call="get_pods"):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await wrapped.get_pods()
    with faults.during(ProviderFault.lose_answer(), call="get_pods") as fault:
        with pytest.raises(ConnectionResetError):
            await wrapped.get_pods()
        assert fault.met == 1
    assert await wrapped.get_pods() == []
