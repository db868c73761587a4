"""Pods on disk, so that an engine that is made anew knows them: one file a pod, written atomically, mode 0600.

A file holds all that the engine knows of the pod, its resolved environment included: the folder is the user's alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from virtual_kubelet.private_file import write_privately
from virtual_kubelet.runtime.pod_state import Now, PodState
from virtual_kubelet.telemetry.logs import get_logger

__all__ = ["PodCheckpoints"]

log = get_logger(__name__)

_VERSION = 2


class _Checkpoint(msgspec.Struct):
    """``monotonic`` and ``wall``: when it was written, on the clock of its writer and on everybody's."""

    version: int
    state: PodState
    monotonic: float
    wall: datetime


class PodCheckpoints:
    """Blocking but for ``encode`` and ``seal``: call it in a thread."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    @staticmethod
    def encode(state: PodState, now: Now) -> bytes:
        """What ``save`` writes."""
        return PodCheckpoints.seal(msgspec.json.encode(state), now)

    @staticmethod
    def seal(state: bytes, now: Now) -> bytes:
        """The same, of a state that is JSON already."""
        shown = {"version": _VERSION, "state": msgspec.Raw(state), "monotonic": now.monotonic, "wall": now.wall}
        return msgspec.json.encode(shown)

    def save(self, uid: str, content: bytes) -> None:
        """Raises ``OSError``, such as for a full disk; what was there before stays."""
        write_privately(self._path(uid), content)

    def remove(self, uid: str) -> None:
        self._path(uid).unlink(missing_ok=True)

    def load(self, now: Now) -> Sequence[PodState]:
        """All pods, their times on the clock of ``now``. One that cannot be read is left where it is and said."""
        found = []
        for path in sorted(self._directory.glob("*.json")):
            try:
                checkpoint = msgspec.json.decode(path.read_bytes(), type=_Checkpoint)
                if checkpoint.version != _VERSION:
                    raise ValueError(f"version {checkpoint.version}")
            except (OSError, msgspec.DecodeError, ValueError) as error:
                # The error's text could quote the pod's environment.
                log.error("the checkpoint %s cannot be read (%s): its pod is not adopted", path, type(error).__name__)
                continue
            # A wall clock that was set back must not make time run backward.
            passed = max(0.0, (now.wall - checkpoint.wall).total_seconds())
            checkpoint.state.shift(now.monotonic - passed - checkpoint.monotonic)
            found.append(checkpoint.state)
        return found

    def _path(self, uid: str) -> Path:
        return self._directory / f"{uid}.json"
