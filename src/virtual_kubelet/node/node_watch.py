"""Watching one's own Node: to learn at once that it has been deleted, is another one now, or has lost a taint of ours.

Pods of a node that is gone are deleted after some 40 s (the pod garbage collector's quarantine), which the next periodic
status update may be too late for. Taints are a list that its writers replace as a whole: the node life cycle controller
does so without looking whether it is still the list it read, and pods come in where a taint is missing.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Collection
from contextlib import aclosing
from typing import Final, Protocol

import msgspec

from virtual_kubelet.clock import Clock
from virtual_kubelet.errors import ApiConnectionError, ApiError, ForbiddenError
from virtual_kubelet.kube.backoff import Backoff
from virtual_kubelet.kube.client import ApiClient
from virtual_kubelet.kube.resources import NODES
from virtual_kubelet.objects.core_v1 import Taint
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.telemetry.logs import get_logger

__all__ = ["watch_node"]

log = get_logger(__name__)

#: Seconds after which the server is asked to end a watch, at random between the two; silence beyond it is a half-open
#: connection, which is so noticed within 40 s (as ``Informer``).
_SHORTEST_WATCH: Final = 25
_LONGEST_WATCH: Final = 31
_SILENCE: Final = 38.0
#: A watch that ends sooner than this many seconds after its start is not begun again at once.
_TOO_SOON: Final = 1.0
#: Seconds between two times that a lost taint is put back at once: whoever insists is not fought.
_TRUCE: Final = 5.0


class _Spec(msgspec.Struct):
    taints: list[Taint] | None = None


class _WatchedNode(msgspec.Struct):
    metadata: ObjectMeta
    spec: _Spec = msgspec.field(default_factory=_Spec)


class KnownNode(Protocol):
    """The Node as last seen (``NodeRegistration``)."""

    name: str
    uid: str

    @property
    def resource_version(self) -> str: ...

    def misses_taints(self, taints: Collection[Taint]) -> bool: ...


async def watch_node(client: ApiClient, node: KnownNode, on_change: Callable[[], None], *, clock: Clock) -> None:
    """Call ``on_change`` whenever the Node may be gone, or not what this node made it, until cancelled.

    Returns if this node may not watch: the periodic status update finds out then.
    """
    backoff = Backoff(initial=1.0, cap=30.0, monotonic=clock.monotonic)
    resource = NODES.decoding(_WatchedNode)
    mended = -math.inf
    while True:
        began = clock.monotonic()
        seconds = random.randint(_SHORTEST_WATCH, _LONGEST_WATCH)
        events = client.watch(
            resource,
            field_selector=f"metadata.name={node.name}",
            resource_version=node.resource_version,
            timeout_seconds=seconds,
            inactivity=_SILENCE,
        )
        try:
            async with aclosing(events):
                async for event in events:
                    found = event.object
                    if event.type == "DELETED" or (found is not None and found.metadata.uid != node.uid):
                        on_change()
                        continue
                    lost = found is not None and node.misses_taints(found.spec.taints or ())
                    if lost and clock.monotonic() - mended >= _TRUCE:
                        mended = clock.monotonic()
                        on_change()
        except ForbiddenError as error:
            log.info("a deleted Node is noticed at the next status update only: %s", error)
            return
        except (ApiError, ApiConnectionError) as error:
            log.debug("the watch of the Node ended: %s", error)
            # What happened meanwhile is unknown; looking also brings a version to go on from.
            on_change()
            await asyncio.sleep(backoff.next())
        else:
            if clock.monotonic() - began < _TOO_SOON:
                await asyncio.sleep(backoff.next())
