"""What the API server refuses in where a pod is to run (``pkg/apis/core/validation``). Pure."""

from __future__ import annotations

from typing import Any, Final

from virtual_kubelet.devcluster.names import dns_subdomain_problems, label_value_problems, qualified_name_problems
from virtual_kubelet.devcluster.statuses import (
    FieldError,
    duplicate,
    field_forbidden,
    field_invalid,
    required,
    unsupported_value,
)

__all__ = ["validate_affinity", "validate_scheduling_gates", "validate_spread", "validate_tolerations"]

_EFFECTS: Final = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def validate_affinity(affinity: dict[str, Any]) -> list[FieldError]:
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


def validate_scheduling_gates(spec: dict[str, Any]) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for index, gate in enumerate(spec.get("schedulingGates") or ()):
        name, where = gate.get("name", ""), f"spec.schedulingGates[{index}]"
        errors += [field_invalid(where, name, problem) for problem in qualified_name_problems(name)]
        if name in seen:
            errors.append(duplicate(where, name))
        seen.add(name)
    return errors


def validate_spread(constraint: dict[str, Any], where: str) -> list[FieldError]:
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
