"""A clock that moves when it is told to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from virtual_kubelet import Clock
from virtual_kubelet.testing import FakeClock


def test_it_stands_still_until_it_is_told() -> None:
    clock: Clock = FakeClock()
    assert (clock.now(), clock.monotonic()) == (clock.now(), clock.monotonic())
    assert isinstance(clock, FakeClock)
    wall, since = clock.now(), clock.monotonic()
    clock.advance(90)
    assert clock.now() - wall == timedelta(seconds=90)
    assert clock.monotonic() - since == 90


def test_a_wall_clock_that_jumps_moves_no_monotonic_time() -> None:
    clock = FakeClock(datetime(2026, 5, 1, 12, tzinfo=timezone(timedelta(hours=2))), monotonic=5)
    assert clock.now() == datetime(2026, 5, 1, 10, tzinfo=UTC)
    clock.jump(-3600)
    assert (clock.now().hour, clock.monotonic()) == (9, 5)


def test_what_a_clock_cannot_do_is_refused() -> None:
    with pytest.raises(ValueError, match="backward"):
        FakeClock().advance(-1)
    with pytest.raises(ValueError, match="time zone"):
        FakeClock(datetime(2026, 1, 1))
