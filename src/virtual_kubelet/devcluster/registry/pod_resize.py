"""What an update of a pod's ``resize`` subresource may change (``podResizeStrategy``, ``ValidatePodResize``). Pure."""

from __future__ import annotations

from typing import Any, Final

from virtual_kubelet.devcluster.object_meta import validate_meta_update
from virtual_kubelet.devcluster.registry.pod_defaults import quality_of_service
from virtual_kubelet.devcluster.registry.pod_validation import validate_pod
from virtual_kubelet.devcluster.statuses import FieldError, field_forbidden, field_invalid, invalid

__all__ = ["keep_metadata", "prepare_resize"]

_MIRROR: Final = "kubernetes.io/config.mirror"
_FIELDS: Final = ("containers", "initContainers")
_MUTABLE: Final = frozenset({"cpu", "memory"})


def prepare_resize(new: dict[str, Any], old: dict[str, Any]) -> None:
    """Of ``new`` only the resources and resize policies of containers count. Raises 422."""
    keep_metadata(new, old)
    wanted = new["spec"]
    # A copy: what is left of the old spec must not be shared with it.
    spec = {**old["spec"]}
    for field in _FIELDS:
        if field not in spec:
            continue
        by_name = {container.get("name", ""): container for container in wanted.get(field) or ()}
        spec[field] = [_resized(container, by_name.get(container["name"])) for container in spec[field]]
    new["spec"], new["status"] = spec, old["status"]
    if spec != old["spec"]:
        new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
    errors = validate_meta_update(new["metadata"], old["metadata"]) + validate_pod(spec)
    errors += _validate(new, old, wanted)
    if errors:
        raise invalid("Pod", old["metadata"]["name"], errors)


def keep_metadata(new: dict[str, Any], old: dict[str, Any]) -> None:
    """These subresources change no metadata; name, namespace, UID and resourceVersion are still compared."""
    given = new["metadata"]
    kept = {**old["metadata"]}
    for field in ("name", "namespace", "uid", "resourceVersion"):
        if field in given:
            kept[field] = given[field]
    new["metadata"] = kept


def _resized(container: dict[str, Any], wanted: dict[str, Any] | None) -> dict[str, Any]:
    if wanted is None:
        return container
    result = {**container, "resources": wanted.get("resources") or {}}
    if "resizePolicy" in wanted:
        result["resizePolicy"] = wanted["resizePolicy"]
    else:
        result.pop("resizePolicy", None)
    return result


def _validate(new: dict[str, Any], old: dict[str, Any], wanted: dict[str, Any]) -> list[FieldError]:
    if _MIRROR in (old["metadata"].get("annotations") or {}):
        return [field_forbidden("", "static pods cannot be resized")]
    errors: list[FieldError] = []
    quality = old["status"].get("qosClass") or quality_of_service(old["spec"])
    if quality_of_service(new["spec"]) != quality:
        errors.append(field_invalid("spec", quality, "Pod QOS Class may not change as a result of resizing"))
    if not _is_supported(old["status"]):
        errors.append(field_forbidden("spec", "Pod running on node without support for resize"))
    for field in _FIELDS:
        names = [c.get("name", "") for c in old["spec"].get(field) or ()]
        if names != [c.get("name", "") for c in wanted.get(field) or ()]:
            what = "init containers" if field == "initContainers" else "containers"
            errors.append(field_forbidden("spec", f"{what} may not be renamed or reordered on resize"))
            return errors
        pairs = zip(old["spec"].get(field) or (), new["spec"].get(field) or (), strict=True)
        for index, (before, after) in enumerate(pairs):
            errors += _validate_container(before, after, f"spec.{field}[{index}]", field)
    return errors


def _validate_container(before: dict[str, Any], after: dict[str, Any], where: str, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    changed = before.get("resources") != after.get("resources")
    if field == "initContainers" and changed and before.get("restartPolicy") != "Always":
        return [field_forbidden(f"{where}.resources", "resources for non-sidecar init containers are immutable")]
    others = False
    for kind in ("requests", "limits"):
        old, new = ((c.get("resources") or {}).get(kind) or {} for c in (before, after))
        if old.keys() - new.keys():
            errors.append(field_forbidden(f"{where}.resources.{kind}", f"resource {kind} cannot be removed"))
        others = others or any(old.get(name) != new.get(name) for name in (old.keys() | new.keys()) - _MUTABLE)
    if others:
        errors.append(field_forbidden("spec", "only cpu and memory resources are mutable"))
    return errors


def _is_supported(status: dict[str, Any]) -> bool:
    """A kubelet that can resize says what resources a running container has."""
    for container in status.get("containerStatuses") or ():
        if "running" in (container.get("state") or {}):
            return "resources" in container
    return True
