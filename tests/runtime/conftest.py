from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import pytest

T = TypeVar("T")


@pytest.fixture(autouse=True)
def no_threads_in_virtual_time(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where time is virtual it would run on while a thread works: what blocks is done in the loop there."""
    if request.node.get_closest_marker("looptime") is None:
        return

    async def at_once(function: Callable[..., T], *args: object, **kwargs: object) -> T:
        return function(*args, **kwargs)

    monkeypatch.setattr(asyncio, "to_thread", at_once)
