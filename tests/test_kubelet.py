"""One node, wired: what is up when it is Ready, in which order it stops, what ends it."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.contract.scenarios import eventually
from virtual_kubelet.contracts.context import ProviderContext
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.devcluster import DevCluster
from virtual_kubelet.errors import (
    ApiConnectionError,
    ApiNotFoundError,
    ConfigurationError,
    ProviderConfigError,
    StartupTimeoutError,
)
from virtual_kubelet.kube.client import ApiClient
from virtual_kubelet.kube.config import ClientConfig
from virtual_kubelet.kube.credentials import Anonymous
from virtual_kubelet.kube.kubeconfig import load_kubeconfig
from virtual_kubelet.kube.resources import CONFIG_MAPS, EVENTS, NODES, PODS
from virtual_kubelet.kubelet import Kubelet, KubeletConfig, OnShutdown
from virtual_kubelet.objects.core_v1 import (
    ConfigMap,
    ConfigMapProjection,
    Container,
    DownwardAPIProjection,
    DownwardAPIVolumeFile,
    Node,
    NodeCondition,
    ObjectFieldSelector,
    Pod,
    PodSpec,
    PodStatus,
    ProjectedVolumeSource,
    ResourceRequirements,
    ServiceAccountTokenProjection,
    Taint,
    Volume,
    VolumeMount,
    VolumeProjection,
)
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.server.container_logs import LogLimits
from virtual_kubelet.server.health import healthz
from virtual_kubelet.server.limits import ServerLimits


class Recorder:
    """A polled provider that remembers what was done to it."""

    def __init__(self, context: ProviderContext) -> None:
        self.context = context
        self.pods: dict[PodKey, Pod] = {}
        self.calls: list[str] = []

    async def create_pod(self, pod: Pod) -> None:
        self.pods[PodKey.of(pod)] = pod

    async def update_pod(self, pod: Pod) -> None:
        self.pods[PodKey.of(pod)] = pod

    async def delete_pod(self, pod: Pod) -> None:
        self.calls.append(f"delete {pod.metadata.name} in {pod.metadata.deletion_grace_period_seconds}")
        self.pods.pop(PodKey.of(pod), None)

    async def get_pod(self, key: PodKey) -> Pod | None:
        return self.pods.get(key)

    async def get_pod_status(self, key: PodKey) -> PodStatus | None:
        return PodStatus(phase="Running") if key in self.pods else None

    async def get_pods(self) -> Sequence[Pod]:
        return list(self.pods.values())


class Cluster:
    """A dev cluster, and nodes of it with identities of their own."""

    def __init__(self, dev: DevCluster, admin: ApiClient, folder: Path) -> None:
        self.dev = dev
        self.admin = admin
        self.folder = folder
        self.name = f"node-{uuid.uuid4().hex[:8]}"

    def identity(self, text: str) -> ClientConfig:
        path = self.folder / f"{uuid.uuid4().hex}.kubeconfig"
        path.write_text(text)
        return load_kubeconfig(path)

    def config(self, provider: Any = Recorder, **options: Any) -> KubeletConfig:
        defaults: dict[str, Any] = {
            "provider": provider,
            "node_name": self.name,
            "client_config": options.pop("client_config", None) or self.identity(self.dev.node_kubeconfig(self.name)),
            "listen_host": "127.0.0.1",
            "listen_port": 0,
            "state_directory": self.folder / "state",
        }
        return KubeletConfig(**{**defaults, **options})

    async def node(self) -> Node:
        return await self.admin.get(NODES, self.name)

    async def ready(self) -> NodeCondition:
        return next(c for c in (await self.node()).status.conditions or [] if c.type == "Ready")

    async def pod(self, name: str, **spec: Any) -> Pod:
        name = f"{name}-{self.name}"
        containers = spec.pop("containers", None) or [Container(name="main", image="busybox")]
        return await self.admin.create(
            PODS,
            Pod(metadata=ObjectMeta(name=name), spec=PodSpec(node_name=self.name, containers=containers, **spec)),
            "default",
        )


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with DevCluster() as dev:
        path = await asyncio.to_thread(_written, tmp_path / "admin", dev.kubeconfig())
        async with ApiClient(load_kubeconfig(path)) as admin:
            yield Cluster(dev, admin, tmp_path)


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@contextlib.asynccontextmanager
async def running(config: KubeletConfig) -> AsyncIterator[tuple[Kubelet, asyncio.Task[None]]]:
    kubelet = Kubelet(config)
    task = asyncio.create_task(kubelet.run())
    try:
        await kubelet.wait_ready(20)
        yield kubelet, task
    finally:
        task.cancel()
        await asyncio.wait({task})


def provider_of(made: list[Recorder]) -> Callable[[ProviderContext], Recorder]:
    """A factory that leaves what it made where a test can look at it."""

    def make(context: ProviderContext) -> Recorder:
        made.append(Recorder(context))
        return made[-1]

    return make


async def test_a_node_is_ready_when_its_controllers_and_its_https_api_are_up(cluster: Cluster) -> None:
    taint = Taint(key="a/b", value="c", effect="NoSchedule")
    async with running(cluster.config(labels={"team": "x"}, taints=[taint])) as (kubelet, _):
        node = await cluster.node()
        assert (await cluster.ready()).status == "True"
        assert node.metadata.labels is not None
        assert node.metadata.labels["team"] == "x"
        assert ("a/b", "c", "NoSchedule") in [(t.key, t.value, t.effect) for t in node.spec.taints or []]
        assert node.status.daemon_endpoints is not None
        assert node.status.daemon_endpoints.kubelet_endpoint is not None
        port = node.status.daemon_endpoints.kubelet_endpoint.port
        assert kubelet.url == f"https://127.0.0.1:{port}"
        assert [a.address for a in node.status.addresses or [] if a.type == "InternalIP"] == ["127.0.0.1"]
        assert node.status.node_info is not None
        assert node.status.node_info.container_runtime_version == "Recorder://0.1.0"
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=_trusting())
        writer.close()
        with contextlib.suppress(ssl.SSLError):
            await writer.wait_closed()


def _trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def test_the_limits_of_the_https_api_are_the_configurations(cluster: Cluster) -> None:
    limits = ServerLimits(max_header_fields=3)
    log_limits = LogLimits(max_streams=7)
    async with running(cluster.config(server_limits=limits, log_limits=log_limits)) as (kubelet, _):
        port = int(kubelet.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=_trusting())
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n")
        assert b" 431 " in await asyncio.wait_for(reader.readline(), 20)
        writer.close()
        with contextlib.suppress(ssl.SSLError):
            await writer.wait_closed()
        assert kubelet.parts is not None
        assert kubelet.parts.https is not None
        assert kubelet.parts.https._log_limits is log_limits


async def test_without_the_https_api_it_is_ready_too(cluster: Cluster) -> None:
    async with running(cluster.config(kubelet_server=False)) as (kubelet, _):
        assert kubelet.url == ""
        endpoints = (await cluster.node()).status.daemon_endpoints
        assert endpoints is None or endpoints.kubelet_endpoint is None or endpoints.kubelet_endpoint.port == 0
        assert (await cluster.ready()).status == "True"


async def test_pods_bound_to_it_run_and_their_deletion_reaches_the_provider(cluster: Cluster) -> None:
    made: list[Recorder] = []
    async with running(cluster.config(provider_of(made))):
        pod = await cluster.pod("p", termination_grace_period_seconds=3)
        await eventually(lambda: PodKey.of(pod) in made[0].pods)
        await cluster.admin.delete(PODS, pod.metadata.name or "", "default")
        await eventually(lambda: made[0].calls == [f"delete {pod.metadata.name} in 3"])


@pytest.mark.parametrize("admission", [True, False])
async def test_pods_bound_by_hand_must_fit_and_suit_it_unless_that_is_off(cluster: Cluster, admission: bool) -> None:
    def with_room(node: Node) -> None:
        node.status.capacity = node.status.allocatable = {"cpu": "2"}

    made: list[Recorder] = []
    config = cluster.config(
        provider_of(made), configure_node=with_room, pod_admission=admission, labels={"disk": "ssd"}
    )
    resources = ResourceRequirements(requests={"cpu": "3"})
    async with running(config):
        # What somebody has put on the Node since counts as what it was registered with.
        await cluster.admin.patch(NODES, cluster.name, {"metadata": {"labels": {"zone": "a"}}})
        fits = await cluster.pod("fits", node_selector={"disk": "ssd", "zone": "a"})
        large = await cluster.pod("large", containers=[Container(name="c", image="busybox", resources=resources)])
        other = await cluster.pod("other", node_selector={"disk": "tape"})
        await eventually(lambda: PodKey.of(fits) in made[0].pods)
        if not admission:
            await eventually(lambda: {PodKey.of(large), PodKey.of(other)} <= set(made[0].pods))
            return
        for pod, reason in ((large, "OutOfcpu"), (other, "NodeAffinity")):

            async def rejected(pod: Pod = pod, reason: str = reason) -> bool:
                status = (await cluster.admin.get(PODS, pod.metadata.name or "", "default")).status
                return (status.phase, status.reason) == ("Failed", reason)

            await eventually(rejected)
        assert set(made[0].pods) == {PodKey.of(fits)}


async def test_a_provider_is_given_what_it_may_need(cluster: Cluster) -> None:
    made: list[Recorder] = []
    config = cluster.config(provider_of(made), provider_config=Path("p.json"), cluster_domain="d", cluster_dns=["::1"])
    config_map = ConfigMap(metadata=ObjectMeta(name=f"c-{cluster.name}"), data={"k": "v"})
    await cluster.admin.create(CONFIG_MAPS, config_map, "default")
    async with running(config) as (kubelet, _):
        context = made[0].context
        assert (context.node_name, context.cluster_domain, context.config_path) == (cluster.name, "d", Path("p.json"))
        assert context.cluster_dns == ["::1"]
        assert kubelet.url == f"https://{context.internal_ip}:{context.daemon_port}"
        assert context.state_directory == cluster.folder / "state"
        pod = await cluster.pod("p")
        await eventually(lambda: context.pods.get("default", pod.metadata.name or "") is not None)
        assert [PodKey.of(p) for p in context.pods.list()] == [PodKey.of(pod)]
        assert [s.metadata.name for s in await context.services("default")] == ["kubernetes"]
        context.record_event(PodKey.of(pod), "Warning", "Noticed", "something")

        async def recorded() -> bool:
            events = (await cluster.admin.list(EVENTS, "default")).items
            return any(e.reason == "Noticed" and e.involved_object.uid == pod.metadata.uid for e in events)

        await eventually(recorded)


class FileReader(Recorder):
    """Reads what its pods' volumes hold when it creates them."""

    def __init__(self, context: ProviderContext) -> None:
        super().__init__(context)
        self.files: dict[str, bytes] = {}

    async def create_pod(self, pod: Pod) -> None:
        read = await self.context.read_configuration(pod)
        self.files = {path: file.data for path, file in read.volumes["v"].files.items()}
        await super().create_pod(pod)


async def test_a_provider_reads_the_files_of_its_pods_volumes(cluster: Cluster) -> None:
    """As a library: a provider that ships files to its backend. What is missing leaves ``create_pod`` and is tried again."""
    made: list[FileReader] = []

    def provider(context: ProviderContext) -> FileReader:
        made.append(FileReader(context))
        return made[-1]

    label = DownwardAPIVolumeFile(path="name", field_ref=ObjectFieldSelector(field_path="metadata.name"))
    sources = [
        VolumeProjection(config_map=ConfigMapProjection(name="kube-root-ca.crt")),
        VolumeProjection(config_map=ConfigMapProjection(name=f"c-{cluster.name}")),
        VolumeProjection(downward_api=DownwardAPIProjection(items=[label])),
        VolumeProjection(service_account_token=ServiceAccountTokenProjection(path="token")),
    ]
    volume = Volume(name="v", projected=ProjectedVolumeSource(sources=sources))
    container = Container(name="main", image="busybox", volume_mounts=[VolumeMount(name="v", mount_path="/v")])
    async with running(cluster.config(provider)):
        pod = await cluster.pod("p", containers=[container], volumes=[volume], service_account_name="default")

        async def missing() -> bool:
            events = (await cluster.admin.list(EVENTS, "default")).items
            said = f'MountVolume.SetUp failed for volume "v" : configmap "c-{cluster.name}" not found'
            return any(e.reason == "FailedMount" and e.message == said for e in events)

        await eventually(missing)
        config_map = ConfigMap(metadata=ObjectMeta(name=f"c-{cluster.name}"), data={"k": "v"})
        await cluster.admin.create(CONFIG_MAPS, config_map, "default")
        await eventually(lambda: PodKey.of(pod) in made[0].pods)
        assert made[0].files.keys() == {"ca.crt", "k", "name", "token"}
        assert made[0].files["name"] == (pod.metadata.name or "").encode()


async def test_stopping_leaves_node_and_pods_as_they_are(cluster: Cluster) -> None:
    made: list[Recorder] = []
    async with running(cluster.config(provider_of(made))) as (_, task):
        pod = await cluster.pod("p")
        await eventually(lambda: PodKey.of(pod) in made[0].pods)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
    assert made[0].calls == []
    assert (await cluster.ready()).status == "True"
    assert not (await cluster.node()).spec.unschedulable


async def test_cordon_holds_until_the_next_start(cluster: Cluster) -> None:
    async with running(cluster.config(on_shutdown=[OnShutdown.CORDON])):
        assert not (await cluster.node()).spec.unschedulable
    assert (await cluster.node()).spec.unschedulable
    async with running(cluster.config()):
        assert not (await cluster.node()).spec.unschedulable


async def test_drain_ends_the_pods_and_says_that_the_node_is_not_ready(cluster: Cluster) -> None:
    made: list[Recorder] = []
    async with running(cluster.config(provider_of(made), on_shutdown=[OnShutdown.DRAIN], drain_timeout=2)):
        short = await cluster.pod("short", termination_grace_period_seconds=1)
        long = await cluster.pod("long", termination_grace_period_seconds=600)
        await eventually(lambda: len(made[0].pods) == 2)
    assert made[0].pods == {}
    assert sorted(made[0].calls) == sorted(
        [f"delete {short.metadata.name} in 1", f"delete {long.metadata.name} in 2"]
    )  # fmt: skip
    ready = await cluster.ready()
    assert (ready.status, ready.reason) == ("False", "NodeDrained")
    assert (await cluster.node()).spec.unschedulable


async def test_cancelling_again_cuts_a_drain_short(cluster: Cluster) -> None:
    made: list[Recorder] = []

    class Stubborn(Recorder):
        async def delete_pod(self, pod: Pod) -> None:
            self.calls.append("delete")

    def make(context: ProviderContext) -> Recorder:
        made.append(Stubborn(context))
        return made[-1]

    config = cluster.config(make, on_shutdown=[OnShutdown.DRAIN], drain_timeout=600)
    async with running(config) as (_, task):
        await cluster.pod("p", termination_grace_period_seconds=600)
        await eventually(lambda: len(made[0].pods) == 1)
        task.cancel()
        await eventually(lambda: made[0].calls == ["delete"])
        assert not task.done()
        task.cancel()
        async with asyncio.timeout(60):
            await asyncio.wait({task})


async def test_delete_node_removes_the_node_where_rights_allow(cluster: Cluster) -> None:
    admin = cluster.identity(cluster.dev.kubeconfig())
    async with running(cluster.config(client_config=admin, on_shutdown=[OnShutdown.DELETE_NODE])):
        await cluster.node()
    with pytest.raises(ApiNotFoundError):
        await cluster.node()


async def test_a_node_that_may_not_delete_itself_says_so_and_stops(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(cluster.config(on_shutdown=[OnShutdown.DELETE_NODE])):
        pass
    await cluster.node()
    assert "could not delete the Node" in caplog.text


class Entered(Recorder):
    """An async context manager."""

    order: list[str]

    async def __aenter__(self) -> Entered:
        self.order = ["entered"]
        assert self.context.pods.get("default", "p") is None
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.order.append("left")


async def test_a_provider_that_is_a_context_manager_is_entered_and_left(cluster: Cluster) -> None:
    made: list[Entered] = []

    async def make(context: ProviderContext) -> Entered:
        made.append(Entered(context))
        return made[-1]

    async with running(cluster.config(make)):
        assert made[0].order == ["entered"]
    assert made[0].order == ["entered", "left"]


async def test_what_breaks_at_start_leaves_run_as_itself_and_closes_everything(cluster: Cluster) -> None:
    provider = Entered.__new__(Entered)

    def make(context: ProviderContext) -> Entered:
        Entered.__init__(provider, context)
        return provider

    def broken(node: Node) -> None:
        raise RuntimeError("no such node")

    kubelet = Kubelet(cluster.config(make, configure_node=broken))
    with pytest.raises(RuntimeError, match="no such node"):
        await kubelet.run()
    with pytest.raises(RuntimeError, match="no such node"):
        await kubelet.wait_ready()
    assert provider.order == ["entered", "left"]
    async with running(cluster.config()):  # the port, the state directory: nothing is held any more
        pass


async def test_a_part_that_breaks_ends_the_node_with_its_error(cluster: Cluster) -> None:
    class Broken(Recorder):
        def notify_node_status(self, callback: object) -> None:
            raise RuntimeError("out of order")

    with pytest.raises(RuntimeError, match="out of order"):
        await Kubelet(cluster.config(Broken)).run()


async def test_a_provider_that_does_not_answer_its_ping_is_not_ready_in_time(cluster: Cluster) -> None:
    class Dead(Recorder):
        async def ping(self) -> None:
            raise ConnectionError("the backend is gone")

    # Long enough for a slow machine to tell the cluster what it has found.
    kubelet = Kubelet(cluster.config(Dead, startup_timeout=5.0))
    with pytest.raises(StartupTimeoutError, match=r"was not Ready within 5 s: .*the backend is gone"):
        await kubelet.run()
    ready = await cluster.ready()
    assert (ready.status, ready.reason) == ("False", "ProviderPingFailed")
    assert "the backend is gone" in (ready.message or "")


async def test_waiting_for_ready_ends_with_its_own_time_out_or_with_the_node(cluster: Cluster) -> None:
    class Slow(Recorder):
        async def ping(self) -> None:
            await asyncio.sleep(600)

    kubelet = Kubelet(cluster.config(Slow))
    task = asyncio.create_task(kubelet.run())
    with pytest.raises(TimeoutError):
        await kubelet.wait_ready(0.05)
    waiting = asyncio.create_task(kubelet.wait_ready())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(RuntimeError, match="stopped before it was ready"):
        await waiting
    await asyncio.wait({task})
    with pytest.raises(RuntimeError, match="runs once"):
        await kubelet.run()


async def test_a_second_node_with_the_same_state_is_refused(cluster: Cluster) -> None:
    async with running(cluster.config()):
        with pytest.raises(ConfigurationError, match="in use by the node process"):
            await Kubelet(cluster.config()).run()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"lease_duration": 5.0}, "must be shorter than the lease duration"),
        ({"provider": "nope"}, "unknown provider 'nope'"),
        ({"tls_certificate": b"x", "tls_private_key": b"y"}, "cannot be used with"),
        ({"client_ca": b"x"}, "holds no usable certificate"),
        ({"listen_host": "192.0.2.1"}, "cannot listen on 192.0.2.1"),
    ],
)
async def test_what_cannot_work_is_a_configuration_error(cluster: Cluster, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        await Kubelet(cluster.config(**options)).run()
    with pytest.raises(ApiNotFoundError):
        await cluster.node()


async def test_a_provider_is_refused_before_the_api_server_is_asked(tmp_path: Path) -> None:
    nobody = ClientConfig("http://127.0.0.1:9", None, Anonymous())
    options: dict[str, Any] = {"client_config": nobody, "listen_host": "127.0.0.1", "listen_port": 0}
    options["state_directory"] = tmp_path
    with pytest.raises(ProviderConfigError):
        await Kubelet(KubeletConfig(provider=lambda context: None, **options)).run()
    with pytest.raises(ApiConnectionError):
        await Kubelet(KubeletConfig(provider=Recorder, **options)).run()


async def test_healthz_says_whether_the_provider_answers_and_pods_are_worked_on(cluster: Cluster) -> None:
    class Fragile(Recorder):
        dead = False

        async def ping(self) -> None:
            if self.dead:
                raise ConnectionError("the backend is gone")

    async with running(cluster.config(Fragile, ping_interval=0.05)) as (kubelet, _):
        assert kubelet.parts is not None
        assert kubelet.parts.https is not None
        checks = kubelet.parts.https._health_checks

        async def answers() -> dict[str, int]:
            return {name: (await healthz({name: check}, timeout=0.2)).status for name, check in checks.items()}

        async def say(expected: dict[str, int]) -> None:
            async with asyncio.timeout(20):
                while await answers() != expected:
                    await asyncio.sleep(0.02)

        await say({"syncloop": 200, "node": 200})
        Fragile.dead = True
        await say({"syncloop": 200, "node": 500})
        Fragile.dead = False
        await say({"syncloop": 200, "node": 200})


async def test_a_provider_that_does_not_list_its_pods_is_why_the_node_is_not_ready(cluster: Cluster) -> None:
    class Broken(Recorder):
        async def get_pods(self) -> Sequence[Pod]:
            raise OSError("the backend is away")

    with pytest.raises(StartupTimeoutError, match="the provider did not list its pods: the backend is away"):
        await Kubelet(cluster.config(Broken, startup_timeout=2.0)).run()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda node: node.status.capacity.update(cpu=1), "AttributeError"),
        (lambda node: setattr(node.status, "capacity", {"cpu": 4}), "Expected `str"),
        (lambda node: setattr(node.metadata, "labels", object()), "object"),
    ],
    ids=["raises", "a number", "nonsense"],
)
async def test_a_provider_that_makes_no_node_of_it_is_named(
    cluster: Cluster, wrong: Callable[[Node], None], said: str
) -> None:
    class Wrong(Recorder):
        def configure_node(self, node: Node) -> None:
            wrong(node)

    with pytest.raises(ProviderConfigError, match=f"provider 'Wrong' made no Node of it.*{said}"):
        await Kubelet(cluster.config(Wrong)).run()


async def test_a_node_declares_what_its_provider_can_and_what_it_can_itself(cluster: Cluster) -> None:
    class Featured(Recorder):
        declared_features = ("RestartAllContainersOnContainerExits",)

    async with running(cluster.config(Featured)):
        node = await cluster.node()
        assert node.status.declared_features == ["ExtendWebSocketsToKubelet", "RestartAllContainersOnContainerExits"]
