"""Where things are."""

from __future__ import annotations

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
#: Recordings of a real API server and a real kubelet; beside the repository, in CI too.
SHARED = REPOSITORY.parent / "shared"
