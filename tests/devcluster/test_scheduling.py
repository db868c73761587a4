"""The scheduler's filters: pure."""

from __future__ import annotations

from typing import Any

import pytest

from virtual_kubelet.devcluster.scheduling import (
    Candidate,
    NodeView,
    Refusal,
    node_view,
    preference,
    refusal,
    unschedulable_message,
)
from virtual_kubelet.objects.pod_fitting import Resources, host_ports, pod_requests

Json = dict[str, Any]
GI = 1 << 30


def view(name: str = "n", **changed: Any) -> NodeView:
    return NodeView(name, False, {}, (), Resources(4000, 8 * GI, 0, 110))._replace(**changed)


def refused(spec: Json, candidate: Candidate | NodeView) -> Refusal | None:
    candidate = candidate if isinstance(candidate, Candidate) else Candidate(candidate)
    return refusal(spec, pod_requests(spec), host_ports(spec), candidate)


def reasons(spec: Json, candidate: Candidate | NodeView) -> list[str]:
    found = refused(spec, candidate)
    return [] if found is None else list(found.reasons)


def affinity(*terms: Json) -> Json:
    required = {"nodeSelectorTerms": list(terms)}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}}


def expression(key: str, operator: str, *values: str) -> Json:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


def requests(**amounts: str) -> Json:
    return {"resources": {"requests": {k.replace("_", "-"): v for k, v in amounts.items()}}}


NO_AFFINITY = "node(s) didn't match Pod's node affinity/selector"


def test_a_node_that_takes_everything_takes_a_pod() -> None:
    assert refused({}, view()) is None


def test_a_cordoned_node_refuses_all_but_those_that_tolerate_its_taint() -> None:
    assert reasons({}, view(unschedulable=True)) == ["node(s) were unschedulable"]
    tolerating = {"tolerations": [{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]}
    assert refused(tolerating, view(unschedulable=True)) is None


@pytest.mark.parametrize(
    ("toleration", "taken"),
    [
        ({"key": "k", "value": "v", "effect": "NoSchedule"}, True),
        ({"key": "k", "operator": "Equal", "value": "v"}, True),
        ({"key": "k", "operator": "Exists"}, True),
        ({"operator": "Exists"}, True),
        ({"key": "k", "value": "other"}, False),
        ({"key": "k"}, False),
        ({"key": "other", "operator": "Exists"}, False),
        ({"key": "k", "operator": "Exists", "effect": "NoExecute"}, False),
    ],
)
def test_a_toleration_matches_a_taint_by_key_value_and_effect(toleration: Json, taken: bool) -> None:
    tainted = view(taints=(("k", "v", "NoSchedule"),))
    expected = [] if taken else ["node(s) had untolerated taint(s)"]
    assert reasons({"tolerations": [toleration]}, tainted) == expected


def test_a_taint_that_only_prefers_refuses_nobody_but_counts_among_nodes() -> None:
    tainted, plain = view("a", taints=(("k", "v", "PreferNoSchedule"),)), view("b")
    assert refused({}, tainted) is None
    assert preference({}, Candidate(plain)) < preference({}, Candidate(tainted))


def test_a_no_execute_taint_keeps_new_pods_away_too() -> None:
    assert refused({}, view(taints=(("k", "", "NoExecute"),))) == Refusal(["node(s) had untolerated taint(s)"], True)


def test_a_node_selector_wants_all_its_labels() -> None:
    spec = {"nodeSelector": {"disk": "ssd", "zone": "a"}}
    assert refused(spec, view(labels={"disk": "ssd", "zone": "a", "more": "x"})) is None
    assert reasons(spec, view(labels={"disk": "ssd"})) == [NO_AFFINITY]


@pytest.mark.parametrize(
    ("term", "taken"),
    [
        (expression("disk", "In", "ssd", "nvme"), True),
        (expression("disk", "NotIn", "ssd"), False),
        (expression("absent", "NotIn", "ssd"), True),
        (expression("disk", "Exists"), True),
        (expression("absent", "DoesNotExist"), True),
        (expression("cores", "Gt", "3"), True),
        (expression("cores", "Gt", "4"), False),
        (expression("cores", "Lt", "5"), True),
        (expression("disk", "Gt", "1"), False),
        (expression("absent", "Lt", "5"), False),
        (expression("odd", "Gt", "1"), False),
        ({}, False),
        ({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}, True),
        ({"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["n"]}]}, False),
    ],
)
def test_required_node_affinity(term: Json, taken: bool) -> None:
    node = view(labels={"disk": "ssd", "cores": "4", "odd": "1_0"})
    assert reasons(affinity(term), node) == ([] if taken else [NO_AFFINITY])


def test_one_term_of_a_required_affinity_is_enough_and_all_of_its_expressions_are_needed() -> None:
    both = {
        "matchExpressions": [
            *expression("a", "Exists")["matchExpressions"],
            *expression("b", "Exists")["matchExpressions"],
        ]
    }
    assert refused(affinity(both, expression("c", "Exists")), view(labels={"c": ""})) is None
    assert reasons(affinity(both), view(labels={"a": ""})) == [NO_AFFINITY]


def test_a_pod_that_names_its_node_leaves_all_others_out_in_the_words_of_the_plugin() -> None:
    spec = affinity({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["other"]}]})
    assert reasons(spec, view(unschedulable=True)) == ["node(s) didn't satisfy plugin(s) [NodeAffinity]"]


def test_the_heaviest_preferred_affinity_wins() -> None:
    preferred = [{"weight": 5, "preference": expression("fast", "Exists")}]
    spec = {"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}}
    crowded = Candidate(view("fast", labels={"fast": ""}), Resources(pods=50))
    assert preference(spec, crowded) < preference(spec, Candidate(view("empty")))


def test_the_first_filter_that_refuses_is_the_reason_in_the_schedulers_order() -> None:
    full = Candidate(view(unschedulable=True, taints=(("k", "", "NoSchedule"),)), Resources(pods=110))
    assert reasons({"nodeSelector": {"x": "y"}}, full) == ["node(s) were unschedulable"]
    tainted = Candidate(view(taints=(("k", "", "NoSchedule"),)), Resources(pods=110))
    assert reasons({"nodeSelector": {"x": "y"}}, tainted) == ["node(s) had untolerated taint(s)"]
    assert reasons({"nodeSelector": {"x": "y"}}, Candidate(view(), Resources(pods=110))) == [NO_AFFINITY]


def test_all_that_is_short_is_said_and_may_come_free_unless_the_node_never_has_so_much() -> None:
    node = view(allocatable=Resources(2000, GI, GI, 1, {"example.com/gpu": 1}))
    wanted = {"cpu": "1500m", "memory": "1Gi", "ephemeral-storage": "1Gi", "example.com/gpu": "1"}
    spec = {"containers": [{"resources": {"requests": wanted}}]}
    used = Resources(1000, 1, 1, 1, {"example.com/gpu": 1})
    assert refused(spec, node) is None
    found = refused(spec, Candidate(node, used))
    assert found is not None
    assert found.reasons == [
        "Too many pods",
        "Insufficient cpu",
        "Insufficient memory",
        "Insufficient ephemeral-storage",
        "Insufficient example.com/gpu",
    ]
    assert not found.final
    huge = {"containers": [requests(cpu="3")]}
    assert refused(huge, Candidate(node)) == Refusal(["Insufficient cpu"], True)


def test_a_pod_without_requests_fits_where_nothing_is_left_but_room_for_a_pod() -> None:
    assert refused({"containers": [{}]}, Candidate(view(), Resources(9000, 9 * GI, 0, 109))) is None


def test_what_a_pod_takes_is_the_most_it_needs_at_one_time() -> None:
    spec = {
        "containers": [requests(cpu="100m", memory="1Gi"), requests(cpu="200m")],
        "initContainers": [
            requests(cpu="900m"),
            {**requests(cpu="50m", memory="1Gi"), "restartPolicy": "Always"},
            requests(cpu="100m", memory="3Gi"),
        ],
        "overhead": {"cpu": "10m"},
    }
    # The first init container is the most of CPU, the sidecar with the last one the most of memory.
    assert pod_requests(spec) == Resources(910, 4 * GI, 0, 1)


def test_what_is_asked_for_the_pod_as_a_whole_counts() -> None:
    spec = {**requests(cpu="2"), "containers": [requests(cpu="100m", memory="1Gi")]}
    assert pod_requests(spec) == Resources(2000, GI, 0, 1)


@pytest.mark.parametrize(
    ("taken", "free"),
    [
        (("0.0.0.0", "TCP", 80), False),
        (("127.0.0.1", "TCP", 80), False),
        (("0.0.0.0", "UDP", 80), True),
        (("0.0.0.0", "TCP", 81), True),
    ],
)
def test_a_host_port_can_be_taken_once(taken: tuple[str, str, int], free: bool) -> None:
    spec = {"containers": [{"ports": [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}]}]}
    expected = None if free else Refusal(["node(s) didn't have free ports for the requested pod ports"], False)
    assert refused(spec, Candidate(view(), Resources(), [taken])) == expected


def test_host_ports_of_different_addresses_do_not_meet() -> None:
    spec = {"containers": [{"ports": [{"containerPort": 80, "hostPort": 80, "hostIP": "127.0.0.2"}]}]}
    assert refused(spec, Candidate(view(), Resources(), [("127.0.0.1", "TCP", 80)])) is None


def test_a_node_that_says_no_allocatable_has_what_its_capacity_says() -> None:
    node = {"metadata": {"name": "n"}, "spec": {}, "status": {"capacity": {"cpu": "500m", "pods": "3"}}}
    assert node_view(node).allocatable == Resources(500, 0, 0, 3)


def test_the_message_counts_reasons_and_sorts_them() -> None:
    # Copied from a cluster of 1.35 on the public record.
    expected = (
        "0/6 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu, 3 node(s) didn't match Pod's "
        "node affinity/selector. no new claims to deallocate, preemption: 0/6 nodes are available: 2 No preemption "
        "victims found for incoming pod, 4 Preemption is not helpful for scheduling."
    )
    tainted, busy = Refusal(["node(s) had untolerated taint(s)"]), Refusal(["Insufficient cpu"], False)
    assert unschedulable_message([busy, tainted, busy, *[Refusal([NO_AFFINITY])] * 3]) == expected


def test_the_message_without_nodes_and_without_preemption() -> None:
    assert unschedulable_message([]) == "no nodes available to schedule pods"
    expected = (
        "0/1 nodes are available: 1 Too many pods. no new claims to deallocate, preemption: not eligible due to "
        "preemptionPolicy=Never."
    )
    assert unschedulable_message([Refusal(["Too many pods"], False)], may_preempt=False) == expected
