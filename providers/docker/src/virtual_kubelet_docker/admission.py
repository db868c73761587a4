"""What a pod may ask of a container engine. Pure: refuses with the field's name what would otherwise be half-run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from virtual_kubelet import InvalidInputError
from virtual_kubelet.objects.core_v1 import Container, Pod
from virtual_kubelet_docker.config import DockerConfig
from virtual_kubelet_docker.security import app_armor_profile
from virtual_kubelet_docker.sysctls import check_sysctls

__all__ = ["check_pod"]

_REASON: Final = "UnsupportedPodSpec"
_RESOURCES: Final = frozenset({"cpu", "memory"})
#: What is counted when pods are placed and not enforced while they run, as on a kubelet.
_REQUESTS: Final = _RESOURCES | {"ephemeral-storage"}


def check_pod(pod: Pod, config: DockerConfig, *, app_armor: bool) -> None:
    """Raise ``InvalidInputError`` for the first field that cannot be honoured.

    Args:
        app_armor: whether the engine can load AppArmor profiles.
    """
    spec = pod.spec
    if spec.os is not None and spec.os.name != "linux":
        raise _refused("spec.os.name", f"containers here are Linux's, not {spec.os.name}'s")
    if spec.host_users is False:
        raise _refused("spec.hostUsers", "the engine gives pods no user namespaces of their own")
    if spec.resource_claims:
        raise _refused("spec.resourceClaims", "there are no drivers of dynamic resources here")
    if spec.resources is not None:
        raise _refused("spec.resources", "containers have limits here; pods as a whole have none")
    if spec.runtime_class_name and spec.runtime_class_name not in config.runtime_classes:
        raise _refused(
            "spec.runtimeClassName", f'the provider\'s configuration has no runtime for "{spec.runtime_class_name}"'
        )
    context = spec.security_context
    if context is not None:
        if context.supplemental_groups_policy == "Strict":
            raise _refused("spec.securityContext.supplementalGroupsPolicy", "the engine merges the groups of the image")
        if context.windows_options is not None:
            raise _refused("spec.securityContext.windowsOptions", "containers here are Linux's")
        check_sysctls(pod, config)
    for where, container in _containers(pod):
        _check_container(pod, where, container, app_armor=app_armor)


def _containers(pod: Pod) -> Iterator[tuple[str, Any]]:
    for kind, containers in (
        ("initContainers", pod.spec.init_containers),
        ("containers", pod.spec.containers),
        ("ephemeralContainers", pod.spec.ephemeral_containers),
    ):
        for container in containers or ():
            yield f"spec.{kind}[{container.name}]", container


def _check_container(pod: Pod, where: str, container: Container, *, app_armor: bool) -> None:
    if container.volume_devices:
        raise _refused(f"{where}.volumeDevices", "there are no block devices here")
    for mount in container.volume_mounts or ():
        if mount.recursive_read_only == "Enabled":
            raise _refused(
                f"{where}.volumeMounts[{mount.name}].recursiveReadOnly",
                "the engine does not make what is mounted below read-only",
            )
    resources = container.resources
    if resources is not None:
        if resources.claims:
            raise _refused(f"{where}.resources.claims", "there are no drivers of dynamic resources here")
        for kind, named, known in (
            ("limits", resources.limits, _RESOURCES),
            ("requests", resources.requests, _REQUESTS),
        ):
            for name in named or ():
                if name not in known:
                    raise _refused(f"{where}.resources.{kind}[{name}]", "the engine does not enforce it")
    context = container.security_context
    if context is not None and context.windows_options is not None:
        raise _refused(f"{where}.securityContext.windowsOptions", "containers here are Linux's")
    profile = app_armor_profile(pod, container)
    if profile not in (None, "", "unconfined") and not app_armor:
        raise _refused(f"{where}.securityContext.appArmorProfile", "AppArmor is not enabled on the engine's machine")


def _refused(field: str, why: str) -> InvalidInputError:
    return InvalidInputError(f"{field}: {why}", reason=_REASON)
