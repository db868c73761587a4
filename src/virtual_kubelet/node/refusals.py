"""What the API server does not let this node write: said once, remembered, left out from then on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from virtual_kubelet.errors import ApiError, ForbiddenError
from virtual_kubelet.objects.core_v1 import ObjectReference
from virtual_kubelet.telemetry.logs import get_logger

__all__ = ["NodeEventRecorder", "Refusals"]

log = get_logger(__name__)


class NodeEventRecorder(Protocol):
    """Records an event; never blocks (``kube.events.EventRecorder``)."""

    def event(self, involved: ObjectReference, event_type: str, reason: str, message: str) -> None: ...


class Refusals:
    """The values that were refused, by part of the Node and key.

    A value that changes is tried again; all are when the Node is another object (``forget``).

    Args:
        tell: records an event on the Node: type, reason, message.
    """

    def __init__(self, tell: Callable[[str, str, str], None]) -> None:
        self._tell = tell
        self._refused: dict[tuple[str, str], object] = {}

    def forget(self) -> None:
        """Everything may be tried again."""
        self._refused.clear()

    def refuses(self, part: str, key: str, value: object) -> bool:
        """Whether this very value was refused."""
        place = (part, key)
        return place in self._refused and self._refused[place] == value

    def add(self, part: str, values: Mapping[str, object], error: ApiError) -> None:
        """Remember what was refused; of each key say so once, in the log and in an event."""
        said = all((part, key) in self._refused for key in values)
        self._refused.update({(part, key): value for key, value in values.items()})
        if said:
            log.debug("refused again: %s", error)
            return
        names = ", ".join(sorted(key for key in values if key))
        what = f"{part} {names}" if names else part
        verb = "is not allowed to" if isinstance(error, ForbiddenError) else "cannot"
        message = f"this node {verb} write its {what}, and goes on without: {error}"
        # A label is a convenience, and each kubelet's identity is refused some; a taint that is missing lets pods in.
        minor = part == "labels" and isinstance(error, ForbiddenError)
        log.log(logging.INFO if minor else logging.WARNING, "%s", message)
        self._tell("Normal" if minor else "Warning", "NodeUpdateRefused", message)
