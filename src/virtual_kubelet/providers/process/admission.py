"""What a pod may ask of plain processes. Pure: refuses with the field's name what would otherwise be half-run."""

from __future__ import annotations

from typing import Final

from virtual_kubelet import InvalidInputError
from virtual_kubelet.objects.core_v1 import Container, Pod, Volume

__all__ = ["check_pod"]

_SERVICE_ACCOUNT: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
_REASON: Final = "UnsupportedPodSpec"


def check_pod(pod: Pod) -> None:
    """Raise ``InvalidInputError`` for the first field that cannot be honoured."""
    spec = pod.spec
    containers = [("initContainers", c) for c in spec.init_containers or ()] + [
        ("containers", c) for c in spec.containers
    ]
    mounts = {m.name: m.mount_path for _, c in containers for m in c.volume_mounts or ()}
    for volume in spec.volumes or ():
        if not _is_service_account(volume, mounts.get(volume.name)):
            raise _refused(f"spec.volumes[{volume.name}]", "the process provider has no volumes yet")
    for field, container in containers:
        _check_container(f"spec.{field}[{container.name}]", container)
    if spec.ephemeral_containers:
        raise _refused("spec.ephemeralContainers", "the process provider has none")


def _is_service_account(volume: Volume, path: str | None) -> bool:
    """The volume that a real API server puts into every pod: ignored until volumes exist."""
    token = volume.projected is not None and volume.name.startswith("kube-api-access-")
    legacy = volume.secret is not None and path == _SERVICE_ACCOUNT
    return token or legacy


def _check_container(field: str, container: Container) -> None:
    if container.volume_devices:
        raise _refused(f"{field}.volumeDevices", "the process provider does not do this yet")
    if container.restart_policy:
        raise _refused(f"{field}.restartPolicy", "the process provider has no sidecars yet")
    context = container.security_context
    if context is not None and (context.capabilities is not None or context.read_only_root_filesystem):
        shown = "capabilities" if context.capabilities is not None else "readOnlyRootFilesystem"
        raise _refused(f"{field}.securityContext.{shown}", "a process of this machine is not isolated")


def _refused(field: str, why: str) -> InvalidInputError:
    return InvalidInputError(f"{field}: {why}", reason=_REASON)
