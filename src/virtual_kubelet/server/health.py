"""``/healthz``: named checks, answered as Kubernetes' healthz library does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import TypeAlias

from virtual_kubelet.server.http_messages import Response, text_response
from virtual_kubelet.telemetry.logs import get_logger

__all__ = ["HealthCheck", "healthz"]

log = get_logger(__name__)

#: Returns when all is well, raises otherwise. What it raises is logged, never shown.
HealthCheck: TypeAlias = Callable[[], Awaitable[None]]

_NOSNIFF = ("X-Content-Type-Options", "nosniff")


async def healthz(
    checks: Mapping[str, HealthCheck], *, excluded: Collection[str] = (), verbose: bool = False, timeout: float = 5.0
) -> Response:
    """``ok``, or 500 and which checks failed. ``ping``, which always passes, comes first by itself.

    Args:
        checks: run at the same time.
        excluded: names of checks left out.
        verbose: list the checks when they pass, too.
        timeout: seconds for each.
    """
    chosen = {name: check for name, check in checks.items() if name not in excluded}
    results = await asyncio.gather(*(_passes(name, check, timeout) for name, check in chosen.items()))
    report = "" if "ping" in excluded else "[+]ping ok\n"
    for name, passed in zip(chosen, results, strict=True):
        report += f"[+]{name} ok\n" if passed else f"[-]{name} failed: reason withheld\n"
    if not all(results):
        return text_response(500, f"{report}healthz check failed\n", _NOSNIFF)
    return text_response(200, f"{report}healthz check passed\n" if verbose else "ok", _NOSNIFF)


async def _passes(name: str, check: HealthCheck, timeout: float) -> bool:
    try:
        async with asyncio.timeout(timeout):
            await check()
    except Exception:
        log.warning("health check %s failed", name, exc_info=True)
        return False
    return True
