"""One object read for an environment or a volume: there, not there, or not to be read."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from virtual_kubelet.environment.resolution import ReadFailure
from virtual_kubelet.errors import ApiConnectionError, ApiError, ApiNotFoundError

__all__ = ["read_object"]

T = TypeVar("T")


async def read_object(call: Awaitable[T]) -> T | ReadFailure | None:
    """What the call gives; None if there is no such object."""
    try:
        return await call
    except ApiNotFoundError:
        return None
    except (ApiError, ApiConnectionError) as error:
        return ReadFailure(str(error))
