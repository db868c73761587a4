"""What a check raises: that its promise is broken, that it cannot be made here, that this is not offered."""

from __future__ import annotations

from virtual_kubelet.testing.cluster_user import NotSeenError

__all__ = ["NotOfferedError", "NotRunError", "PromiseBrokenError", "expect"]


class PromiseBrokenError(NotSeenError):
    """The promise does not hold: what was ``expected``, and what was ``seen``."""


class NotRunError(Exception):
    """The check cannot be made here; the message says why."""


class NotOfferedError(Exception):
    """The node says clearly that it does not do this; the message is what it says."""


def expect(holds: object, expected: str, seen: object) -> None:
    """Raise ``PromiseBrokenError`` unless it holds."""
    if not holds:
        raise PromiseBrokenError(expected, str(seen))
