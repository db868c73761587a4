"""NodeController: one Node in the cluster, kept true. Wires ping, Lease, readiness, registration; says when to write."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from virtual_kubelet.clock import Clock, SystemClock
from virtual_kubelet.contracts.nodes import NodeProvider
from virtual_kubelet.errors import (
    ApiConnectionError,
    ApiError,
    BadRequestError,
    ForbiddenError,
    InvalidObjectError,
    UnauthorizedError,
)
from virtual_kubelet.kube.backoff import Backoff
from virtual_kubelet.kube.client import ApiClient
from virtual_kubelet.node.lease import DEFAULT_LEASE_DURATION, NodeLease, renew_interval
from virtual_kubelet.node.node_status import IMAGE_LIMIT, complete_status
from virtual_kubelet.node.node_watch import watch_node
from virtual_kubelet.node.ping import DEFAULT_PING_INTERVAL, DEFAULT_PING_TIMEOUT, Pinger
from virtual_kubelet.node.readiness import (
    NOT_READY_REASON,
    NodeReadiness,
    Obstacle,
    PingResult,
    obstacles_to_ready,
    ready_condition,
)
from virtual_kubelet.node.refusals import NodeEventRecorder
from virtual_kubelet.node.registration import NodeRegistration, Written, copy_node
from virtual_kubelet.node.status_error_handler import StatusErrorHandler, ask_handler
from virtual_kubelet.objects.core_v1 import Node, NodeAddress, NodeCondition
from virtual_kubelet.telemetry.logs import bind, get_logger
from virtual_kubelet.telemetry.metrics import Metrics
from virtual_kubelet.telemetry.tracing import span

__all__ = ["DEFAULT_STATUS_UPDATE_INTERVAL", "NodeController"]

log = get_logger(__name__)

#: Seconds (the Go framework's; a kubelet reports an unchanged status each 5 minutes).
DEFAULT_STATUS_UPDATE_INTERVAL: Final = 60.0
#: Seconds that a node which was Ready stays so while this process starts.
DEFAULT_STARTUP_GRACE: Final = 30.0
#: Seconds before a failed status write is tried again: the first, doubling, to the last.
_FIRST_RETRY: Final = 1.0
_LAST_RETRY: Final = 10.0

_API_ERRORS: Final = (ApiError, ApiConnectionError)
#: At the start these end ``run``: waiting does not cure them, and somebody is there to read them.
_FATAL_AT_START: Final = (UnauthorizedError, ForbiddenError, InvalidObjectError, BadRequestError)


class NodeController:
    """Registers or adopts one Node and keeps it true until cancelled. Can run once.

    Labels, annotations, taints, conditions, addresses and resources that others put on the Node are kept. A Node that
    is deleted comes back. What this node's rights do not allow it to write is said once, and the rest goes on.

    Args:
        node_provider: pinged, and asked for changes of the node.
        node: what the Node shall be at first; its name is the node's name. What it says about Ready does not count.
        client: the API client; the Lease uses ``lease_client`` if given, so that nothing can use up its connections.
        readiness: gates that must be open for the node to be Ready; none by default.
        recorder: takes events on the Node.
        enable_lease: keep a Lease in ``kube-node-lease``. Without it the status is written each ``ping_interval``.
        lease_duration, lease_renew_interval: seconds; renewed each quarter of the duration by default.
        ping_interval, ping_timeout: seconds.
        status_update_interval: seconds between status writes when nothing changes.
        status_error_handler: takes API errors of status writes after the first one; see ``StatusErrorHandler``.
        startup_grace: seconds that an adopted node which is Ready stays Ready while the gates open for the first time: a
            restart of this process must not look like a failure of the node (its pods would become unready).
        recreate: register a Node again that somebody deleted.
        watch_node: watch the Node, to notice that (or a lost taint) at once rather than at the next status write.
        image_limit: so many images at most are named in the status.

    Raises ``ValueError`` for periods that cannot work.
    """

    def __init__(
        self,
        node_provider: NodeProvider,
        node: Node,
        client: ApiClient,
        *,
        readiness: NodeReadiness | None = None,
        recorder: NodeEventRecorder | None = None,
        lease_client: ApiClient | None = None,
        enable_lease: bool = True,
        lease_duration: float = DEFAULT_LEASE_DURATION,
        lease_renew_interval: float | None = None,
        ping_interval: float = DEFAULT_PING_INTERVAL,
        ping_timeout: float = DEFAULT_PING_TIMEOUT,
        status_update_interval: float = DEFAULT_STATUS_UPDATE_INTERVAL,
        status_error_handler: StatusErrorHandler | None = None,
        startup_grace: float = DEFAULT_STARTUP_GRACE,
        recreate: bool = True,
        watch_node: bool = True,
        image_limit: int = IMAGE_LIMIT,
        metrics: Metrics | None = None,
        clock: Clock | None = None,
    ) -> None:
        if not node.metadata.name:
            raise ValueError("the node needs a name: node.metadata.name is empty")
        if status_update_interval <= 0:
            raise ValueError(f"the status update interval must be more than 0 s, not {status_update_interval:g} s")
        if enable_lease:
            renew_interval(lease_duration, lease_renew_interval)
            if ping_interval >= lease_duration:
                raise ValueError(
                    f"the ping interval ({ping_interval:g} s) must be shorter than the lease duration "
                    f"({lease_duration:g} s)"
                )
        self.name: str = node.metadata.name
        self.readiness = readiness or NodeReadiness()
        self._provider = node_provider
        self._client = client
        self._clock = clock or SystemClock()
        self._metrics = metrics
        self._handler = status_error_handler
        self._recreate = recreate
        self._watches = watch_node
        self._image_limit = image_limit
        self._interval = status_update_interval if enable_lease else min(status_update_interval, ping_interval)

        self._node = copy_node(node)
        self._verdict: NodeCondition | None = None
        self._registration = NodeRegistration(client, self.name, clock=self._clock, recorder=recorder)
        self._pinger = Pinger(
            self._ping,
            interval=ping_interval,
            timeout=ping_timeout,
            on_change=self._pinged,
            metrics=metrics,
            clock=self._clock,
        )
        self._lease: NodeLease | None = None
        self._lease_task: asyncio.Task[None] | None = None
        if enable_lease:
            self._lease = NodeLease(
                lease_client or client,
                self.name,
                duration=lease_duration,
                interval=lease_renew_interval,
                on_missing=self._wake_up,
                metrics=metrics,
                clock=self._clock,
            )
        self._writing = asyncio.Lock()
        self._wake = asyncio.Event()
        self._registered = asyncio.Event()
        self._reported_ready = asyncio.Event()
        self._ended = asyncio.Event()
        self._started = self._deleted = False
        self._startup_grace = startup_grace
        self._grace_ends = 0.0
        self._failure: BaseException | None = None
        self._last_ready = ""
        self._trouble = ""
        #: The last error of a status write, None when the last one went well: for who waits and wants to know why.
        self.last_error: Exception | None = None

    # For whoever runs the node

    async def run(self) -> None:
        """Register, then keep everything true until cancelled.

        Raises what makes registration hopeless (401, 403, 400, 422); other API errors are retried for ever. Once the
        Node is registered only a bug ends it.
        """
        if self._started:
            raise RuntimeError("a NodeController runs only once")
        self._started = True
        self._grace_ends = self._clock.monotonic() + self._startup_grace
        try:
            with bind(node=self.name):
                self.readiness.watch(self._wake_up)
                self._provider.notify_node_status(self._notified)
                await self._run()
        except BaseException as error:
            self._failure = error
            raise
        finally:
            self._ended.set()

    @property
    def addresses(self) -> Sequence[NodeAddress]:
        """Of the Node, as this node wants them now."""
        return self._node.status.addresses or ()

    @property
    def seen(self) -> Node | None:
        """The Node as the API server last had it, what others have put on it included; None before it has been read."""
        return self._registration.seen

    async def wait_ready(self) -> None:
        """Until the Node is registered and its first status written, whatever that says.

        Raises what ended ``run`` if it ended before, ``RuntimeError`` if it was cancelled.
        """
        await self._until(self._registered)

    async def wait_reported_ready(self) -> None:
        """Until the API server has been told that the node is Ready. Raises as ``wait_ready``."""
        await self._until(self._reported_ready)

    @property
    def obstacles(self) -> Sequence[Obstacle]:
        """What keeps the node from being Ready, by our own lights."""
        return obstacles_to_ready(self.readiness.obstacles, self._pinger.result)

    async def mark_not_ready(self, reason: str, message: str) -> None:
        """Write Ready=False for good, as when stopping; also after ``run`` has ended. Raises API errors."""
        self.readiness.close("stopping", message, reason=reason or NOT_READY_REASON)
        await self._write(heartbeat=False, create=False)

    async def cordon(self) -> None:
        """Make the node unschedulable, by our doing: the next start takes it back. Raises API errors."""
        self._registration.cordoned = True
        await self._write(heartbeat=False, create=False)

    async def delete_node(self) -> None:
        """Delete the Node and its Lease, and write nothing any more.

        Raises API errors: a node's own identity may not delete its Node (``ForbiddenError``), and then goes on.
        """
        async with self._writing:
            await self._registration.delete()
            self._deleted = True
        if self._lease is not None:
            if self._lease_task is not None:
                self._lease_task.cancel()
                await asyncio.wait({self._lease_task})
            await self._lease.delete()

    # Running

    async def _run(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pinger.run(), name="node ping")
                await self._register()
                if self._lease is not None:
                    self._lease_task = tasks.create_task(self._lease.run(), name="node lease")
                if self._watches:
                    watch = watch_node(self._client, self._registration, self._wake_up, clock=self._clock)
                    tasks.create_task(watch, name="node watch")
                await self._report_forever()
        except BaseExceptionGroup as group:
            # The first failure is why the others were cancelled.
            raise group.exceptions[0] from None

    async def _register(self) -> None:
        backoff = self._new_backoff()
        while True:
            try:
                await self._write(heartbeat=True, create=True)
                return
            except _FATAL_AT_START:
                raise
            except _API_ERRORS as error:
                self._failed(error)
            await asyncio.sleep(backoff.next())

    async def _report_forever(self) -> None:
        """Write when something changed, and each interval; after a failure when its back-off is over."""
        backoff = self._new_backoff()
        due = self._clock.monotonic() + self._interval
        while True:
            in_grace = not self._reported_ready.is_set() and self._clock.monotonic() < self._grace_ends
            await self._woken_until(min(due, self._grace_ends) if in_grace else due)
            self._wake.clear()
            heartbeat = self._clock.monotonic() >= due
            if await self._report(heartbeat):
                backoff.healthy()
                if heartbeat:
                    due = self._clock.monotonic() + self._interval
            else:
                await asyncio.sleep(backoff.next())
                self._wake.set()

    async def _woken_until(self, deadline: float) -> None:
        try:
            async with asyncio.timeout(deadline - self._clock.monotonic()):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _report(self, heartbeat: bool) -> bool:
        """One status write, and one more if the user's handler took care of its error. False if it is to be retried."""
        try:
            # With a handler of the user's it is for him to say whether a Node that is gone comes back.
            await self._write(heartbeat, create=self._recreate and self._handler is None)
            return True
        except _API_ERRORS as error:
            failure: Exception = error
        if self._handler is not None:
            unhandled = await ask_handler(self._handler, failure, timeout=self._interval)
            if unhandled is None:
                try:
                    await self._write(heartbeat, create=self._recreate)
                    return True
                except _API_ERRORS as error:
                    failure = error
            else:
                failure = unhandled
        self._failed(failure)
        return False

    async def _write(self, heartbeat: bool, *, create: bool) -> None:
        async with self._writing:
            if self._deleted:
                return
            node = copy_node(self._node)
            obstacles = self.obstacles
            complete_status(node, ready_condition(obstacles, self._verdict), image_limit=self._image_limit)
            starting = bool(obstacles) and all(obstacle.starting for obstacle in obstacles)
            keep_ready = starting and self._clock.monotonic() < self._grace_ends
            with span("update_node_status", node=self.name):
                written = await self._registration.write(
                    node, heartbeat=heartbeat, create=create, keep_ready=keep_ready
                )
            self._wrote(node, written)

    def _wrote(self, node: Node, written: Written) -> None:
        self._count("success" if written.changed else "unchanged")
        if self._trouble:
            log.info("the node's status is written again")
        self._trouble, self.last_error = "", None
        if written.created and self._registered.is_set():
            message = f"Node {self.name} was deleted, and has been registered again"
            log.warning("%s", message)
            self._registration.event("Warning", "NodeRegisteredAgain", message)
        if self._lease is not None:
            self._lease.belongs_to(written.uid)
        ready = next(c.status for c in node.status.conditions or () if c.type == "Ready")
        turned = ready != self._last_ready and (self._last_ready or ready == "True")
        self._last_ready = ready
        if turned:
            event = "NodeReady" if ready == "True" else "NodeNotReady"
            self._registration.event("Normal", event, f"Node {self.name} status is now: {event}")
        (self._reported_ready.set if ready == "True" else self._reported_ready.clear)()
        self._registered.set()

    def _failed(self, error: Exception) -> None:
        self._count("error")
        self.last_error = error
        trouble = f"{type(error).__name__}: {error}"
        # An outage is one line, not one for each attempt.
        if trouble != self._trouble:
            log.error("the node's status could not be written, trying on: %s", trouble)
        self._trouble = trouble

    def _count(self, result: str) -> None:
        if self._metrics is not None:
            self._metrics.node_status_updates.labels(result).inc()

    def _new_backoff(self) -> Backoff:
        return Backoff(initial=_FIRST_RETRY, cap=_LAST_RETRY, jitter=0.2, monotonic=self._clock.monotonic)

    # What changes the node

    async def _ping(self) -> None:
        await self._provider.ping()

    def _pinged(self, result: PingResult) -> None:
        self._wake_up()

    def _notified(self, node: Node) -> None:
        """The provider's callback: the newest node wins, whatever was under way."""
        changed = copy_node(node)
        self._node = changed
        self._verdict = next((c for c in changed.status.conditions or () if c.type == "Ready"), None)
        self._wake_up()

    def _wake_up(self) -> None:
        self._wake.set()

    async def _until(self, event: asyncio.Event) -> None:
        if not event.is_set() and not self._ended.is_set():
            waits = [asyncio.create_task(e.wait()) for e in (event, self._ended)]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
                await asyncio.gather(*waits, return_exceptions=True)
        if event.is_set():
            return
        if self._failure is None or isinstance(self._failure, asyncio.CancelledError):
            raise RuntimeError(f"the controller of node {self.name} was stopped before the node was ready")
        raise self._failure
