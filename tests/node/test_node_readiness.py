"""When a node is Ready, and what it says when it is not."""

from __future__ import annotations

from collections.abc import Sequence

from virtual_kubelet.node.readiness import (
    NodeReadiness,
    Obstacle,
    PingResult,
    obstacles_to_ready,
    ready_condition,
)
from virtual_kubelet.objects.core_v1 import NodeCondition

OK = PingResult(True)


def said(
    gates: Sequence[Obstacle], ping: PingResult | None, verdict: NodeCondition | None = None
) -> tuple[str, str, str]:
    condition = ready_condition(obstacles_to_ready(gates, ping), verdict)
    assert condition.type == "Ready"
    return condition.status, condition.reason or "", condition.message or ""


def test_all_open_and_ping_answered_is_ready_in_a_kubelets_words() -> None:
    assert said((), OK) == ("True", "KubeletReady", "kubelet is posting ready status")


def test_before_the_first_ping_it_is_not_ready() -> None:
    status, reason, message = said((), None)
    assert (status, reason) == ("False", "KubeletNotReady")
    assert "first ping" in message


def test_a_failing_ping_gives_its_reason_and_sentence() -> None:
    assert said((), PingResult(False, "OSError: down")) == ("False", "ProviderPingFailed", "OSError: down")


def test_every_obstacle_is_named_and_the_first_gives_the_reason() -> None:
    obstacles = (Obstacle("A", "a is down"), Obstacle("B", "b is down"))
    assert said(obstacles, PingResult(False, "no ping")) == ("False", "A", "a is down; b is down; no ping")


def test_a_provider_may_say_no_but_its_yes_opens_nothing() -> None:
    no = NodeCondition(type="Ready", status="False", reason="BackendFull", message="no capacity")
    yes = NodeCondition(type="Ready", status="True", reason="BackendReady", message="all well")
    assert said((), OK, no) == ("False", "BackendFull", "no capacity")
    assert said((), OK, yes) == ("True", "BackendReady", "all well")
    assert said((Obstacle("A", "a"),), OK, yes)[0] == "False"
    assert said((), PingResult(False, "x"), yes)[1] == "ProviderPingFailed"
    assert said((), OK, NodeCondition(type="Ready", status="Unknown"))[:2] == ("Unknown", "KubeletNotReady")


def test_gates_tell_their_changes_once() -> None:
    readiness = NodeReadiness(["pods", "server"])
    told: list[int] = []
    readiness.watch(lambda: told.append(len(readiness.obstacles)))
    assert [(o.reason, o.starting) for o in readiness.obstacles] == [("KubeletNotReady", True)] * 2
    readiness.open("pods")
    readiness.open("pods")
    readiness.open("server")
    assert not readiness.obstacles
    readiness.close("server", "the port was lost", reason="ServerFailed")
    readiness.close("server", "the port was lost", reason="ServerFailed")
    assert readiness.obstacles == (Obstacle("ServerFailed", "the port was lost"),)
    assert told == [1, 0, 1]
