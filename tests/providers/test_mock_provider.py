from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.providers.contexts import context
from tests.runtime.container_fakes import LoopClock
from virtual_kubelet.contracts.logs import ContainerLogOptions
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.errors import InvalidInputError, NotFoundError, ProviderConfigError, TransientError
from virtual_kubelet.objects.core_v1 import Container, Node, Pod, PodSpec, PodStatus, ResourceRequirements
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.providers.mock import MockProvider

pytestmark = pytest.mark.looptime


def pod(name: str = "p", **script: str) -> Pod:
    annotations = {f"mock.virtual-kubelet.io/{key.replace('_', '-')}": value for key, value in script.items()}
    return Pod(
        metadata=ObjectMeta(name=name, namespace="default", uid=f"uid-{name}", annotations=annotations or None),
        spec=PodSpec(containers=[Container(name="a", image="i"), Container(name="b", image="i")]),
    )


class Mock:
    def __init__(self, folder: Path) -> None:
        self.provider = MockProvider(context(folder, clock=LoopClock()))
        self.statuses: list[PodStatus] = []
        self.provider.notify_pods(lambda key, status, *, deleting=False: self.statuses.append(status))

    def phases(self) -> list[str]:
        return [status.phase or "" for status in self.statuses]


@pytest.fixture
async def mock(tmp_path: Path) -> Mock:
    return Mock(tmp_path)


async def test_a_pod_runs_at_once_with_addresses_and_conditions(mock: Mock) -> None:
    await mock.provider.create_pod(pod())
    (status,) = mock.statuses
    assert (status.phase, status.host_ip) == ("Running", "10.0.0.1")
    assert status.pod_ip
    assert {c.type for c in status.conditions or []} >= {"Initialized", "Ready", "ContainersReady", "PodScheduled"}
    assert [c.ready for c in status.container_statuses or []] == [True, True]


async def test_init_containers_have_done_and_sidecars_run_until_the_pod_ends(mock: Mock) -> None:
    one = pod()
    one.spec.init_containers = [
        Container(name="init", image="i"),
        Container(name="sidecar", image="i", restart_policy="Always"),
    ]
    await mock.provider.create_pod(one)
    init, sidecar = mock.statuses[-1].init_container_statuses or []
    assert init.state is not None
    assert init.state.terminated is not None
    started = mock.statuses[-1].start_time
    assert (init.state.terminated.started_at, init.state.terminated.finished_at) == (started, started)
    assert (init.ready, sidecar.ready, sidecar.started) == (True, True, True)
    await mock.provider.delete_pod(one)
    _, sidecar = mock.statuses[-1].init_container_statuses or []
    assert sidecar.state is not None
    assert sidecar.state.terminated is not None


async def test_each_pod_has_an_address_of_its_own_known_beforehand(mock: Mock) -> None:
    ips = [(await mock.provider.get_pod_ips(pod(f"p{n}")))[0] for n in range(300)]
    assert len(set(ips)) == 300
    await mock.provider.create_pod(pod("p7"))
    assert mock.statuses[-1].pod_ip == ips[7]


async def test_a_deleted_pod_succeeds_with_the_go_frameworks_reasons(mock: Mock) -> None:
    one = pod()
    await mock.provider.create_pod(one)
    await mock.provider.delete_pod(one)
    status = mock.statuses[-1]
    assert (status.phase, status.reason) == ("Succeeded", "MockProviderPodDeleted")
    assert status.container_statuses is not None
    state = status.container_statuses[0].state
    assert state is not None
    assert state.terminated is not None
    assert state.terminated.reason == "MockProviderPodContainerDeleted"
    assert await mock.provider.get_pod(PodKey.of(one)) is None
    with pytest.raises(NotFoundError):
        await mock.provider.delete_pod(one)


@pytest.mark.parametrize(("code", "phase"), [("0", "Succeeded"), ("3", "Failed")])
async def test_a_script_says_when_and_how_a_pod_ends(mock: Mock, code: str, phase: str) -> None:
    await mock.provider.create_pod(pod(start_delay="5", run_for="60", exit_code=code))
    await asyncio.sleep(4)
    assert mock.phases() == ["Pending"]
    await asyncio.sleep(2)
    assert mock.phases() == ["Pending", "Running"]
    await asyncio.sleep(60)
    assert mock.phases() == ["Pending", "Running", phase]
    assert await mock.provider.get_pod(PodKey.of(pod())) is not None


@pytest.mark.parametrize(
    ("kind", "error"), [("transient", TransientError), ("invalid", InvalidInputError), ("unknown", RuntimeError)]
)
async def test_a_script_makes_creation_fail_so_often(mock: Mock, kind: str, error: type[Exception]) -> None:
    one = pod(create_error=kind, create_error_times="2")
    for _ in range(2):
        with pytest.raises(error, match="scripted failure"):
            await mock.provider.create_pod(one)
    await mock.provider.create_pod(one)
    assert mock.phases() == ["Running"]


async def test_of_a_pod_that_never_came_to_be_nothing_is_kept(mock: Mock) -> None:
    one = pod(create_error="transient", create_error_times="1")
    (before,) = await mock.provider.get_pod_ips(one)
    with pytest.raises(TransientError):
        await mock.provider.create_pod(one)
    with pytest.raises(NotFoundError):
        await mock.provider.delete_pod(one)
    assert await mock.provider.get_pod_ips(one) != [before]
    with pytest.raises(TransientError):  # its script begins anew
        await mock.provider.create_pod(one)


async def test_a_slow_deletion_ends_in_its_time_and_one_that_never_does_ignores_its_grace(mock: Mock) -> None:
    slow, never = pod("slow", delete_delay="7"), pod("never", delete_delay="never")
    for one in (slow, never):
        await mock.provider.create_pod(one)
        await mock.provider.delete_pod(one)
    await asyncio.sleep(6)
    assert len(await mock.provider.get_pods()) == 2
    await asyncio.sleep(3600)
    assert [one.metadata.name for one in await mock.provider.get_pods()] == ["never"]
    never.metadata.deletion_grace_period_seconds = 0
    await mock.provider.delete_pod(never)
    assert await mock.provider.get_pods() == []


@pytest.mark.parametrize("script", [{"exit_code": "x"}, {"start_delay": "-1"}, {"dance": "1"}, {"create_error": "odd"}])
async def test_a_malformed_script_is_refused(mock: Mock, script: dict[str, str]) -> None:
    with pytest.raises(InvalidInputError, match=r"mock\.virtual-kubelet\.io"):
        await mock.provider.create_pod(pod(**script))


async def test_logs_are_what_the_script_says_and_follow_ends_with_the_pod(mock: Mock) -> None:
    one = pod(logs="one\ntwo")
    await mock.provider.create_pod(one)
    logs = mock.provider.get_container_logs
    assert [line.data async for line in logs(PodKey.of(one), "a", ContainerLogOptions())] == [b"one\n", b"two\n"]

    async def follow() -> list[bytes]:
        return [line.data async for line in logs(PodKey.of(one), "b", ContainerLogOptions(follow=True))]

    task = asyncio.create_task(follow())
    await asyncio.sleep(60)
    assert not task.done()
    await mock.provider.delete_pod(one)
    assert await task == [b"one\n", b"two\n"]
    with pytest.raises(NotFoundError):
        [line async for line in logs(PodKey.of(one), "a", ContainerLogOptions())]


def configured(tmp_path: Path, content: object) -> MockProvider:
    path = tmp_path / "mock.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return MockProvider(context(tmp_path, config_path=path))


@pytest.mark.may_block
async def test_capacity_comes_from_the_go_frameworks_file(tmp_path: Path) -> None:
    node = Node()
    entry = {"cpu": "8", "memory": "32Gi", "pods": "128", "others": {"nvidia.com/gpu": "4"}, "providerID": "mock://1"}
    configured(tmp_path, {"node-a": entry}).configure_node(node)
    assert node.status.capacity == {"cpu": "8", "memory": "32Gi", "pods": "128", "nvidia.com/gpu": "4"}
    assert node.status.allocatable == node.status.capacity
    assert node.spec.provider_id == "mock://1"


async def test_without_a_file_there_is_plenty(mock: Mock) -> None:
    node = Node()
    mock.provider.configure_node(node)
    assert node.status.capacity == {"cpu": "1000", "memory": "10Ti", "pods": "10000"}


@pytest.mark.may_block
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{not json", "not JSON"),
        ({"other": {}}, "no node 'node-a'"),
        ({"node-a": {"cpu": "many"}}, "cpu"),
        ({"node-a": {"cpus": "1"}}, "unknown keys: cpus"),
        ([], "no node"),
    ],
)
async def test_a_wrong_file_says_what_is_wrong(tmp_path: Path, content: object, said: str) -> None:
    with pytest.raises(ProviderConfigError, match=said):
        configured(tmp_path, content)


async def test_running_containers_use_what_they_request(mock: Mock) -> None:
    busy, idle, waits = pod("busy"), pod("idle"), pod("waits", start_delay="1000")
    one, other = busy.spec.containers
    one.resources = ResourceRequirements(requests={"cpu": "250m", "memory": "64Mi"}, limits={"cpu": "1"})
    other.resources = ResourceRequirements(limits={"cpu": "2"})
    for created in (busy, idle, waits):
        await mock.provider.create_pod(created)
    await asyncio.sleep(10)
    summary = await mock.provider.get_stats_summary(only_cpu_and_memory=True)
    assert [stats.pod_ref.name for stats in summary.pods] == ["busy", "idle"]
    used = [
        (c.cpu.usage_nano_cores, c.cpu.usage_core_nano_seconds, c.memory.working_set_bytes)  # type: ignore[union-attr]
        for stats in summary.pods
        for c in stats.containers
    ]
    assert used == [(250_000_000, 2_500_000_000, 64 * 2**20), (2_000_000_000, 20_000_000_000, 0), (0, 0, 0), (0, 0, 0)]
    for whole in (summary.pods[0], summary.node):
        assert whole.cpu is not None
        assert (whole.cpu.usage_nano_cores, whole.cpu.usage_core_nano_seconds) == (2_250_000_000, 22_500_000_000)
        assert whole.memory is not None
        assert whole.memory.working_set_bytes == 64 * 2**20


async def test_what_ended_pods_used_stays_with_the_node(mock: Mock) -> None:
    ends, deleted = pod("ends", run_for="5"), pod("deleted")
    for created in (ends, deleted):
        created.spec.containers[0].resources = ResourceRequirements(requests={"cpu": "1"})
        await mock.provider.create_pod(created)
    await asyncio.sleep(10)
    await mock.provider.delete_pod(deleted)
    await asyncio.sleep(10)
    summary = await mock.provider.get_stats_summary(only_cpu_and_memory=False)
    assert summary.pods == []
    assert summary.node.cpu is not None
    assert (summary.node.cpu.usage_nano_cores, summary.node.cpu.usage_core_nano_seconds) == (0, 15_000_000_000)
