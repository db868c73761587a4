"""A pod's environment, as upstream's podutils tests and the recorded kubelet have it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.environment.pod_specs import config_map, from_map, from_secret, pod_of, secret
from virtual_kubelet.environment.resolution import (
    EnvironmentEvent,
    EnvironmentFailure,
    EnvironmentSource,
    ReadFailure,
    Resolution,
    resolve_environment,
)
from virtual_kubelet.objects.core_v1 import Container, Pod, Service, ServicePort, ServiceSpec
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.objects.serialization import encode

NOTHING = EnvironmentSource()
KUBERNETES = Service(
    metadata=ObjectMeta(name="kubernetes", namespace="default"),
    spec=ServiceSpec(cluster_ip="10.0.0.1", ports=[ServicePort(name="https", port=443)]),
)


def resolved(pod: Pod, source: EnvironmentSource = NOTHING) -> Pod:
    resolution = resolve_environment(pod, source)
    assert resolution.failure is None
    assert resolution.pod is not None
    return resolution.pod


def variables(container: Container) -> list[tuple[str, str | None]]:
    assert not container.env_from
    assert all(variable.value_from is None for variable in container.env or ())
    return [(variable.name, variable.value) for variable in container.env or ()]


def environment(pod: Pod, source: EnvironmentSource = NOTHING) -> list[tuple[str, str | None]]:
    return variables(resolved(pod, source).spec.containers[0])


def warnings(resolution: Resolution) -> list[tuple[str, str]]:
    assert all(event.event_type == "Warning" for event in resolution.events)
    return [(event.reason, event.message) for event in resolution.events]


def test_order_is_envfrom_then_env_then_services_and_an_overridden_name_keeps_its_place() -> None:
    """Upstream's order is random, so that every sync looks like an update (virtual-kubelet#1424)."""
    pod = pod_of(
        {
            "envFrom": [{"configMapRef": {"name": "m"}}, {"secretRef": {"name": "s"}}],
            "env": [{"name": "Z", "value": "1"}, {"name": "B", "value": "from env"}, {"name": "KUBERNETES_PORT"}],
        }
    )
    source = EnvironmentSource({"m": config_map(B="map", A="map")}, {"s": secret(A="secret", C="c")}, (KUBERNETES,))
    found = environment(pod, source)
    assert found[:5] == [("A", "secret"), ("B", "from env"), ("C", "c"), ("Z", "1"), ("KUBERNETES_PORT", "")]
    assert [name for name, _ in found[5:]] == [
        *("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "KUBERNETES_SERVICE_PORT_HTTPS"),
        *("KUBERNETES_PORT_443_TCP", "KUBERNETES_PORT_443_TCP_PROTO"),
        *("KUBERNETES_PORT_443_TCP_PORT", "KUBERNETES_PORT_443_TCP_ADDR"),
    ]


def test_init_normal_and_ephemeral_containers_are_all_resolved() -> None:
    part = {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)2"}], "args": ["$(B)"]}
    pod = pod_of(part, initContainers=[{"name": "i", **part}], ephemeralContainers=[{"name": "e", **part}])
    spec = resolved(pod).spec
    for containers in (spec.init_containers, spec.containers, spec.ephemeral_containers):
        assert containers is not None
        assert [(v.name, v.value) for v in containers[0].env or ()] == [("A", "1"), ("B", "12")]
        assert containers[0].args == ["12"]


def test_two_config_maps_and_a_secret_with_prefixes() -> None:
    pod = pod_of(
        {
            "envFrom": [
                {"prefix": "ONE_", "configMapRef": {"name": "one"}},
                {"prefix": "TWO_", "configMapRef": {"name": "two"}},
                {"prefix": "S_", "secretRef": {"name": "s"}},
            ]
        }
    )
    source = EnvironmentSource({"one": config_map(a="1"), "two": config_map(a="2")}, {"s": secret(a="3")})
    assert environment(pod, source) == [("ONE_a", "1"), ("TWO_a", "2"), ("S_a", "3")]


@pytest.mark.parametrize(("reference", "word"), [("configMapRef", "configmap"), ("secretRef", "secret")])
def test_keys_that_are_no_names_are_skipped_and_listed(reference: str, word: str) -> None:
    pod = pod_of({"envFrom": [{reference: {"name": "m"}}]})
    values = {"z=z": "1", "": "2", "a\tb": "3", "é": "4", "good": "5", "1.even-this": "6"}
    source = EnvironmentSource({"m": config_map(**values)}, {"m": secret(**values)})
    resolution = resolve_environment(pod, source)
    assert warnings(resolution) == [
        (
            "InvalidEnvironmentVariableNames",
            f"keys [, a\tb, z=z, é] from {word} shop/m were skipped since they are invalid as environment variable names",
        )
    ]
    assert resolution.pod is not None
    assert variables(resolution.pod.spec.containers[0]) == [("1.even-this", "6"), ("good", "5")]


def test_a_prefix_counts_as_part_of_the_name() -> None:
    pod = pod_of({"envFrom": [{"prefix": "=", "configMapRef": {"name": "m"}}]})
    resolution = resolve_environment(pod, EnvironmentSource({"m": config_map(a="1")}))
    assert warnings(resolution)[0][1].startswith("keys [=a] from configmap shop/m were skipped")


def test_values_of_envfrom_and_of_references_are_not_expanded() -> None:
    pod = pod_of(
        {
            "envFrom": [{"configMapRef": {"name": "m"}}],
            "env": [{"name": "A", "value": "a"}, from_map("B", "m", "raw"), {"name": "C", "value": "$(B)$(raw)"}],
        }
    )
    source = EnvironmentSource({"m": config_map(raw="$(A)$$")})
    assert environment(pod, source) == [("raw", "$(A)$$"), ("A", "a"), ("B", "$(A)$$"), ("C", "$(A)$$$(A)$$")]


def test_composed_values_see_earlier_variables_then_services_and_never_later_ones() -> None:
    pod = pod_of(
        {
            "envFrom": [{"configMapRef": {"name": "m"}}],
            "env": [
                {"name": "URL", "value": "http://$(KUBERNETES_SERVICE_HOST):$(port)/$(LATER)$$(port)"},
                {"name": "LATER", "value": "x"},
                {"name": "KUBERNETES_SERVICE_HOST", "value": "own"},
                {"name": "AGAIN", "value": "$(KUBERNETES_SERVICE_HOST)"},
            ],
        }
    )
    found = dict(environment(pod, EnvironmentSource({"m": config_map(port="80")}, services=(KUBERNETES,))))
    assert found["URL"] == "http://10.0.0.1:80/$(LATER)$(port)"
    assert found["AGAIN"] == "own"


def test_an_empty_value_is_kept() -> None:
    assert environment(pod_of({"env": [{"name": "A"}, {"name": "B", "value": ""}]})) == [("A", ""), ("B", "")]


def test_commands_and_arguments_are_expanded_with_services_too() -> None:
    pod = pod_of({"command": ["sh", "$(A)"], "args": ["$(KUBERNETES_SERVICE_HOST)", "$(B)", "$$(A)"]})
    pod.spec.containers[0].env = pod_of({"env": [{"name": "A", "value": "a"}]}).spec.containers[0].env
    container = resolved(pod, EnvironmentSource(services=(KUBERNETES,))).spec.containers[0]
    assert container.command == ["sh", "a"]
    assert container.args == ["10.0.0.1", "$(B)", "$(A)"]


def test_a_dollar_in_a_command_is_an_escape_without_any_variable_too() -> None:
    assert resolved(pod_of({"args": ["$$HOME"]})).spec.containers[0].args == ["$HOME"]


def test_a_container_without_variables_or_references_comes_back_as_it_is() -> None:
    pod = pod_of({"command": ["sleep", "1"]})
    assert resolved(pod).spec.containers[0] is pod.spec.containers[0]


@pytest.mark.parametrize(("links", "told"), [(None, True), (True, True), (False, False)])
def test_service_links_unset_are_on(links: bool | None, told: bool) -> None:
    spec = ServiceSpec(cluster_ip="10.0.0.9", ports=[ServicePort(port=1)])
    own = Service(metadata=ObjectMeta(name="db", namespace="shop"), spec=spec)
    switch: dict[str, Any] = {} if links is None else {"enableServiceLinks": links}
    pod = pod_of({}, **switch)
    names = dict(environment(pod, EnvironmentSource(services=(KUBERNETES, own))))
    assert ("DB_SERVICE_HOST" in names) is told
    assert "KUBERNETES_SERVICE_HOST" in names


def test_the_api_server_is_told_as_configured() -> None:
    source = EnvironmentSource(services=(KUBERNETES,), api_server_override=("api.example.com", 6443))
    assert dict(environment(pod_of({}), source))["KUBERNETES_SERVICE_HOST"] == "api.example.com"


def test_fields_and_resources() -> None:
    pod = pod_of(
        {
            "env": [
                {"name": "NODE", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "spec.nodeName"}}},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}},
                {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                {"name": "ALL", "value": "$(NODE) $(IP) $(CPU)"},
            ]
        }
    )
    source = EnvironmentSource(pod_ips=["10.1.1.1"], host_ips=["192.0.2.1"], allocatable={"cpu": "4"})
    assert [value for _, value in environment(pod, source)] == [
        "node-1",
        "10.1.1.1",
        "192.0.2.1",
        "4",
        "node-1 10.1.1.1 4",
    ]


@pytest.mark.parametrize(
    ("value_from", "message"),
    [
        (
            {"fieldRef": {"fieldPath": "status.podIP"}},
            "status.podIP is not known before the pod runs with this provider",
        ),
        ({"fieldRef": {"fieldPath": "status.message"}}, "field label not supported: status.message"),
        ({"fieldRef": {"apiVersion": "v2", "fieldPath": "metadata.name"}}, "unsupported pod version: v2"),
        ({"resourceFieldRef": {"resource": "limits.gpu"}}, "unsupported container resource : limits.gpu"),
        (
            {"fileKeyRef": {"key": "k", "path": "p", "volumeName": "v"}},
            "its valueFrom is of a kind that is not supported (fileKeyRef?)",
        ),
    ],
)
def test_what_no_object_can_cure_fails_for_good_and_names_the_variable(
    value_from: dict[str, Any], message: str
) -> None:
    """Upstream leaves the variable out or tries 20 times and never says why."""
    pod = pod_of({"name": "app", "env": [{"name": "V", "valueFrom": value_from}]})
    resolution = resolve_environment(pod, NOTHING)
    assert resolution == Resolution(None, (), EnvironmentFailure("app", f"variable V: {message}", permanent=True))


KINDS = [("ConfigMap", "configmap"), ("Secret", "secret")]


def references(kind: str, optional: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """One variable V from key k of object n, and all of object n."""
    make, whole = (from_map, "configMapRef") if kind == "ConfigMap" else (from_secret, "secretRef")
    more = {"optional": True} if optional else {}
    return {"env": [make("V", "n", "k", **more)]}, {"envFrom": [{whole: {"name": "n", **more}}]}


@pytest.mark.parametrize(("kind", "word"), KINDS)
@pytest.mark.parametrize("whole", [False, True])
def test_a_missing_mandatory_object_waits_for_it(kind: str, word: str, whole: bool) -> None:
    pod = pod_of({}, references(kind, False)[whole])
    resolution = resolve_environment(pod, NOTHING)
    text = f'{word} "n" not found'
    assert warnings(resolution) == [(f"Mandatory{kind}NotFound", text)]
    assert resolution.failure == EnvironmentFailure("main-1", text, missing=((kind, "n"),))
    assert resolution.failure.reason == "CreateContainerConfigError"
    assert resolution.pod is None


@pytest.mark.parametrize(("kind", "word"), KINDS)
@pytest.mark.parametrize("whole", [False, True])
def test_a_missing_optional_object_is_skipped(kind: str, word: str, whole: bool) -> None:
    resolution = resolve_environment(pod_of(references(kind, True)[whole]), NOTHING)
    skipped = "" if whole else 'skipping optional envvar "V": '
    assert warnings(resolution) == [(f"Optional{kind}NotFound", f'{skipped}{word} "n" not found')]
    assert resolution.pod is not None
    assert variables(resolution.pod.spec.containers[0]) == []


@pytest.mark.parametrize(("kind", "word"), KINDS)
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("optional", [False, True])
def test_a_read_failure_ends_it_unless_optional(kind: str, word: str, whole: bool, optional: bool) -> None:
    failed = {"n": ReadFailure("Forbidden: no")}
    source = EnvironmentSource(config_maps=failed) if kind == "ConfigMap" else EnvironmentSource(secrets=failed)
    resolution = resolve_environment(pod_of(references(kind, optional)[whole]), source)
    if optional:
        skipped = "" if whole else 'skipping optional envvar "V": '
        assert warnings(resolution) == [(f"FailedToReadOptional{kind}", f'{skipped}failed to read {word} "n"')]
        assert resolution.failure is None
    else:
        assert warnings(resolution) == [(f"FailedToReadMandatory{kind}", f'failed to read {word} "n"')]
        assert resolution.failure is not None
        assert resolution.failure.message == f'failed to fetch {word} "n": Forbidden: no'
        assert not resolution.failure.permanent


@pytest.mark.parametrize(("kind", "word"), KINDS)
@pytest.mark.parametrize("optional", [False, True])
def test_a_missing_key_ends_it_unless_optional(kind: str, word: str, optional: bool) -> None:
    source = EnvironmentSource({"n": config_map(other="1")}, {"n": secret(other="1")})
    resolution = resolve_environment(pod_of(references(kind, optional)[0]), source)
    sentence = f'key "k" does not exist in {word} "n"'
    if optional:
        assert warnings(resolution) == [(f"Optional{kind}KeyNotFound", f'skipping optional envvar "V": {sentence}')]
        assert resolution.failure is None
    else:
        assert warnings(resolution) == [(f"Mandatory{kind}KeyNotFound", sentence)]
        assert resolution.failure == EnvironmentFailure(
            "main-0", f"couldn't find key k in {kind} shop/n", missing=((kind, "n"),)
        )


def test_the_first_failure_ends_it_and_earlier_events_are_kept() -> None:
    pod = pod_of(
        {"env": [from_map("A", "a", "k", optional=True), from_map("B", "b", "k"), from_map("C", "c", "k")]},
    )
    resolution = resolve_environment(pod, NOTHING)
    assert [event.reason for event in resolution.events] == ["OptionalConfigMapNotFound", "MandatoryConfigMapNotFound"]


@pytest.mark.recording
@pytest.mark.parametrize(
    ("recording", "source"),
    [
        ("config-missing-then-created", NOTHING),
        ("secret-key-missing", EnvironmentSource(secrets={"lc-secret": secret(k="v")})),
    ],
)
def test_failures_read_as_the_kubelet_s(shared: Path, recording: str, source: EnvironmentSource) -> None:
    lines = (shared / f"kubelet-1.36/lifecycles/{recording}.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    said = {
        (waiting["reason"], waiting["message"])
        for row in rows
        for status in row.get("status", {}).get("containerStatuses", ())
        if "message" in (waiting := status["state"].get("waiting", {}))
    }
    spec = rows[0]["pod"]["spec"]
    pod = pod_of(*spec["containers"], metadata={"namespace": "default"})
    failure = resolve_environment(pod, source).failure
    assert failure is not None
    assert {(failure.reason, failure.message)} == said


def test_skipping_the_downward_api_leaves_the_pod_as_it_is() -> None:
    pod = pod_of({"env": [from_secret("A", "absent", "k")], "args": ["$(A)"]})
    assert resolve_environment(pod, NOTHING, skip_downward_api=True).pod is pod


def test_an_event_is_ready_for_a_recorder() -> None:
    assert EnvironmentEvent("Warning", "R", "m") == ("Warning", "R", "m")


names = st.sampled_from(["A", "B", "C", "KUBERNETES_SERVICE_HOST"])
plain = st.builds(lambda name, value: {"name": name, "value": value}, names, st.text("$(ABC) x", max_size=12))
by_key = st.builds(
    lambda make, variable, key, optional: make(variable, "o", key, optional=optional),
    st.sampled_from([from_map, from_secret]),
    names,
    st.sampled_from(["A", "none"]),
    st.booleans(),
)
whole_objects = st.sampled_from(
    [{"configMapRef": {"name": "o"}}, {"secretRef": {"name": "o"}}, {"secretRef": {"name": "p", "optional": True}}]
)
containers = st.fixed_dictionaries(
    {},
    optional={
        "env": st.lists(st.one_of(plain, by_key), max_size=4),
        "envFrom": st.lists(whole_objects, max_size=2),
        "command": st.lists(st.text("$(AB) x", max_size=8), max_size=2),
        "args": st.lists(st.text("$(AB) x", max_size=8), max_size=2),
    },
)


@given(st.lists(containers, min_size=1, max_size=2), st.lists(containers, max_size=1), st.booleans())
def test_nothing_given_is_changed_names_are_unique_and_nothing_is_left_to_resolve(
    main: list[dict[str, Any]], init: list[dict[str, Any]], with_services: bool
) -> None:
    pod = pod_of(*main, initContainers=[{"name": f"i-{index}", **part} for index, part in enumerate(init)])
    source = EnvironmentSource(
        {"o": config_map(A="a", B="$(A)")}, {"o": secret(A="s", C="c")}, (KUBERNETES,) if with_services else ()
    )
    before, source_before = encode(pod), copy.deepcopy((source.config_maps, source.secrets))
    resolution = resolve_environment(pod, source)
    assert encode(pod) == before
    assert (source.config_maps, source.secrets) == source_before
    assert (resolution.pod is None) == (resolution.failure is not None)
    if resolution.pod is not None:
        for container in (*(resolution.pod.spec.init_containers or ()), *resolution.pod.spec.containers):
            found = [name for name, _ in variables(container)]
            assert len(found) == len(set(found))
            assert ("KUBERNETES_SERVICE_HOST" in found) or not with_services
        assert resolve_environment(pod, source) == resolution
