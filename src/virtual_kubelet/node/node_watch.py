"""Watching one's own Node: only to learn at once that it has been deleted, or is another one now.

Pods of a node that is gone are deleted after some 40 s (the pod garbage collector's quarantine), which the next periodic
status update may be too late for.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import aclosing
from typing import Final, Protocol

import msgspec

from virtual_kubelet.clock import Clock
from virtual_kubelet.errors import ApiConnectionError, ApiError, ForbiddenError
from virtual_kubelet.kube.backoff import Backoff
from virtual_kubelet.kube.client import ApiClient
from virtual_kubelet.kube.resources import NODES
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.telemetry.logs import get_logger

__all__ = ["watch_node"]

log = get_logger(__name__)

#: Seconds after which the server is asked to end a watch, at random between the two (client-go).
_SHORTEST_WATCH: Final = 300
_LONGEST_WATCH: Final = 600
#: A watch that ends sooner than this many seconds after its start is not begun again at once.
_TOO_SOON: Final = 1.0


class _NodeIdentity(msgspec.Struct):
    metadata: ObjectMeta


class KnownNode(Protocol):
    """The Node as last seen (``NodeRegistration``)."""

    name: str
    uid: str
    resource_version: str


async def watch_node(client: ApiClient, node: KnownNode, on_gone: Callable[[], None], *, clock: Clock) -> None:
    """Call ``on_gone`` whenever the Node may have been deleted or replaced, until cancelled.

    Returns if this node may not watch: the periodic status update finds out then.
    """
    backoff = Backoff(initial=1.0, cap=30.0, monotonic=clock.monotonic)
    resource = NODES.decoding(_NodeIdentity)
    while True:
        began = clock.monotonic()
        seconds = random.randint(_SHORTEST_WATCH, _LONGEST_WATCH)
        events = client.watch(
            resource,
            field_selector=f"metadata.name={node.name}",
            resource_version=node.resource_version,
            timeout_seconds=seconds,
            inactivity=seconds + 30.0,
        )
        try:
            async with aclosing(events):
                async for event in events:
                    found = event.object
                    if event.type == "DELETED" or (found is not None and found.metadata.uid != node.uid):
                        on_gone()
        except ForbiddenError as error:
            log.info("a deleted Node is noticed at the next status update only: %s", error)
            return
        except (ApiError, ApiConnectionError) as error:
            log.debug("the watch of the Node ended: %s", error)
            # What happened meanwhile is unknown; looking also brings a version to go on from.
            on_gone()
            await asyncio.sleep(backoff.next())
        else:
            if clock.monotonic() - began < _TOO_SOON:
                await asyncio.sleep(backoff.next())
