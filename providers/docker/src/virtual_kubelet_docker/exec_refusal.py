"""Tells a command that could not be started from one that ran: engines say it as output and an exit code. Pure.

Docker writes ``OCI runtime exec failed: …`` to stdout and gives 126, Podman writes ``Error: … OCI …`` to stderr and gives
126 or 127. What could become such a text is held back until more is known.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

__all__ = ["ExecRefusal"]

_CODES: Final = (126, 127)
_BEGINNINGS: Final = (b"OCI runtime exec failed: ", b"Error: ")
_TEXT: Final = re.compile(
    rb"(?:OCI runtime exec failed: |Error: (?:runc|crun): )(?:exec failed: )?(?P<why>[^\n]*?)"
    rb"(?:: unknown|: OCI runtime attempted to invoke a command that was not found|: OCI permission denied)?\r?\n"
)
#: Bytes. Longer output is a command's own.
_LONGEST: Final = 8192


class ExecRefusal:
    """Feed it all output in order; pass on what it gives."""

    def __init__(self) -> None:
        self._held: list[tuple[int, bytes]] = []
        self._size = 0
        self._holding = True

    def take(self, output: int, data: bytes) -> Iterator[tuple[int, bytes]]:
        if self._holding:
            self._held.append((output, data))
            self._size += len(data)
            text = self._text()
            self._holding = self._size < _LONGEST and any(
                text.startswith(one) or one.startswith(text[: len(one)]) for one in _BEGINNINGS
            )
            if self._holding:
                return
            yield from self.withheld()
        else:
            yield output, data

    def reason(self, code: int) -> str:
        """Why it was not started, in a kubelet's words; empty if it was."""
        match = _TEXT.match(self._text()) if self._holding and code in _CODES else None
        if match is None:
            return ""
        return "OCI runtime exec failed: exec failed: " + match["why"].decode(errors="replace")

    def withheld(self) -> list[tuple[int, bytes]]:
        """What is still held, which is the command's own output after all."""
        held, self._held = self._held, []
        return held

    def _text(self) -> bytes:
        return b"".join(data for _, data in self._held)
