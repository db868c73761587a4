from __future__ import annotations

from tests.environment.pod_specs import from_map, pod_of
from virtual_kubelet.environment.references import ObjectReferences, containers_of, references_of


def test_a_pod_without_variables_refers_to_nothing_but_services() -> None:
    assert references_of(pod_of({})) == ObjectReferences(frozenset(), frozenset(), True)


def test_service_links_are_wanted_unless_switched_off() -> None:
    assert references_of(pod_of({}, enableServiceLinks=True)).needs_services
    assert not references_of(pod_of({}, enableServiceLinks=False)).needs_services


def test_names_are_gathered_from_every_kind_of_container_and_of_reference() -> None:
    pod = pod_of(
        {
            "envFrom": [{"configMapRef": {"name": "map-a"}}, {"secretRef": {"name": "secret-a", "optional": True}}],
            "env": [
                {"name": "PLAIN", "value": "x"},
                {"name": "F", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            ],
        },
        {"env": [{"name": "K", "valueFrom": {"configMapKeyRef": {"name": "map-b", "key": "k"}}}]},
        initContainers=[
            {"name": "i", "env": [{"name": "K", "valueFrom": {"secretKeyRef": {"name": "secret-b", "key": "k"}}}]}
        ],
        ephemeralContainers=[{"name": "e", "envFrom": [{"configMapRef": {"name": "map-c"}}]}],
    )
    assert references_of(pod) == ObjectReferences(
        frozenset({"map-a", "map-b", "map-c"}), frozenset({"secret-a", "secret-b"}), True
    )


def test_references_without_a_name_are_none() -> None:
    pod = pod_of(
        {
            "envFrom": [{"configMapRef": {}}, {"secretRef": {"name": ""}}, {"prefix": "P_"}],
            "env": [
                {"name": "A", "valueFrom": {"configMapKeyRef": {"key": "k"}}},
                {"name": "B", "valueFrom": {"secretKeyRef": {"key": "k"}}},
            ],
        }
    )
    assert references_of(pod)[:2] == (frozenset(), frozenset())


def test_containers_come_in_the_order_in_which_they_start() -> None:
    pod = pod_of({"name": "m"}, initContainers=[{"name": "i"}], ephemeralContainers=[{"name": "e"}])
    assert [container.name for container in containers_of(pod)] == ["i", "m", "e"]


def test_addresses_are_wanted_by_the_variables_that_are_one() -> None:
    def variable(path: str) -> dict[str, object]:
        return {"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": path}}}]}

    assert references_of(pod_of({}, variable("status.podIP"))).needs_addresses
    assert references_of(pod_of(variable("status.podIPs"))).needs_addresses
    assert not references_of(pod_of(variable("status.hostIP"), {})).needs_addresses


def test_settled_containers_refer_to_nothing() -> None:
    pod = pod_of({"env": [from_map("A", "a", "k")]}, {"env": [from_map("A", "b", "k")]})
    assert references_of(pod, {"main-0"}).config_maps == {"b"}
