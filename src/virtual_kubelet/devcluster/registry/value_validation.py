"""Rules of single values that many fields share. Pure."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Final

from virtual_kubelet.devcluster.statuses import (
    FieldError,
    field_invalid,
    required,
    unsupported_value,
)

__all__ = ["ADDRESS", "ID_RANGE", "NOT_NEGATIVE", "PORT_RANGE", "address_errors", "is_address", "one_of"]

ADDRESS: Final = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
PORT_RANGE: Final = "must be between 1 and 65535, inclusive"
ID_RANGE: Final = "must be between 0 and 2147483647, inclusive"
NOT_NEGATIVE: Final = "must be greater than or equal to 0"


def one_of(value: str, field: str, values: tuple[str, ...]) -> list[FieldError]:
    """A required value out of a set."""
    if not value:
        return [required(field)]
    return [] if value in values else [unsupported_value(field, value, values)]


def address_errors(address: str, where: str) -> list[FieldError]:
    """An IP address of either family."""
    return [] if is_address(address) else [field_invalid(where, address, ADDRESS)]


@lru_cache(maxsize=4096)
def is_address(text: str) -> bool:
    """Whether this is an IP address of either family."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
