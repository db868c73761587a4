"""``virtual-kubelet run`` as a user runs it, in a cluster: with the node's own identity, real processes and kubectl."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.contract.api_servers import ApiServer
from tests.contract.commands import Kubectl, processes_with, running_node, virtual_kubelet
from tests.contract.scenarios import eventually, pod_on
from virtual_kubelet.kube.client import ApiClient
from virtual_kubelet.kube.resources import LEASES, NODES, PODS
from virtual_kubelet.objects.core_v1 import Container, EnvVar, Node, Pod

WriteKubeconfig = Callable[[str], Path]


@pytest.fixture
def kubectl(api_server: ApiServer, kubeconfig_file: WriteKubeconfig) -> Kubectl:
    return Kubectl(kubeconfig_file(api_server.admin_kubeconfig()))


@pytest.fixture
def node_kubeconfig(api_server: ApiServer, node_name: str, kubeconfig_file: WriteKubeconfig) -> Path:
    return kubeconfig_file(api_server.node_kubeconfig(node_name))


@pytest.fixture
def serving(api_server: ApiServer, tmp_path: Path) -> list[str]:
    """Options for an HTTPS port that the API server trusts."""
    certificate, key = api_server.serving_certificate("127.0.0.1")
    (tmp_path / "tls.crt").write_bytes(certificate)
    (tmp_path / "tls.key").write_bytes(key)
    return [
        "--listen", "127.0.0.1:0", "--node-ip", "127.0.0.1",
        "--tls-cert-file", str(tmp_path / "tls.crt"), "--tls-private-key-file", str(tmp_path / "tls.key"),
    ]  # fmt: skip


@pytest.fixture
def process_options(serving: list[str], tmp_path: Path) -> list[str]:
    """A node whose pods are processes of this machine; its state is the test's own."""
    return [*serving, "--provider", "process", "--allow-host-processes", "--state-dir", str(tmp_path / "state")]


def ready_condition(node: Node) -> str:
    return next((c.status for c in node.status.conditions or [] if c.type == "Ready"), "")


async def phase(admin: ApiClient, namespace: str, name: str) -> str:
    return (await admin.get(PODS, name, namespace)).status.phase or ""


def manifest(node_name: str, namespace: str, name: str, script: str, **spec: Any) -> str:
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "nodeSelector": {"kubernetes.io/hostname": node_name},
                "tolerations": [{"operator": "Exists"}],
                "terminationGracePeriodSeconds": 5,
                "containers": [{"name": "main", "image": "busybox", "command": ["sh", "-c", script]}],
                **spec,
            },
        }
    )


async def test_a_node_registers_is_ready_and_keeps_its_lease(
    admin: ApiClient, node_kubeconfig: Path, node_name: str, serving: list[str]
) -> None:
    async with running_node(node_kubeconfig, node_name, "--provider", "mock", *serving) as process:
        assert process.ready_line.startswith(f'node "{node_name}" is Ready')
        node = await admin.get(NODES, node_name)
        assert ready_condition(node) == "True"
        assert [(t.key, t.value, t.effect) for t in node.spec.taints or [] if "virtual" in t.key] == [
            ("virtual-kubelet.io/provider", "mock", "NoSchedule")
        ]
        lease = await admin.get(LEASES, node_name, "kube-node-lease")
        assert lease.metadata.owner_references is not None
        assert [(o.kind, o.name, o.uid) for o in lease.metadata.owner_references] == [
            ("Node", node_name, node.metadata.uid)
        ]
        assert await process.stop() == 0


async def test_a_pod_is_applied_scheduled_runs_logs_and_is_deleted(
    kubectl: Kubectl, node_kubeconfig: Path, node_name: str, namespace: str, process_options: list[str]
) -> None:
    marker = f"marker-{namespace}"
    script = f"echo hello from $NAME; echo oops >&2; exec sleep 1000 # {marker}"
    text = manifest(node_name, namespace, "hello", script)
    spec = json.loads(text)
    spec["spec"]["containers"][0]["env"] = [
        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "MARKER", "value": marker},
    ]
    async with running_node(node_kubeconfig, node_name, *process_options):
        await kubectl("apply", "-f", "-", stdin=json.dumps(spec))
        await kubectl("wait", "-n", namespace, "--for=condition=Ready", "pod/hello", "--timeout=30s")
        assert processes_with(marker)
        logs = (await kubectl("logs", "-n", namespace, "hello")).out
        assert sorted(logs.splitlines()) == ["hello from hello", "oops"]
        assert "hello" in (await kubectl("get", "pods", "-n", namespace, "-o", "wide")).out
        described = (await kubectl("describe", "pod", "-n", namespace, "hello")).out
        assert "Running" in described
        await kubectl("delete", "pod", "-n", namespace, "hello", "--timeout=30s")
        assert processes_with(marker) == []
        assert "not found" in (await kubectl("get", "pod", "-n", namespace, "hello", code=1)).err


async def test_follow_streams_until_the_container_ends(
    kubectl: Kubectl, node_kubeconfig: Path, node_name: str, namespace: str, process_options: list[str], tmp_path: Path
) -> None:
    go = tmp_path / "go"
    script = f"echo one; while [ ! -e {go} ]; do sleep 0.05; done; echo two; exit 3"
    async with running_node(node_kubeconfig, node_name, *process_options):
        await kubectl("apply", "-f", "-", stdin=manifest(node_name, namespace, "f", script, restartPolicy="Never"))
        await kubectl("wait", "-n", namespace, "--for=condition=Ready", "pod/f", "--timeout=30s")
        follower = await asyncio.create_subprocess_exec(
            "kubectl", "--kubeconfig", str(kubectl.kubeconfig), "logs", "-f", "-n", namespace, "f",
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert follower.stdout is not None
        async with asyncio.timeout(20):
            assert await follower.stdout.readline() == b"one\n"
            go.touch()
            assert await follower.stdout.read() == b"two\n"
            assert await follower.wait() == 0
        path = "jsonpath={.status.phase}/{.status.containerStatuses[0].state.terminated.exitCode}"
        await eventually(lambda: _is(kubectl, namespace, "f", path, "Failed/3"))


async def _is(kubectl: Kubectl, namespace: str, name: str, path: str, value: str) -> bool:
    return (await kubectl("get", "pod", "-n", namespace, name, "-o", path)).out == value


async def test_sigkill_of_the_node_harms_no_pod_and_loses_no_exit_code(
    admin: ApiClient, node_kubeconfig: Path, node_name: str, namespace: str, process_options: list[str], tmp_path: Path
) -> None:
    """Invariant 6, and issue 3: adoption of still-running processes after a SIGKILL of the node."""
    gate = tmp_path / "gate"
    pods = {
        "stays": "exec sleep 1000",
        "ends": f"while [ ! -e {gate} ]; do sleep 0.05; done; echo last words; exit 7",
    }

    def runs(name: str) -> Callable[[], Any]:
        return lambda: _phase_is(admin, namespace, name, "Running")

    async with running_node(node_kubeconfig, node_name, *process_options) as node:
        for name, script in pods.items():
            container = Container(name="main", image="busybox", command=["sh", "-c", script])
            await admin.create(PODS, pod_on(node_name, name, containers=[container], restart_policy="Never"), namespace)
        for name in pods:
            await eventually(runs(name))
        before = await admin.get(PODS, "stays", namespace)
        await node.stop(signal.SIGKILL)
    gate.touch()
    await asyncio.sleep(0.5)  # the process ends while nobody watches: the very thing this is about
    async with running_node(node_kubeconfig, node_name, *process_options):
        await eventually(lambda: _phase_is(admin, namespace, "ends", "Failed"))
        ended = await admin.get(PODS, "ends", namespace)
        assert ended.status.container_statuses is not None
        terminated = ended.status.container_statuses[0].state
        assert terminated is not None
        assert terminated.terminated is not None
        assert terminated.terminated.exit_code == 7
        after = await admin.get(PODS, "stays", namespace)
        assert without_versions(after) == without_versions(before)
        await admin.delete(PODS, "stays", namespace, grace_period_seconds=1)
        await eventually(lambda: _absent(admin, namespace, "stays"))


def without_versions(pod: Pod) -> object:
    assert pod.status.container_statuses is not None
    return (
        pod.status.phase,
        pod.status.start_time,
        pod.status.pod_ip,
        sorted((c.type, c.status, c.last_transition_time or "") for c in pod.status.conditions or []),
        [(c.name, c.ready, c.restart_count, c.container_id, c.state) for c in pod.status.container_statuses],
    )


async def _phase_is(admin: ApiClient, namespace: str, name: str, wanted: str) -> bool:
    return await phase(admin, namespace, name) == wanted


async def _absent(admin: ApiClient, namespace: str, name: str) -> bool:
    return all(p.metadata.name != name for p in (await admin.list(PODS, namespace)).items)


@pytest.mark.parametrize("round_", range(3))
async def test_sigkill_in_the_middle_of_creates_and_deletes_converges(
    admin: ApiClient, node_kubeconfig: Path, node_name: str, namespace: str, serving: list[str], round_: int
) -> None:
    options = ["--provider", "mock", *serving]
    names = [f"p{i}" for i in range(60)]
    async with running_node(node_kubeconfig, node_name, *options) as node:
        for name in names[:30]:
            await admin.create(PODS, pod_on(node_name, name), namespace)
        for i, name in enumerate(names[30:]):
            await admin.create(PODS, pod_on(node_name, name), namespace)
            await admin.delete(PODS, names[i], namespace)
            if i == 10 * round_ + 5:
                await node.stop(signal.SIGKILL)
    async with running_node(node_kubeconfig, node_name, *options):

        async def converged() -> bool:
            pods = (await admin.list(PODS, namespace)).items
            return {p.metadata.name: p.status.phase for p in pods} == dict.fromkeys(names[30:], "Running")

        await eventually(converged, seconds=40)


async def test_drain_leaves_no_process_behind(
    admin: ApiClient, node_kubeconfig: Path, node_name: str, namespace: str, process_options: list[str]
) -> None:
    marker = f"drained-{namespace}"
    script = "trap '' TERM; setsid sleep 1000 & sleep 1001"
    options = [*process_options, "--on-shutdown", "drain"]
    async with running_node(node_kubeconfig, node_name, *options) as node:
        container = Container(name="main", image="busybox", command=["sh", "-c", script])
        container.env = [EnvVar(name="MARKER", value=marker)]
        pod = pod_on(node_name, "stubborn", containers=[container], termination_grace_period_seconds=1)
        await admin.create(PODS, pod, namespace)
        await eventually(lambda: _phase_is(admin, namespace, "stubborn", "Running"))
        assert await eventually(lambda: len(processes_with(marker)) >= 2)
        assert await node.stop() == 0
    assert processes_with(marker) == []


async def test_stopping_keeps_pods_running_by_default(
    admin: ApiClient, node_kubeconfig: Path, node_name: str, namespace: str, process_options: list[str]
) -> None:
    marker = f"kept-{namespace}"
    container = Container(
        name="main", image="busybox", command=["sleep", "1000"], env=[EnvVar(name="MARKER", value=marker)]
    )
    async with running_node(node_kubeconfig, node_name, *process_options) as node:
        await admin.create(PODS, pod_on(node_name, "kept", containers=[container]), namespace)
        await eventually(lambda: _phase_is(admin, namespace, "kept", "Running"))
        assert await node.stop() == 0
    assert processes_with(marker)
    async with running_node(node_kubeconfig, node_name, *process_options) as node:
        await admin.delete(PODS, "kept", namespace, grace_period_seconds=1)
        await eventually(lambda: _absent(admin, namespace, "kept"))
        assert await node.stop() == 0
    assert processes_with(marker) == []


class TestErrorsForPeople:
    """What the server refuses is said on stderr, with no traceback; tests/cli has those that need no server."""

    async def refused(self, *args: str, environment: dict[str, str] | None = None) -> str:
        result = await virtual_kubelet("run", *args, environment={"KUBECONFIG": "", **(environment or {})})
        assert result.code not in (0, None), result
        assert "Traceback" not in result.err, result.err
        assert result.err.strip(), result
        return result.err

    async def test_an_expired_certificate(self, api_server: ApiServer, kubeconfig_file: WriteKubeconfig) -> None:
        path = kubeconfig_file(api_server.expired_kubeconfig())
        assert "expired" in await self.refused("--kubeconfig", str(path), "--provider", "mock")

    async def test_an_identity_without_rights(
        self, api_server: ApiServer, kubeconfig_file: WriteKubeconfig, node_name: str
    ) -> None:
        """A node's identity may register itself, and nobody else."""
        path = kubeconfig_file(api_server.node_kubeconfig(f"{node_name}-other"))
        said = await self.refused(
            "--kubeconfig", str(path), "--nodename", node_name, "--provider", "mock", "--startup-timeout", "5s",
            "--listen", "127.0.0.1:0",
        )  # fmt: skip
        assert "orbidden" in said or "not allowed" in said
        assert node_name in said


async def test_a_second_signal_or_a_closed_terminal_is_no_traceback(
    node_kubeconfig: Path, node_name: str, serving: list[str]
) -> None:
    async with running_node(node_kubeconfig, node_name, "--provider", "mock", *serving) as node:
        assert await node.stop(signal.SIGINT) == 0
        assert "Traceback" not in "".join(node.errors)
