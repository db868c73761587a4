"""What is said of a pod, and when."""

from __future__ import annotations

import io

import pytest

from virtual_kubelet.cli.activity import Screen, _Pods, describe_pod
from virtual_kubelet.objects.core_v1 import (
    ContainerState,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    Pod,
    PodCondition,
    PodSpec,
    PodStatus,
)
from virtual_kubelet.objects.meta_v1 import ObjectMeta


def pod(status: PodStatus, *, node: str = "n", deleted: bool = False) -> Pod:
    meta = ObjectMeta(name="p", namespace="d", uid="u", deletion_timestamp="2026-01-01T00:00:00Z" if deleted else None)
    return Pod(metadata=meta, spec=PodSpec(containers=[], node_name=node), status=status)


def container(name: str = "main", state: ContainerState | None = None, restarts: int = 0) -> ContainerStatus:
    return ContainerStatus(name=name, image="", image_id="", ready=False, restart_count=restarts, state=state)


def waiting(reason: str, message: str | None = None) -> ContainerState:
    return ContainerState(waiting=ContainerStateWaiting(reason=reason, message=message))


UNWIRED = container(state=waiting("CreateContainerConfigError", "x"))
UNSCHEDULABLE = PodCondition(type="PodScheduled", status="False", message="no node has cpu")


@pytest.mark.parametrize(
    ("found", "text", "mood"),
    [
        (pod(PodStatus()), "Pending", "wait"),
        (
            pod(PodStatus(phase="Pending", conditions=[UNSCHEDULABLE]), node=""),
            "Pending: no node yet: no node has cpu",
            "bad",
        ),
        (
            pod(PodStatus(phase="Pending", container_statuses=[container(state=waiting("ContainerCreating"))])),
            "Pending",
            "wait",
        ),
        (
            pod(PodStatus(phase="Pending", container_statuses=[UNWIRED])),
            "Pending: main: CreateContainerConfigError: x",
            "bad",
        ),
        (pod(PodStatus(phase="Pending", reason="ProviderFailed", message="no")), "Pending: ProviderFailed no", "wait"),
        (pod(PodStatus(phase="Running", container_statuses=[container()])), "Running", "good"),
        (pod(PodStatus(phase="Running", container_statuses=[container(restarts=2)])), "Running, 2 restarts", "good"),
        (pod(PodStatus(phase="Running"), deleted=True), "Terminating", "wait"),
        (pod(PodStatus(phase="Succeeded"), deleted=True), "Succeeded", "good"),
        (
            pod(
                PodStatus(
                    phase="Failed",
                    container_statuses=[container(state=ContainerState(terminated=ContainerStateTerminated(exit_code=3)))],
                )
            ),
            "Failed: main ended with exit code 3",
            "bad",
        ),
        (pod(PodStatus(phase="Failed", reason="NotFound", message="gone")), "Failed: NotFound gone", "bad"),
    ],
)  # fmt: skip
def test_a_pod_in_a_few_words(found: Pod, text: str, mood: str) -> None:
    assert describe_pod(found) == (text, mood)


def test_only_changes_are_said_and_without_a_terminal_without_colours() -> None:
    stream = io.StringIO()
    told: list[Pod | None] = []
    pods = _Pods(Screen(stream), lambda uid, pod: told.append(pod))
    first, second = pod(PodStatus(phase="Pending")), pod(PodStatus(phase="Running"))
    pods.on_add(first)
    pods.on_update(first, first)
    pods.on_update(first, second)
    pods.on_delete(second)
    lines = [line.split(maxsplit=3)[1:] for line in stream.getvalue().splitlines()]
    assert lines == [["pod", "d/p", "Pending"], ["pod", "d/p", "Running"], ["pod", "d/p", "gone"]]
    assert "\x1b" not in stream.getvalue()
    assert told == [first, first, second, None]


def test_a_terminal_has_colours_unless_it_or_the_user_does_not_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def written() -> str:
        stream = Terminal()
        Screen(stream).line("pod", "d/p", "Running", "good")
        return stream.getvalue()

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert "\x1b[32mRunning\x1b[0m" in written()
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in written()
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in written()
