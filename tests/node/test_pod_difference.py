"""Which differences between the API's pod and a provider's copy of it lead to an update after a restart."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.node.pod_api import pod
from virtual_kubelet.node.pod_difference import differs
from virtual_kubelet.objects.core_v1 import Container, EnvVar, EphemeralContainer, Pod, PodStatus, Toleration


def changed(change: Callable[[Pod], object]) -> Pod:
    one = pod("p")
    change(one)
    return one


def image(one: Pod) -> None:
    one.spec.containers = [Container(name="main", image="busybox:new")]


def init(one: Pod) -> None:
    one.spec.init_containers = [Container(name="first", image="i")]


def ephemeral(one: Pod) -> None:
    one.spec.ephemeral_containers = [EphemeralContainer(name="debugger", image="i")]


def deadline(one: Pod) -> None:
    one.spec.active_deadline_seconds = 9


def toleration(one: Pod) -> None:
    one.spec.tolerations = [Toleration(operator="Exists")]


def label(one: Pod) -> None:
    one.metadata.labels = {"a": "b"}


def annotation(one: Pod) -> None:
    one.metadata.annotations = {"a": "b"}


@pytest.mark.parametrize("change", [image, init, ephemeral, deadline, toleration, label, annotation])
def test_pods_different(change: Callable[[Pod], object]) -> None:
    assert differs(changed(change), pod("p"))
    assert differs(pod("p"), changed(change))


def resolved(one: Pod) -> None:
    one.spec.containers = [Container(name="main", image="busybox", env=[EnvVar(name="A", value="resolved")])]


def status(one: Pod) -> None:
    one.status = PodStatus(phase="Failed")


def version(one: Pod) -> None:
    one.metadata.resource_version = "99"


@pytest.mark.parametrize("change", [resolved, status, version])
def test_pods_different_ignore_value(change: Callable[[Pod], object]) -> None:
    """Variables are resolved in the provider's copy; status and resourceVersion are no part of what it was given."""
    assert not differs(changed(change), pod("p"))
