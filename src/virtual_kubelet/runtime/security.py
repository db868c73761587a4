"""The security context that a container really has, and whether its image may run in it. Pure.

Kubernetes: pkg/securitycontext/util.go (DetermineEffectiveSecurityContext), pkg/kubelet/kuberuntime/
security_context_others.go (verifyRunAsNonRoot), security_context.go, kuberuntime_image.go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from virtual_kubelet.environment.fields import quote
from virtual_kubelet.objects.core_v1 import (
    Container,
    Pod,
    PodSecurityContext,
    SecurityContext,
    WindowsSecurityContextOptions,
)

__all__ = [
    "MASKED_PATHS",
    "READ_ONLY_PATHS",
    "RunAsNonRootError",
    "SupplementalGroups",
    "effective_security_context",
    "hidden_paths",
    "supplemental_groups",
    "verify_run_as_non_root",
]

#: Paths that containers do not see, and such that they may only read, unless ``procMount`` is ``Unmasked``.
MASKED_PATHS: Final = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READ_ONLY_PATHS: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_LARGEST_ID: Final = 2**31 - 1


class RunAsNonRootError(Exception):
    """The container must not run as root, and would, or may: it waits with ``CreateContainerConfigError``.

    Attributes:
        reason: of the container's waiting state.
    """

    reason: Final = "CreateContainerConfigError"


@dataclass(frozen=True, slots=True)
class SupplementalGroups:
    """Groups that a container's first process has beside its primary one.

    Attributes:
        groups: the pod's, its ``fsGroup`` among them.
        strict: only these; else those of the image's user too.
    """

    groups: Sequence[int]
    strict: bool


def effective_security_context(pod: Pod, container: Container) -> SecurityContext:
    """The container's own, completed by the pod's where that has the field; a copy."""
    shared = _from_pod(pod.spec.security_context)
    own = container.security_context
    if own is None:
        return shared
    merged = replace(own)
    for name in (
        "se_linux_options",
        "run_as_user",
        "run_as_group",
        "run_as_non_root",
        "seccomp_profile",
        "app_armor_profile",
    ):
        if getattr(merged, name) is None:
            setattr(merged, name, getattr(shared, name))
    merged.windows_options = _windows(shared.windows_options, own.windows_options)
    return merged


def verify_run_as_non_root(pod: Pod, container: Container, image_user: str) -> None:
    """Raise ``RunAsNonRootError`` if the container must not run as root, and would, or nobody can tell.

    Args:
        image_user: as ``Image.user``: ``USER`` of the image, maybe with ``:group``; empty for root.
    """
    context = effective_security_context(pod, container)
    if not context.run_as_non_root:
        return
    where = f"(pod: {quote(_described(pod))}, container: {container.name})"
    if context.run_as_user is not None:
        if context.run_as_user == 0:
            raise RunAsNonRootError(f"container's runAsUser breaks non-root policy {where}")
        return
    user = image_user.partition(":")[0] or "0"
    if not user.isascii() or not user.isdigit():
        raise RunAsNonRootError(
            f"container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root {where}"
        )
    number = int(user)
    if number == 0:
        raise RunAsNonRootError(f"container has runAsNonRoot and image will run as root {where}")
    if number > _LARGEST_ID:
        raise RunAsNonRootError(
            f"container has runAsNonRoot and image has an invalid user id ({number}). (Must be 1-({_LARGEST_ID})): "
            f"must be between 0 and {_LARGEST_ID}, inclusive {where}"
        )


def supplemental_groups(pod: Pod) -> SupplementalGroups:
    """``fsGroup`` and ``supplementalGroups`` of a pod, and its ``supplementalGroupsPolicy``."""
    context = pod.spec.security_context
    if context is None:
        return SupplementalGroups((), strict=False)
    groups = [] if context.fs_group is None else [context.fs_group]
    groups += context.supplemental_groups or ()
    return SupplementalGroups(tuple(dict.fromkeys(groups)), strict=context.supplemental_groups_policy == "Strict")


def hidden_paths(context: SecurityContext) -> tuple[Sequence[str], Sequence[str]]:
    """Paths to mask, and paths to make read-only, in a container with this effective context."""
    if context.privileged or context.proc_mount == "Unmasked":
        return (), ()
    return MASKED_PATHS, READ_ONLY_PATHS


def _from_pod(context: PodSecurityContext | None) -> SecurityContext:
    if context is None:
        return SecurityContext()
    return SecurityContext(
        se_linux_options=context.se_linux_options,
        run_as_user=context.run_as_user,
        run_as_group=context.run_as_group,
        run_as_non_root=context.run_as_non_root,
        seccomp_profile=context.seccomp_profile,
        app_armor_profile=context.app_armor_profile,
        windows_options=context.windows_options,
    )


def _windows(
    shared: WindowsSecurityContextOptions | None, own: WindowsSecurityContextOptions | None
) -> WindowsSecurityContextOptions | None:
    """Field by field; the two of GMSA go together."""
    if shared is None or own is None:
        return own if own is not None else shared
    gmsa = own if own.gmsa_credential_spec_name is not None or own.gmsa_credential_spec is not None else shared
    return WindowsSecurityContextOptions(
        gmsa_credential_spec=gmsa.gmsa_credential_spec,
        gmsa_credential_spec_name=gmsa.gmsa_credential_spec_name,
        host_process=own.host_process if own.host_process is not None else shared.host_process,
        run_as_user_name=own.run_as_user_name if own.run_as_user_name is not None else shared.run_as_user_name,
    )


def _described(pod: Pod) -> str:
    """As the kubelet's ``format.Pod``."""
    meta = pod.metadata
    return f"{meta.name}_{meta.namespace}({meta.uid})"
