"""The node's Lease: the heartbeat by which the control plane knows that this agent is alive.

It is renewed from a task of its own that waits for nothing but the API server: neither a hanging provider nor a slow
status write delays it. A provider that fails its ping does not stop it either: the agent lives, and says in the Ready
condition what is wrong.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

from virtual_kubelet.clock import Clock, SystemClock
from virtual_kubelet.errors import ApiConnectionError, ApiError, ApiNotFoundError, ConflictError
from virtual_kubelet.kube.client import ApiClient, PatchType
from virtual_kubelet.kube.resources import LEASES
from virtual_kubelet.objects.coordination_v1 import Lease, LeaseSpec
from virtual_kubelet.objects.meta_v1 import ObjectMeta, OwnerReference
from virtual_kubelet.objects.serialization import to_builtins
from virtual_kubelet.objects.times import format_micro_time, parse_time
from virtual_kubelet.telemetry.logs import get_logger
from virtual_kubelet.telemetry.metrics import Metrics

__all__ = ["DEFAULT_LEASE_DURATION", "LEASE_NAMESPACE", "NodeLease", "next_renew_time", "renew_interval"]

log = get_logger(__name__)

LEASE_NAMESPACE: Final = "kube-node-lease"
#: Seconds, and the share of it after which a kubelet renews.
DEFAULT_LEASE_DURATION: Final = 40.0
RENEW_FRACTION: Final = 0.25
#: One attempt may take this share of the interval: a slow API server must not swallow the next renewal.
ATTEMPT_FRACTION: Final = 0.8
#: Renewals come earlier by up to this share, so that many nodes of one process do not renew at once (kubelet: 0.04).
JITTER: Final = 0.04
#: Seconds between attempts: the first, doubling, to the last (component-helpers' lease controller).
FIRST_RETRY: Final = 0.2
LAST_RETRY: Final = 7.0


def renew_interval(duration: float, interval: float | None = None) -> float:
    """Seconds between renewals; a quarter of ``duration`` unless given.

    Raises ``ValueError`` unless 0 < interval < duration.
    """
    if duration <= 0:
        raise ValueError(f"the lease duration must be more than 0 s, not {duration:g} s")
    chosen = duration * RENEW_FRACTION if interval is None else interval
    if chosen <= 0:
        raise ValueError(f"the lease's renew interval must be more than 0 s, not {chosen:g} s")
    if chosen >= duration:
        raise ValueError(
            f"the lease's renew interval ({chosen:g} s) must be shorter than the lease duration ({duration:g} s)"
        )
    return chosen


def next_renew_time(now: datetime, last: datetime | None) -> datetime:
    """``now``, but always later than ``last``: a wall clock that was set back must not look like a dead node."""
    return now if last is None or now > last else last + timedelta(microseconds=1)


class NodeLease:
    """Keeps the Lease of one node.

    Args:
        client: it pays to give one whose connections nothing else can use up.
        name: of the node, of its Lease and of the holder, as with a kubelet.
        duration: seconds after which the control plane gives the node up; whole ones in the Lease.
        interval: seconds between renewals; a quarter of ``duration`` by default.
        on_missing: called when the Lease has been deleted, which is what happens to it when its Node is.
        jitter: see ``JITTER``.
    """

    def __init__(
        self,
        client: ApiClient,
        name: str,
        *,
        duration: float = DEFAULT_LEASE_DURATION,
        interval: float | None = None,
        on_missing: Callable[[], None] | None = None,
        jitter: float = JITTER,
        metrics: Metrics | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._client = client
        self._name = name
        self._duration = math.ceil(duration)
        self._interval = renew_interval(duration, interval)
        self._on_missing = on_missing
        self._jitter = jitter
        self._metrics = metrics
        self._clock = clock or SystemClock()
        self._uid = ""
        self._owned = asyncio.Event()
        self._exists = False
        self._owners: list[OwnerReference] = []
        self._renewed: datetime | None = None
        self._trouble = ""

    def belongs_to(self, uid: str) -> None:
        """The Node's UID, which the owner reference needs. A new one is written at once."""
        if uid and uid != self._uid:
            self._uid = uid
            self._owned.set()

    async def delete(self) -> None:
        """Delete the Lease, if it is there; call it when ``run`` has ended. Raises API errors."""
        try:
            await self._client.delete(LEASES, self._name, LEASE_NAMESPACE)
        except ApiNotFoundError:
            log.debug("the lease is gone already")

    async def run(self) -> None:
        """Renew until cancelled, from the moment the Node is known."""
        while not self._uid:
            await self._owned.wait()
        while True:
            self._owned.clear()
            begun = self._clock.monotonic()
            await self._renew_until_done()
            pause = self._interval * (1 - self._jitter * random.random())
            await self._wait(begun + pause - self._clock.monotonic())

    async def _wait(self, seconds: float) -> None:
        """Until the time is over or the Node is another one."""
        try:
            async with asyncio.timeout(seconds):
                await self._owned.wait()
        except TimeoutError:
            return

    async def _renew_until_done(self) -> None:
        delay = FIRST_RETRY
        while True:
            limit = self._interval * ATTEMPT_FRACTION
            wait = delay
            try:
                async with asyncio.timeout(limit):
                    await self._renew()
            except (ApiError, ApiConnectionError, TimeoutError) as error:
                self._failed(error, limit)
                if isinstance(error, ApiError) and error.retry_after is not None:
                    wait = min(max(delay, error.retry_after), self._interval)
            else:
                self._succeeded()
                return
            await asyncio.sleep(wait)
            delay = min(delay * 2, LAST_RETRY)

    async def _renew(self) -> None:
        if not self._exists:
            try:
                self._note(await self._client.get(LEASES, self._name, LEASE_NAMESPACE))
            except ApiNotFoundError:
                await self._create()
                return
        try:
            await self._patch()
        except ApiNotFoundError:
            self._exists = False
            if self._on_missing is not None:
                self._on_missing()
            await self._create()
        except ConflictError:
            self._exists = False  # read it again before the next attempt
            raise

    async def _create(self) -> None:
        lease = Lease(
            metadata=ObjectMeta(name=self._name, namespace=LEASE_NAMESPACE, owner_references=[self._owner()]),
            spec=self._spec(),
        )
        self._note(await self._client.create(LEASES, lease, LEASE_NAMESPACE))

    async def _patch(self) -> None:
        """Only what is ours. The owner is named only when it is wrong, and then replaces every other."""
        patch: dict[str, Any] = {"spec": to_builtins(self._spec())}
        if self._owners != [self._owner()]:
            patch["metadata"] = {"ownerReferences": [to_builtins(self._owner())]}
        self._note(await self._client.patch(LEASES, self._name, patch, LEASE_NAMESPACE, patch_type=PatchType.MERGE))

    def _note(self, lease: Lease) -> None:
        holder = lease.spec.holder_identity
        if not self._exists and holder and holder != self._name:
            log.warning("the lease was held by %s; this node takes it over", holder)
        self._exists = True
        self._owners = lease.metadata.owner_references or []
        renewed = _time(lease.spec.renew_time)
        if renewed is not None and (self._renewed is None or renewed > self._renewed):
            self._renewed = renewed

    def _spec(self) -> LeaseSpec:
        self._renewed = next_renew_time(self._clock.now(), self._renewed)
        return LeaseSpec(
            holder_identity=self._name,
            lease_duration_seconds=self._duration,
            renew_time=format_micro_time(self._renewed),
        )

    def _owner(self) -> OwnerReference:
        return OwnerReference(api_version="v1", kind="Node", name=self._name, uid=self._uid)

    def _failed(self, error: Exception, limit: float) -> None:
        trouble = f"no answer in {limit:g} s" if isinstance(error, TimeoutError) else str(error)
        self._count("error")
        # An outage is one line, not one for each attempt.
        if trouble != self._trouble:
            log.warning("the node's lease could not be renewed, trying on: %s", trouble)
        self._trouble = trouble

    def _succeeded(self) -> None:
        self._count("success")
        if self._trouble:
            log.info("the node's lease is renewed again")
        self._trouble = ""

    def _count(self, result: str) -> None:
        if self._metrics is not None:
            self._metrics.lease_renewals.labels(result).inc()


def _time(text: str | None) -> datetime | None:
    try:
        return parse_time(text) if text else None
    except ValueError:
        return None
