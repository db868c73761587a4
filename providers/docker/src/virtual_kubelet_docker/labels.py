"""Which of the engine's containers are whose: labels and names. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from virtual_kubelet import ContainerConfig
from virtual_kubelet.objects.core_v1 import Pod

__all__ = [
    "CLUSTER",
    "NODE",
    "Owner",
    "container_labels",
    "container_name",
    "identity",
    "is_sandbox",
    "sandbox_labels",
    "sandbox_name",
]

#: As dockershim's and the kubelet's own, so that tools that know them show pods.
_NAMESPACE: Final = "io.kubernetes.pod.namespace"
_POD: Final = "io.kubernetes.pod.name"
_UID: Final = "io.kubernetes.pod.uid"
_CONTAINER: Final = "io.kubernetes.container.name"
NODE: Final = "virtual-kubelet.io/node"
CLUSTER: Final = "virtual-kubelet.io/cluster"
_ATTEMPT: Final = "virtual-kubelet.io/attempt"
_KIND: Final = "virtual-kubelet.io/kind"
_SANDBOX: Final = "sandbox"


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose containers they are: nodes of one name may be in several clusters, and all at one engine.

    Attributes:
        node: its name.
        cluster: what its cluster has alone and for good.
    """

    node: str
    cluster: str

    @property
    def labels(self) -> dict[str, str]:
        return {NODE: self.node, CLUSTER: self.cluster}

    def owns(self, labels: Mapping[str, str]) -> bool:
        """Whether a container with these labels is its own."""
        return self.labels.items() <= labels.items()

    @staticmethod
    def of_name(node: str) -> str:
        """A filter for all of the nodes of this name, of whatever cluster."""
        return json.dumps({"label": [f"{NODE}={node}"]})

    def filters(self, **more: Any) -> str:
        """A filter for all that is its own, as the API takes it."""
        return _filters(self.labels, **more)

    def filters_of_sandboxes(self, uid: str = "") -> str:
        """A filter for infra containers: those of one pod, or all."""
        return _filters({**self.labels, _KIND: _SANDBOX, **({_UID: uid} if uid else {})})


def _filters(labels: Mapping[str, str], **more: Any) -> str:
    return json.dumps({"label": [f"{name}={value}" for name, value in labels.items()], **more})


def container_labels(owner: Owner, config: ContainerConfig) -> dict[str, str]:
    own = config.labels
    return {
        **_pod_labels(owner, config.pod),
        _CONTAINER: own["container"],
        _ATTEMPT: own["attempt"],
        _KIND: own["kind"],
    }


def sandbox_labels(owner: Owner, pod: Pod) -> dict[str, str]:
    return {**_pod_labels(owner, pod), _KIND: _SANDBOX}


def identity(labels: Mapping[str, str]) -> dict[str, str]:
    """The contract's labels of a container or a sandbox, of the engine's."""
    found = {"namespace": labels.get(_NAMESPACE, ""), "pod": labels.get(_POD, ""), "uid": labels.get(_UID, "")}
    if not is_sandbox(labels):
        found["container"] = labels.get(_CONTAINER, "")
        found["attempt"] = labels.get(_ATTEMPT, "0")
        found["kind"] = labels.get(_KIND, "main")
    return found


def is_sandbox(labels: Mapping[str, str]) -> bool:
    return labels.get(_KIND) == _SANDBOX


def container_name(config: ContainerConfig) -> str:
    """The same for the same run, so that no run is made twice."""
    return _name(config.container.name, config.pod, str(config.attempt))


def sandbox_name(pod: Pod, number: int) -> str:
    """``number``: one more for each earlier one that is still there."""
    return _name("POD", pod, str(number))


def _pod_labels(owner: Owner, pod: Pod) -> dict[str, str]:
    meta = pod.metadata
    return {**owner.labels, _NAMESPACE: meta.namespace or "", _POD: meta.name or "", _UID: meta.uid or ""}


def _name(container: str, pod: Pod, attempt: str) -> str:
    meta = pod.metadata
    return "_".join(("vk", container, meta.name or "", meta.namespace or "", meta.uid or "", attempt))
