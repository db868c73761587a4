"""What an update of a pod's ``resize`` subresource may change (``podResizeStrategy``, ``ValidatePodResize``). Pure."""

from __future__ import annotations

from typing import Any, Final

from virtual_kubelet.devcluster.object_meta import validate_meta_update
from virtual_kubelet.devcluster.registry.pod_defaults import quality_of_service
from virtual_kubelet.devcluster.registry.pod_validation import validate_pod
from virtual_kubelet.devcluster.statuses import FieldError, field_forbidden, field_invalid, invalid

__all__ = ["MIRROR", "keep_metadata", "prepare_resize"]

#: A static pod's annotation.
MIRROR: Final = "kubernetes.io/config.mirror"
_FIELDS: Final = ("containers", "initContainers")
_MUTABLE: Final = frozenset({"cpu", "memory"})
_ONLY: Final = "only cpu and memory resources are mutable"


def prepare_resize(new: dict[str, Any], old: dict[str, Any]) -> None:
    """Of ``new`` only the resources and resize policies of containers count. Raises 422."""
    keep_metadata(new, old)
    wanted = new["spec"]
    new["status"] = old["status"]
    if not _same_containers(wanted, old["spec"]):
        _refuse(old, [field_forbidden("spec", _ONLY)])
    spec = {**old["spec"]}
    for field in _FIELDS:
        if field in spec:
            pairs = zip(spec[field], wanted[field], strict=True)
            spec[field] = [_resized(container, given) for container, given in pairs]
    new["spec"] = spec
    if spec != old["spec"]:
        new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
    if MIRROR in (old["metadata"].get("annotations") or {}):
        _refuse(old, [field_forbidden("", "static pods cannot be resized")])
    errors = validate_meta_update(new["metadata"], old["metadata"]) + validate_pod(spec)
    errors += _validate(spec, old)
    if errors:
        _refuse(old, errors)


def _refuse(old: dict[str, Any], errors: list[FieldError]) -> None:
    raise invalid("Pod", old["metadata"]["name"], errors)


def keep_metadata(new: dict[str, Any], old: dict[str, Any]) -> None:
    """These subresources change no metadata; name, namespace, UID and resourceVersion are still compared."""
    given = new["metadata"]
    kept = {**old["metadata"]}
    for field in ("name", "namespace", "uid", "resourceVersion"):
        if field in given:
            kept[field] = given[field]
    new["metadata"] = kept


def _same_containers(wanted: dict[str, Any], spec: dict[str, Any]) -> bool:
    """No container is added, removed, renamed or moved."""
    return all(
        [c.get("name") for c in wanted.get(field) or ()] == [c.get("name") for c in spec.get(field) or ()]
        for field in _FIELDS
    )


def _resized(container: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    result = {**container, "resources": wanted.get("resources") or {}}
    if "resizePolicy" in wanted:
        result["resizePolicy"] = wanted["resizePolicy"]
    else:
        result.pop("resizePolicy", None)
    return result


def _validate(spec: dict[str, Any], old: dict[str, Any]) -> list[FieldError]:
    errors: list[FieldError] = []
    quality = old["status"].get("qosClass") or quality_of_service(old["spec"])
    if quality_of_service(spec) != quality:
        errors.append(field_invalid("spec", quality, "Pod QOS Class may not change as a result of resizing"))
    if not _is_supported(old["status"]):
        errors.append(field_forbidden("spec", "Pod running on node without support for resize"))
    others: list[FieldError] = []
    for field in ("initContainers", "containers"):
        pairs = zip(old["spec"].get(field) or (), spec.get(field) or (), strict=True)
        for index, (before, after) in enumerate(pairs):
            if field == "initContainers" and before.get("restartPolicy") != "Always":
                if before != after:
                    detail = "resources for non-sidecar init containers are immutable"
                    others.append(field_forbidden("spec", detail))
                continue
            errors += _container(before, after, f"spec.{field}[{index}].resources")
            if _others_changed(before.get("resources") or {}, after["resources"]):
                sidecars = "only cpu and memory resources for sidecar containers are mutable"
                others.append(field_forbidden("spec", _ONLY if field == "containers" else sidecars))
    return errors + others


# Before 1.34 memory limits could not be lowered, nor set where there had been none, without a restart.
def _container(before: dict[str, Any], after: dict[str, Any], where: str) -> list[FieldError]:
    errors: list[FieldError] = []
    old, new = before.get("resources") or {}, after["resources"]
    for kind in ("requests", "limits"):
        removed = (old.get(kind) or {}).keys() - (new.get(kind) or {}).keys()
        errors += [field_forbidden(f"{where}.{kind}", f"resource {kind} cannot be removed")] if removed else []
    return errors


def _others_changed(old: dict[str, Any], new: dict[str, Any]) -> bool:
    for kind in ("requests", "limits"):
        before, after = old.get(kind) or {}, new.get(kind) or {}
        if any(before.get(name) != after.get(name) for name in (before.keys() | after.keys()) - _MUTABLE):
            return True
    return (old.get("claims") or []) != (new.get("claims") or [])


def _is_supported(status: dict[str, Any]) -> bool:
    """A kubelet that can resize says what resources a running container has."""
    for container in status.get("containerStatuses") or ():
        if "running" in (container.get("state") or {}):
            return "resources" in container
    return True
