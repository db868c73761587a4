"""``status.podIP(s)`` in variables: known when a container starts, from the sandbox that the engine has made before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.contract.scenarios import eventually
from tests.node.pod_api import PodApi, pod
from tests.node.test_pod_controller import controlled
from tests.providers.contexts import context
from tests.runtime.container_fakes import LoopClock, Runtime
from virtual_kubelet.contracts.runtime import ContainerConfig, ContainerInstance, PodSandbox
from virtual_kubelet.objects.core_v1 import Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod
from virtual_kubelet.runtime.engine_options import EngineOptions
from virtual_kubelet.runtime.pod_engine import PodEngine

pytestmark = pytest.mark.may_block


class Sandboxed(Runtime):
    """Its pods have addresses when they have a sandbox, and not before."""

    def __init__(self) -> None:
        super().__init__(LoopClock())
        self.environment: dict[str, str | None] = {}
        self.arguments: list[str] | None = None
        self.sandboxes: dict[str, PodSandbox] = {}

    def pod_ips(self, pod: Pod) -> Sequence[str]:
        return []

    async def ensure_sandbox(self, pod: Pod) -> PodSandbox:
        meta = pod.metadata
        labels = {"namespace": meta.namespace or "", "pod": meta.name or "", "uid": meta.uid or ""}
        return self.sandboxes.setdefault(meta.uid or "", PodSandbox("sandbox", labels, ["10.66.0.30", "fd00::30"]))

    async def remove_sandbox(self, sandbox_id: str) -> None:
        self.sandboxes.clear()

    async def list_sandboxes(self) -> Sequence[PodSandbox]:
        return list(self.sandboxes.values())

    async def start_container(self, config: ContainerConfig) -> ContainerInstance:
        self.environment = {variable.name: variable.value for variable in config.container.env or ()}
        self.arguments = config.container.args
        return await super().start_container(config)


async def test_the_address_of_the_sandbox_is_in_the_environment_when_a_container_starts(tmp_path: Path) -> None:
    """From the pod in the API, through the node, to what the runtime is given."""
    variables = [
        ("IP", "status.podIP"),
        ("IPS", "status.podIPs"),
        ("HOST", "status.hostIP"),
        ("HOSTS", "status.hostIPs"),
    ]
    env = [
        EnvVar(name=name, value_from=EnvVarSource(field_ref=ObjectFieldSelector(field_path=path)))
        for name, path in variables
    ]
    env.append(EnvVar(name="URL", value="http://$(IP):80"))
    container = Container(name="main", image="i", env=env, args=["--listen=$(IP)"])
    runtime, api = Sandboxed(), PodApi()
    async with PodEngine(
        runtime,
        replace(context(tmp_path, clock=runtime.clock), host_ips=["192.0.2.1", "2001:db8::1"]),
        EngineOptions(directory=tmp_path / "pods"),
    ) as engine:
        async with controlled(api, engine, host_ips=["192.0.2.1", "2001:db8::1"]):  # type: ignore[arg-type]
            api.put_pod(pod("p", containers=[container], enable_service_links=False))
            await eventually(lambda: api.status("p").phase == "Running")
    assert runtime.environment == {
        "IP": "10.66.0.30",
        "IPS": "10.66.0.30,fd00::30",
        "HOST": "192.0.2.1",
        "HOSTS": "192.0.2.1,2001:db8::1",
        "URL": "http://10.66.0.30:80",
    }
    assert runtime.arguments == ["--listen=10.66.0.30"]
    assert api.status("p").pod_ip == "10.66.0.30"
