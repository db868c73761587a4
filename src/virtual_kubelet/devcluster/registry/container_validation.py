"""What the API server refuses in a container (``pkg/apis/core/validation``). Pure."""

from __future__ import annotations

from typing import Any, Final

from virtual_kubelet.devcluster.names import (
    config_map_key_problems,
    dns_label_problems,
    dns_subdomain_problems,
    environment_name_problems,
    http_header_problems,
    port_name_problems,
    qualified_name_problems,
)
from virtual_kubelet.devcluster.registry.reference_validation import (
    validate_container_resource_reference,
    validate_field_reference,
)
from virtual_kubelet.devcluster.registry.volume_validation import relative_path_problems
from virtual_kubelet.devcluster.statuses import (
    FieldError,
    duplicate,
    field_forbidden,
    field_invalid,
    required,
    unsupported_value,
)
from virtual_kubelet.objects.quantity import Quantity

__all__ = [
    "is_extended_resource",
    "is_integer",
    "one_of",
    "validate_container",
    "validate_host_ports",
    "validate_identity",
    "validate_probes",
]

_PULL: Final = ("Always", "IfNotPresent", "Never")
_MESSAGES: Final = ("File", "FallbackToLogsOnError")
_PROTOCOLS: Final = ("SCTP", "TCP", "UDP")
_SCHEMES: Final = ("HTTP", "HTTPS")
_PROBES: Final = ("livenessProbe", "readinessProbe", "startupProbe")
_PERIODS: Final = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")
_RESIZED: Final = ("cpu", "memory")
_RESIZE_POLICIES: Final = ("NotRequired", "RestartContainer")
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
_PORT_RANGE: Final = "must be between 1 and 65535, inclusive"
_ID_RANGE: Final = "must be between 0 and 2147483647, inclusive"
_PROPAGATION: Final = ("Bidirectional", "HostToContainer", "None")
_SECCOMP: Final = ("Localhost", "RuntimeDefault", "Unconfined")
_NOT_NEGATIVE: Final = "must be greater than or equal to 0"


def one_of(value: str, field: str, values: tuple[str, ...]) -> list[FieldError]:
    """A required value out of a set."""
    if not value:
        return [required(field)]
    return [] if value in values else [unsupported_value(field, value, values)]


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
        errors += _resources(resources, f"{where}.resources")
    for index, policy in enumerate(container.get("resizePolicy") or ()):
        errors += _resize_policy(policy, f"{where}.resizePolicy", index, container, pod_restart_policy)
    if container.get("securityContext"):
        errors += _security(container["securityContext"], f"{where}.securityContext")
    return errors


def _port(port: dict[str, Any], where: str) -> list[FieldError]:
    errors: list[FieldError] = []
    name, number, host = port.get("name", ""), port["containerPort"], port.get("hostPort", 0)
    if name:
        errors += [field_invalid(f"{where}.name", name, problem) for problem in port_name_problems(name)]
    if number == 0:
        errors.append(required(f"{where}.containerPort"))
    elif not 1 <= number <= 65535:
        errors.append(field_invalid(f"{where}.containerPort", number, _PORT_RANGE))
    if host and not 1 <= host <= 65535:
        errors.append(field_invalid(f"{where}.hostPort", host, _PORT_RANGE))
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


# Resources


def _resources(resources: dict[str, Any], where: str) -> list[FieldError]:
    errors: list[FieldError] = []
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for name, text in limits.items():
        errors += _quantity(name, text, f"{where}.limits[{name}]")
    for name, text in requests.items():
        errors += _quantity(name, text, f"{where}.requests[{name}]")
        limit = limits.get(name)
        if limit is None:
            if not _may_overcommit(name):
                errors.append(required(f"{where}.limits", "Limit must be set for non overcommitable resources"))
        elif text != limit:
            if not _may_overcommit(name) and Quantity(text) != Quantity(limit):
                errors.append(field_invalid(f"{where}.requests", text, f"must be equal to {name} limit of {limit}"))
            elif Quantity(text) > Quantity(limit):
                detail = f"must be less than or equal to {name} limit of {limit}"
                errors.append(field_invalid(f"{where}.requests", text, detail))
    names = limits.keys() | requests.keys()
    if any(name.startswith("hugepages-") for name in names) and not names & {"cpu", "memory"}:
        errors.append(field_forbidden(where, "HugePages require cpu or memory"))
    return errors


def _quantity(name: str, text: str, where: str) -> list[FieldError]:
    if name in ("cpu", "memory", "ephemeral-storage"):
        errors: list[FieldError] = []
    else:
        errors = _resource_name(name, where)
    if text.startswith("-"):
        errors.append(field_invalid(where, text, _NOT_NEGATIVE))
    if is_extended_resource(name) and not is_integer(text):
        errors.append(field_invalid(where, text, "must be an integer"))
    return errors


def _resource_name(name: str, where: str) -> list[FieldError]:
    errors = [field_invalid(where, name, problem) for problem in qualified_name_problems(name)]
    if not errors and "/" not in name and not name.startswith("hugepages-") and name not in ("storage", "pods"):
        errors.append(field_invalid(where, name, "must be a standard resource type or fully qualified"))
    if "/" not in name:
        if not name.startswith("hugepages-"):
            errors.append(field_invalid(where, name, "must be a standard resource for containers"))
    elif not _is_native(name) and not is_extended_resource(name):
        errors.append(field_invalid(where, name, "doesn't follow extended resource name standard"))
    return errors


def _is_native(name: str) -> bool:
    return "/" not in name or "kubernetes.io/" in name


def is_integer(text: str) -> bool:
    """Whether a quantity is a whole number."""
    return text.isdigit() or Quantity(text).milli_value() % 1000 == 0


def is_extended_resource(name: str) -> bool:
    """Whether a resource is one that others than Kubernetes have named."""
    return not _is_native(name) and not name.startswith("requests.") and not qualified_name_problems(f"requests.{name}")


def _may_overcommit(name: str) -> bool:
    return _is_native(name) and not name.startswith("hugepages-")


def _resize_policy(
    policy: dict[str, Any], where: str, index: int, container: dict[str, Any], pod_restart_policy: str
) -> list[FieldError]:
    name, restart = policy.get("resourceName", ""), policy.get("restartPolicy", "")
    errors: list[FieldError] = []
    if any(p.get("resourceName", "") == name for p in container["resizePolicy"][:index]):
        errors.append(duplicate(f"{where}[{index}]", name))
    errors += one_of(name, where, _RESIZED) + one_of(restart, where, _RESIZE_POLICIES)
    if pod_restart_policy == "Never" and restart != "NotRequired":
        errors.append(field_invalid(where, restart, "must be 'NotRequired' when `restartPolicy` is 'Never'"))
    return errors


# Probes and hooks


def validate_probes(container: dict[str, Any], where: str, grace_period: int) -> list[FieldError]:
    """Hooks and probes of containers that may have some."""
    errors: list[FieldError] = []
    lifecycle = container.get("lifecycle") or {}
    for hook in ("postStart", "preStop"):
        if hook in lifecycle:
            errors += _handler(lifecycle[hook], f"{where}.lifecycle.{hook}", grace_period)
    for name in _PROBES:
        if name in container:
            errors += _probe(container[name], f"{where}.{name}", name, grace_period)
    return errors


def _probe(probe: dict[str, Any], where: str, name: str, grace_period: int) -> list[FieldError]:
    errors = _handler(probe, where, grace_period)
    for field in _PERIODS:
        if probe.get(field, 0) < 0:
            errors.append(field_invalid(f"{where}.{field}", probe[field], _NOT_NEGATIVE))
    grace = probe.get("terminationGracePeriodSeconds")
    if grace is not None and grace <= 0:
        errors.append(field_invalid(f"{where}.terminationGracePeriodSeconds", grace, "must be greater than 0"))
    if name == "readinessProbe":
        if grace is not None:
            detail = "must not be set for readinessProbes"
            errors.append(field_invalid(f"{where}.terminationGracePeriodSeconds", grace, detail))
    elif probe.get("successThreshold", 0) != 1:
        errors.append(field_invalid(f"{where}.successThreshold", probe.get("successThreshold", 0), "must be 1"))
    return errors


def _handler(handler: dict[str, Any], where: str, grace_period: int) -> list[FieldError]:
    kinds = [kind for kind in ("exec", "httpGet", "tcpSocket", "grpc", "sleep") if kind in handler]
    if not kinds:
        return [required(where, "must specify a handler type")]
    kind = kinds[0]
    errors = _one_handler(kind, handler[kind] or {}, f"{where}.{kind}", grace_period)
    return errors + [field_forbidden(f"{where}.{k}", "may not specify more than 1 handler type") for k in kinds[1:]]


def _one_handler(kind: str, handler: dict[str, Any], where: str, grace_period: int) -> list[FieldError]:
    errors: list[FieldError] = []
    if kind == "exec":
        return [] if handler.get("command") else [required(f"{where}.command")]
    if kind == "sleep":
        seconds = handler.get("seconds", 0)
        if not 0 <= seconds <= grace_period:
            detail = f"must be non-negative and less than terminationGracePeriodSeconds ({grace_period})"
            errors.append(field_invalid(where, seconds, detail))
        return errors
    if kind == "httpGet" and not handler.get("path"):
        errors.append(required(f"{where}.path"))
    port = handler.get("port", 0)
    if isinstance(port, int):
        if not 1 <= port <= 65535:
            errors.append(field_invalid(f"{where}.port", port, _PORT_RANGE))
    else:
        errors += [field_invalid(f"{where}.port", port, problem) for problem in port_name_problems(port)]
    if kind == "httpGet":
        if handler.get("scheme", "") not in _SCHEMES:
            errors.append(unsupported_value(f"{where}.scheme", handler.get("scheme", ""), _SCHEMES))
        for header in handler.get("httpHeaders") or ():
            name = header.get("name", "")
            errors += [field_invalid(f"{where}.httpHeaders", name, problem) for problem in http_header_problems(name)]
    return errors


# Security


def _security(context: dict[str, Any], where: str) -> list[FieldError]:
    errors = validate_identity(context, where)
    if context.get("allowPrivilegeEscalation") is False:
        if context.get("privileged"):
            detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
            errors.append(field_invalid(where, context, detail))
        if "CAP_SYS_ADMIN" in ((context.get("capabilities") or {}).get("add") or ()):
            detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
            errors.append(field_invalid(where, context, detail))
    return errors


def validate_identity(context: dict[str, Any], where: str) -> list[FieldError]:
    """What security contexts of pods and of containers have in common: user, group, seccomp profile."""
    errors: list[FieldError] = []
    for field in ("runAsUser", "runAsGroup"):
        number = context.get(field, 0)
        if not 0 <= number <= 2147483647:
            errors.append(field_invalid(f"{where}.{field}", number, _ID_RANGE))
    profile = context.get("seccompProfile")
    if profile is None:
        return errors
    here = f"{where}.seccompProfile"
    kind, local = profile.get("type", ""), profile.get("localhostProfile")
    if not kind:
        errors.append(required(f"{here}.type", "type is required when seccompProfile is set"))
    elif kind not in _SECCOMP:
        errors.append(unsupported_value(f"{here}.type", kind, _SECCOMP))
    if kind == "Localhost":
        if local is None:
            errors.append(required(f"{here}.localhostProfile", "must be set when seccomp type is Localhost"))
        else:
            errors += relative_path_problems(local, f"{here}.localhostProfile")
    elif local is not None:
        detail = "can only be set when seccomp type is Localhost"
        errors.append(field_invalid(f"{here}.localhostProfile", profile, detail))
    return errors
