"""Addresses that come when a container starts: stand-ins through every expansion, then the addresses in their place."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.environment.pod_specs import pod_of
from virtual_kubelet.environment.late_addresses import (
    STAND_INS,
    MissingAddressError,
    needs_addresses,
    with_addresses,
)
from virtual_kubelet.environment.resolution import EnvironmentSource, resolve_environment
from virtual_kubelet.objects.core_v1 import Container, Pod


def field(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def resolved(pod: Pod, ips: list[str]) -> Container:
    resolution = resolve_environment(pod, EnvironmentSource(pod_ips=ips, host_ips=["192.0.2.1"]))
    assert resolution.pod is not None
    return resolution.pod.spec.containers[0]


PIECES = st.lists(st.sampled_from(["$(IP)", "$(IPS)", "$(HOST)", "$$(IP)", ",", "x", "$("]), max_size=5).map("".join)


@given(value=PIECES, argument=PIECES, ips=st.sampled_from([["10.0.0.7"], ["10.0.0.7", "fd00::7"]]))
def test_addresses_put_in_late_are_as_good_as_addresses_known_before(value: str, argument: str, ips: list[str]) -> None:
    env = [
        field("IP", "status.podIP"),
        field("IPS", "status.podIPs"),
        field("HOST", "status.hostIP"),
        {"name": "URL", "value": value},
    ]
    pod = pod_of({"env": env, "command": ["run", "$(URL)"], "args": [argument]}, enableServiceLinks=False)
    late = resolved(pod, list(STAND_INS))
    assert needs_addresses(late)
    assert with_addresses(late, ips) == resolved(pod, ips)


def test_a_container_without_any_is_left_as_it_is() -> None:
    made = resolved(pod_of({"env": [{"name": "A", "value": "1"}]}), list(STAND_INS))
    assert not needs_addresses(made)
    assert with_addresses(made, []) is made


def test_a_pod_that_never_gets_an_address_says_so() -> None:
    made = resolved(pod_of({"env": [field("IP", "status.podIP")]}), list(STAND_INS))
    with pytest.raises(MissingAddressError, match="the pod has no address"):
        with_addresses(made, [])
