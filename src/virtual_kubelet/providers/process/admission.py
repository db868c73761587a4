"""What a pod may ask of plain processes: refuses with the field's name what would otherwise be half-run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from virtual_kubelet import ContainerStartError, InvalidInputError, effective_security_context
from virtual_kubelet.objects.core_v1 import Container, Pod
from virtual_kubelet.providers.process.capabilities import dropped_capabilities, missing_capabilities
from virtual_kubelet.providers.process.mount_plan import Abilities, unlinkable

__all__ = ["check_ephemeral", "check_pod"]

_REASON: Final = "UnsupportedPodSpec"


def check_pod(pod: Pod, abilities: Abilities, may_link: Callable[[str], bool]) -> None:
    """Raise ``InvalidInputError`` for the first field that cannot be honoured.

    Args:
        may_link: whether a link can be made at this path.
    """
    for field, why in _problems(pod, abilities, may_link):
        raise InvalidInputError(f"{field}: {why}", reason=_REASON)


def _problems(pod: Pod, abilities: Abilities, may_link: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    spec = pod.spec
    if spec.os is not None and spec.os.name != "linux":
        yield "spec.os.name", f"processes here are Linux's, not {spec.os.name}'s"
    if spec.host_users is False:
        yield "spec.hostUsers", "processes have the machine's users"
    if spec.resource_claims:
        yield "spec.resourceClaims", "there are no drivers of dynamic resources here"
    if spec.runtime_class_name:
        yield "spec.runtimeClassName", "processes of this machine have no other runtime"
    if spec.security_context is not None and spec.security_context.sysctls:
        yield "spec.securityContext.sysctls", "they would be the whole machine's"
    if spec.host_aliases and not abilities.namespaces:
        yield "spec.hostAliases", "this program may not mount, and without that processes have the machine's /etc/hosts"
    if spec.dns_config is not None and not abilities.namespaces:
        yield "spec.dnsConfig", "this program may not mount, and without that processes have the machine's resolver"
    for field, container in _containers(pod):
        for inner, why in _problems_of(pod, container, abilities, may_link):
            yield f"{field}.{inner}", why


def check_ephemeral(pod: Pod, container: Container, abilities: Abilities, may_link: Callable[[str], bool]) -> None:
    """The same for a container that has come to a pod that runs. Raises ``ContainerStartError``."""
    for field, why in _problems_of(pod, container, abilities, may_link):
        at = f"spec.ephemeralContainers[{container.name}].{field}"
        raise ContainerStartError(f"{at}: {why}", reason="CreateContainerConfigError")


def _problems_of(
    pod: Pod, container: Container, abilities: Abilities, may_link: Callable[[str], bool]
) -> Iterator[tuple[str, str]]:
    if not abilities.namespaces:
        yield from unlinkable(pod, container, may_link)
    if container.volume_devices:
        yield "volumeDevices", "there are no block devices here"
    for mount in container.volume_mounts or ():
        if mount.mount_propagation == "Bidirectional" or (
            mount.mount_propagation == "HostToContainer" and not abilities.namespaces
        ):
            why = f"mounts are not propagated so here ({mount.mount_propagation})"
            yield f"volumeMounts[{mount.name}].mountPropagation", why
    context = effective_security_context(pod, container)
    if context.read_only_root_filesystem and not abilities.read_only_root:
        yield (
            "securityContext.readOnlyRootFilesystem",
            "this program may not make mounts read-only (it takes the right to mount, and Linux 5.12)",
        )
    try:
        dropped_capabilities(context.capabilities)
        missing = missing_capabilities(context.capabilities, abilities.capabilities)
    except ValueError as error:
        yield "securityContext.capabilities", f"there is no capability {error}"
    else:
        for name in missing:
            yield f"securityContext.capabilities.add[{name}]", "this program does not have it itself"
    profile = context.seccomp_profile
    if profile is not None and profile.type == "Localhost":
        yield "securityContext.seccompProfile", "this node loads no seccomp profiles"
    app_armor = context.app_armor_profile
    if app_armor is not None and app_armor.type == "Localhost":
        yield "securityContext.appArmorProfile", "this node loads no AppArmor profiles"
    if context.se_linux_options is not None:
        yield "securityContext.seLinuxOptions", "processes have the labels of this program"
    if context.windows_options is not None:
        yield "securityContext.windowsOptions", "processes here are Linux's"


def _containers(pod: Pod) -> Iterator[tuple[str, Any]]:
    for kind, containers in (
        ("initContainers", pod.spec.init_containers),
        ("containers", pod.spec.containers),
        ("ephemeralContainers", pod.spec.ephemeral_containers),
    ):
        for container in containers or ():
            yield f"spec.{kind}[{container.name}]", container
