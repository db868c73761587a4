"""What a pod is configured by besides its spec: the contents of its volumes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["VolumeContents", "VolumeFile"]


@dataclass(frozen=True, slots=True)
class VolumeFile:
    """One file of a volume; what is in it is not shown in ``repr``.

    Attributes:
        mode: permission bits, those that the pod's ``fsGroup`` adds included.
        owner: the user it belongs to; None: whoever writes it (root, on a kubelet).
    """

    data: bytes = field(repr=False)
    mode: int
    owner: int | None = None


@dataclass(frozen=True, slots=True)
class VolumeContents:
    """The files of a ``configMap``, ``secret``, ``downwardAPI`` or ``projected`` volume.

    Attributes:
        files: by their path in the volume: relative, clean, never with ``..``, and none below another.
        group: the group that files and directories belong to: the pod's ``fsGroup``.
    """

    files: Mapping[str, VolumeFile]
    group: int | None = None
