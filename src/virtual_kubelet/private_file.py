"""Files that only this user may read, replaced at once."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

__all__ = ["write_privately"]


def write_privately(path: Path, data: bytes) -> None:
    """Write ``data`` with mode 0600; whoever reads meanwhile, and whoever comes after a crash, finds the old or the new.

    Its folder is made if need be, with mode 0700. Blocking. Raises ``OSError``; what was there before then stays.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
