"""What a real kubelet was asked gets the same answer here."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import AsyncIterator, Sequence
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.locations import SHARED
from tests.server.raw_http_client import RawClient
from tests.server.recorded_node import FixedClock, LoggingProvider, Pods
from tests.server.review_server import ReviewServer
from virtual_kubelet.contracts.logs import ContainerLogOptions, LogLine
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.contracts.streams import AttachIO, PortStream
from virtual_kubelet.errors import ProviderError
from virtual_kubelet.objects.core_v1 import Pod
from virtual_kubelet.objects.stats_v1alpha1 import (
    ContainerStats,
    CPUStats,
    MemoryStats,
    NodeStats,
    PodReference,
    PodStats,
    Summary,
    SwapStats,
)
from virtual_kubelet.server.authentication import CertificateAuthenticator, FirstOf, TokenAuthenticator
from virtual_kubelet.server.authorization import AccessReviewAuthorizer
from virtual_kubelet.server.kubelet_api import KubeletServer

pytestmark = pytest.mark.recording

RECORDING = SHARED / "kubelet-1.36" / "http.jsonl"
ROWS: list[dict[str, Any]] = (
    [json.loads(line) for line in RECORDING.read_text().splitlines()] if RECORDING.is_file() else []
)

#: Callers without a client certificate.
ANONYMOUS = {"anonymous", "anonymous healthz", "bad token"}


class PodList(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    kind: str
    apiVersion: str
    metadata: dict[str, Any]
    items: list[Pod]


def answer_to(note: str) -> dict[str, Any]:
    (row,) = [row for row in ROWS if row["note"] == note]
    response: dict[str, Any] = row["response"]
    return response


def recorded_lines() -> list[LogLine]:
    """The log of h1's container a, with its times."""
    lines = []
    for line in answer_to("timestamps")["body"].splitlines(keepends=True):
        time, text = line.split(" ", 1)
        seconds = datetime.fromisoformat(time[:19]).replace(tzinfo=UTC).timestamp()
        lines.append(LogLine(int(seconds) * 10**9 + int(time[20:29]), text.encode()))
    return lines


async def recorded_log(key: PodKey, container: str, options: ContainerLogOptions) -> AsyncIterator[LogLine]:
    """What the containers had written; only what a provider must honour is honoured."""
    if options.previous:
        yield LogLine(1, answer_to("previous of a restarted container")["body"].encode())
        return
    lines = {"h1": recorded_lines(), "h2": [LogLine(1, b"bye\n")]}[key.name]
    for line in lines:
        yield line
    if options.follow:
        await asyncio.Event().wait()


def recorded_summary(note: str) -> Summary:
    """What the provider of a node must say so that the node says what was recorded."""
    return msgspec.json.decode(answer_to(note)["body"], type=Summary)


def recorded_metrics() -> Summary:
    """The same for ``/metrics/resource``, whose times are finer than those of the summary."""
    found: dict[str, dict[tuple[str, str], tuple[float, datetime]]] = {}
    for line in answer_to("resource metrics")["body"].splitlines():
        if not line.startswith("#"):
            name, labels, value, time = re.fullmatch(r"(\w+)(?:{(.*)})? (\S+)(?: (\d+))?", line).groups()  # type: ignore[union-attr]
            told = dict(re.findall(r'(\w+)="(.*?)"', labels or ""))
            milliseconds = timedelta(milliseconds=int(time or 0))
            moment = datetime(1970, 1, 1, tzinfo=UTC) + milliseconds
            found.setdefault(name, {})[told.get("pod", ""), told.get("container", "")] = float(value), moment

    def usage(kind: str, key: tuple[str, str]) -> dict[str, Any]:
        cpu, cpu_time = found[f"{kind}_cpu_usage_seconds_total"][key]
        memory, memory_time = found[f"{kind}_memory_working_set_bytes"][key]
        swap, swap_time = found[f"{kind}_swap_usage_bytes"][key]
        return {
            "cpu": CPUStats(time=cpu_time, usage_core_nano_seconds=round(cpu * 1e9)),
            "memory": MemoryStats(time=memory_time, working_set_bytes=int(memory)),
            "swap": SwapStats(time=swap_time, swap_usage_bytes=int(swap), swap_available_bytes=0),
        }

    def started(key: tuple[str, str]) -> datetime:
        seconds, _ = found["container_start_time_seconds"][key]
        return datetime.fromtimestamp(seconds, UTC)

    pod = ("h1", "")
    containers = [
        ContainerStats(name=key[1], start_time=started(key), **usage("container", key))
        for key in sorted(found["container_cpu_usage_seconds_total"], reverse=True)
    ]
    reference = PodReference(name="h1", namespace="default", uid="u")
    pods = [
        PodStats(pod_ref=reference, start_time=containers[0].start_time, containers=containers, **usage("pod", pod))
    ]
    node = NodeStats(node_name="real-kubelet", start_time=containers[0].start_time, **usage("node", ("", "")))
    return Summary(node=node, pods=pods)


class RecordedProvider(LoggingProvider):
    """Of a node that has what was recorded."""

    async def get_stats_summary(self, *, only_cpu_and_memory: bool) -> Summary:
        assert self.statistics is not None
        if self.statistics == "stats summary":
            words = answer_to(self.statistics)["body"]
            raise ProviderError(words.removeprefix("Internal Error: "))
        if self.statistics == "resource metrics":
            assert only_cpu_and_memory
            return recorded_metrics()
        return recorded_summary(self.statistics)

    #: The row that is asked for.
    statistics: str | None = None

    async def run_in_container(self, key: PodKey, container: str, command: Sequence[str], streams: AttachIO) -> int:
        assert (key.name, container, list(command)) == ("h1", "a", ["id"])
        assert streams.stdout is not None
        await streams.stdout.write(answer_to("run a command")["body"].encode())
        return 0

    async def attach_to_container(self, key: PodKey, container: str, streams: AttachIO) -> None:
        raise AssertionError("nothing recorded gets as far as this")

    async def port_forward(self, key: PodKey, port: int, stream: PortStream) -> None:
        raise AssertionError("nothing recorded gets as far as this")


@pytest.fixture
def provider(runtime_pods: list[Pod]) -> RecordedProvider:
    return RecordedProvider(recorded_log, runtime_pods)


@pytest.fixture
def api_pods() -> list[Pod]:
    return msgspec.json.decode(answer_to("pods")["body"], type=PodList).items


@pytest.fixture
def runtime_pods(api_pods: list[Pod]) -> list[Pod]:
    """The provider's pods, and their containers, in the order in which the kubelet's runtime gave them."""
    chosen = [deepcopy(pod) for name in ("h3", "h4", "h1") for pod in api_pods if pod.metadata.name == name]
    statuses = chosen[-1].status.container_statuses
    assert statuses is not None
    statuses.reverse()
    return chosen


@pytest.fixture
async def address(
    nothing_left: None, serving_context: ssl.SSLContext, api_pods: list[Pod], provider: RecordedProvider
) -> AsyncIterator[tuple[str, int]]:
    reviews = ReviewServer()
    started = re.findall(r"^process_start_time_seconds (\S+)$", answer_to("probe metrics")["body"], re.MULTILINE)
    clock = FixedClock(datetime.fromtimestamp(float(started[0]), UTC))
    server = KubeletServer(
        "real-kubelet",
        provider,
        Pods(api_pods),
        authenticator=FirstOf(CertificateAuthenticator(), TokenAuthenticator(reviews)),
        authorizer=AccessReviewAuthorizer(reviews),
        ssl_context=serving_context,
        clock=clock,
    )
    clock.moment = datetime(2026, 11, 23, 22, 59, 23, tzinfo=UTC)
    (listening,) = await server.start("127.0.0.1", 0)
    yield listening
    await server.aclose(grace=0)
    assert server.log_streams == 0


def test_the_recording_is_there_and_known(shared: Path) -> None:
    assert RECORDING.is_file()
    assert len(ROWS) == 64


@pytest.mark.parametrize("row", [pytest.param(row, id=f"{n} {row['note']}") for n, row in enumerate(ROWS)])
async def test_the_answer_is_the_kubelets(
    row: dict[str, Any],
    address: tuple[str, int],
    provider: RecordedProvider,
    client_context: ssl.SSLContext,
    certified_context: ssl.SSLContext,
) -> None:
    request, recorded, note = row["request"], row["response"], row["note"]
    provider.statistics = note
    headers = [f"{name}: {value}" for name, value in request["headers"].items()]
    if note == "SPDY upgrade offered without versions":
        headers += [f"X-{number}: of the recorder" for number in range(4)]  # its request had six headers
    context = client_context if note in ANONYMOUS else certified_context
    async with await RawClient.open(address, context) as client:
        if "follow=true" in request["path"]:
            client.send(f"{request['method']} {request['path']} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            status, shown = await client.head()
            body = b""
            async with asyncio.timeout(60):
                while len(body) < len(recorded["body"]):
                    body += await client.chunk()
        else:
            status, shown, body = await client.ask(request["method"], request["path"], *headers)

    assert status == recorded["status"]
    shown.pop("date")
    expected = {name.lower(): value for name, value in recorded["headers"].items()}
    assert shown == expected
    if note == "pods":
        # Fields that no type of ours has are not kept in memory; all others must be there.
        theirs = msgspec.json.decode(recorded["body"], type=PodList)
        assert msgspec.json.decode(body, type=PodList) == theirs
        assert body.startswith(b'{"kind":"PodList","apiVersion":"v1","metadata":{},"items":[{"metadata":{')
        assert body.endswith(b"]}\n")
    else:
        assert body.decode() == recorded["body"]
