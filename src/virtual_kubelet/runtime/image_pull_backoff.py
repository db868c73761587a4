"""When a pull of an image that failed is tried again: the kubelet's back-off of one image for one pod. Pure; time is given.

As client-go's util/flowcontrol/backoff.go with the kubelet's numbers: 10 s after the first failure, doubling to 300 s; twice
the longest without a failure begins it anew. A pull that succeeds does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

__all__ = ["IMAGE_BACKOFF_CAP", "IMAGE_BACKOFF_INITIAL", "FailedPull", "PullBackoff"]

#: Seconds; ``MaxImageBackOff`` of pkg/kubelet/kubelet.go, and where it begins.
IMAGE_BACKOFF_INITIAL: Final = 10.0
IMAGE_BACKOFF_CAP: Final = 300.0


class _Key(NamedTuple):
    uid: str
    image: str


@dataclass(slots=True)
class FailedPull:
    """The last failure of one image for one pod.

    Attributes:
        why: reason and message.
        at: monotonic time of the failure.
        delay: seconds from then to the next try.
        told: that it is backed off has been told.
    """

    why: tuple[str, str]
    at: float
    delay: float
    told: bool = False

    @property
    def over(self) -> float:
        """Monotonic time of the next try."""
        return self.at + self.delay


class PullBackoff:
    """By pod (its UID) and image."""

    def __init__(self, initial: float = IMAGE_BACKOFF_INITIAL, cap: float = IMAGE_BACKOFF_CAP) -> None:
        if not 0 < initial <= cap:
            raise ValueError("an image back-off must be positive, and not longer than its cap")
        self._initial = initial
        self._cap = cap
        self._failures: dict[_Key, FailedPull] = {}

    def __len__(self) -> int:
        return len(self._failures)

    def waiting(self, uid: str, image: str, now: float) -> FailedPull | None:
        """The failure whose back-off is not over yet."""
        failed = self._failures.get(_Key(uid, image))
        return failed if failed is not None and now < failed.over else None

    def failed(self, uid: str, image: str, why: tuple[str, str], now: float) -> FailedPull:
        """A pull has just failed."""
        before = self._failures.get(_Key(uid, image))
        delay = self._initial
        if before is not None and now - before.at <= 2 * self._cap:
            delay = min(self._cap, before.delay * 2)
        failed = self._failures[_Key(uid, image)] = FailedPull(why, now, delay)
        return failed

    def forget(self, uid: str) -> None:
        """The pod is gone."""
        for key in [key for key in self._failures if key.uid == uid]:
            del self._failures[key]
