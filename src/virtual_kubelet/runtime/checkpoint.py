"""Pods on disk, so that an engine that is made anew knows them: one file a pod, written atomically, mode 0600.

A file holds the pod as it was given, its resolved environment included: the folder is the user's alone.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.objects.core_v1 import Pod
from virtual_kubelet.objects.times import format_micro_time, parse_time
from virtual_kubelet.telemetry.logs import get_logger

__all__ = ["PodCheckpoints"]

log = get_logger(__name__)


class _Checkpoint(msgspec.Struct):
    version: int
    start_time: str
    pod: Pod


class PodCheckpoints:
    """Blocking: call it in a thread."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def save(self, pod: Pod, start_time: datetime) -> None:
        """Raises ``OSError``, such as for a full disk; what was there before stays."""
        data = msgspec.json.encode(_Checkpoint(1, format_micro_time(start_time), pod))
        handle, temporary = tempfile.mkstemp(dir=self._directory, prefix=".writing-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self._path(PodKey.of(pod)))
        except BaseException:
            os.unlink(temporary)
            raise

    def remove(self, key: PodKey) -> None:
        self._path(key).unlink(missing_ok=True)

    def load(self) -> Sequence[tuple[Pod, datetime]]:
        """All pods. One that cannot be read is left where it is and said."""
        found = []
        for path in sorted(self._directory.glob("*.json")):
            try:
                checkpoint = msgspec.json.decode(path.read_bytes(), type=_Checkpoint)
                found.append((checkpoint.pod, parse_time(checkpoint.start_time)))
            except (OSError, msgspec.DecodeError, ValueError) as error:
                # The error's text could quote the pod's environment.
                log.error("the checkpoint %s cannot be read (%s): its pod is not adopted", path, type(error).__name__)
        return found

    def _path(self, key: PodKey) -> Path:
        return self._directory / f"{key.uid}.json"
