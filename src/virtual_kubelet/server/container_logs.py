"""``/containerLogs``: from a pod's status to the instance whose log is meant, and its lines as a response body."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, replace

from virtual_kubelet.contracts.logs import ContainerLogOptions, LogLine
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.errors import ProtocolError, ProviderError
from virtual_kubelet.objects.core_v1 import ContainerStatus, Pod, PodStatus
from virtual_kubelet.server.http_messages import ResponseBroken
from virtual_kubelet.server.line_reader import LineReader
from virtual_kubelet.server.log_options import LogFilter, TailBudget
from virtual_kubelet.telemetry.logs import get_logger

__all__ = ["LogLimits", "choose_instance", "container_status", "has_container", "send_lines"]

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LogLimits:
    """Limits of log streams. Times in seconds.

    Attributes:
        max_streams: streams at one time; one more is answered 429.
        first_line_wait: how long an answer waits for the provider's first line, or its refusal, before the headers go
            out: only until then can a refusal become a status.
        settle: with ``follow`` and ``tailLines``: silence after a line which shows that the past has been read.
        settle_empty: the same when there was no line at all.
        silence: without ``follow``: how long the provider may take for its next line; then the answer is broken off.
        tail_bytes: most that a tail may hold in memory (a line counts some 140 bytes more than it has); of a larger one
            the oldest lines are left out, which the node's log says.
        all_tails_bytes: the same for the tails of all streams together.
        ahead_bytes: read ahead of a slow client.
        close_timeout: for a provider's iterator to end once its reader has left.
    """

    max_streams: int = 256
    first_line_wait: float = 0.2
    settle: float = 0.2
    settle_empty: float = 2.0
    silence: float = 60.0
    tail_bytes: int = 32 * 1024 * 1024
    all_tails_bytes: int = 256 * 1024 * 1024
    ahead_bytes: int = 128 * 1024
    close_timeout: float = 4.0


def has_container(pod: Pod, name: str) -> bool:
    """Whether the spec has a container, init container or ephemeral container of this name."""
    spec = pod.spec
    return any(
        container.name == name
        for containers in (spec.containers, spec.init_containers, spec.ephemeral_containers)
        for container in containers or ()
    )


def container_status(status: PodStatus, name: str) -> ContainerStatus | None:
    """The status of a container of any kind."""
    for statuses in (
        status.container_statuses,
        status.init_container_statuses,
        status.ephemeral_container_statuses,
    ):
        for found in statuses or ():
            if found.name == name:
                return found
    return None


def choose_instance(status: PodStatus, pod: str, container: str, options: ContainerLogOptions) -> ContainerLogOptions:
    """The options to ask the provider with: ``previous`` counts instances from the newest that ran.

    The kubelet's validateContainerLogStatus (pkg/kubelet/kubelet_pods.go), without its check for container ids, which a
    provider need not have. A container that waits after it has run (CrashLoopBackOff) has its newest instance in
    ``lastState``: with and without ``previous`` that one is meant. Raises ``ProtocolError`` 400 if there is none.
    """
    found = container_status(status, container)
    if found is None:
        raise ProtocolError(f'container "{container}" in pod "{pod}" is not available')
    state, last = found.state, found.last_state
    has_run_before = last is not None and last.terminated is not None
    current = state is not None and (state.running is not None or state.terminated is not None)
    if options.previous:
        if not has_run_before:
            raise ProtocolError(f'previous terminated container "{container}" in pod "{pod}" not found')
        return options if current else replace(options, previous=False)
    if current or has_run_before:
        return options
    if state is None or state.waiting is None:
        raise ProtocolError(f'container "{container}" in pod "{pod}" is waiting to start - no logs yet')
    reason = state.waiting.reason or ""
    why = {
        "ErrImagePull": "image can't be pulled",
        "ImagePullBackOff": "trying and failing to pull image",
    }.get(reason, reason)
    raise ProtocolError(f'container "{container}" in pod "{pod}" is waiting to start: {why}')


async def send_lines(
    lines: AsyncIterator[LogLine],
    options: ContainerLogOptions,
    limits: LogLimits,
    *,
    key: PodKey,
    started_ns: int,
    tails: TailBudget,
    on_end: Callable[[], None],
) -> AsyncGenerator[bytes, None]:
    """A response body out of a provider's lines.

    Returns when the first lines are there, the log has ended, or ``first_line_wait`` is over. What the provider raises
    until then is raised here. Later it is written behind the lines, and the response broken off, so that nobody takes
    it for the whole log. ``on_end`` is called once, when the source has been closed; so the body must be closed.
    """
    reader = LineReader(lines, ahead_bytes=limits.ahead_bytes, close_timeout=limits.close_timeout)
    try:
        first = await reader.batch(limits.first_line_wait)
    except BaseException:
        try:
            await reader.aclose()
        finally:
            on_end()
        raise
    chosen = LogFilter(options, started_ns=started_ns, tail_bytes=limits.tail_bytes, budget=tails)
    body = _body(reader, first, options, limits, key, chosen, on_end)
    await anext(body)  # to its first yield: from here on its "finally" closes the reader
    return body


async def _body(
    reader: LineReader,
    first: list[LogLine] | None,
    options: ContainerLogOptions,
    limits: LogLimits,
    key: PodKey,
    chosen: LogFilter,
    on_end: Callable[[], None],
) -> AsyncGenerator[bytes, None]:
    batch = first
    try:
        yield b""
        while True:
            if batch is None:
                batch = await reader.batch(_patience(chosen, options, limits))
            if batch is None and not options.follow:
                raise ProviderError(f"the provider gave no further line of this log for {limits.silence:g} s")
            for piece in chosen.feed(batch) if batch else chosen.end_past():
                yield piece
            if chosen.done or batch == []:
                return
            batch = None
    except Exception as error:
        for piece in chosen.end_past():
            yield piece
        if isinstance(error, ProviderError):
            yield f"{error}\n".encode()
        else:
            log.exception("reading a container's log failed", extra={"pod": str(key)})
            yield b"Internal Error: the log could not be read to its end; the node's log says why.\n"
        raise ResponseBroken from None
    finally:
        if chosen.shortened:
            log.warning("a tail was too large to be held: its oldest lines were left out", extra={"pod": str(key)})
        chosen.close()
        try:
            await reader.aclose()
        finally:
            on_end()


def _patience(chosen: LogFilter, options: ContainerLogOptions, limits: LogLimits) -> float | None:
    if not options.follow:
        return limits.silence
    if not chosen.in_past:
        return None
    return limits.settle if chosen.seen else limits.settle_empty
