"""Kubernetes times: RFC 3339 strings in the API, ``datetime`` in code."""

from __future__ import annotations

import re
from datetime import UTC, datetime

__all__ = ["format_micro_time", "format_time", "parse_time"]

_RFC3339 = re.compile(r"(\d{4}-\d{2}-\d{2})[Tt](\d{2}:\d{2}:\d{2})(?:\.(\d{1,9})\d*)?(Z|z|[+-]\d{2}:\d{2})\Z")


def parse_time(text: str) -> datetime:
    """An RFC 3339 time, with up to nine digits of fraction (kept to microseconds). Raises ``ValueError``."""
    match = _RFC3339.match(text)
    if match is None:
        raise ValueError(f"{text!r} is not an RFC 3339 time")
    date, clock, fraction, zone = match.groups()
    zone = "+00:00" if zone in "Zz" else zone
    return datetime.fromisoformat(f"{date}T{clock}.{(fraction or '0')[:6]:0<6}{zone}").astimezone(UTC)


def format_time(moment: datetime) -> str:
    """As ``metav1.Time``: whole seconds, UTC."""
    return _utc(moment, "seconds")


def format_micro_time(moment: datetime) -> str:
    """As ``metav1.MicroTime``: six digits of fraction, UTC."""
    return _utc(moment, "microseconds")


def _utc(moment: datetime, precision: str) -> str:
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec=precision) + "Z"
