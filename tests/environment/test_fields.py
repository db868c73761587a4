"""``fieldRef`` and ``resourceFieldRef``."""

from __future__ import annotations

from typing import Any

import pytest

from tests.environment.pod_specs import pod_of
from virtual_kubelet.environment.fields import FieldError, UnknownAddressError, field_value, resource_value
from virtual_kubelet.objects.core_v1 import Pod, ResourceFieldSelector

POD = pod_of(
    {},
    metadata={
        "labels": {"b": "2", "a": "1"},
        "annotations": {"example.com/note": 'two\nlines, "quoted" \\ é \x01\x7f\u00ad\U000e0001', "A'] ['": "odd"},
    },
    serviceAccountName="robot",
    restartPolicy="Never",
    schedulerName="default-scheduler",
)


def value(path: str, pod: Pod = POD, pod_ips: list[str] | None = None, host_ips: tuple[str, ...] = ()) -> str:
    return field_value(pod, path, pod_ips=pod_ips, host_ips=host_ips)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("metadata.name", "web-0"),
        ("metadata.namespace", "shop"),
        ("metadata.uid", "u-1"),
        ("metadata.labels", 'a="1"\nb="2"'),
        ("metadata.labels['a']", "1"),
        ("metadata.labels['absent']", ""),
        ("metadata.annotations['absent']", ""),
        ("metadata.annotations['A'] ['']", "odd"),
        ("spec.nodeName", "node-1"),
        ("spec.host", "node-1"),
        ("spec.serviceAccountName", "robot"),
        ("spec.restartPolicy", "Never"),
        ("spec.schedulerName", "default-scheduler"),
    ],
)
def test_fields_of_the_pod(path: str, expected: str) -> None:
    assert value(path) == expected


def test_annotations_are_quoted_as_go_does() -> None:
    lines = value("metadata.annotations").split("\n")
    assert lines[0] == "A'] ['=" + '"odd"'
    assert lines[1] == r'example.com/note="two\nlines, \"quoted\" \\ é \x01\x7f\u00ad\U000e0001"'


def test_a_pod_without_labels_has_an_empty_text_of_them() -> None:
    bare = pod_of({})
    assert value("metadata.labels", bare) == value("metadata.annotations['x']", bare) == ""


@pytest.mark.parametrize(
    "path", ["", "metadata", "status.message", "spec.containers", "metadata.name['a']", "metadata.labels['a'"]
)
def test_other_fields_are_refused(path: str) -> None:
    with pytest.raises(FieldError) as caught:
        value(path)
    assert str(caught.value) == f"field label not supported: {path}"


def test_addresses_the_provider_gave_win_over_the_status() -> None:
    pod = pod_of({})
    pod.status.pod_ip = "10.0.0.1"
    assert value("status.podIP", pod) == "10.0.0.1"
    assert value("status.podIP", pod, pod_ips=["10.9.9.9", "fd00::9"]) == "10.9.9.9"
    assert value("status.podIPs", pod, pod_ips=["10.9.9.9", "fd00::9"]) == "10.9.9.9,fd00::9"


def test_host_addresses() -> None:
    assert value("status.hostIP", host_ips=("192.0.2.1", "2001:db8::1")) == "192.0.2.1"
    assert value("status.hostIPs", host_ips=("192.0.2.1", "2001:db8::1")) == "192.0.2.1,2001:db8::1"


def test_a_pod_on_the_host_s_network_has_the_host_s_addresses() -> None:
    pod = pod_of({}, hostNetwork=True)
    assert value("status.podIP", pod, host_ips=("192.0.2.1",)) == "192.0.2.1"
    assert value("status.podIP", pod, pod_ips=["10.0.0.1"], host_ips=("192.0.2.1",)) == "10.0.0.1"


@pytest.mark.parametrize("path", ["status.podIP", "status.podIPs"])
def test_an_address_not_known_yet_says_so(path: str) -> None:
    """Upstream never starts such a pod and does not say why (virtual-kubelet#123)."""
    with pytest.raises(UnknownAddressError, match=f"{path} is not known before the pod runs with this provider"):
        value(path, host_ips=("192.0.2.1",))


@pytest.mark.parametrize("path", ["status.hostIP", "status.hostIPs"])
def test_a_node_without_an_address_says_so(path: str) -> None:
    with pytest.raises(UnknownAddressError, match="set --node-ip"):
        value(path)


LIMITED = pod_of(
    {
        "resources": {
            "limits": {"cpu": "1500m", "memory": "1Gi", "hugepages-2Mi": "4Mi"},
            "requests": {"cpu": "250m", "memory": "0"},
        }
    },
    {},
    {"resources": {"limits": {"cpu": "0"}}},
)
ALLOCATABLE = {"cpu": "7", "memory": "15Gi", "ephemeral-storage": "10G", "hugepages-2Mi": "8Mi"}


def resource(index: int, name: str, divisor: str | None = None, **selector: Any) -> str:
    return resource_value(
        LIMITED,
        LIMITED.spec.containers[index],
        ResourceFieldSelector(resource=name, divisor=divisor, **selector),
        ALLOCATABLE,
    )


@pytest.mark.parametrize(
    ("name", "divisor", "expected"),
    [
        ("limits.cpu", None, "2"),
        ("limits.cpu", "", "2"),
        ("limits.cpu", "0", "2"),
        ("limits.cpu", "0m", "2"),
        ("limits.cpu", "1m", "1500"),
        ("requests.cpu", None, "1"),
        ("requests.cpu", "1m", "250"),
        ("requests.memory", "1Mi", "0"),
        ("limits.memory", None, "1073741824"),
        ("limits.memory", "1Mi", "1024"),
        ("limits.memory", "1M", "1074"),
        ("limits.ephemeral-storage", "1G", "10"),
        ("requests.ephemeral-storage", None, "0"),
        ("limits.hugepages-2Mi", "1Mi", "4"),
        ("requests.hugepages-2Mi", None, "0"),
    ],
)
def test_resources_in_whole_divisors_rounded_up(name: str, divisor: str | None, expected: str) -> None:
    assert resource(0, name, divisor) == expected


def test_without_a_limit_the_node_s_allocatable_is_told() -> None:
    assert resource(1, "limits.cpu") == resource(2, "limits.cpu") == "7"
    assert resource(1, "limits.memory", "1Gi") == "15"


def test_without_a_limit_huge_pages_are_none() -> None:
    assert resource(1, "limits.hugepages-2Mi") == "0"


def test_resources_of_another_container() -> None:
    assert resource(1, "limits.cpu", "1m", container_name="main-0") == "1500"
    with pytest.raises(FieldError, match="container nobody not found"):
        resource(1, "limits.cpu", container_name="nobody")


@pytest.mark.parametrize("name", ["cpu", "limits.", "limits.example.com/gpu", "claims.cpu", "limits"])
def test_other_resources_are_refused(name: str) -> None:
    with pytest.raises(FieldError, match="unsupported container resource : "):
        resource(0, name)


def test_a_node_that_does_not_say_what_it_has_is_an_error() -> None:
    selector = ResourceFieldSelector(resource="limits.cpu")
    with pytest.raises(FieldError, match="no limit and the node does not say"):
        resource_value(LIMITED, LIMITED.spec.containers[1], selector, {})


def test_a_divisor_that_is_no_quantity_is_an_error() -> None:
    with pytest.raises(FieldError, match="quantities must match"):
        resource(0, "limits.cpu", "often")
