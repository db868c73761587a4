"""Which changes of a pod and of its status the API server refuses (``pkg/apis/core/validation``). Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any, Final

from virtual_kubelet.devcluster.names import dns_subdomain_problems, qualified_name_problems
from virtual_kubelet.devcluster.registry.placement_validation import validate_tolerations
from virtual_kubelet.devcluster.registry.pod_validation import validate_pod
from virtual_kubelet.devcluster.registry.value_validation import address_errors
from virtual_kubelet.devcluster.statuses import FieldError, duplicate, field_forbidden, field_invalid, required

__all__ = ["validate_pod_status", "validate_pod_update"]

_UPDATE: Final = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
_REQUIRED_TERMS: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_SYSTEM_CONDITIONS: Final = frozenset({"PodScheduled", "Ready", "Initialized"})
#: What an update may change, beyond images: compared on its own.
_MUTABLE: Final = ("activeDeadlineSeconds", "tolerations", "schedulingGates")


def validate_pod_update(new: dict[str, Any], old: dict[str, Any]) -> list[FieldError]:
    """A new spec: images, a shorter deadline, more tolerations, fewer scheduling gates, and while there are some a
    narrower choice of nodes; nothing else.
    """
    errors = validate_pod(new)
    for field in ("containers", "initContainers"):
        if len(new.get(field) or ()) != len(old.get(field) or ()):
            return [*errors, field_forbidden(f"spec.{field}", "pod updates may not add or remove containers")]
        errors += _images(new.get(field) or (), f"spec.{field}")
    deadline = _deadline(new.get("activeDeadlineSeconds"), old.get("activeDeadlineSeconds"))
    errors += deadline
    if deadline and "activeDeadlineSeconds" in new:
        return errors
    tolerations = [_timeless(toleration) for toleration in new.get("tolerations") or ()]
    if any(_timeless(toleration) not in tolerations for toleration in old.get("tolerations") or ()):
        detail = "existing toleration can not be modified except its tolerationSeconds"
        errors.append(field_forbidden("spec.tolerations", detail))
    else:
        # What is wrong with them is said once more.
        errors += validate_tolerations(new.get("tolerations") or [])
    errors += _gates(new, old)
    compared = new
    if old.get("schedulingGates"):
        errors += _placement(new, old)
        compared = _with_placement_of(new, old)
    if not _same_but_mutable(compared, old):
        # The real server adds a diff of its internal objects; values of env would be in it.
        errors.append(field_forbidden("spec", _UPDATE))
    return errors


def _images(containers: Sequence[dict[str, Any]], where: str) -> list[FieldError]:
    """What is wrong with them is said of an update once more."""
    errors: list[FieldError] = []
    for index, container in enumerate(containers):
        image = container.get("image", "")
        if not image:
            errors.append(required(f"{where}[{index}].image"))
        elif image != image.strip():
            detail = "must not have leading or trailing whitespace"
            errors.append(field_invalid(f"{where}[{index}].image", image, detail))
    return errors


def _deadline(after: int | None, before: int | None) -> list[FieldError]:
    where = "spec.activeDeadlineSeconds"
    if after is None:
        if before is None:
            return []
        return [field_invalid(where, None, "must not update from a positive integer to nil value")]
    if not 0 <= after <= 2147483647:
        return [field_invalid(where, after, "must be between 0 and 2147483647, inclusive")]
    if before is not None and after > before:
        return [field_invalid(where, after, "must be less than or equal to previous value")]
    return []


def _gates(new: dict[str, Any], old: dict[str, Any]) -> list[FieldError]:
    known = {gate.get("name") for gate in old.get("schedulingGates") or ()}
    return [
        field_forbidden(
            f"spec.schedulingGates[{index}].name",
            f"only deletion is allowed, but found new scheduling gate '{gate.get('name', '')}'",
        )
        for index, gate in enumerate(new.get("schedulingGates") or ())
        if gate.get("name") not in known
    ]


def _placement(new: dict[str, Any], old: dict[str, Any]) -> list[FieldError]:
    """Where a pod behind gates may run may be narrowed."""
    errors: list[FieldError] = []
    before, after = old.get("nodeSelector") or {}, new.get("nodeSelector") or {}
    if any(after.get(key) != value for key, value in before.items()):
        detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
        errors.append(field_invalid("spec.nodeSelector", after, detail))
    terms = ((_node_affinity(old).get(_REQUIRED_TERMS)) or {}).get("nodeSelectorTerms") or []
    if not terms:
        return errors
    where = f"spec.affinity.nodeAffinity.{_REQUIRED_TERMS}.nodeSelectorTerms"
    now = ((_node_affinity(new).get(_REQUIRED_TERMS)) or {}).get("nodeSelectorTerms") or []
    if len(now) != len(terms):
        detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed"
        return [*errors, field_invalid(where, now, detail)]
    for index, (term, known) in enumerate(zip(now, terms, strict=True)):
        for field in ("matchExpressions", "matchFields"):
            kept = known.get(field) or []
            # What is added comes behind what there is.
            if (term.get(field) or [])[: len(kept)] != kept:
                detail = "only additions are allowed (no mutations or deletions)"
                errors.append(field_invalid(f"{where}[{index}].{field}", term.get(field) or [], detail))
    return errors


def _node_affinity(spec: dict[str, Any]) -> dict[str, Any]:
    return (spec.get("affinity") or {}).get("nodeAffinity") or {}


def _with_placement_of(new: dict[str, Any], old: dict[str, Any]) -> dict[str, Any]:
    """``new`` with the node selector and the node affinity of ``old``."""
    made = {key: value for key, value in new.items() if key not in ("nodeSelector", "affinity")}
    if "nodeSelector" in old:
        made["nodeSelector"] = old["nodeSelector"]
    affinity = {k: v for k, v in (new.get("affinity") or {}).items() if k != "nodeAffinity"}
    if _node_affinity(old):
        affinity["nodeAffinity"] = old["affinity"]["nodeAffinity"]
    if affinity or "affinity" in old:
        made["affinity"] = affinity
    return made


def _same_but_mutable(new: dict[str, Any], old: dict[str, Any]) -> bool:
    compared = {k: v for k, v in new.items() if k not in _MUTABLE}
    before = {k: v for k, v in old.items() if k not in _MUTABLE}
    if before.get("terminationGracePeriodSeconds", 0) < 0 and compared.get("terminationGracePeriodSeconds") == 1:
        compared["terminationGracePeriodSeconds"] = before["terminationGracePeriodSeconds"]
    for field in ("containers", "initContainers"):
        if compared.get(field):
            pairs = zip(compared[field], before[field], strict=True)
            compared[field] = [{**container, "image": previous.get("image")} for container, previous in pairs]
    return compared == before


def _timeless(toleration: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in toleration.items() if k != "tolerationSeconds"}


# Status


def validate_pod_status(new: dict[str, Any], old: dict[str, Any]) -> list[FieldError]:
    """A new status of a pod; both are whole objects."""
    status, before, spec = new["status"], old["status"], old["spec"]
    errors: list[FieldError] = []
    for index, condition in enumerate(status.get("conditions") or ()):
        kind = condition.get("type", "")
        if kind not in _SYSTEM_CONDITIONS:
            where = f"metadata.conditions[{index}].Type"  # the API server's own slip
            errors += [field_invalid(where, kind, problem) for problem in qualified_name_problems(kind)]
    node = status.get("nominatedNodeName", "")
    if node and node != before.get("nominatedNodeName", ""):
        errors += [field_invalid("status.nominatedNodeName", node, problem) for problem in dns_subdomain_problems(node)]
    if status.get("qosClass", "") != before.get("qosClass", ""):
        errors.append(field_invalid("status.qosClass", status.get("qosClass", ""), "field is immutable"))
    if not _may_restart_all(spec):
        errors += _terminated_stay(status, before, "containerStatuses", spec, spec.get("containers") or [])
        errors += _terminated_stay(status, before, "initContainerStatuses", spec, spec.get("initContainers") or [])
    never = {"restartPolicy": "Never"}
    errors += _terminated_stay(status, before, "ephemeralContainerStatuses", never, [])
    errors += _addresses(status.get("podIPs") or [], "status.podIPs")
    hosts = status.get("hostIPs") or []
    if hosts and hosts[0].get("ip", "") != status.get("hostIP", ""):
        errors.append(field_invalid("status.hostIPs[0].ip", hosts[0].get("ip", ""), "must be equal to `hostIP`"))
    return errors + _addresses(hosts, "status.hostIPs")


def _may_restart_all(spec: dict[str, Any]) -> bool:
    """Whether a rule may bring all containers back to life (podutil.AllContainersCouldRestart)."""
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    return any(r.get("action") == "RestartAllContainers" for c in containers for r in c.get("restartPolicyRules") or ())


def _terminated_stay(
    status: dict[str, Any], before: dict[str, Any], field: str, spec: dict[str, Any], containers: list[dict[str, Any]]
) -> list[FieldError]:
    """Containers that will not be restarted do not come back to life."""
    if not before.get(field):
        return []
    if spec.get("restartPolicy", "Always") == "Always" and not any("restartPolicy" in c for c in containers):
        return []
    now = {c.get("name"): c for c in status.get(field) or ()}
    errors: list[FieldError] = []
    for index, previous in enumerate(before.get(field) or ()):
        ended = (previous.get("state") or {}).get("terminated")
        current = now.get(previous.get("name"))
        if ended is None or current is None or "terminated" in (current.get("state") or {}):
            continue
        own = next((c for c in containers if c.get("name") == previous.get("name")), {})
        policy = own.get("restartPolicy") or spec.get("restartPolicy", "Always")
        if policy == "Always" or "restartPolicyRules" in own or (policy == "OnFailure" and ended.get("exitCode", 0)):
            continue
        where = f"status.{field}[{index}].state"
        errors.append(field_forbidden(where, "may not be transitioned to non-terminated state"))
    return errors


def _addresses(entries: list[dict[str, Any]], where: str) -> list[FieldError]:
    """IP addresses of a pod or of its host: at most one of each family."""
    errors: list[FieldError] = []
    for index, entry in enumerate(entries):
        errors += address_errors(entry.get("ip", ""), f"{where}[{index}]")
    if len(entries) < 2 or errors:
        return errors
    families = {ipaddress.ip_address(entry["ip"]).version for entry in entries}
    if len(families) < 2 or len(entries) > 2:
        shown = [{"IP": entry["ip"]} for entry in entries]
        errors.append(field_invalid(where, shown, "may specify no more than one IP for each IP family"))
    seen: set[str] = set()
    for index, entry in enumerate(entries):
        if entry["ip"] in seen:
            errors.append(duplicate(f"{where}[{index}]", {"IP": entry["ip"]}))
        seen.add(entry["ip"])
    return errors
