"""Faults on request: what a client must survive, for tests of nodes and providers.

    cluster.faults.add(Fault.status(429, retry_after=1), verb="list", resource="pods", times=2)
    cluster.faults.drop_watches("pods")

A fault acts on the requests it matches, the first ``times`` of them; several act in the order they were added, each
request meets one at most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Final

from virtual_kubelet.devcluster.active_faults import ActiveFaults, InjectedFault
from virtual_kubelet.devcluster.request_info import RequestInfo
from virtual_kubelet.devcluster.statuses import StatusError, expired

__all__ = ["Fault", "FaultKind", "Faults", "InjectedFault"]

_REASONS: Final = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class FaultKind(Enum):
    """What a fault does to a request.

    Attributes:
        STATUS: answers with an error instead of doing what was asked.
        DELAY: waits, then serves the request.
        STALL: accepts the request and never answers; of a watch: sends the headers and nothing more.
        DROP: cuts the connection; of a watch: after its next event.
        LOSE_ANSWER: does what was asked, and cuts the connection instead of answering.
        EXPIRE: of a watch: an ERROR event 410 inside the stream; else 410.
        MALFORMED: answers with bytes that are no JSON; of a watch: a line of them.
    """

    STATUS = "status"
    DELAY = "delay"
    STALL = "stall"
    DROP = "drop"
    LOSE_ANSWER = "lose-answer"
    EXPIRE = "expire"
    MALFORMED = "malformed"


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of trouble; make it with the class methods."""

    kind: FaultKind
    error: StatusError | None = None
    seconds: float = 0.0
    body: bytes = b""

    @classmethod
    def status(cls, code: int, *, message: str = "injected fault", retry_after: int | None = None) -> Fault:
        """An error answer; ``retry_after`` (seconds) becomes the header and ``details.retryAfterSeconds``."""
        details = {"retryAfterSeconds": retry_after} if retry_after is not None else None
        headers = [("Retry-After", str(retry_after))] if retry_after is not None else []
        return cls(FaultKind.STATUS, StatusError(code, _REASONS.get(code, ""), message, details, headers))

    @classmethod
    def delay(cls, seconds: float) -> Fault:
        return cls(FaultKind.DELAY, seconds=seconds)

    @classmethod
    def stall(cls) -> Fault:
        return cls(FaultKind.STALL)

    @classmethod
    def drop(cls) -> Fault:
        return cls(FaultKind.DROP)

    @classmethod
    def lose_answer(cls) -> Fault:
        return cls(FaultKind.LOSE_ANSWER)

    @classmethod
    def expire(cls) -> Fault:
        return cls(FaultKind.EXPIRE, expired("too old resource version: injected fault"))

    @classmethod
    def malformed(cls, body: bytes = b'{"type":"MODIFIED","object":{"kind":') -> Fault:
        return cls(FaultKind.MALFORMED, body=body)


class Faults:
    """The faults of one cluster; all methods may be called while it serves."""

    def __init__(self, on_watches: Callable[[str, FaultKind], int], compact: Callable[[str], None]) -> None:
        """``on_watches``: does something to the open watches of a resource; ``compact``: forgets its history."""
        self._active: ActiveFaults[Fault] = ActiveFaults()
        self._on_watches = on_watches
        self._compact = compact

    def add(
        self,
        fault: Fault,
        *,
        verb: str = "",
        resource: str = "",
        namespace: str = "",
        name: str = "",
        user: str = "",
        times: int | None = 1,
    ) -> InjectedFault[Fault]:
        """Put ``fault`` in the way of requests that match; what is empty matches all.

        Args:
            verb: as in authorization: ``get``, ``list``, ``watch``, ``create``, ``update``, ``patch``, ``delete`` …
            resource: ``pods`` or, with its subresource, ``pods/status``.
            user: only requests of this user.
            times: after so many requests it is gone; None: never.
        """
        match = {"verb": verb, "resource": resource, "namespace": namespace, "name": name, "user": user}
        return self._active.put(fault, match, times)

    @contextmanager
    def during(self, fault: Fault, **match: str) -> Iterator[InjectedFault[Fault]]:
        """``fault`` for all requests that match, inside the ``with`` block."""
        with self.add(fault, times=None, **match) as injected:
            yield injected

    def clear(self) -> None:
        """All faults away; streams that are stalled stay so."""
        self._active.clear()

    @property
    def active(self) -> bool:
        """Whether there is any fault that requests may meet."""
        return bool(self._active)

    def meet(self, info: RequestInfo, user: str) -> Fault | None:
        """The fault that acts on this request, which uses it up by one."""
        if not self._active:
            return None
        return self._active.meet(
            verb=info.verb, resource=info.full_resource, namespace=info.namespace, name=info.name, user=user
        )

    def drop_watches(self, resource: str = "") -> int:
        """Cut the open watches of ``resource`` (of all). Returns how many."""
        return self._on_watches(resource, FaultKind.DROP)

    def stall_watches(self, resource: str = "") -> int:
        """The open watches send nothing more, and stay open: half-open connections. Returns how many."""
        return self._on_watches(resource, FaultKind.STALL)

    def expire_watches(self, resource: str = "") -> int:
        """The open watches end with an ERROR event 410. Returns how many."""
        return self._on_watches(resource, FaultKind.EXPIRE)

    def malform_watches(self, resource: str = "") -> int:
        """The open watches send a line that is no JSON. Returns how many."""
        return self._on_watches(resource, FaultKind.MALFORMED)

    def compact(self, resource: str = "") -> None:
        """Forget history, as etcd's compaction does: older resourceVersions and continue tokens answer 410."""
        self._compact(resource)
