"""The Lease: whose it is, when it is renewed, and what does not stop it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.node.node_api import LoopClock, NodeApi, Request
from virtual_kubelet.errors import ApiConnectionError, ConflictError, TooManyRequestsError
from virtual_kubelet.node.lease import NodeLease, next_renew_time, renew_interval
from virtual_kubelet.objects.coordination_v1 import Lease, LeaseSpec
from virtual_kubelet.objects.meta_v1 import ObjectMeta, OwnerReference
from virtual_kubelet.objects.times import parse_time
from virtual_kubelet.telemetry.metrics import Metrics

pytestmark = pytest.mark.looptime


@asynccontextmanager
async def leasing(api: NodeApi, clock: LoopClock, *, uid: str = "node-uid", **options: Any) -> AsyncIterator[NodeLease]:
    lease = NodeLease(api.client, "vk", clock=clock, jitter=0, **options)
    lease.belongs_to(uid)
    task = asyncio.create_task(lease.run())
    try:
        yield lease
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()


def renewals(api: NodeApi) -> list[float]:
    return [round(r.at, 1) for r in api.requests if r.verb in ("create", "patch")]


def existing(**spec: Any) -> Lease:
    return Lease(
        metadata=ObjectMeta(name="vk", namespace="kube-node-lease", owner_references=spec.pop("owners", None)),
        spec=LeaseSpec(**spec),
    )


def owner(uid: str, name: str = "vk") -> OwnerReference:
    return OwnerReference(api_version="v1", kind="Node", name=name, uid=uid)


def slow(verb: str, seconds: float) -> Callable[[Request], float | None]:
    return lambda request: seconds if request.verb == verb else None


async def test_it_is_created_as_a_kubelet_does(api: NodeApi, node_clock: LoopClock) -> None:
    async with leasing(api, node_clock):
        await asyncio.sleep(1)
    lease = api.lease()
    assert lease.metadata.namespace == "kube-node-lease"
    assert lease.metadata.owner_references == [owner("node-uid")]
    assert (lease.spec.holder_identity, lease.spec.lease_duration_seconds) == ("vk", 40)
    assert lease.spec.renew_time is not None
    assert lease.spec.renew_time.endswith("Z")
    assert len(lease.spec.renew_time) == len("2026-01-01T00:00:00.000000Z")


async def test_it_is_renewed_each_quarter_of_its_duration_by_patches_of_the_spec(
    api: NodeApi, node_clock: LoopClock
) -> None:
    async with leasing(api, node_clock):
        await asyncio.sleep(35)
    assert renewals(api) == [0, 10, 20, 30]
    for request in api.seen("patch", "leases"):
        assert set(request.body) == {"spec"}
        assert set(request.body["spec"]) == {"holderIdentity", "leaseDurationSeconds", "renewTime"}


async def test_renewals_of_many_nodes_spread_but_are_never_late(api: NodeApi, node_clock: LoopClock) -> None:
    lease = NodeLease(api.client, "vk", clock=node_clock, jitter=0.04)
    lease.belongs_to("u")
    task = asyncio.create_task(lease.run())
    await asyncio.sleep(60)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    times = [r.at for r in api.requests if r.verb in ("create", "patch")]
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert all(9.6 <= gap <= 10.01 for gap in gaps), gaps
    assert len({round(gap, 4) for gap in gaps}) > 1


async def test_nothing_is_written_before_the_node_is_known(api: NodeApi, node_clock: LoopClock) -> None:
    async with leasing(api, node_clock, uid="") as lease:
        await asyncio.sleep(100)
        assert api.requests == []
        lease.belongs_to("late")
        await asyncio.sleep(1)
    assert api.lease().metadata.owner_references == [owner("late")]


async def test_an_existing_lease_is_adopted_and_its_wrong_owner_replaced(api: NodeApi, node_clock: LoopClock) -> None:
    """Upstream never corrects an owner; the garbage collector then deletes the lease of a living node."""
    api.put("leases", existing(holder_identity="vk", owners=[owner("dead-uid"), owner("x", name="other")]))
    async with leasing(api, node_clock):
        await asyncio.sleep(1)
        assert api.lease().metadata.owner_references == [owner("node-uid")]
        assert api.seen("create", "leases") == []


async def test_an_owner_that_somebody_breaks_is_mended_at_the_next_renewals(
    api: NodeApi, node_clock: LoopClock
) -> None:
    async with leasing(api, node_clock):
        await asyncio.sleep(1)
        del api.objects["leases", "vk"]["metadata"]["ownerReferences"]
        await asyncio.sleep(20)
    assert api.lease().metadata.owner_references == [owner("node-uid")]


async def test_a_node_created_again_owns_it_at_once(api: NodeApi, node_clock: LoopClock) -> None:
    async with leasing(api, node_clock) as lease:
        await asyncio.sleep(3)
        lease.belongs_to("new-uid")
        await asyncio.sleep(0.1)
        assert api.lease().metadata.owner_references == [owner("new-uid")]
        lease.belongs_to("new-uid")
        await asyncio.sleep(5)
    assert renewals(api) == [0, 3]


async def test_a_deleted_lease_is_made_again_and_tells_that_the_node_may_be_gone(
    api: NodeApi, node_clock: LoopClock
) -> None:
    missing: list[float] = []
    async with leasing(api, node_clock, on_missing=lambda: missing.append(node_clock.monotonic())):
        await asyncio.sleep(1)
        api.remove("leases")
        await asyncio.sleep(10)
        assert api.lease().metadata.owner_references == [owner("node-uid")]
    assert [round(at) for at in missing] == [10]


async def test_the_renew_time_never_goes_back_and_always_on(api: NodeApi, node_clock: LoopClock) -> None:
    """C08: the control plane counts a node alive while its renew time grows."""
    api.put("leases", existing(holder_identity="vk", renew_time="2026-01-01T00:01:00.000000Z"))
    async with leasing(api, node_clock):
        await asyncio.sleep(25)
        node_clock.skew = 10_000
        await asyncio.sleep(10)
        node_clock.skew = -10_000
        await asyncio.sleep(30)
    times = [parse_time(r.body["spec"]["renewTime"]) for r in api.seen("patch", "leases")]
    assert len(times) == 7
    assert times == sorted(set(times))
    assert times[0] > datetime(2026, 1, 1, 0, 1, tzinfo=UTC)


def test_the_next_renew_time() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    later = now + timedelta(hours=1)
    assert next_renew_time(now, None) == now
    assert next_renew_time(later, now) == later
    assert next_renew_time(now, later) == later + timedelta(microseconds=1)
    assert next_renew_time(now, now) == now + timedelta(microseconds=1)


async def test_failures_are_retried_with_back_off_to_a_cap_and_never_given_up(
    api: NodeApi, node_clock: LoopClock, caplog: pytest.LogCaptureFixture
) -> None:
    api.latency = 0
    api.fault = lambda request: ApiConnectionError("refused") if request.at < 60 else None
    async with leasing(api, node_clock):
        await asyncio.sleep(62)
    times = [r.at for r in api.requests]
    gaps = [round(b - a, 1) for a, b in itertools.pairwise(times)]
    assert gaps[:8] == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 7.0, 7.0]
    assert api.lease().spec.holder_identity == "vk"
    # C11 and A02: one line for the outage, one for its end.
    assert [r.levelname for r in caplog.records if "lease" in r.message] == ["WARNING"]


async def test_a_slow_server_does_not_swallow_the_next_renewals(api: NodeApi, node_clock: LoopClock) -> None:
    """C11: a call has its own deadline, shorter than the interval."""
    async with leasing(api, node_clock):
        await asyncio.sleep(1)
        api.fault = slow("patch", 3600)
        await asyncio.sleep(40)
        api.fault = lambda request: None
        await asyncio.sleep(9)
    attempts = [r.at for r in api.seen("patch", "leases")]
    assert all(b - a <= 8 + 7 for a, b in itertools.pairwise(attempts))
    assert parse_time(api.lease().spec.renew_time or "") >= node_clock.now() - timedelta(seconds=12)


async def test_a_conflict_reads_again_and_goes_on(api: NodeApi, node_clock: LoopClock) -> None:
    api.put("leases", existing(holder_identity="vk"))
    conflicts = [ConflictError(409, "Conflict", "modified")]
    api.fault = lambda request: conflicts.pop() if request.verb == "patch" and conflicts else None
    async with leasing(api, node_clock):
        await asyncio.sleep(1)
    assert [r.verb for r in api.requests] == ["get", "patch", "get", "patch"]


async def test_somebody_else_creating_it_meanwhile_is_no_error(api: NodeApi, node_clock: LoopClock) -> None:
    def race(request: Request) -> None:
        if request.verb == "create" and ("leases", "vk") not in api.objects:
            api.put("leases", existing(holder_identity="vk"))

    api.fault = race
    async with leasing(api, node_clock):
        await asyncio.sleep(1)
    assert api.lease().metadata.owner_references == [owner("node-uid")]


async def test_a_namespace_that_is_not_there_yet_is_waited_for(
    api: NodeApi, node_clock: LoopClock, caplog: pytest.LogCaptureFixture
) -> None:
    api.namespaces.clear()
    async with leasing(api, node_clock):
        await asyncio.sleep(30)
        assert len([r for r in caplog.records if "kube-node-lease" in r.message]) == 1
        api.namespaces.add("kube-node-lease")
        await asyncio.sleep(8)
    assert api.lease().spec.holder_identity == "vk"


async def test_retry_after_is_kept_but_never_longer_than_an_interval(api: NodeApi, node_clock: LoopClock) -> None:
    answers = [TooManyRequestsError(429, "TooManyRequests", "slow down", retry_after=n) for n in (500.0, 3.0)]
    api.latency = 0
    api.fault = lambda request: answers.pop() if answers else None
    async with leasing(api, node_clock):
        await asyncio.sleep(15)
    assert [round(r.at) for r in api.requests[:3]] == [0, 3, 13]


async def test_a_lease_of_another_holder_is_taken_over_with_a_warning(
    api: NodeApi, node_clock: LoopClock, caplog: pytest.LogCaptureFixture
) -> None:
    api.put("leases", existing(holder_identity="somebody"))
    async with leasing(api, node_clock):
        await asyncio.sleep(11)
    assert api.lease().spec.holder_identity == "vk"
    assert [r.message for r in caplog.records] == ["the lease was held by somebody; this node takes it over"]


async def test_renewals_are_counted(api: NodeApi, node_clock: LoopClock) -> None:
    metrics = Metrics()
    failures = [ApiConnectionError("x")]
    api.fault = lambda request: failures.pop() if failures else None
    async with leasing(api, node_clock, metrics=metrics):
        await asyncio.sleep(15)
    text = metrics.exposition().decode()
    assert 'virtual_kubelet_lease_renewals_total{result="success"} 2.0' in text
    assert 'virtual_kubelet_lease_renewals_total{result="error"} 1.0' in text


@pytest.mark.parametrize(("duration", "interval"), [(0, None), (-1, None), (40, 0), (40, -5), (40, 40), (10, 20)])
def test_lease_options_that_cannot_work_are_refused(duration: float, interval: float | None) -> None:
    """Upstream's option errors: duration <= 0, interval = 0, duration <= interval."""
    with pytest.raises(ValueError, match="lease"):
        renew_interval(duration, interval)


def test_the_renew_interval_is_a_quarter_unless_given() -> None:
    assert renew_interval(40) == 10
    assert renew_interval(40, 7.5) == 7.5
