"""Variables that were settled when a pod was created are not resolved again."""

from __future__ import annotations

import pytest

from tests.environment.pod_specs import from_map, pod_of
from virtual_kubelet.environment.resolution import EnvironmentSource, resolve_environment
from virtual_kubelet.environment.settled import settled_at_creation, settled_in
from virtual_kubelet.objects.core_v1 import ConfigMap, EnvVar
from virtual_kubelet.objects.meta_v1 import ObjectMeta


def source(value: str) -> EnvironmentSource:
    return EnvironmentSource(config_maps={"m": ConfigMap(metadata=ObjectMeta(), data={"k": value})})


def test_a_settled_container_keeps_its_variables_and_its_commands() -> None:
    pod = pod_of({"env": [from_map("A", "m", "k"), {"name": "B", "value": "$(A) $$(A)"}], "command": ["run", "$(B)"]})
    first = resolve_environment(pod, source("$(B)")).pod
    assert first is not None
    later = resolve_environment(pod, EnvironmentSource(), settled=settled_at_creation(first))
    assert later.pod == first
    assert later.events == ()


def test_a_container_without_variables_is_settled_too() -> None:
    resolution = resolve_environment(pod_of({}), EnvironmentSource())
    assert resolution.pod is not None
    assert settled_at_creation(resolution.pod) == {"main-0": ()}


def test_an_added_container_is_resolved_beside_settled_ones() -> None:
    pod = pod_of({"env": [from_map("A", "m", "k")]}, {"env": [from_map("A", "m", "k")]})
    settled = {"main-0": (EnvVar(name="A", value="old"),)}
    resolution = resolve_environment(pod, source("new"), settled=settled)
    assert resolution.pod is not None
    assert [c.env for c in resolution.pod.spec.containers] == [
        [EnvVar(name="A", value="old")],
        [EnvVar(name="A", value="new")],
    ]


@pytest.mark.parametrize(
    ("kept", "settled"),
    [
        ({"env": [{"name": "A", "value": "v"}]}, {"main-0": (EnvVar(name="A", value="v"),)}),
        ({"env": [from_map("A", "m", "k")]}, None),
        ({"envFrom": [{"configMapRef": {"name": "m"}}]}, None),
        ({}, None),
        ({"name": "another", "env": [{"name": "A", "value": "v"}]}, None),
    ],
    ids=["resolved", "as in the API", "sources", "without", "another container"],
)
def test_a_provider_s_copy_counts_where_it_has_what_it_was_given(kept: dict[str, object], settled: object) -> None:
    wanted = pod_of({"env": [from_map("A", "m", "k")]})
    assert settled_in(pod_of(kept), wanted) == settled
