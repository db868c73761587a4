"""What counts as bytes here."""

from __future__ import annotations

from typing import TypeAlias

__all__ = ["Buffer"]

#: Payload is passed on without copying: a view of what was received, or what the caller gave.
Buffer: TypeAlias = bytes | bytearray | memoryview
