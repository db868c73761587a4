"""What takes the place of a transport that is gone."""

from __future__ import annotations

import asyncio
from typing import Any, Final

__all__ = ["CLOSED"]


class _ClosedTransport(asyncio.Transport):
    """Says that it is closing, and does nothing.

    A transport with TLS holds some 300 KiB. What is left of its connection may be part of a cycle (an exception and its
    traceback are one) and live until the garbage collector comes by, which counts objects and knows nothing of buffers.
    """

    def is_closing(self) -> bool:
        return True

    def close(self) -> None: ...

    def abort(self) -> None: ...

    def write(self, data: Any) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0


CLOSED: Final = _ClosedTransport()
