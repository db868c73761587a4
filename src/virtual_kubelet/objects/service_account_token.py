"""A pod's service account token, and when it is to be asked for again. Pure.

Kubernetes source: requiresRefresh in pkg/kubelet/token/token_manager.go.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

__all__ = ["RENEWAL_JITTER", "ServiceAccountToken", "renewal_time"]

#: A token is renewed when it is a day old, however long it would be good.
_OLDEST: Final = timedelta(hours=24)
#: Seconds by which it may be earlier, by chance: not all pods of a node at once.
RENEWAL_JITTER: Final = 10.0


@dataclass(frozen=True, slots=True)
class ServiceAccountToken:
    """A token of a pod's service account; it is not shown in ``repr``.

    Attributes:
        expires: when it is no good any more.
        renew: when to ask again: a newer one may be had from then on.
    """

    token: str = field(repr=False)
    expires: datetime
    renew: datetime


def renewal_time(expires: datetime, lifetime: float, jitter: float) -> datetime:
    """When 80 % of its life, or 24 hours, are over, whichever is first.

    Args:
        expires: when the token is no good any more.
        lifetime: seconds it was good when it was issued.
        jitter: seconds to come earlier, up to ``RENEWAL_JITTER``.
    """
    issued = expires - timedelta(seconds=lifetime)
    return min(issued + _OLDEST, expires - timedelta(seconds=lifetime * 0.2)) - timedelta(seconds=jitter)
