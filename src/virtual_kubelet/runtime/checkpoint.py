"""Pods on disk, so that an engine that is made anew knows them: one file a pod, written atomically, mode 0600.

A file holds the pod as it was given, its resolved environment included: the folder is the user's alone. Of its runs it
holds what the containers themselves do not tell: back-off, runs that failed before there was a container.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.contracts.runtime import ContainerExit
from virtual_kubelet.objects.core_v1 import Pod, PodCondition
from virtual_kubelet.private_file import write_privately
from virtual_kubelet.telemetry.logs import get_logger

__all__ = ["PodCheckpoint", "PodCheckpoints", "RunCheckpoint"]

log = get_logger(__name__)


class RunCheckpoint(msgspec.Struct):
    """A container's newest run, and the one before: see ``ContainerView``."""

    attempts: int
    backoff: float  # seconds
    id: str
    started_at: datetime | None
    exit: ContainerExit | None
    last_id: str
    last_started: datetime | None
    last: ContainerExit | None
    image: str = ""
    replace: bool = False


class PodCheckpoint(msgspec.Struct):
    """``failure``: reason and message, if the engine itself has ended the pod. ``runs``: by the container's name.

    ``conditions``: as last reported, for the times of their last transitions.
    """

    pod: Pod
    start_time: datetime
    failure: tuple[str, str] | None = None
    runs: dict[str, RunCheckpoint] = {}
    conditions: list[PodCondition] = []
    version: int = 1


class PodCheckpoints:
    """Blocking: call it in a thread."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def save(self, checkpoint: PodCheckpoint) -> None:
        """Raises ``OSError``, such as for a full disk; what was there before stays."""
        write_privately(self._path(PodKey.of(checkpoint.pod)), msgspec.json.encode(checkpoint))

    def remove(self, key: PodKey) -> None:
        self._path(key).unlink(missing_ok=True)

    def load(self) -> Sequence[PodCheckpoint]:
        """All pods. One that cannot be read is left where it is and said."""
        found = []
        for path in sorted(self._directory.glob("*.json")):
            try:
                found.append(msgspec.json.decode(path.read_bytes(), type=PodCheckpoint))
            except (OSError, msgspec.DecodeError, ValueError) as error:
                # The error's text could quote the pod's environment.
                log.error("the checkpoint %s cannot be read (%s): its pod is not adopted", path, type(error).__name__)
        return found

    def _path(self, key: PodKey) -> Path:
        return self._directory / f"{key.uid}.json"
