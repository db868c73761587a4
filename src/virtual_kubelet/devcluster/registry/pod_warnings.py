"""What the API server warns of in a new pod (``pkg/api/pod/warnings.go``, ``pkg/registry/core/pod`` of 1.36). Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from virtual_kubelet.devcluster.names import dns_label_problems, label_value_problems
from virtual_kubelet.devcluster.statuses import quoted
from virtual_kubelet.objects.quantity import Quantity

__all__ = ["pod_warnings"]

_LABELS: Final = {
    "beta.kubernetes.io/arch": 'deprecated since v1.14; use "kubernetes.io/arch" instead',
    "beta.kubernetes.io/os": 'deprecated since v1.14; use "kubernetes.io/os" instead',
    "failure-domain.beta.kubernetes.io/region": 'deprecated since v1.17; use "topology.kubernetes.io/region" instead',
    "failure-domain.beta.kubernetes.io/zone": 'deprecated since v1.17; use "topology.kubernetes.io/zone" instead',
    "beta.kubernetes.io/instance-type": 'deprecated since v1.17; use "node.kubernetes.io/instance-type" instead',
    "app.kubernetes.io/created-by": "deprecated since v1.9",
    "scheduler.alpha.kubernetes.io/preferAvoidPods": "deprecated since v1.22; use Taints and Tolerations instead",
    "node-role.kubernetes.io/master": 'use "node-role.kubernetes.io/control-plane" instead',
}
_ANNOTATIONS: Final = {
    "scheduler.alpha.kubernetes.io/critical-pod": 'non-functional in v1.16+; use the "priorityClassName" field instead',
    "security.alpha.kubernetes.io/sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
    "security.alpha.kubernetes.io/unsafe-sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
}
_VOLUMES: Final = {
    "photonPersistentDisk": "deprecated in v1.11, non-functional in v1.16+",
    "gitRepo": "deprecated in v1.11",
    "scaleIO": "deprecated in v1.16, non-functional in v1.22+",
    "flocker": "deprecated in v1.22, non-functional in v1.25+",
    "storageos": "deprecated in v1.22, non-functional in v1.25+",
    "quobyte": "deprecated in v1.22, non-functional in v1.25+",
    "glusterfs": "deprecated in v1.25, non-functional in v1.26+",
    "cephfs": "deprecated in v1.28, non-functional in v1.31+",
    "rbd": "deprecated in v1.28, non-functional in v1.31+",
}
#: Where the API spells a volume's kind otherwise than its warning does.
_SHOWN: Final = {"storageos": "storageOS"}
_SECCOMP: Final = "seccomp.security.alpha.kubernetes.io/pod"
_CONTAINER_SECCOMP: Final = "container.seccomp.security.alpha.kubernetes.io/"
_APPARMOR: Final = "container.apparmor.security.beta.kubernetes.io/"
_USE_SECCOMP: Final = 'non-functional in v1.27+; use the "seccompProfile" field instead'
_USE_APPARMOR: Final = 'deprecated since v1.30; use the "appArmorProfile" field instead'
_NULL_SELECTOR: Final = "a null labelSelector results in matching no pod"
_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED: Final = "preferredDuringSchedulingIgnoredDuringExecution"


def pod_warnings(pod: dict[str, Any]) -> list[str]:
    """Sentences about a new pod that is taken all the same."""
    spec, metadata = pod["spec"], pod["metadata"]
    annotations = metadata.get("annotations") or {}
    found = [*_app_armor(spec, annotations)]
    problems = dns_label_problems(metadata.get("name", ""))
    if problems:
        found.append(
            "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is "
            f"recommended: [{' '.join(problems)}]"
        )
    found += _node_labels(spec)
    found += [f"metadata.annotations[{key}]: {text}" for key, text in _ANNOTATIONS.items() if key in annotations]
    found += _volumes(spec)
    found += _lists(spec)
    found += _resources(spec.get("overhead") or {}, "spec.overhead")
    if _SECCOMP in annotations and "seccompProfile" not in spec["securityContext"]:
        found.append(f"metadata.annotations[{_SECCOMP}]: {_USE_SECCOMP}")
    for where, container in _containers(spec):
        found += _container(container, where, annotations)
    found += _ports(spec)
    if spec.get("terminationGracePeriodSeconds", 0) < 0:
        shown = "must be >= 0; negative values are invalid and will be treated as 1"
        found.append(f"spec.terminationGracePeriodSeconds: {shown}")
    return found + list(_pod_affinity(spec.get("affinity") or {}))


def _containers(spec: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for index, container in enumerate(spec.get(field) or ()):
            yield f"spec.{field}[{index}]", container


def _app_armor(spec: dict[str, Any], annotations: dict[str, str]) -> Iterator[str]:
    for _, container in _containers(spec):
        key = f"{_APPARMOR}{container.get('name', '')}"
        contexts = (spec["securityContext"], container.get("securityContext") or {})
        if key in annotations and not any("appArmorProfile" in context for context in contexts):
            yield f"metadata.annotations[{key}]: {_USE_APPARMOR}"


def _node_labels(spec: dict[str, Any]) -> Iterator[str]:
    for key in spec.get("nodeSelector") or {}:
        if key in _LABELS:
            yield f"spec.nodeSelector[{key}]: {_LABELS[key]}"
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    where = "spec.affinity.nodeAffinity"
    for index, term in enumerate((affinity.get(_REQUIRED) or {}).get("nodeSelectorTerms") or ()):
        yield from _term(term, f"{where}.{_REQUIRED}.nodeSelectorTerms[{index}]", values=False)
    for index, term in enumerate(affinity.get(_PREFERRED) or ()):
        yield from _term(term.get("preference") or {}, f"{where}.{_PREFERRED}[{index}].preference", values=True)
    for index, constraint in enumerate(spec.get("topologySpreadConstraints") or ()):
        here, key = f"spec.topologySpreadConstraints[{index}]", constraint.get("topologyKey", "")
        if key in _LABELS:
            yield f"{here}.topologyKey: {key} is {_LABELS[key]}"
        if "labelSelector" not in constraint:
            yield f"{here}.labelSelector: {_NULL_SELECTOR}"


def _term(term: dict[str, Any], where: str, *, values: bool) -> Iterator[str]:
    for index, expression in enumerate(term.get("matchExpressions") or ()):
        here, key = f"{where}.matchExpressions[{index}]", expression.get("key", "")
        if key in _LABELS:
            yield f"{here}.key: {key} is {_LABELS[key]}"
        for number, value in enumerate(expression.get("values") or ()) if values else ():
            for problem in label_value_problems(value):
                yield f"{here}.values[{number}]: {value} is invalid, {problem}"


def _volumes(spec: dict[str, Any]) -> Iterator[str]:
    volumes = spec.get("volumes") or []
    for index, volume in enumerate(volumes):
        for kind, text in _VOLUMES.items():
            if kind in volume:
                yield f"spec.volumes[{index}].{_SHOWN.get(kind, kind)}: {text}"
    parts = [
        (f"spec.volumes[{index}].projected.sources", part)
        for index, volume in enumerate(volumes)
        for part in (volume.get("projected") or {}).get("sources") or ()
    ]
    tokens = {part["serviceAccountToken"].get("path", "") for _, part in parts if "serviceAccountToken" in part}
    for where, part in parts:
        for kind, shown in (("configMap", "configMap"), ("secret", "secrets"), ("downwardAPI", "downwardAPI")):
            for index, item in enumerate((part.get(kind) or {}).get("items") or ()):
                if item.get("path", "") in tokens:
                    again = f"has duplicated path with ServiceAccountToken {quoted(item['path'])}"
                    yield f"{where}.{shown}[{index}]: {again}"
        bundle = (part.get("clusterTrustBundle") or {}).get("path", "")
        if bundle in tokens:
            again = f"has duplicated path with ServiceAccountToken {quoted(bundle)}"
            yield f"{where}.ClusterTrustBundle: {again}"


def _lists(spec: dict[str, Any]) -> Iterator[str]:
    """Entries that others of the same name hide."""
    for field, key in (("hostAliases", "ip"), ("imagePullSecrets", "name")):
        seen: set[str] = set()
        for index, item in enumerate(spec.get(field) or ()):
            value = item.get(key, "")
            if value in seen:
                yield f"spec.{field}[{index}].{key}: duplicate {key} {quoted(value)}"
            seen.add(value)
    for index, item in enumerate(spec.get("imagePullSecrets") or ()):
        if not item.get("name"):
            yield f'spec.imagePullSecrets[{index}].name: invalid empty name ""'


def _resources(quantities: dict[str, str], where: str) -> Iterator[str]:
    for name in ("memory", "ephemeral-storage"):
        text = quantities.get(name)
        if text is not None and Quantity(text).milli_value() % 1000:
            yield f"{where}[{name}]: fractional byte value {quoted(text)} is invalid, must be an integer"


def _container(container: dict[str, Any], where: str, annotations: dict[str, str]) -> Iterator[str]:
    key = f"{_CONTAINER_SECCOMP}{container.get('name', '')}"
    if key in annotations and "seccompProfile" not in (container.get("securityContext") or {}):
        yield f"metadata.annotations[{key}]: {_USE_SECCOMP}"
    resources = container.get("resources") or {}
    for name in ("memory", "ephemeral-storage"):
        for field in ("limits", "requests"):
            given = (resources.get(field) or {}).get(name)
            if given is not None:
                yield from _resources({name: given}, f"{where}.resources.{field}")
    seen: set[str] = set()
    for index, entry in enumerate(container.get("env") or ()):
        name, value = entry.get("name", ""), entry.get("value", "")
        reference = f"$({name})"
        if name in seen and ("valueFrom" in entry or value == reference or reference not in value):
            hides = f"hides previous definition of {quoted(name)}, which may be dropped when using apply"
            yield f"{where}.env[{index}]: {hides}"
        seen.add(name)


def _ports(spec: dict[str, Any]) -> Iterator[str]:
    known: dict[tuple[int, str], list[tuple[str, str, int]]] = {}
    for around, container in _containers(spec):
        for index, port in enumerate(container.get("ports") or ()):
            where, address, host = f"{around}.ports[{index}]", port.get("hostIP", ""), port.get("hostPort", 0)
            number, protocol = port.get("containerPort", 0), port.get("protocol", "")
            if address and not host:
                shown = f"Name:{port.get('name', '')} HostPort:0 ContainerPort:{number} Protocol:{protocol} HostIP:{address}"
                yield f"{where}: hostIP set without hostPort: {{{shown}}}"
            others = known.setdefault((number, protocol), [])
            for other, other_address, other_host in others:
                if (address, host) == (other_address, other_host):
                    yield f"{where}: duplicate port definition with {other}"
                elif not host or not other_host:
                    yield f"{where}: overlapping port definition with {other}"
                elif host == other_host and bool(address) != bool(other_address):
                    yield f"{where}: dangerously ambiguous port definition with {other}"
            others.append((where, address, host))


def _pod_affinity(affinity: dict[str, Any]) -> Iterator[str]:
    for kind in ("podAffinity", "podAntiAffinity"):
        terms, where = affinity.get(kind) or {}, f"spec.affinity.{kind}"
        for index, term in enumerate(terms.get(_REQUIRED) or ()):
            if "labelSelector" not in term:
                yield f"{where}.{_REQUIRED}[{index}].labelSelector: {_NULL_SELECTOR}"
        for index, term in enumerate(terms.get(_PREFERRED) or ()):
            if "labelSelector" not in (term.get("podAffinityTerm") or {}):
                yield f"{where}.{_PREFERRED}[{index}].podAffinityTerm.labelSelector: {_NULL_SELECTOR}"
