"""Variables resolved when a container starts: with the pod's addresses, from objects as they are then."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tests.environment.pod_specs import from_map, from_secret, pod_of
from tests.volumes.cluster_stand_in import ClusterStandIn
from virtual_kubelet.contracts.runtime import ContainerStartError
from virtual_kubelet.errors import ForbiddenError
from virtual_kubelet.objects.core_v1 import Container, EnvVar, Service, ServicePort, ServiceSpec
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.runtime.container_environment import ContainerEnvironment, EnvironmentSources


class Rig:
    def __init__(self) -> None:
        self.cluster = ClusterStandIn()
        self.changes = 0
        self.service_error: Exception | None = None
        sources = self.cluster.sources()
        self.environment = ContainerEnvironment(
            EnvironmentSources(
                sources.config_maps,
                sources.secrets,
                self.services,
                self.cluster,
                sources.allocatable,
                ["192.0.2.1", "2001:db8::1"],
                None,
            ),
            changed=self.changed,
        )

    def changed(self) -> None:
        self.changes += 1

    async def services(self, namespace: str) -> Sequence[Service]:
        if self.service_error is not None:
            raise self.service_error
        spec = ServiceSpec(cluster_ip="10.96.0.1", ports=[ServicePort(port=443)])
        return [Service(metadata=ObjectMeta(name="db", namespace=namespace), spec=spec)] if namespace == "shop" else []

    async def resolve(self, *containers: dict[str, Any], ips: Sequence[str] = ("10.0.0.7",), **spec: Any) -> Container:
        """The first of the containers."""
        pod = pod_of(*containers, **spec)
        return await self.environment.resolve(pod, pod.spec.containers[0], ips)


def field(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def values(container: Container) -> dict[str, str | None]:
    return {variable.name: variable.value for variable in container.env or ()}


async def test_addresses_are_known_when_a_container_starts_and_others_build_on_them() -> None:
    env = [
        field("IP", "status.podIP"),
        field("IPS", "status.podIPs"),
        field("HOST", "status.hostIP"),
        field("HOSTS", "status.hostIPs"),
        {"name": "URL", "value": "http://$(IP):80"},
    ]
    made = await Rig().resolve(
        {"env": env, "args": ["--at=$(URL)"]}, ips=["10.0.0.7", "fd00::7"], enableServiceLinks=False
    )
    assert values(made) == {
        "IP": "10.0.0.7",
        "IPS": "10.0.0.7,fd00::7",
        "HOST": "192.0.2.1",
        "HOSTS": "192.0.2.1,2001:db8::1",
        "URL": "http://10.0.0.7:80",
    }
    assert made.args == ["--at=http://10.0.0.7:80"]


async def test_a_restarted_container_sees_objects_as_they_are_now() -> None:
    rig = Rig()
    rig.cluster.config_map("c", k="one")
    container = {"env": [from_map("A", "c", "k")]}
    assert values(await rig.resolve(container))["A"] == "one"
    rig.cluster.config_map("c", k="two")
    assert rig.changes == 1
    assert values(await rig.resolve(container))["A"] == "two"


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (from_map("E", "lc-later", "k"), 'configmap "lc-later" not found'),
        (from_secret("E", "lc-secret", "none"), "couldn't find key none in Secret shop/lc-secret"),
    ],
)
async def test_what_is_missing_is_said_as_recorded_and_its_coming_is_told(env: dict[str, Any], message: str) -> None:
    """``config-missing-then-created`` and ``secret-key-missing`` of the recorded kubelet."""
    rig = Rig()
    rig.cluster.secret("lc-secret", k="v")
    with pytest.raises(ContainerStartError) as caught:
        await rig.resolve({"env": [env]})
    assert (str(caught.value), caught.value.reason) == (message, "CreateContainerConfigError")
    assert caught.value.exit_code is None
    rig.cluster.config_map("lc-later", k="v")
    rig.cluster.secret("lc-secret", none="v")
    assert rig.changes == 1
    assert values(await rig.resolve({"env": [env]}))["E"] == "v"


async def test_another_container_s_missing_object_does_not_count_but_is_watched() -> None:
    rig = Rig()
    made = await rig.resolve({"env": [{"name": "A", "value": "1"}]}, {"env": [from_map("B", "gone", "k")]})
    assert values(made)["A"] == "1"
    rig.cluster.config_map("gone", k="v")
    assert rig.changes == 1


async def test_services_are_told_and_one_that_cannot_be_read_is_waited_for() -> None:
    rig = Rig()
    assert values(await rig.resolve({}))["DB_SERVICE_HOST"] == "10.96.0.1"
    rig.service_error = ForbiddenError(403, "Forbidden", "services is forbidden")
    with pytest.raises(ContainerStartError) as caught:
        await rig.resolve({})
    assert str(caught.value) == (
        "services have not yet been read at least once, cannot construct envvars: services is forbidden"
    )


async def test_an_address_nobody_knows_is_an_error_and_not_an_empty_text() -> None:
    with pytest.raises(ContainerStartError, match=r"variable A: status\.podIP is not known"):
        await Rig().resolve({"env": [field("A", "status.podIP")]}, ips=[])


async def test_after_release_nothing_is_watched() -> None:
    rig = Rig()
    rig.cluster.config_map("c", k="v")
    assert EnvVar(name="A", value="v") in ((await rig.resolve({"env": [from_map("A", "c", "k")]})).env or ())
    rig.environment.release()
    assert rig.cluster.held == {}


async def test_no_value_shows_in_an_error() -> None:
    rig = Rig()
    rig.cluster.secret("s", k="hush")
    with pytest.raises(ContainerStartError) as caught:
        await rig.resolve({"env": [from_secret("A", "s", "k"), from_secret("B", "s", "none")]})
    assert "hush" not in repr(caught.value)
    assert "hush" not in str(caught.value.__context__)
