"""What becomes of an event: written, counted up on an earlier one, combined with similar ones, or dropped. Pure.

The rules are client-go's (tools/record/events_cache.go): from the 10th on, events that differ from each other only in their
message, with pauses of at most 600 s, become one; equal ones become a count; a token bucket an object is against spam (25,
one more each 300 s), and what it drops is in the count of the next one that is written.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from virtual_kubelet.objects.core_v1 import ObjectReference

__all__ = ["Correlated", "EventCorrelator"]

V = TypeVar("V")

_COMBINED: Final = "(combined from similar events): "


class Correlated(NamedTuple):
    """``key`` is equal for events that are counted together, so far ``times``; ``message`` may be marked as combined."""

    key: tuple[str, ...]
    message: str
    times: int


@dataclass(slots=True)
class _Spam:
    tokens: float
    at: float


@dataclass(slots=True)
class _Similar:
    messages: set[str]
    at: float


class EventCorrelator:
    """Remembers what was said lately, for at most ``objects`` objects and kinds of event.

    Args:
        burst, refill: events an object may have at once, and seconds for one more.
        similar, window: the so-manieth event that differs in its message only is combined; a longer pause than so many
            seconds forgets.
        objects: bound on what is remembered, oldest forgotten first (client-go: 4096).
    """

    def __init__(
        self, *, burst: int = 25, refill: float = 300.0, similar: int = 10, window: float = 600.0, objects: int = 4096
    ) -> None:
        self._burst, self._refill, self._similar, self._window, self._objects = burst, refill, similar, window, objects
        self._spam: OrderedDict[tuple[str, ...], _Spam] = OrderedDict()
        self._groups: OrderedDict[tuple[str, ...], _Similar] = OrderedDict()
        self._times: OrderedDict[tuple[str, ...], int] = OrderedDict()

    def correlate(
        self, involved: ObjectReference, event_type: str, reason: str, message: str, now: float
    ) -> Correlated | None:
        """What to write, or None if this object has had too many. ``now`` is monotonic seconds."""
        subject = (involved.kind or "", involved.namespace or "", involved.name or "", involved.uid or "")
        key, message = self._similar_as(subject, involved, event_type, reason, message, now)
        times = self._times[key] = self._times.get(key, 0) + 1
        _touch(self._times, key, self._objects)
        return Correlated(key, message, times) if self._within_burst(subject, now) else None

    def _similar_as(
        self,
        subject: tuple[str, ...],
        involved: ObjectReference,
        event_type: str,
        reason: str,
        message: str,
        now: float,
    ) -> tuple[tuple[str, ...], str]:
        group = (*subject, involved.field_path or "", event_type, reason)
        similar = self._groups.get(group)
        if similar is None or now - similar.at > self._window:
            similar = self._groups[group] = _Similar(set(), now)
        similar.at = now
        _touch(self._groups, group, self._objects)
        if message not in similar.messages:
            if len(similar.messages) >= self._similar - 1:  # client-go combines the tenth already
                return group, _COMBINED + message
            similar.messages.add(message)
        return (*group, message), message

    def _within_burst(self, subject: tuple[str, ...], now: float) -> bool:
        spam = self._spam.get(subject)
        if spam is None:
            spam = self._spam[subject] = _Spam(self._burst, now)
        spam.tokens = min(self._burst, spam.tokens + (now - spam.at) / self._refill)
        spam.at = now
        _touch(self._spam, subject, self._objects)
        if spam.tokens < 1:
            return False
        spam.tokens -= 1
        return True


def _touch(table: OrderedDict[tuple[str, ...], V], key: tuple[str, ...], size: int) -> None:
    table.move_to_end(key)
    if len(table) > size:
        table.popitem(last=False)
