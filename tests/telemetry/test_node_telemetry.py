"""What a whole node logs and traces: each line and span knows whose work it is, a provider's own included."""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.contract.scenarios import eventually
from virtual_kubelet.contracts.context import ProviderContext
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.devcluster import DevCluster
from virtual_kubelet.kube.client import ApiClient
from virtual_kubelet.kube.kubeconfig import load_kubeconfig
from virtual_kubelet.kube.resources import PODS
from virtual_kubelet.kubelet import Kubelet, KubeletConfig, OnShutdown
from virtual_kubelet.objects.core_v1 import Container, Pod, PodSpec
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.providers.mock import MockProvider
from virtual_kubelet.providers.process import ProcessProvider
from virtual_kubelet.telemetry.logs import JsonFormatter, get_logger

pytestmark = pytest.mark.may_block  # kubeconfigs are written and read

NODE = "node-a"


class Talking(MockProvider):
    """Logs and traces on its own, with what its context gave it and with plain ``logging``."""

    def __init__(self, context: ProviderContext) -> None:
        super().__init__(context)
        self.context = context

    async def create_pod(self, pod: Pod) -> None:
        with self.context.tracer.start_as_current_span("backend call"):
            self.context.logger.info("hello from the provider")
            await super().create_pod(pod)


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Where the spans of this test go: the program's tracer provider can be set once in a process."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    monkeypatch.setattr(trace, "get_tracer", lambda name: provider.get_tracer(name))
    return exporter


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    """Every line that is logged, as ``--log-format json`` writes it."""
    kept: list[dict[str, Any]] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            kept.append(json.loads(self.format(record)))

    handler = Keep()
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("virtual_kubelet")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield kept
    logger.removeHandler(handler)
    logger.setLevel(level)


async def run_pods(folder: Path, provider: Any, *pods: Pod, until: str) -> list[Pod]:
    """The pods on a node of their own, created one after another, until each has that phase, and deleted."""
    async with DevCluster() as dev:
        for name, text in (("admin", dev.kubeconfig()), ("node", dev.node_kubeconfig(NODE))):
            (folder / name).write_text(text)
        kubelet = Kubelet(
            KubeletConfig(
                provider=provider,
                node_name=NODE,
                client_config=load_kubeconfig(folder / "node"),
                listen_host="127.0.0.1",
                listen_port=0,
                state_directory=folder / "state",
                on_shutdown=[OnShutdown.DRAIN],
            )
        )
        running = asyncio.create_task(kubelet.run())
        try:
            await kubelet.wait_ready(60)
            async with ApiClient(load_kubeconfig(folder / "admin")) as admin:
                made = []
                for pod in pods:
                    made.append(await admin.create(PODS, pod, "default"))

                    async def reached(name: str = pod.metadata.name or "") -> bool:
                        return (await admin.get(PODS, name, "default")).status.phase == until

                    await eventually(reached, seconds=60)
                return made
        finally:
            running.cancel()
            await asyncio.wait({running})


def pod(name: str, *command: str) -> Pod:
    return Pod(
        metadata=ObjectMeta(name=f"{name}-{uuid.uuid4().hex[:6]}"),
        spec=PodSpec(
            node_name=NODE,
            restart_policy="Never",
            containers=[Container(name="main", image="none", command=list(command) or None)],
        ),
    )


def parent(one: ReadableSpan, all_of_them: tuple[ReadableSpan, ...]) -> ReadableSpan | None:
    return next((s for s in all_of_them if one.parent and s.context.span_id == one.parent.span_id), None)


async def test_syncs_provider_calls_and_api_calls_have_spans_and_a_providers_own_are_within(
    tmp_path: Path, spans: InMemorySpanExporter
) -> None:
    (made,) = await run_pods(tmp_path, Talking, pod("p"), until="Running")
    done = spans.get_finished_spans()
    (backend,) = [s for s in done if s.name == "backend call"]
    call = parent(backend, done)
    assert call is not None
    assert call.name == "create_pod"
    sync = parent(call, done)
    assert sync is not None
    assert sync.name == "sync pod"
    assert dict(sync.attributes or {}) == {"namespace": "default", "pod": made.metadata.name}
    assert {"api create", "api patch", "ping"} <= {s.name for s in done}


async def test_lines_about_a_pod_carry_node_namespace_name_and_uid_a_providers_included(
    tmp_path: Path, lines: list[dict[str, Any]]
) -> None:
    made = await run_pods(tmp_path, Talking, pod("a"), pod("b"), until="Running")
    said = [row for row in lines if row["message"] == "hello from the provider"]
    assert [(row["node"], row["namespace"], row["pod"], row["uid"]) for row in said] == [
        (NODE, "default", one.metadata.name, one.metadata.uid) for one in made
    ]
    assert all(row["logger"].startswith("virtual_kubelet.providers.") for row in said)
    (ready,) = [row for row in lines if row["message"] == "node is Ready"]
    assert (ready["node"], ready.get("pod")) == (NODE, None)


async def test_a_pod_that_outlives_the_call_that_brought_it_lends_nobody_its_name_or_its_span(
    tmp_path: Path, lines: list[dict[str, Any]], spans: InMemorySpanExporter
) -> None:
    heard = get_logger("virtual_kubelet.tests")

    class Listening(ProcessProvider):
        def __init__(self, context: ProviderContext) -> None:
            super().__init__(context, allow_host_processes=True)

        def notify_pods(self, callback: Any) -> None:
            def take(key: PodKey, status: Any, **options: Any) -> None:
                heard.info("status", extra={"about": key.uid})
                callback(key, status, **options)

            super().notify_pods(take)

    # The first pod's request opens the connection to the supervisor, by which the second one's end is told.
    await run_pods(tmp_path, Listening, pod("a", "true"), pod("b", "sh", "-c", "exit 0"), until="Succeeded")
    said = [row for row in lines if row["message"] == "status"]
    assert len({row["about"] for row in said}) == 2
    assert [row["uid"] for row in said] == [row["about"] for row in said]
    assert all(row["node"] == NODE for row in said)
    done = spans.get_finished_spans()
    for one in [s for s in done if s.name == "sync containers"]:
        assert parent(one, done) is None
