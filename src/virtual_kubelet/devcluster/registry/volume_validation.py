"""What the API server refuses in a pod's volumes (``pkg/apis/core/validation``: the sources that nodes can mount). Pure."""

from __future__ import annotations

from typing import Any, Final

from virtual_kubelet.devcluster.names import dns_label_problems
from virtual_kubelet.devcluster.registry.reference_validation import (
    validate_container_resource_reference,
    validate_field_reference,
)
from virtual_kubelet.devcluster.statuses import (
    FieldError,
    duplicate,
    field_forbidden,
    field_invalid,
    required,
    unsupported_value,
)
from virtual_kubelet.objects.quantity import Quantity

__all__ = ["relative_path_problems", "validate_volumes"]

_MODE: Final = "must be a number between 0 and 0777 (octal), both inclusive"
_HOST_PATH_TYPES: Final = (
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
)
_VOLUME_FIELDS: Final = (
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
)
#: Fields without which a source of this kind means nothing.
_REQUIRED: Final = {
    "azureFile": ("secretName", "shareName"),
    "cephfs": ("monitors",),
    "cinder": ("volumeID",),
    "csi": ("driver",),
    "flexVolume": ("driver",),
    "glusterfs": ("endpoints", "path"),
    "nfs": ("server", "path"),
    "persistentVolumeClaim": ("claimName",),
    "portworxVolume": ("volumeID",),
    "rbd": ("monitors", "image"),
    "vsphereVolume": ("volumePath",),
}
_SHORTEST_TOKEN: Final = 600
_LONGEST_TOKEN: Final = 1 << 32


def validate_volumes(volumes: list[dict[str, Any]], where: str) -> tuple[list[FieldError], dict[str, str]]:
    """``spec.volumes``: what is wrong, and of those that are right the kind of each one's source, by its name."""
    errors: list[FieldError] = []
    sources: dict[str, str] = {}
    for index, volume in enumerate(volumes):
        here = f"{where}[{index}]"
        found = _source(volume, here)
        name = volume.get("name", "")
        if not name:
            found.append(required(f"{here}.name"))
        else:
            found += [field_invalid(f"{here}.name", name, problem) for problem in dns_label_problems(name)]
        if name in sources:
            found.append(duplicate(f"{here}.name", name))
        if not found:
            sources[name] = next((kind for kind in volume if kind != "name"), "")
        errors += found
    return errors, sources


def _source(volume: dict[str, Any], where: str) -> list[FieldError]:
    kinds = [kind for kind in volume if kind != "name"]
    if not kinds:
        return [required(where, "must specify a volume type")]
    kind = kinds[0]
    errors = _one_source(kind, volume[kind] or {}, f"{where}.{kind}")
    return errors + [field_forbidden(f"{where}.{k}", "may not specify more than 1 volume type") for k in kinds[1:]]


def _one_source(kind: str, source: dict[str, Any], where: str) -> list[FieldError]:
    match kind:
        case "emptyDir":
            limit = source.get("sizeLimit")
            if limit is not None and Quantity(limit) < Quantity(0):
                return [field_forbidden(f"{where}.sizeLimit", "SizeLimit field must be a valid resource quantity")]
            return []
        case "hostPath":
            return _host_path(source, where)
        case "secret":
            return _keys(source, "secretName", where)
        case "configMap":
            return _keys(source, "name", where)
        case "downwardAPI":
            errors = _mode(source.get("defaultMode"), f"{where}.defaultMode")
            for item in source.get("items") or ():
                errors += _downward_file(item, where)
            return errors
        case "projected":
            return _mode(source.get("defaultMode"), f"{where}.defaultMode") + _projected(source, where)
    errors = [required(f"{where}.{field}") for field in _REQUIRED.get(kind, ()) if not source.get(field)]
    if kind == "nfs" and not source.get("path", "").startswith("/"):
        errors.append(field_invalid(f"{where}.path", source.get("path", ""), "must be an absolute path"))
    return errors


def _host_path(source: dict[str, Any], where: str) -> list[FieldError]:
    path, kind = source.get("path", ""), source.get("type", "")
    if not path:
        return [required(f"{where}.path")]
    errors = _no_back_steps(path, f"{where}.path")
    if kind not in _HOST_PATH_TYPES:
        errors.append(unsupported_value(f"{where}.type", kind, _HOST_PATH_TYPES))
    return errors


def _keys(source: dict[str, Any], name: str, where: str) -> list[FieldError]:
    """A Secret or ConfigMap as a volume."""
    errors = [] if source.get(name) else [required(f"{where}.{name}")]
    errors += _mode(source.get("defaultMode"), f"{where}.defaultMode")
    for index, item in enumerate(source.get("items") or ()):
        errors += _key_to_path(item, f"{where}.items[{index}]")
    return errors


def _key_to_path(item: dict[str, Any], where: str) -> list[FieldError]:
    errors = [required(f"{where}.{field}") for field in ("key", "path") if not item.get(field)]
    errors += relative_path_problems(item.get("path", ""), f"{where}.path", reserved=True)
    return errors + _mode(item.get("mode"), f"{where}.mode")


def _downward_file(item: dict[str, Any], where: str) -> list[FieldError]:
    path = item.get("path", "")
    errors = [] if path else [required(f"{where}.path")]
    errors += relative_path_problems(path, f"{where}.path", reserved=True)
    if "fieldRef" in item:
        errors += validate_field_reference(item["fieldRef"], f"{where}.fieldRef", _VOLUME_FIELDS)
        if "resourceFieldRef" in item:
            detail = "fieldRef and resourceFieldRef can not be specified simultaneously"
            errors.append(field_invalid(where, "resource", detail))
    elif "resourceFieldRef" in item:
        reference = item["resourceFieldRef"]
        errors += validate_container_resource_reference(reference, f"{where}.resourceFieldRef", in_volume=True)
    else:
        errors.append(required(where, "one of fieldRef and resourceFieldRef is required"))
    return errors + _mode(item.get("mode"), f"{where}.mode")


def _projected(source: dict[str, Any], where: str) -> list[FieldError]:
    errors: list[FieldError] = []
    paths: set[str] = set()

    def take(path: str, shown: str) -> None:
        if path and path in paths:
            errors.append(field_invalid(where, shown, "conflicting duplicate paths"))
        paths.add(path)

    for index, part in enumerate(source.get("sources") or ()):
        here = f"{where}.sources[{index}]"
        for kind in ("secret", "configMap"):
            if kind not in part:
                continue
            name = part[kind].get("name", "")
            if not name:
                errors.append(required(f"{here}.{kind}.name"))
            for number, item in enumerate(part[kind].get("items") or ()):
                errors += _key_to_path(item, f"{here}.{kind}.items[{number}]")
                take(item.get("path", ""), name)
        for item in (part.get("downwardAPI") or {}).get("items") or ():
            errors += _downward_file(item, f"{here}.downwardAPI")
            take(item.get("path", ""), item.get("path", ""))
        if "serviceAccountToken" in part:
            errors += _token(part["serviceAccountToken"], where, f"{here}.serviceAccountToken")
        if len(part) > 1:
            errors.append(field_forbidden(here, "may not specify more than 1 volume type per source"))
    return errors


def _token(token: dict[str, Any], where: str, here: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seconds = token.get("expirationSeconds", 3600)
    if seconds < _SHORTEST_TOKEN:
        detail = "may not specify a duration less than 10 minutes"
        errors.append(field_invalid(f"{here}.expirationSeconds", seconds, detail))
    if seconds > _LONGEST_TOKEN:
        detail = "may not specify a duration larger than 2^32 seconds"
        errors.append(field_invalid(f"{here}.expirationSeconds", seconds, detail))
    path = token.get("path", "")
    # The API server names the volume's path here, not the source's.
    if not path:
        errors.append(required(f"{where}.path"))
    else:
        errors += relative_path_problems(path, f"{where}.path", reserved=True)
    return errors


def _mode(mode: int | None, where: str) -> list[FieldError]:
    return [] if mode is None or 0 <= mode <= 0o777 else [field_invalid(where, mode, _MODE)]


def _no_back_steps(path: str, where: str) -> list[FieldError]:
    return [field_invalid(where, path, "must not contain '..'")] if ".." in path.split("/") else []


def relative_path_problems(path: str, where: str, *, reserved: bool = False) -> list[FieldError]:
    """A path that must stay below where it is put; ``reserved``: nor may its name begin with two dots."""
    errors = [field_invalid(where, path, "must be a relative path")] if path.startswith("/") else []
    errors += _no_back_steps(path, where)
    if reserved and path.startswith("..") and not path.startswith("../"):
        errors.append(field_invalid(where, path, "must not start with '..'"))
    return errors
