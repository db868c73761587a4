"""``kubectl auth can-i --list``: the rules that are shown are those that are obeyed."""

from __future__ import annotations

import pytest

from virtual_kubelet.clock import SystemClock
from virtual_kubelet.devcluster.authorization import Authorizer
from virtual_kubelet.devcluster.cluster_state import ClusterState
from virtual_kubelet.devcluster.pod_index import PodIndex
from virtual_kubelet.devcluster.rules import rules_status
from virtual_kubelet.devcluster.users import AUTHENTICATED, MASTERS, NODES, Attributes, User

ACCOUNT = User("system:serviceaccount:here:default", ("system:serviceaccounts", AUTHENTICATED))


@pytest.fixture(scope="module")
def authorizer() -> Authorizer:
    return Authorizer(PodIndex(ClusterState(clock=SystemClock(), history=1).pods.objects))


@pytest.mark.parametrize(
    "user", [User("admin", (MASTERS,)), User("stranger", (AUTHENTICATED,)), ACCOUNT], ids=lambda u: u.name
)
def test_what_is_shown_is_allowed(user: User, authorizer: Authorizer) -> None:
    status = rules_status(user, "here")
    assert not status["incomplete"]
    for rule in status["resourceRules"]:
        for resource in rule["resources"]:
            plural, _, sub = resource.partition("/")
            for verb in rule["verbs"]:
                asked = Attributes(verb, rule["apiGroups"][0], plural, sub, "here")
                assert authorizer.authorize(user, asked).allowed, asked
    for rule in status["nonResourceRules"]:
        for path in rule["nonResourceURLs"]:
            assert authorizer.authorize(user, Attributes(rule["verbs"][0], path=path.replace("*", "x"))).allowed, path


def test_a_service_account_sees_its_own_namespace_and_no_secrets(authorizer: Authorizer) -> None:
    readable = [r for r in rules_status(ACCOUNT, "here")["resourceRules"] if r["apiGroups"] == [""]]
    assert [r["verbs"] for r in readable] == [["get", "list", "watch"]]
    assert "pods/log" in readable[0]["resources"]
    assert "secrets" not in readable[0]["resources"]
    assert not [r for r in rules_status(ACCOUNT, "there")["resourceRules"] if r["apiGroups"] == [""]]
    assert not authorizer.authorize(ACCOUNT, Attributes("get", "", "secrets", "", "here", "s")).allowed
    assert not authorizer.authorize(ACCOUNT, Attributes("list", "apps", "pods", "", "here")).allowed


def test_a_nodes_rules_are_incomplete_and_it_is_said() -> None:
    status = rules_status(User("system:node:a", (NODES, AUTHENTICATED)), "here")
    assert status["incomplete"]
    assert status["evaluationError"] == "node authorizer does not support user rule resolution"
