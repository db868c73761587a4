"""What the API server refuses in a container (``pkg/apis/core/validation``). Pure."""

from __future__ import annotations

from typing import Any, Final

from virtual_kubelet.devcluster.names import (
    config_map_key_problems,
    dns_label_problems,
    dns_subdomain_problems,
    environment_name_problems,
    port_name_problems,
)
from virtual_kubelet.devcluster.registry.reference_validation import (
    validate_container_resource_reference,
    validate_field_reference,
)
from virtual_kubelet.devcluster.registry.resource_validation import validate_resize_policy, validate_resources
from virtual_kubelet.devcluster.registry.security_validation import validate_container_security
from virtual_kubelet.devcluster.registry.value_validation import PORT_RANGE, one_of
from virtual_kubelet.devcluster.registry.volume_validation import relative_path_problems
from virtual_kubelet.devcluster.statuses import (
    FieldError,
    duplicate,
    field_forbidden,
    field_invalid,
    required,
    unsupported_value,
)

__all__ = ["validate_container", "validate_host_ports"]

_PULL: Final = ("Always", "IfNotPresent", "Never")
_MESSAGES: Final = ("File", "FallbackToLogsOnError")
_PROTOCOLS: Final = ("SCTP", "TCP", "UDP")
_ENVIRONMENT_FIELDS: Final = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
_ONE_SOURCE: Final = (
    "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
)
_TOO_MANY: Final = "may not have more than one field specified at a time"
_PROPAGATION: Final = ("Bidirectional", "HostToContainer", "None")


def validate_container(
    container: dict[str, Any], where: str, volumes: dict[str, str], pod_restart_policy: str
) -> list[FieldError]:
    """What holds for containers of all three kinds. ``volumes``: the kind of each volume's source, by its name."""
    errors: list[FieldError] = []
    name = container.get("name", "")
    if not name:
        errors.append(required(f"{where}.name"))
    else:
        errors += [field_invalid(f"{where}.name", name, problem) for problem in dns_label_problems(name)]
    if not container.get("image"):
        errors.append(required(f"{where}.image"))
    errors += one_of(container["terminationMessagePolicy"], f"{where}.terminationMessagePolicy", _MESSAGES)
    for index, port in enumerate(container.get("ports") or ()):
        errors += _port(port, f"{where}.ports[{index}]")
    errors += _duplicate_port_names(container.get("ports") or (), f"{where}.ports")
    for index, entry in enumerate(container.get("env") or ()):
        errors += _env(entry, f"{where}.env[{index}]")
    for index, source in enumerate(container.get("envFrom") or ()):
        errors += _env_from(source, f"{where}.envFrom", index)
    errors += _mounts(container, f"{where}.volumeMounts", volumes)
    errors += one_of(container["imagePullPolicy"], f"{where}.imagePullPolicy", _PULL)
    resources = container.get("resources")
    if resources:
        errors += validate_resources(resources, f"{where}.resources")
    for index, policy in enumerate(container.get("resizePolicy") or ()):
        errors += validate_resize_policy(policy, f"{where}.resizePolicy", index, container, pod_restart_policy)
    if container.get("securityContext"):
        errors += validate_container_security(container["securityContext"], f"{where}.securityContext")
    return errors


def _port(port: dict[str, Any], where: str) -> list[FieldError]:
    errors: list[FieldError] = []
    name, number, host = port.get("name", ""), port["containerPort"], port.get("hostPort", 0)
    if name:
        errors += [field_invalid(f"{where}.name", name, problem) for problem in port_name_problems(name)]
    if number == 0:
        errors.append(required(f"{where}.containerPort"))
    elif not 1 <= number <= 65535:
        errors.append(field_invalid(f"{where}.containerPort", number, PORT_RANGE))
    if host and not 1 <= host <= 65535:
        errors.append(field_invalid(f"{where}.hostPort", host, PORT_RANGE))
    return errors + one_of(port["protocol"], f"{where}.protocol", _PROTOCOLS)


def _duplicate_port_names(ports: Any, where: str) -> list[FieldError]:
    errors: list[FieldError] = []
    names: set[str] = set()
    for index, port in enumerate(ports):
        name = port.get("name", "")
        if name and not port_name_problems(name):
            if name in names:
                errors.append(duplicate(f"{where}[{index}].name", name))
            names.add(name)
    return errors


def validate_host_ports(containers: list[dict[str, Any]], where: str) -> list[FieldError]:
    """No two of these containers may want the same port of the host."""
    errors: list[FieldError] = []
    taken: set[str] = set()
    for index, container in enumerate(containers):
        for number, port in enumerate(container.get("ports") or ()):
            if not port.get("hostPort"):
                continue
            key = f"{port['protocol']}/{port.get('hostIP', '')}/{port['hostPort']}"
            if key in taken:
                errors.append(duplicate(f"{where}[{index}].ports[{number}].hostPort", key))
            taken.add(key)
    return errors


def _env(entry: dict[str, Any], where: str) -> list[FieldError]:
    name = entry.get("name", "")
    errors: list[FieldError] = []
    if not name:
        errors.append(required(f"{where}.name"))
    else:
        errors += [field_invalid(f"{where}.name", name, problem) for problem in environment_name_problems(name)]
    source = entry.get("valueFrom")
    if source is None:
        return errors
    here = f"{where}.valueFrom"
    if "fieldRef" in source:
        errors += validate_field_reference(source["fieldRef"], f"{here}.fieldRef", _ENVIRONMENT_FIELDS)
    if "resourceFieldRef" in source:
        errors += validate_container_resource_reference(source["resourceFieldRef"], f"{here}.resourceFieldRef")
    for kind in ("configMapKeyRef", "secretKeyRef"):
        if kind in source:
            errors += _key_reference(source[kind], f"{here}.{kind}")
    if not source:
        errors.append(field_invalid(here, "", _ONE_SOURCE))
    elif entry.get("value"):
        errors.append(field_invalid(here, "", "may not be specified when `value` is not empty"))
    elif len(source) > 1:
        errors.append(field_invalid(here, "", _TOO_MANY))
    return errors


def _key_reference(reference: dict[str, Any], where: str) -> list[FieldError]:
    name, key = reference.get("name", ""), reference.get("key", "")
    errors = [field_invalid(f"{where}.name", name, problem) for problem in dns_subdomain_problems(name)]
    if not key:
        errors.append(required(f"{where}.key"))
    else:
        errors += [field_invalid(f"{where}.key", key, problem) for problem in config_map_key_problems(key)]
    return errors


def _env_from(source: dict[str, Any], where: str, index: int) -> list[FieldError]:
    here = f"{where}[{index}]"
    prefix = source.get("prefix", "")
    errors: list[FieldError] = []
    if prefix:
        errors += [field_invalid(f"{here}.prefix", prefix, problem) for problem in environment_name_problems(prefix)]
    given = [kind for kind in ("configMapRef", "secretRef") if kind in source]
    for kind in given:
        name = source[kind].get("name", "")
        if not name:
            errors.append(required(f"{here}.{kind}.name"))
        else:
            errors += [field_invalid(f"{here}.{kind}.name", name, p) for p in dns_subdomain_problems(name)]
    # The API server names the list here, not the entry.
    if not given:
        errors.append(field_invalid(where, "", "must specify one of: `configMapRef` or `secretRef`"))
    elif len(given) > 1:
        errors.append(field_invalid(where, "", _TOO_MANY))
    return errors


def _mounts(container: dict[str, Any], where: str, volumes: dict[str, str]) -> list[FieldError]:
    errors: list[FieldError] = []
    paths: set[str] = set()
    privileged = (container.get("securityContext") or {}).get("privileged", False)
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        here = f"{where}[{index}]"
        name, path = mount.get("name", ""), mount.get("mountPath", "")
        if not name:
            errors.append(required(f"{here}.name"))
        if name not in volumes:
            errors.append(FieldError(f"{here}.name", "FieldValueNotFound", f'Not found: "{name}"'))
        if not path:
            errors.append(required(f"{here}.mountPath"))
        if path in paths:
            errors.append(field_invalid(f"{here}.mountPath", path, "must be unique"))
        paths.add(path)
        below, expression = mount.get("subPath", ""), mount.get("subPathExpr", "")
        if below:
            errors += relative_path_problems(below, f"{where}.subPath")
        if expression:
            if below:
                detail = "subPathExpr and subPath are mutually exclusive"
                errors.append(field_invalid(f"{here}.subPathExpr", expression, detail))
            errors += relative_path_problems(expression, f"{where}.subPathExpr")
        propagation = mount.get("mountPropagation")
        if propagation is not None and propagation not in _PROPAGATION:
            errors.append(unsupported_value(f"{where}.mountPropagation", propagation, _PROPAGATION))
        if propagation == "Bidirectional" and not privileged:
            detail = "Bidirectional mount propagation is available only to privileged containers"
            errors.append(field_forbidden(f"{where}.mountPropagation", detail))
    return errors
