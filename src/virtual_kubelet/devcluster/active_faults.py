"""Faults in place: which of them acts on a request or call, and how often. What a fault does is its user's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

__all__ = ["ActiveFaults", "InjectedFault"]

F = TypeVar("F")


@dataclass(slots=True, eq=False)
class InjectedFault(Generic[F]):
    """A fault in place. ``met`` counts what it acted on; ``remove``, or the end of its ``with`` block, takes it away.

    Attributes:
        match: what it acts on, by field; an empty value matches all.
        left: how often it still acts; None: always.
    """

    fault: F
    match: dict[str, str]
    left: int | None
    faults: ActiveFaults[F] = field(repr=False)
    met: int = 0

    def remove(self) -> None:
        """No more; nothing happens if it has worn out already."""
        self.faults.discard(self)

    def __enter__(self) -> InjectedFault[F]:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.remove()


class ActiveFaults(Generic[F]):
    """In the order in which they were put in place; what is met meets the first that matches."""

    def __init__(self) -> None:
        self._active: list[InjectedFault[F]] = []

    def __bool__(self) -> bool:
        return bool(self._active)

    def put(self, fault: F, match: dict[str, str], times: int | None) -> InjectedFault[F]:
        injected = InjectedFault(fault, match, times, self)
        self._active.append(injected)
        return injected

    def discard(self, injected: InjectedFault[F]) -> None:
        if injected in self._active:
            self._active.remove(injected)

    def clear(self) -> None:
        self._active.clear()

    def meet(self, **met: str) -> F | None:
        """The fault that acts on this, which uses it up by one."""
        for injected in self._active:
            if all(value in ("", met[name]) for name, value in injected.match.items()):
                injected.met += 1
                if injected.left is not None:
                    injected.left -= 1
                    if injected.left <= 0:
                        self._active.remove(injected)
                return injected.fault
        return None
