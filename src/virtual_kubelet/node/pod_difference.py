"""Whether the provider's pod differs from the API's in what a provider can be asked to update. Pure.

The fields are the Go framework's (podsEqual in node/pod.go); variables are compared without regard to their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from msgspec.structs import replace

from virtual_kubelet.objects.core_v1 import Container, EphemeralContainer, Pod

__all__ = ["differs"]

T = TypeVar("T", Container, EphemeralContainer)


def differs(wanted: Pod, deployed: Pod) -> bool:
    """Compare after adoption: ``deployed`` has its environment resolved, so variables count only where both are plain."""
    return (
        _containers(wanted.spec.containers) != _containers(deployed.spec.containers)
        or _containers(wanted.spec.init_containers or []) != _containers(deployed.spec.init_containers or [])
        or _containers(wanted.spec.ephemeral_containers or []) != _containers(deployed.spec.ephemeral_containers or [])
        or wanted.spec.active_deadline_seconds != deployed.spec.active_deadline_seconds
        or (wanted.spec.tolerations or []) != (deployed.spec.tolerations or [])
        or (wanted.metadata.labels or {}) != (deployed.metadata.labels or {})
        or (wanted.metadata.annotations or {}) != (deployed.metadata.annotations or {})
    )


def _containers(containers: Sequence[T]) -> list[T]:
    # Only images, resources and the like of a running pod can change in the API; its variables and commands cannot.
    return [replace(c, env=None, env_from=None, command=None, args=None) for c in containers]
