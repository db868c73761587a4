"""What users do with pods, on real containers: the docker provider on a real Podman, under its own identity."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.container_engines import ContainerEngine
from tests.contract.api_servers import ApiServer
from tests.contract.commands import Kubectl, NodeProcess, running_node
from tests.contract.scenarios import eventually
from virtual_kubelet.kube.client import ApiClient
from virtual_kubelet.kube.resources import PODS
from virtual_kubelet.objects.core_v1 import ContainerStatus, Pod

pytestmark = [pytest.mark.timeout(420), pytest.mark.engine]

BUSYBOX = "docker.io/library/busybox:1.35"
SECONDS = 180


@dataclass
class World:
    """A cluster with a node whose containers are Podman's."""

    node_name: str
    namespace: str
    admin: ApiClient
    kubectl: Kubectl
    kubeconfig: Path
    options: list[str]

    @contextlib.asynccontextmanager
    async def node(self) -> AsyncIterator[NodeProcess]:
        async with running_node(self.kubeconfig, self.node_name, *self.options) as node:
            yield node

    def spec(self, script: str = "sleep 1000000", **spec: Any) -> dict[str, Any]:
        main = {"name": "main", "image": BUSYBOX, "command": ["sh", "-c", script]}
        main.update(spec.pop("main", {}))
        return {
            "nodeName": self.node_name,
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "tolerations": [{"operator": "Exists"}],
            "containers": [main],
            **spec,
        }

    async def apply(self, kind: str, name: str, api_version: str = "v1", **body: Any) -> None:
        text = json.dumps({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **body})
        await self.kubectl("-n", self.namespace, "apply", "-f", "-", stdin=text)

    async def pod(self, name: str = "p") -> Pod:
        return await self.admin.get(PODS, name, self.namespace)

    async def running(self, name: str = "p") -> Pod:
        async def one() -> Pod | None:
            found = await self.pod(name)
            return found if found.status.phase == "Running" else None

        found = await eventually(one, seconds=SECONDS)
        assert isinstance(found, Pod)
        return found

    async def inside(self, *command: str, name: str = "p") -> str:
        return (await self.kubectl("-n", self.namespace, "exec", name, "--", *command)).out


@pytest.fixture
async def world(
    api_server: ApiServer,
    node_name: str,
    namespace: str,
    admin: ApiClient,
    kubeconfig_file: Callable[[str], Path],
    tmp_path: Path,
    podman: ContainerEngine,
) -> World:
    certificate, key = api_server.serving_certificate("127.0.0.1")
    for name, content in (
        ("tls.crt", certificate),
        ("tls.key", key),
        ("docker.yaml", f"host: {podman.url}\n".encode()),
    ):
        (tmp_path / name).write_bytes(content)
    options = [
        "--listen", "127.0.0.1:0", "--node-ip", "127.0.0.1", "--provider", "docker",
        "--provider-config", str(tmp_path / "docker.yaml"), "--state-dir", str(tmp_path / "state"),
        "--tls-cert-file", str(tmp_path / "tls.crt"), "--tls-private-key-file", str(tmp_path / "tls.key"),
        "--on-shutdown", "drain", "--drain-timeout", "1s",
    ]  # fmt: skip
    kubeconfig = kubeconfig_file(api_server.node_kubeconfig(node_name))
    kubectl = Kubectl(kubeconfig_file(api_server.admin_kubeconfig()))
    return World(node_name, namespace, admin, kubectl, kubeconfig, options)


def status_of(pod: Pod) -> ContainerStatus:
    found = pod.status.container_statuses
    assert found is not None
    return found[0]


async def test_kubectl_cp_and_an_edit_of_a_config_map_that_a_running_container_sees(
    world: World, tmp_path: Path
) -> None:
    async with world.node() as node:
        await world.apply("ConfigMap", "settings", data={"colour": "red"})
        await world.apply(
            "Pod",
            "p",
            spec=world.spec(
                main={"volumeMounts": [{"name": "settings", "mountPath": "/settings"}]},
                volumes=[{"name": "settings", "configMap": {"name": "settings"}}],
            ),
        )
        before = await world.running()
        (tmp_path / "there").write_bytes(bytes(range(256)) * 400)
        await world.kubectl("-n", world.namespace, "cp", str(tmp_path / "there"), "p:/tmp/file")
        await world.kubectl("-n", world.namespace, "cp", "p:/tmp/file", str(tmp_path / "back"))
        assert (tmp_path / "back").read_bytes() == (tmp_path / "there").read_bytes()

        assert await world.inside("cat", "/settings/colour") == "red"
        await world.apply("ConfigMap", "settings", data={"colour": "blue"})

        async def seen() -> bool:
            return await world.inside("cat", "/settings/colour") == "blue"

        await eventually(seen, seconds=SECONDS)
        assert status_of(await world.pod()).container_id == status_of(before).container_id
        assert await node.stop() == 0


async def test_a_node_that_is_killed_finds_its_pods_again_and_harms_none(world: World, podman: ContainerEngine) -> None:
    async with world.node() as node:
        await world.apply("Pod", "p", spec=world.spec("cat /proc/uptime >/began; sleep 1000000"))
        before = status_of(await world.running())

        async def written() -> str:
            return await world.inside("cat", "/began")

        began = await eventually(written, seconds=SECONDS)
        await node.stop(signal.SIGKILL)
    assert before.container_id is not None
    container_id = before.container_id.partition("://")[2]
    assert podman.cli("inspect", "--format", "{{.State.Status}}", container_id).strip() == "running"
    async with world.node() as node:
        assert await world.inside("cat", "/began") == began
        after = status_of(await world.running())
        assert (after.container_id, after.restart_count) == (before.container_id, 0)
        assert after.state == before.state
        await world.kubectl("-n", world.namespace, "delete", "pod", "p")  # returns when it is gone
        assert container_id not in podman.cli("ps", "-a", "--no-trunc", "--format", "{{.ID}}")
        assert await node.stop() == 0


@pytest.mark.only_on("dev")
async def test_kubectl_debug_sees_the_processes_of_its_target(world: World) -> None:
    async with world.node() as node:
        await world.apply("Pod", "p", spec=world.spec("exec sleep 7654321"))
        await world.running()
        options = ["--image", BUSYBOX, "--target", "main", "--container", "looker", "--attach=false"]
        await world.kubectl("-n", world.namespace, "debug", "p", *options, "--", "cat", "/proc/1/cmdline")

        async def ended() -> bool:
            statuses = (await world.pod()).status.ephemeral_container_statuses or []
            state = statuses[0].state if statuses else None
            return state is not None and state.terminated is not None and state.terminated.exit_code == 0

        await eventually(ended, seconds=SECONDS)
        assert (await world.kubectl("-n", world.namespace, "logs", "p", "-c", "looker")).out == "sleep\x007654321\x00"
        assert await node.stop() == 0


@pytest.mark.only_on("dev")
async def test_a_sidecar_outlives_the_main_container_and_the_pod_succeeds(world: World) -> None:
    async with world.node() as node:
        sidecar = {
            "name": "sidecar",
            "image": BUSYBOX,
            "restartPolicy": "Always",
            "command": ["sh", "-c", "trap 'echo told; exit 0' TERM; echo up; while :; do sleep 0.1; done"],
        }
        await world.apply("Pod", "p", spec=world.spec("exit 0", initContainers=[sidecar], restartPolicy="Never"))

        async def succeeded() -> Pod | None:
            found = await world.pod()
            return found if found.status.phase == "Succeeded" else None

        found = await eventually(succeeded, seconds=SECONDS)
        assert isinstance(found, Pod)
        assert found.status.init_container_statuses is not None
        states = status_of(found).state, found.status.init_container_statuses[0].state
        assert states[0] is not None
        assert states[1] is not None
        main, other = states[0].terminated, states[1].terminated
        assert main is not None
        assert other is not None
        assert main.finished_at is not None
        assert other.finished_at is not None
        assert other.finished_at >= main.finished_at
        log = (await world.kubectl("-n", world.namespace, "logs", "p", "-c", "sidecar")).out
        assert log == "up\ntold\n"
        assert await node.stop() == 0


@pytest.mark.only_on("dev")  # the subresource is of 1.33
async def test_kubectl_resizes_a_running_container_and_its_cgroup_says_so(world: World) -> None:
    resources = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "100m", "memory": "64Mi"}}
    async with world.node():
        await world.apply("Pod", "p", spec=world.spec(main={"resources": resources}))
        before = status_of(await world.running())
        wanted = {"requests": {"cpu": "300m", "memory": "96Mi"}, "limits": {"cpu": "300m", "memory": "96Mi"}}
        patch = json.dumps({"spec": {"containers": [{"name": "main", "resources": wanted}]}})
        await world.kubectl("-n", world.namespace, "patch", "pod", "p", "--subresource", "resize", "--patch", patch)

        async def resized() -> ContainerStatus | None:
            pod = await world.pod()
            status = status_of(pod)
            done = status.resources is not None and status.resources.limits == wanted["limits"]
            return status if done and not has_condition(pod, "PodResizeInProgress") else None

        after = await eventually(resized, seconds=SECONDS)
        assert isinstance(after, ContainerStatus)
        assert (after.container_id, after.restart_count) == (before.container_id, 0)
        assert after.allocated_resources == wanted["requests"]
        pod = await world.pod()
        assert pod.status.observed_generation == pod.metadata.generation == 2
        assert pod.status.allocated_resources == wanted["requests"]
        quota = await world.inside("sh", "-c", f"{CPU_QUOTA} || {CPU_QUOTA_V1}")
        assert quota.split()[0] == "30000"

        # More than the node has stays a wish.
        patch = json.dumps({"spec": {"containers": [{"name": "main", "resources": {
            "requests": {"cpu": "9999", "memory": "96Mi"}, "limits": {"cpu": "9999", "memory": "96Mi"}}}]}})  # fmt: skip
        await world.kubectl("-n", world.namespace, "patch", "pod", "p", "--subresource", "resize", "--patch", patch)

        async def pending() -> bool:
            return has_condition(await world.pod(), "PodResizePending", "Infeasible")

        await eventually(pending, seconds=SECONDS)
        assert status_of(await world.pod()).allocated_resources == wanted["requests"]


CPU_QUOTA = "cat /sys/fs/cgroup/cpu.max 2>/dev/null"
CPU_QUOTA_V1 = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us"


def has_condition(pod: Pod, kind: str, reason: str | None = None) -> bool:
    return any(c.type == kind and (reason is None or c.reason == reason) for c in pod.status.conditions or ())


@pytest.mark.only_on("debian")
async def test_a_job_whose_container_fails_and_then_succeeds_is_complete(world: World) -> None:
    async with world.node() as node:
        script = "[ -e /memory/tried ] || { touch /memory/tried; exit 3; }"
        spec = world.spec(
            script,
            restartPolicy="OnFailure",
            main={"volumeMounts": [{"name": "memory", "mountPath": "/memory"}]},
            volumes=[{"name": "memory", "emptyDir": {}}],
        )
        await world.apply("Job", "j", "batch/v1", spec={"template": {"spec": spec}})
        await world.kubectl("-n", world.namespace, "wait", "job/j", "--for=condition=complete", f"--timeout={SECONDS}s")
        pods = (await world.admin.list(PODS, world.namespace, label_selector="job-name=j")).items
        assert [status_of(pod).restart_count for pod in pods] == [1]
        last = status_of(pods[0]).last_state
        assert last is not None
        assert last.terminated is not None
        assert last.terminated.exit_code == 3
        assert await node.stop() == 0


@pytest.mark.only_on("debian")
async def test_a_pod_of_a_stateful_set_is_made_anew_under_its_name(world: World) -> None:
    async with world.node() as node:
        labels = {"app": "s"}
        await world.apply(
            "StatefulSet",
            "s",
            "apps/v1",
            spec={
                "serviceName": "s",
                "replicas": 1,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": world.spec()},
            },
        )

        async def there() -> bool:
            pods = (await world.admin.list(PODS, world.namespace, label_selector="app=s")).items
            return any(pod.status.phase == "Running" for pod in pods)

        await eventually(there, seconds=SECONDS)
        first = await world.running("s-0")
        assert await world.inside("hostname", name="s-0") == "s-0\n"
        await world.kubectl("-n", world.namespace, "delete", "pod", "s-0")

        async def another() -> bool:
            pods = (await world.admin.list(PODS, world.namespace, label_selector="app=s")).items
            return any(p.status.phase == "Running" and p.metadata.uid != first.metadata.uid for p in pods)

        await eventually(another, seconds=SECONDS)
        second = await world.running("s-0")
        assert status_of(second).container_id != status_of(first).container_id
        assert status_of(second).restart_count == 0
        await world.kubectl("-n", world.namespace, "delete", "statefulset", "s")
        assert await node.stop() == 0
