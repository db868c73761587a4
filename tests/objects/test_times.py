from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtual_kubelet.objects.times import format_micro_time, format_time, parse_time


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-23T22:58:56Z", datetime(2026, 11, 23, 22, 58, 56, tzinfo=UTC)),
        ("2026-11-23T22:58:56.132205248Z", datetime(2026, 11, 23, 22, 58, 56, 132205, tzinfo=UTC)),
        ("2026-11-23T22:58:56.5+02:00", datetime(2026, 11, 23, 20, 58, 56, 500000, tzinfo=UTC)),
        ("2026-11-23t22:58:56z", datetime(2026, 11, 23, 22, 58, 56, tzinfo=UTC)),
    ],
)
def test_rfc_3339_in_all_its_forms(text: str, moment: datetime) -> None:
    assert parse_time(text) == moment


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-11-23", "2026-11-23 22:58:56Z", "2026-13-01T00:00:00Z", "2026-11-23T22:58:56Z\n"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_time(text)


@given(
    st.datetimes(
        min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.just(timezone(timedelta(hours=3)))
    )
)
def test_what_is_written_reads_back(moment: datetime) -> None:
    assert parse_time(format_micro_time(moment)) == moment
    assert parse_time(format_time(moment)) == moment.replace(microsecond=0)
