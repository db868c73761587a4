"""A user's word on errors of status writes: the Go framework's ``WithNodeStatusUpdateErrorHandler``."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable

__all__ = ["StatusErrorHandler", "ask_handler"]

#: Takes the error of a status write. Returning means "handled": the write is tried once more. Raising means it is not.
StatusErrorHandler = Callable[[Exception], Awaitable[None] | None]


async def ask_handler(handler: StatusErrorHandler, error: Exception, *, timeout: float) -> Exception | None:
    """None if the handler took care of it; else what it raised, or ``TimeoutError`` after so many seconds."""
    try:
        async with asyncio.timeout(timeout):
            answer = handler(error)
            if inspect.isawaitable(answer):
                await answer
    except Exception as raised:  # noqa: BLE001 - returned, and the caller reports it
        return raised
    return None
