"""To whom the files of a pod's volumes belong: ``fsGroup`` and ``runAsUser``. Pure.

Kubernetes source: FsUserFrom in pkg/volume/util/util.go, SetVolumeOwnership in pkg/volume/volume_linux.go.
"""

from __future__ import annotations

from typing import Final

from virtual_kubelet.objects.core_v1 import Pod

__all__ = ["READ_ONLY_BITS", "WRITABLE_BITS", "file_owner", "volume_group"]

#: What ``fsGroup`` adds to the mode of what it owns: in volumes that only the node writes, and in others. Directories get
#: 0o110 and the set-group-ID bit besides.
READ_ONLY_BITS: Final = 0o440
WRITABLE_BITS: Final = 0o660


def volume_group(pod: Pod) -> int | None:
    """The pod's ``fsGroup``."""
    context = pod.spec.security_context
    return context.fs_group if context is not None else None


def file_owner(pod: Pod) -> int | None:
    """The one user as which all containers of the pod run; None if they do not say, or differ.

    Ephemeral containers do not count: they may have no security context.
    """
    common = pod.spec.security_context.run_as_user if pod.spec.security_context is not None else None
    users = set()
    for container in (*(pod.spec.init_containers or ()), *pod.spec.containers):
        own = container.security_context.run_as_user if container.security_context is not None else None
        users.add(common if own is None else own)
    return users.pop() if len(users) == 1 else None
