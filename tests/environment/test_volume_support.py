"""Volumes and mounts that this node cannot have are refused with a sentence that names the field."""

from __future__ import annotations

from typing import Any

import pytest

from tests.environment.pod_specs import pod_of
from virtual_kubelet.environment.empty_dir_size import memory_size
from virtual_kubelet.environment.volume_support import check_volumes
from virtual_kubelet.errors import InvalidInputError
from virtual_kubelet.objects.core_v1 import EmptyDirVolumeSource


def refused(message: str, volume: dict[str, Any], mount: dict[str, Any] | None = None, **container: Any) -> None:
    mounts = {"volumeMounts": [{"name": "v", "mountPath": "/v", **(mount or {})}], **container}
    pod = pod_of({}, mounts, volumes=[{"name": "ok", "emptyDir": {}}, {"name": "v", **volume}])
    with pytest.raises(InvalidInputError) as caught:
        check_volumes(pod)
    assert str(caught.value) == message
    assert caught.value.reason == "UnsupportedVolume"


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("persistentVolumeClaim", {"claimName": "c"}),
        ("nfs", {"server": "s", "path": "/"}),
        ("csi", {"driver": "d"}),
        ("ephemeral", {}),
        ("image", {"reference": "i"}),
        ("gitRepo", {"repository": "r"}),
    ],
)
def test_kinds_of_volumes_that_there_are_not(source: str, value: dict[str, Any]) -> None:
    refused(f"spec.volumes[1].{source}: this node has no {source} volumes", {source: value})


def test_projected_sources_that_there_are_not() -> None:
    sources = [{"configMap": {"name": "c"}}, {"clusterTrustBundle": {"path": "p"}}]
    refused(
        "spec.volumes[1].projected.sources[1].clusterTrustBundle: this node has no clusterTrustBundle volume sources",
        {"projected": {"sources": sources}},
    )
    refused(
        "spec.volumes[1].projected.sources[0].podCertificate: this node has no podCertificate volume sources",
        {"projected": {"sources": [{"podCertificate": {"keyType": "k", "signerName": "s"}}]}},
    )


def test_media_types_and_paths_that_there_are_not() -> None:
    refused(
        "spec.volumes[1].emptyDir.medium: this node has no medium 'HugePages'", {"emptyDir": {"medium": "HugePages"}}
    )
    refused(
        "spec.volumes[1].hostPath.type: Pipe is an invalid volume type", {"hostPath": {"path": "/x", "type": "Pipe"}}
    )
    for path in ("x", "/a/../b", "/a\0"):
        refused("spec.volumes[1].hostPath.path: must be an absolute path without '..'", {"hostPath": {"path": path}})


def test_mounts_that_cannot_be() -> None:
    at = "spec.containers[1]"
    refused(f"{at}.volumeMounts[0].name: there is no volume 'w'", {}, {"name": "w"})
    refused(f"{at}.volumeMounts[0].mountPath: '/./' is no place for a volume", {}, {"mountPath": "/./"})
    refused(
        f"{at}.volumeMounts[0].mountPropagation: this node does not propagate mounts (Bidirectional)",
        {},
        {"mountPropagation": "Bidirectional"},
    )
    refused(
        f"{at}.volumeMounts[0].mountPropagation: Shared is an unknown mount propagation",
        {},
        {"mountPropagation": "Shared"},
    )
    refused(
        f"{at}.volumeMounts[0].recursiveReadOnly: this node cannot make mounts below a mount read-only",
        {},
        {"readOnly": True, "recursiveReadOnly": "Enabled"},
    )
    refused(
        f"{at}.volumeDevices: this node has no block devices for containers",
        {},
        volumeDevices=[{"name": "v", "devicePath": "/dev/x"}],
    )


def test_a_name_that_is_no_dns_label_is_refused() -> None:
    pod = pod_of({}, volumes=[{"name": "../../etc", "emptyDir": {}}])
    with pytest.raises(InvalidInputError, match=r"spec\.volumes\[0\]\.name: a volume's name is a DNS label"):
        check_volumes(pod)


def test_what_there_is_passes() -> None:
    volumes = [
        {"name": "a", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "b", "hostPath": {"path": "/x", "type": "Directory"}},
        {"name": "c", "configMap": {"name": "c"}},
        {"name": "d"},
    ]
    mounts = [{"name": name, "mountPath": f"/{name}", "mountPropagation": "None"} for name in "abcd"]
    check_volumes(pod_of({"volumeMounts": mounts}, volumes=volumes))


def test_a_runtime_may_have_fewer_kinds_of_volumes_and_more_propagation() -> None:
    pod = pod_of(
        {"volumeMounts": [{"name": "a", "mountPath": "/a", "mountPropagation": "HostToContainer"}]},
        volumes=[{"name": "a", "emptyDir": {}}],
    )
    check_volumes(pod, propagations=("None", "HostToContainer"))
    with pytest.raises(InvalidInputError, match=r"spec\.volumes\[0\]\.emptyDir: this node has no emptyDir volumes"):
        check_volumes(pod, sources=("configMap",))


MI = 1024 * 1024


@pytest.mark.parametrize(
    ("limit", "containers", "expected"),
    [
        (None, [{}], 100 * MI),
        ("10Mi", [{}], 10 * MI),
        ("200Mi", [{}], 100 * MI),
        ("0", [{}], 100 * MI),
        (None, [{"resources": {"limits": {"memory": "20Mi"}}}, {"resources": {"limits": {"memory": "5Mi"}}}], 25 * MI),
        ("10Mi", [{"resources": {"limits": {"memory": "8Mi"}}}], 8 * MI),
        (None, [{"resources": {"limits": {"memory": "20Mi"}}}, {}], 100 * MI),
    ],
)
def test_the_size_of_an_empty_dir_in_memory(limit: str | None, containers: list[dict[str, Any]], expected: int) -> None:
    source = EmptyDirVolumeSource(medium="Memory", size_limit=limit)
    assert memory_size(source, pod_of(*containers), {"memory": "100Mi"}) == expected


def test_a_node_that_does_not_say_what_it_has_limits_nothing() -> None:
    assert memory_size(EmptyDirVolumeSource(medium="Memory"), pod_of({}), {}) is None
    pod = pod_of(
        {"resources": {"limits": {"memory": "1Mi"}}},
        initContainers=[{"name": "i", "resources": {"limits": {"memory": "4Mi"}}}],
    )
    assert memory_size(EmptyDirVolumeSource(medium="Memory"), pod, {}) == 4 * MI
