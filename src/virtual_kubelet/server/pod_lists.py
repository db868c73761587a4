"""``/pods`` and ``/runningpods/``: PodLists as the kubelet writes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, Final

import msgspec

from virtual_kubelet.objects.core_v1 import Pod

__all__ = ["bound_pods", "running_pods"]

_HEAD: Final = b'{"kind":"PodList","apiVersion":"v1","metadata":{},"items":['
_TAIL: Final = b"]}\n"
#: Pods encoded at a stretch; then others have their turn.
_STRETCH: Final = 64


async def bound_pods(pods: Sequence[Pod]) -> AsyncIterator[bytes]:
    """The pods bound to the node, as the API server last said, piece by piece; items carry no ``kind`` of their own."""
    encode = msgspec.json.Encoder().encode
    yield _HEAD
    for start in range(0, len(pods), _STRETCH):
        piece = b",".join(encode(pod) for pod in pods[start : start + _STRETCH])
        yield b"," + piece if start else piece
        await asyncio.sleep(0)
    yield _TAIL


def running_pods(pods: Iterable[Pod]) -> bytes:
    """What the provider holds: identities, and of the containers only those that run; null if there is none."""
    return _HEAD + b",".join(msgspec.json.encode(_running(pod)) for pod in pods) + _TAIL


def _running(pod: Pod) -> dict[str, Any]:
    meta = pod.metadata
    containers = [
        {"name": found.name, "image": found.image_id or found.image, "resources": {}}
        for found in pod.status.container_statuses or ()
        if found.state is not None and found.state.running is not None
    ]
    return {
        "metadata": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
        "spec": {"containers": containers or None},
        "status": {},
    }
