"""What a pod is configured by besides its spec: ConfigMaps, Secrets, and the files of its volumes.

A provider that runs containers by itself writes the files where its containers see them, or hands the objects to its
backend: ``ProviderContext.read_configuration`` when a pod is created, ``ConfigurationWatcher`` when something has changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from virtual_kubelet.objects.core_v1 import ConfigMap, Pod, Secret

__all__ = ["ConfigurationWatcher", "PodConfiguration", "VolumeContents", "VolumeFile"]


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


@dataclass(frozen=True, slots=True)
class PodConfiguration:
    """All that a pod refers to, as it is now; no value is shown in ``repr``.

    Attributes:
        config_maps, secrets: by name, in the pod's namespace; None: there is no such object (any more).
        volumes: the files of ``configMap``, ``secret``, ``downwardAPI`` and ``projected`` volumes that a container mounts,
            with service account tokens; by the volume's name.
    """

    config_maps: Mapping[str, ConfigMap | None] = field(repr=False)
    secrets: Mapping[str, Secret | None] = field(repr=False)
    volumes: Mapping[str, VolumeContents]


@runtime_checkable
class ConfigurationWatcher(Protocol):
    """A provider that wants to know when what a pod refers to has changed.

    Its pods are not created before what their volumes refer to is there: until then the node says why by ``FailedMount``
    events, as a kubelet does.
    """

    async def update_configuration(self, pod: Pod, configuration: PodConfiguration) -> None:
        """Bring the deployed pod's files, or whatever the provider made of them, up to date.

        Called when the content has changed since the pod was created or this was last called: an edited ConfigMap or
        Secret, a renewed token, a label that a downward API volume shows; and once for a pod that was running when the node
        began. Variables of a running container do not change. Errors as of ``update_pod``: tried again with back-off.
        """
        ...
