"""Pods."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from virtual_kubelet.devcluster.registry.pod_defaults import (
    add_default_tolerations,
    admit_pod,
    default_pod,
    default_pod_status,
    quality_of_service,
)
from virtual_kubelet.devcluster.registry.pod_printing import pod_cells
from virtual_kubelet.devcluster.registry.pod_update_validation import validate_pod_status, validate_pod_update
from virtual_kubelet.devcluster.registry.pod_validation import validate_pod
from virtual_kubelet.devcluster.registry.pod_warnings import pod_warnings
from virtual_kubelet.devcluster.registry.resource import NAME_COLUMN, Resource, Subresource, age, column
from virtual_kubelet.devcluster.registry.service_account_admission import ServiceAccountAdmission
from virtual_kubelet.devcluster.statuses import FieldError, field_forbidden

__all__ = ["Pods"]


class Pods(Resource):
    kind = "Pod"
    plural = "pods"
    singular = "pod"
    short_names = ("po",)
    categories = ("all",)
    storage_version_hash = "xPOwRZ+Yhw8="
    subresources = (
        Subresource("attach", "PodAttachOptions", ("create", "get")),
        Subresource("binding", "Binding", ("create",)),
        Subresource("ephemeralcontainers", "Pod", ("get", "patch", "update")),
        Subresource("eviction", "Eviction", ("create",), "policy", "v1"),
        Subresource("exec", "PodExecOptions", ("create", "get")),
        Subresource("log", "Pod", ("get",)),
        Subresource("portforward", "PodPortForwardOptions", ("create", "get")),
        Subresource("resize", "Pod", ("get", "patch", "update")),
        Subresource("status", "Pod", ("get", "patch", "update")),
    )
    columns = (
        NAME_COLUMN,
        column("Ready"),
        column("Status"),
        column("Restarts"),
        column("Age"),
        column("IP", wide=True),
        column("Node", wide=True),
        column("Nominated Node", wide=True),
        column("Readiness Gates", wide=True),
    )
    selectable = frozenset(
        {
            "spec.host",  # what spec.nodeName once was
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        }
    )
    returns_deleted = True

    def __init__(self, service_accounts: ServiceAccountAdmission | None = None) -> None:
        """``service_accounts``: None lets pods be without a service account."""
        self._service_accounts = service_accounts

    def fields(self, obj: dict[str, Any]) -> Mapping[str, str]:
        spec, status = obj["spec"], obj["status"]
        return {
            "spec.host": spec.get("nodeName", ""),
            "spec.nodeName": spec.get("nodeName", ""),
            "spec.restartPolicy": spec.get("restartPolicy", ""),
            "spec.schedulerName": spec.get("schedulerName", ""),
            "spec.serviceAccountName": spec.get("serviceAccountName", ""),
            "spec.hostNetwork": "true" if spec.get("hostNetwork") else "false",
            "status.phase": status.get("phase", ""),
            "status.podIP": status.get("podIP", ""),
            "status.podIPs": ",".join(entry.get("ip", "") for entry in status.get("podIPs") or ()),
            "status.nominatedNodeName": status.get("nominatedNodeName", ""),
        }

    def default(self, obj: dict[str, Any]) -> None:
        default_pod(obj)

    def default_status(self, obj: dict[str, Any]) -> None:
        default_pod_status(obj.get("status") or {})

    def admit(self, obj: dict[str, Any]) -> None:
        if self._service_accounts is not None:
            self._service_accounts.admit(obj)
        admit_pod(obj)

    def prepare_create(self, obj: dict[str, Any]) -> None:
        spec = obj["spec"]
        obj["metadata"]["generation"] = 1
        status: dict[str, Any] = {"phase": "Pending", "qosClass": quality_of_service(spec)}
        if spec.get("schedulingGates"):
            status["conditions"] = [
                {
                    "type": "PodScheduled",
                    "status": "False",
                    "lastProbeTime": None,
                    "lastTransitionTime": None,
                    "reason": "SchedulingGated",
                    "message": "Scheduling is blocked due to non-empty scheduling gates",
                }
            ]
        obj["status"] = status

    def validate_create(self, obj: dict[str, Any]) -> list[FieldError]:
        spec = obj["spec"]
        errors = validate_pod(spec)
        if spec.get("ephemeralContainers"):
            errors.append(field_forbidden("spec.ephemeralContainers", "cannot be set on create"))
        if spec.get("nodeName") and spec.get("schedulingGates"):
            detail = "cannot be set until all schedulingGates have been cleared"
            errors.append(field_forbidden("spec.nodeName", detail))
        return errors

    def create_warnings(self, obj: dict[str, Any]) -> list[str]:
        return pod_warnings(obj)

    def prepare_update(self, new: dict[str, Any], old: dict[str, Any]) -> None:
        new["status"] = old["status"]
        # Only their own subresource adds them.
        if "ephemeralContainers" in old["spec"]:
            new["spec"].setdefault("ephemeralContainers", old["spec"]["ephemeralContainers"])
        for field in ("priority", "preemptionPolicy"):
            if field in old["spec"]:
                new["spec"].setdefault(field, old["spec"][field])
        add_default_tolerations(new["spec"])
        _count_generation(new, old)

    def validate_update(self, new: dict[str, Any], old: dict[str, Any]) -> list[FieldError]:
        return validate_pod_update(new["spec"], old["spec"])

    def prepare_status_update(self, new: dict[str, Any], old: dict[str, Any]) -> None:
        new["spec"] = old["spec"]
        if "deletionTimestamp" not in old["metadata"]:
            new["metadata"].pop("deletionTimestamp", None)  # no matter of the status
        if "ownerReferences" in old["metadata"]:
            new["metadata"]["ownerReferences"] = old["metadata"]["ownerReferences"]
        else:
            new["metadata"].pop("ownerReferences", None)
        if "qosClass" in old["status"]:
            new["status"].setdefault("qosClass", old["status"]["qosClass"])
        _keep_observed_generations(new["status"], old["status"])

    def validate_status_update(self, new: dict[str, Any], old: dict[str, Any]) -> list[FieldError]:
        return validate_pod_status(new, old)

    def grace_period(self, obj: dict[str, Any], wanted: int | None) -> int:
        spec = obj["spec"]
        period: int = wanted if wanted is not None else spec.get("terminationGracePeriodSeconds", 0)
        if not spec.get("nodeName") or obj["status"].get("phase") in ("Failed", "Succeeded"):
            return 0
        return 1 if period < 0 else period

    def cells(self, obj: dict[str, Any], now: datetime) -> list[Any]:
        return pod_cells(obj, age(obj, now), now)


def _keep_observed_generations(new: dict[str, Any], old: dict[str, Any]) -> None:
    """A writer that does not know ``observedGeneration`` does not take it away."""
    if old.get("observedGeneration") and not new.get("observedGeneration"):
        new["observedGeneration"] = old["observedGeneration"]
    known: dict[str, list[int]] = {}
    if not any("observedGeneration" in condition for condition in old.get("conditions") or ()):
        return
    for condition in old.get("conditions") or ():
        known.setdefault(condition.get("type", ""), []).append(condition.get("observedGeneration", 0))
    for condition in new.get("conditions") or ():
        before = known.get(condition.get("type", ""))
        generation = before.pop(0) if before else 0
        if generation and not condition.get("observedGeneration"):
            condition["observedGeneration"] = generation


def _count_generation(new: dict[str, Any], old: dict[str, Any]) -> None:
    if new["spec"] != old["spec"]:
        new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
