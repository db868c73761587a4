"""Pods as processes of this machine: real commands, real exit codes, no isolation. For development and trusted users.

The provider is imported when it is asked for: the supervisor, a small process of its own, imports this package too.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from virtual_kubelet.providers.process.provider import ProcessProvider as ProcessProvider

__all__ = ["ProcessProvider"]


def __getattr__(name: str) -> Any:
    if name != "ProcessProvider":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from virtual_kubelet.providers.process.provider import ProcessProvider

    return ProcessProvider
