"""The security contexts of a pod and its container as the engine's settings. Pure."""

from __future__ import annotations

from typing import Any, Final

from virtual_kubelet import effective_security_context
from virtual_kubelet.objects.core_v1 import Container, Pod, SELinuxOptions

__all__ = ["app_armor_profile", "localhost_seccomp_profile", "run_as", "security_settings"]

#: Before 1.30 AppArmor profiles were annotations.
_APP_ARMOR: Final = "container.apparmor.security.beta.kubernetes.io/"


def run_as(pod: Pod, container: Container, image_user: str) -> str:
    """``user``, ``user:group`` or empty for the image's own; the container's settings before the pod's."""
    context = effective_security_context(pod, container)
    user, group = context.run_as_user, context.run_as_group
    if user is None and group is None:
        return ""
    if group is None:
        return str(user)
    return f"{image_user.partition(':')[0] or '0' if user is None else user}:{group}"


def localhost_seccomp_profile(pod: Pod, container: Container) -> str | None:
    """The name of the file that must be loaded for ``security_settings``, if one must."""
    profile = effective_security_context(pod, container).seccomp_profile
    return profile.localhost_profile if profile is not None and profile.type == "Localhost" else None


def app_armor_profile(pod: Pod, container: Container) -> str | None:
    """``unconfined``, a profile's name, ``runtime/default``, or None if nothing is said."""
    profile = effective_security_context(pod, container).app_armor_profile
    if profile is not None:
        kinds = {"Unconfined": "unconfined", "RuntimeDefault": "runtime/default"}
        return kinds.get(profile.type, profile.localhost_profile or "")
    said = (pod.metadata.annotations or {}).get(_APP_ARMOR + container.name)
    return None if said is None else said.removeprefix("localhost/")


def security_settings(
    pod: Pod, container: Container, *, podman: bool, seccomp_profile: str | None = None
) -> dict[str, Any]:
    """The part of ``HostConfig`` that restrains a container.

    A pod that names no seccomp profile gets the engine's default one (a kubelet's ``seccompDefault: true``).

    Args:
        seccomp_profile: for ``Localhost``: its JSON for Docker, its path for Podman.
    """
    own = effective_security_context(pod, container)
    options = []
    if own.allow_privilege_escalation is False:
        options.append("no-new-privileges")
    if not own.privileged:
        if own.seccomp_profile is not None and own.seccomp_profile.type == "Unconfined":
            options.append("seccomp=unconfined")
        elif seccomp_profile is not None:
            options.append(f"seccomp={seccomp_profile}")
        app_armor = app_armor_profile(pod, container)
        if app_armor and app_armor != "runtime/default":
            options.append(f"apparmor={app_armor}")
    options += _selinux(own.se_linux_options)
    settings: dict[str, Any] = {
        "Privileged": own.privileged is True,
        "ReadonlyRootfs": own.read_only_root_filesystem is True,
        "CapAdd": _capabilities(own.capabilities.add if own.capabilities else None),
        "CapDrop": _capabilities(own.capabilities.drop if own.capabilities else None),
    }
    if own.proc_mount == "Unmasked":
        if podman:
            options.append("unmask=ALL")
        else:
            settings["MaskedPaths"], settings["ReadonlyPaths"] = [], []
    settings["SecurityOpt"] = options
    return settings


def _capabilities(names: list[str] | None) -> list[str]:
    return [name.upper().removeprefix("CAP_") for name in names or ()]


def _selinux(options: SELinuxOptions | None) -> list[str]:
    if options is None:
        return []
    parts = (("user", options.user), ("role", options.role), ("type", options.type), ("level", options.level))
    return [f"label={name}:{value}" for name, value in parts if value]
