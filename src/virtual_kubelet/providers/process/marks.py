"""The numbers by which processes are known to be a container's, or a command's in it: see ``process_tree``.

Standard library only, and little of that: each command in a container begins with it.
"""

from __future__ import annotations

import os
import resource

__all__ = ["new_command_mark", "new_mark", "set_mark"]

_HIGHEST_MARK = 1 << 62
_MARKS = 1 << 48


def new_mark() -> int:
    """A number that no other container has. Raises ``OSError`` where the limit is low already, and cannot be raised."""
    hard = resource.getrlimit(resource.RLIMIT_RSS)[1]
    highest = _HIGHEST_MARK if hard == resource.RLIM_INFINITY else min(hard, _HIGHEST_MARK)
    if highest <= _MARKS:
        raise OSError(0, f"the limit of resident memory is {highest} bytes: containers' processes cannot be marked")
    return highest - _number(_MARKS)


def new_command_mark(mark: int) -> int:
    """A number for one command in the container with this mark."""
    return mark - _number(_MARKS >> 8)


def set_mark(mark: int, command_mark: int | None = None) -> None:
    """Mark this process, and all that will come of it."""
    resource.setrlimit(resource.RLIMIT_RSS, (mark if command_mark is None else command_mark, mark))


def _number(below: int) -> int:
    """From 1."""
    return 1 + int.from_bytes(os.urandom(8), "big") % (below - 1)
