"""What the API server refuses in a pod, in its own words (``pkg/apis/core/validation``, the common part). Pure."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Any, Final

from virtual_kubelet.devcluster.names import (
    dns_label_problems,
    dns_subdomain_problems,
    label_value_problems,
    qualified_name_problems,
    validate_labels,
)
from virtual_kubelet.devcluster.registry.container_validation import (
    one_of,
    validate_container,
    validate_host_ports,
    validate_identity,
    validate_probes,
)
from virtual_kubelet.devcluster.registry.volume_validation import validate_volumes
from virtual_kubelet.devcluster.statuses import (
    FieldError,
    duplicate,
    field_forbidden,
    field_invalid,
    required,
    unsupported_value,
)

__all__ = ["ADDRESS", "address_errors", "validate_pod", "validate_tolerations"]

ADDRESS: Final = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
_RESTART: Final = ("Always", "OnFailure", "Never")
_DNS: Final = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_EFFECTS: Final = ("NoSchedule", "PreferNoSchedule", "NoExecute")
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
_ID_RANGE: Final = "must be between 0 and 2147483647, inclusive"
_MOST_NAME_SERVERS: Final = 3
_MOST_SEARCH_PATHS: Final = 32


def validate_pod(spec: dict[str, Any]) -> list[FieldError]:
    """A pod's spec, defaults filled in."""
    volumes = spec.get("volumes") or []
    errors = validate_volumes(volumes, "spec.volumes")
    sources = {v.get("name", ""): next((kind for kind in v if kind != "name"), "") for v in volumes}
    errors += _containers(spec, sources) + _init_containers(spec, sources) + _ephemeral_containers(spec, sources)
    if spec.get("hostNetwork"):
        errors += _host_network(spec)
    errors += one_of(spec["restartPolicy"], "spec.restartPolicy", _RESTART)
    errors += one_of(spec["dnsPolicy"], "spec.dnsPolicy", _DNS)
    errors += validate_labels(spec.get("nodeSelector"), "spec.nodeSelector")
    if spec["securityContext"] or spec.get("hostPID"):
        errors += _security(spec, spec["securityContext"])
    affinity = spec.get("affinity")
    if affinity:
        errors += _affinity(affinity)
    errors += _dns(spec)
    for index, gate in enumerate(spec.get("readinessGates") or ()):
        kind, where = gate.get("conditionType", ""), f"spec.readinessGates[{index}].conditionType"
        errors += [field_invalid(where, kind, problem) for problem in qualified_name_problems(kind)]
    errors += _scheduling_gates(spec)
    for index, constraint in enumerate(spec.get("topologySpreadConstraints") or ()):
        errors += _topology(constraint, f"spec.topologySpreadConstraints[{index}]")
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
    return errors + _padded_images(spec)


def address_errors(address: str, where: str) -> list[FieldError]:
    """An IP address of either family."""
    return [] if _is_address(address) else [field_invalid(where, address, ADDRESS)]


@lru_cache(maxsize=4096)
def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


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


def _security(spec: dict[str, Any], context: dict[str, Any]) -> list[FieldError]:
    where = "spec.securityContext"
    errors: list[FieldError] = []
    group = context.get("fsGroup", 0)
    if not 0 <= group <= 2147483647:
        errors.append(field_invalid(f"{where}.fsGroup", group, _ID_RANGE))
    errors += validate_identity(context, where)
    for index, group in enumerate(context.get("supplementalGroups") or ()):
        if not 0 <= group <= 2147483647:
            errors.append(field_invalid(f"{where}.supplementalGroups[{index}]", group, _ID_RANGE))
    if spec.get("hostPID") and spec.get("shareProcessNamespace"):
        detail = "ShareProcessNamespace and HostPID cannot both be enabled"
        errors.append(field_invalid(f"{where}.shareProcessNamespace", True, detail))
    policy = context.get("fsGroupChangePolicy")
    if policy is not None and policy not in ("Always", "OnRootMismatch"):
        errors.append(unsupported_value(f"{where}.fsGroupChangePolicy", policy, ("Always", "OnRootMismatch")))
    return errors


def _affinity(affinity: dict[str, Any]) -> list[FieldError]:
    errors: list[FieldError] = []
    node = affinity.get("nodeAffinity") or {}
    where = "spec.affinity.nodeAffinity"
    needed = node.get("requiredDuringSchedulingIgnoredDuringExecution")
    if needed is not None:
        here = f"{where}.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"
        terms = needed.get("nodeSelectorTerms") or []
        if not terms:
            errors.append(required(here, "must have at least one node selector term"))
        for index, term in enumerate(terms):
            errors += _term(term, f"{here}[{index}]", values=True)
    for index, preferred in enumerate(node.get("preferredDuringSchedulingIgnoredDuringExecution") or ()):
        here = f"{where}.preferredDuringSchedulingIgnoredDuringExecution[{index}]"
        errors += _weight(preferred.get("weight", 0), here)
        errors += _term(preferred.get("preference") or {}, f"{here}.preference", values=False)
    for kind in ("podAffinity", "podAntiAffinity"):
        pods, where = affinity.get(kind) or {}, f"spec.affinity.{kind}"
        for index, term in enumerate(pods.get("requiredDuringSchedulingIgnoredDuringExecution") or ()):
            here = f"{where}.requiredDuringSchedulingIgnoredDuringExecution[{index}]"
            errors += _topology_key(term.get("topologyKey", ""), here)
        for index, term in enumerate(pods.get("preferredDuringSchedulingIgnoredDuringExecution") or ()):
            here = f"{where}.preferredDuringSchedulingIgnoredDuringExecution[{index}]"
            errors += _weight(term.get("weight", 0), here)
            key = (term.get("podAffinityTerm") or {}).get("topologyKey", "")
            errors += _topology_key(key, f"{here}.podAffinityTerm")
    return errors


def _weight(weight: int, where: str) -> list[FieldError]:
    if 1 <= weight <= 100:
        return []
    return [field_invalid(f"{where}.weight", weight, "must be in the range 1-100")]


def _topology_key(key: str, where: str) -> list[FieldError]:
    errors = [] if key else [required(f"{where}.topologyKey", "can not be empty")]
    return errors + [field_invalid(f"{where}.topologyKey", key, problem) for problem in qualified_name_problems(key)]


def _term(term: dict[str, Any], where: str, *, values: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, expression in enumerate(term.get("matchExpressions") or ()):
        errors += _expression(expression, f"{where}.matchExpressions[{index}]", values=values)
    for index, field in enumerate(term.get("matchFields") or ()):
        here = f"{where}.matchFields[{index}]"
        operator, key, given = field.get("operator", ""), field.get("key", ""), field.get("values") or []
        if operator not in ("In", "NotIn"):
            errors.append(field_invalid(f"{here}.operator", operator, "not a valid selector operator"))
        elif len(given) != 1:
            detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
            errors.append(required(f"{here}.values", detail))
        if key != "metadata.name":
            errors.append(field_invalid(f"{here}.key", key, "not a valid field selector key"))
            continue
        for number, name in enumerate(given):
            shown = f"{here}.values[{number}]"
            errors += [field_invalid(shown, name, problem) for problem in dns_subdomain_problems(name)]
    return errors


def _expression(expression: dict[str, Any], where: str, *, values: bool) -> list[FieldError]:
    operator, key, given = expression.get("operator", ""), expression.get("key", ""), expression.get("values") or []
    errors: list[FieldError] = []
    if operator in ("In", "NotIn"):
        if not given:
            errors.append(required(f"{where}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
    elif operator in ("Exists", "DoesNotExist"):
        if given:
            detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            errors.append(field_forbidden(f"{where}.values", detail))
    elif operator in ("Gt", "Lt"):
        if len(given) != 1:
            errors.append(required(f"{where}.values", "must be specified single value when `operator` is 'Lt' or 'Gt'"))
    else:
        errors.append(field_invalid(f"{where}.operator", operator, "not a valid selector operator"))
    errors += [field_invalid(f"{where}.key", key, problem) for problem in qualified_name_problems(key)]
    if values:
        for index, value in enumerate(given):
            here = f"{where}.values[{index}]"
            errors += [field_invalid(here, value, problem) for problem in label_value_problems(value)]
    return errors


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


def _scheduling_gates(spec: dict[str, Any]) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for index, gate in enumerate(spec.get("schedulingGates") or ()):
        name, where = gate.get("name", ""), f"spec.schedulingGates[{index}]"
        errors += [field_invalid(where, name, problem) for problem in qualified_name_problems(name)]
        if name in seen:
            errors.append(duplicate(where, name))
        seen.add(name)
    return errors


def _topology(constraint: dict[str, Any], where: str) -> list[FieldError]:
    errors: list[FieldError] = []
    skew, key, unsatisfiable = (
        constraint.get("maxSkew", 0),
        constraint.get("topologyKey", ""),
        constraint.get("whenUnsatisfiable", ""),
    )
    if skew <= 0:
        errors.append(field_invalid(f"{where}.maxSkew", skew, "must be greater than zero"))
    if not key:
        errors.append(required(f"{where}.topologyKey", "can not be empty"))
    else:
        errors += [field_invalid(f"{where}.topologyKey", key, problem) for problem in qualified_name_problems(key)]
    if unsatisfiable not in ("DoNotSchedule", "ScheduleAnyway"):
        here = f"{where}.whenUnsatisfiable"
        errors.append(unsupported_value(here, unsatisfiable, ("DoNotSchedule", "ScheduleAnyway")))
    return errors


def validate_tolerations(tolerations: list[dict[str, Any]]) -> list[FieldError]:
    """``spec.tolerations``."""
    errors: list[FieldError] = []
    for index, toleration in enumerate(tolerations):
        errors += _toleration(toleration, f"spec.tolerations[{index}]")
    return errors


def _toleration(toleration: dict[str, Any], where: str) -> list[FieldError]:
    errors: list[FieldError] = []
    key, operator = toleration.get("key", ""), toleration.get("operator", "")
    effect, value = toleration.get("effect", ""), toleration.get("value", "")
    if key:
        errors += [field_invalid(f"{where}.key", key, problem) for problem in qualified_name_problems(key)]
    elif operator != "Exists":
        detail = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        errors.append(field_invalid(f"{where}.operator", operator, detail))
    if "tolerationSeconds" in toleration and effect != "NoExecute":
        detail = "effect must be 'NoExecute' when `tolerationSeconds` is set"
        errors.append(field_invalid(f"{where}.effect", effect, detail))
    if operator in ("", "Equal"):
        problems = label_value_problems(value)
        if problems:
            errors.append(field_invalid(f"{where}.operator", value, ";".join(problems)))
    elif operator == "Exists":
        if value:
            detail = "value must be empty when `operator` is 'Exists'"
            errors.append(field_invalid(f"{where}.operator", value, detail))
    else:
        errors.append(unsupported_value(f"{where}.operator", operator, ("Equal", "Exists")))
    if effect and effect not in _EFFECTS:
        errors.append(unsupported_value(f"{where}.effect", effect, _EFFECTS))
    return errors
