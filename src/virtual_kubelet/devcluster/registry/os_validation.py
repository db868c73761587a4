"""What a pod that names its operating system may not have (``pkg/apis/core/validation``). Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from virtual_kubelet.devcluster.statuses import FieldError, field_forbidden, required, unsupported_value

__all__ = ["validate_os"]

_SYSTEMS: Final = ("linux", "windows")
_NOT_LINUX: Final = "windows options cannot be set for a linux pod"
_NOT_WINDOWS: Final = "cannot be set for a windows pod"
#: Fields of the pod's security context that Windows has not, and fields of the pod itself between them.
_POD: Final = (
    "securityContext.appArmorProfile",
    "securityContext.seLinuxOptions",
    "hostUsers",
    "hostPID",
    "hostIPC",
    "securityContext.seccompProfile",
    "securityContext.fsGroup",
    "securityContext.fsGroupChangePolicy",
    "securityContext.sysctls",
    "shareProcessNamespace",
    "securityContext.runAsUser",
    "securityContext.runAsGroup",
    "securityContext.supplementalGroups",
    "securityContext.supplementalGroupsPolicy",
    "securityContext.seLinuxChangePolicy",
)
_CONTAINER: Final = (
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
)


def validate_os(spec: dict[str, Any]) -> list[FieldError]:
    """``spec.os`` and what depends on it."""
    system = spec.get("os")
    if system is None:
        return []
    name = system.get("name", "")
    if not name:
        return [required("spec.os.name", "cannot be empty")]
    if name not in _SYSTEMS:
        return [unsupported_value("spec.os", name, _SYSTEMS)]
    if name == "linux":
        where = [path for path, context in _contexts(spec) if "windowsOptions" in context]
        return [field_forbidden(f"{path}.windowsOptions", _NOT_LINUX) for path in where]
    errors: list[FieldError] = []
    for field in _POD:
        around, _, last = field.rpartition(".")
        if last in (spec[around] if around else spec):
            errors.append(field_forbidden(f"spec.{field}", _NOT_WINDOWS))
    for path, context in _contexts(spec):
        if path != "spec.securityContext":
            errors += [field_forbidden(f"{path}.{field}", _NOT_WINDOWS) for field in _CONTAINER if field in context]
    return errors


def _contexts(spec: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "spec.securityContext", spec["securityContext"]
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for index, container in enumerate(spec.get(field) or ()):
            yield f"spec.{field}[{index}].securityContext", container.get("securityContext") or {}
