"""What the API server refuses in a pod, in its own words (``pkg/apis/core/validation``, the common part). Pure."""

from __future__ import annotations

from typing import Any, Final

from virtual_kubelet.devcluster.names import (
    dns_label_problems,
    dns_subdomain_problems,
    qualified_name_problems,
    validate_labels,
)
from virtual_kubelet.devcluster.registry.container_validation import validate_container, validate_host_ports
from virtual_kubelet.devcluster.registry.os_validation import validate_os
from virtual_kubelet.devcluster.registry.placement_validation import (
    validate_affinity,
    validate_scheduling_gates,
    validate_spread,
    validate_tolerations,
)
from virtual_kubelet.devcluster.registry.pod_level_resources import validate_pod_resources
from virtual_kubelet.devcluster.registry.probe_validation import validate_probes
from virtual_kubelet.devcluster.registry.security_validation import validate_pod_security
from virtual_kubelet.devcluster.registry.value_validation import address_errors, one_of
from virtual_kubelet.devcluster.registry.volume_validation import validate_volumes
from virtual_kubelet.devcluster.statuses import (
    FieldError,
    duplicate,
    field_forbidden,
    field_invalid,
    required,
)

__all__ = ["validate_pod"]

_RESTART: Final = ("Always", "OnFailure", "Never")
_DNS: Final = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_PREEMPTION: Final = ("PreemptLowerPriority", "Never")
_NOT_FOR_INIT: Final = ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe")
#: The fields of an ephemeral container; any other is refused.
_EPHEMERAL: Final = frozenset(
    {
        "name",
        "image",
        "command",
        "args",
        "workingDir",
        "env",
        "envFrom",
        "volumeMounts",
        "volumeDevices",
        "terminationMessagePath",
        "terminationMessagePolicy",
        "imagePullPolicy",
        "securityContext",
        "stdin",
        "stdinOnce",
        "tty",
        "targetContainerName",
    }
)
_MOST_NAME_SERVERS: Final = 3
_MOST_SEARCH_PATHS: Final = 32


def validate_pod(spec: dict[str, Any]) -> list[FieldError]:
    """A pod's spec, defaults filled in."""
    errors, sources = validate_volumes(spec.get("volumes") or [], "spec.volumes")
    errors += validate_pod_resources(spec)
    errors += _containers(spec, sources) + _init_containers(spec, sources) + _ephemeral_containers(spec, sources)
    if spec.get("hostNetwork"):
        errors += _host_network(spec)
    errors += one_of(spec["restartPolicy"], "spec.restartPolicy", _RESTART)
    errors += one_of(spec["dnsPolicy"], "spec.dnsPolicy", _DNS)
    errors += validate_labels(spec.get("nodeSelector"), "spec.nodeSelector")
    if spec["securityContext"] or spec.get("hostPID"):
        errors += validate_pod_security(spec, spec["securityContext"])
    affinity = spec.get("affinity")
    if affinity:
        errors += validate_affinity(affinity)
    errors += _dns(spec)
    for index, gate in enumerate(spec.get("readinessGates") or ()):
        kind, where = gate.get("conditionType", ""), f"spec.readinessGates[{index}].conditionType"
        errors += [field_invalid(where, kind, problem) for problem in qualified_name_problems(kind)]
    errors += validate_scheduling_gates(spec)
    for index, constraint in enumerate(spec.get("topologySpreadConstraints") or ()):
        errors += validate_spread(constraint, f"spec.topologySpreadConstraints[{index}]")
    for field, problems in (
        ("serviceAccountName", dns_subdomain_problems),
        ("nodeName", dns_subdomain_problems),
        ("activeDeadlineSeconds", None),
        ("hostname", dns_label_problems),
        ("subdomain", dns_label_problems),
    ):
        value = spec.get(field)
        if problems is not None and value:
            errors += [field_invalid(f"spec.{field}", value, problem) for problem in problems(value)]
        elif problems is None and value is not None and not 1 <= value <= 2147483647:
            errors.append(field_invalid(f"spec.{field}", value, "must be between 1 and 2147483647, inclusive"))
    errors += validate_tolerations(spec.get("tolerations") or [])
    for index, alias in enumerate(spec.get("hostAliases") or ()):
        where = f"spec.hostAliases[{index}]"
        errors += address_errors(alias.get("ip", ""), f"{where}.ip")
        for number, name in enumerate(alias.get("hostnames") or ()):
            here = f"{where}.hostnames[{number}]"
            errors += [field_invalid(here, name, problem) for problem in dns_subdomain_problems(name)]
    for field in ("priorityClassName", "runtimeClassName"):
        value = spec.get(field)
        if value:
            errors += [field_invalid(f"spec.{field}", value, problem) for problem in dns_subdomain_problems(value)]
    if "preemptionPolicy" in spec:
        errors += one_of(spec["preemptionPolicy"], "spec.preemptionPolicy", _PREEMPTION)
    errors += validate_os(spec)
    return errors + _tokens(spec) + _padded_images(spec)


def _tokens(spec: dict[str, Any]) -> list[FieldError]:
    """There is nobody whose token it could be."""
    if spec.get("serviceAccountName"):
        return []
    detail = "must not be specified when serviceAccountName is not set"
    return [
        field_forbidden(f"spec.volumes[{index}].projected.sources[{number}].serviceAccountToken", detail)
        for index, volume in enumerate(spec.get("volumes") or ())
        for number, source in enumerate((volume.get("projected") or {}).get("sources") or ())
        if "serviceAccountToken" in source
    ]


# Containers


def _containers(spec: dict[str, Any], volumes: dict[str, str]) -> list[FieldError]:
    containers = spec.get("containers") or []
    if not containers:
        return [required("spec.containers")]
    errors: list[FieldError] = []
    names: set[str] = set()
    for index, container in enumerate(containers):
        where = f"spec.containers[{index}]"
        errors += validate_container(container, where, volumes, spec["restartPolicy"])
        errors += _unique(container, where, names)
        errors += validate_probes(container, where, spec["terminationGracePeriodSeconds"])
        policy = container.get("restartPolicy")
        if policy is not None:
            # ContainerRestartRules let a container have its own.
            errors += one_of(policy, f"{where}.restartPolicy", _RESTART)
    return errors + validate_host_ports(containers, "spec.containers")


def _init_containers(spec: dict[str, Any], volumes: dict[str, str]) -> list[FieldError]:
    errors: list[FieldError] = []
    names = {container.get("name", "") for container in spec.get("containers") or ()}
    for index, container in enumerate(spec.get("initContainers") or ()):
        where = f"spec.initContainers[{index}]"
        errors += validate_container(container, where, volumes, spec["restartPolicy"])
        policy = container.get("restartPolicy")
        if policy is not None:
            errors += one_of(policy, f"{where}.restartPolicy", _RESTART)
        errors += _unique(container, where, names)
        errors += validate_host_ports([container], "spec.initContainers")
        if policy == "Always":
            errors += validate_probes(container, where, spec["terminationGracePeriodSeconds"])
            continue
        for field in _NOT_FOR_INIT:
            if field in container:
                detail = "may not be set for init containers without restartPolicy=Always"
                errors.append(field_forbidden(f"{where}.{field}", detail))
    return errors


def _ephemeral_containers(spec: dict[str, Any], volumes: dict[str, str]) -> list[FieldError]:
    errors: list[FieldError] = []
    others = {c.get("name", "") for field in ("containers", "initContainers") for c in spec.get(field) or ()}
    names = set(others)
    for index, container in enumerate(spec.get("ephemeralContainers") or ()):
        where = f"spec.ephemeralContainers[{index}]"
        errors += validate_container(container, where, volumes, spec["restartPolicy"])
        errors += _unique(container, where, names)
        target = container.get("targetContainerName")
        if target and target not in others:
            errors.append(FieldError(f"{where}.targetContainerName", "FieldValueNotFound", f'Not found: "{target}"'))
        for field, value in container.items():
            if field not in _EPHEMERAL and value:
                errors.append(field_forbidden(f"{where}.{field}", "cannot be set for an Ephemeral Container"))
        for number, mount in enumerate(container.get("volumeMounts") or ()):
            for field in ("subPath", "subPathExpr"):
                if mount.get(field):
                    here = f"{where}.volumeMounts[{number}].{field}"
                    errors.append(field_forbidden(here, "cannot be set for an Ephemeral Container"))
    return errors


def _unique(container: dict[str, Any], where: str, names: set[str]) -> list[FieldError]:
    name = container.get("name", "")
    if name in names:
        return [duplicate(f"{where}.name", name)] if name else []
    names.add(name)
    return []


def _padded_images(spec: dict[str, Any]) -> list[FieldError]:
    errors: list[FieldError] = []
    for field in ("containers", "initContainers", "ephemeralContainers"):
        for index, container in enumerate(spec.get(field) or ()):
            image = container.get("image", "")
            if image != image.strip():
                where = f"spec.{field}[{index}].image"
                errors.append(field_invalid(where, image, "must not have leading or trailing whitespace"))
    return errors


def _host_network(spec: dict[str, Any]) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, container in enumerate(spec.get("containers") or ()):
        for number, port in enumerate(container.get("ports") or ()):
            host = port.get("hostPort", 0)
            if host != port["containerPort"]:
                where = f"spec.containers[{index}].ports[{number}].hostPort"
                detail = "must match `containerPort` when `hostNetwork` is true"
                errors.append(field_invalid(where, host, detail))
    return errors


# The pod's own fields


def _dns(spec: dict[str, Any]) -> list[FieldError]:
    config, where = spec.get("dnsConfig"), "spec.dnsConfig"
    if spec["dnsPolicy"] == "None":
        if config is None:
            return [required(where, "must provide `dnsConfig` when `dnsPolicy` is None")]
        if not config.get("nameservers"):
            detail = "must provide at least one DNS nameserver when `dnsPolicy` is None"
            return [required(f"{where}.nameservers", detail)]
    if config is None:
        return []
    errors: list[FieldError] = []
    servers, searches = config.get("nameservers") or [], config.get("searches") or []
    if len(servers) > _MOST_NAME_SERVERS:
        errors.append(field_invalid(f"{where}.nameservers", servers, "must not have more than 3 nameservers"))
    for index, server in enumerate(servers):
        errors += address_errors(server, f"{where}.nameservers[{index}]")
    if len(searches) > _MOST_SEARCH_PATHS:
        errors.append(field_invalid(f"{where}.searches", searches, "must not have more than 32 search paths"))
    for index, search in enumerate(searches):
        if search != ".":
            name = search.removesuffix(".")
            here = f"{where}.searches[{index}]"
            errors += [field_invalid(here, name, p) for p in dns_subdomain_problems(name.replace("_", "-"))]
    for index, option in enumerate(config.get("options") or ()):
        if not option.get("name"):
            errors.append(required(f"{where}.options[{index}]", "must not be empty"))
    return errors
