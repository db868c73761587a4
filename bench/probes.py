"""What probes cost: the node's CPU while thousands of containers are probed, and memory for each probe.

    python bench/probes.py [--probes 10000] [--period 10] [--seconds 30] [--kind tcp|http|exec|grpc|nothing]

The containers are one server in a process of its own, so that only the prober is measured; ``exec`` asks a runtime that
answers at once, and ``nothing`` runs no probe at all (the schedule alone). Prints one JSON line: ``cpu_percent`` of one core
while all are probed, ``cpu_us_per_run``, ``kb_per_probe``, and how many runs there were and failed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import random
import socket
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from virtual_kubelet.clock import SystemClock
from virtual_kubelet.contracts.streams import AttachIO
from virtual_kubelet.objects.core_v1 import (
    Container,
    ExecAction,
    GRPCAction,
    HTTPGetAction,
    Pod,
    PodSpec,
    Probe,
    TCPSocketAction,
)
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.runtime.bounded_call import LeftBehind
from virtual_kubelet.runtime.probe_state import ProbeResult
from virtual_kubelet.runtime.probes.execute import execute_probe
from virtual_kubelet.runtime.probes.target import ContainerTarget, Outcome, ProbeAnswer
from virtual_kubelet.runtime.probing import Prober

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def serve(kind: str, port_to: Connection) -> None:
    """The containers: until the process is ended."""

    def plain() -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
            port_to.send(listener.getsockname()[1])
            while True:
                connection, _ = listener.accept()
                with connection:
                    if kind == "http" and connection.recv(4096):
                        connection.sendall(ANSWER)

    async def health() -> None:
        import grpc

        async def check(request: bytes, context: Any) -> bytes:
            return b"\x08\x01"

        server = grpc.aio.server()
        handler = grpc.unary_unary_rpc_method_handler(check)
        handlers = grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": handler})
        server.add_generic_rpc_handlers((handlers,))
        port_to.send(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        await server.wait_for_termination()

    if kind == "grpc":
        asyncio.run(health())
    else:
        plain()


def probe_of(kind: str, port: int, period: int) -> Probe:
    probe = Probe(period_seconds=period, timeout_seconds=5)
    if kind == "http":
        probe.http_get = HTTPGetAction(port=port, path="/healthz")
    elif kind == "tcp":
        probe.tcp_socket = TCPSocketAction(port=port)
    elif kind == "grpc":
        probe.grpc = GRPCAction(port=port)
    else:
        probe.exec = ExecAction(command=["true"])
    return probe


async def exec_command(container_id: str, command: Sequence[str], streams: AttachIO) -> int:
    return 0


async def nothing(probe: Probe, target: ContainerTarget, left: LeftBehind) -> ProbeAnswer:
    return ProbeAnswer(Outcome.SUCCESS)


def resident() -> int:
    """Bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def measure(kind: str, port: int, probes: int, period: int, seconds: float) -> dict[str, Any]:
    prober = Prober(clock=SystemClock(), execute=nothing if kind == "nothing" else execute_probe)
    failures = 0

    def event(container: str, event_type: str, reason: str, message: str) -> None:
        nonlocal failures
        failures += 1

    def result(container: str, *changed: Any) -> None:
        assert changed[1] is not ProbeResult.UNKNOWN

    before = resident()
    containers = [Container(name=f"c{n}", readiness_probe=probe_of(kind, port, period)) for n in range(probes)]
    async with asyncio.TaskGroup() as tasks:
        end = asyncio.Event()

        async def pod(number: int, container: Container) -> None:
            meta = ObjectMeta(name=f"p{number}", namespace="default", uid=f"u{number}")
            described = Pod(metadata=meta, spec=PodSpec(containers=[container]))
            async with prober.pod(described, on_result=result, on_event=event) as probing:
                target = ContainerTarget(described, container, f"id{number}", "127.0.0.1", exec_command)
                probing.adopt(target, prober.clock.monotonic() - random.random(), started=True, ready=True)
                await end.wait()

        for number, container in enumerate(containers):
            tasks.create_task(pod(number, container))
        await asyncio.sleep(period + 1)  # each has had its first run
        counted = sum(sum(one.results.values()) for one in prober.statistics())
        cpu, began = time.process_time(), time.perf_counter()
        await asyncio.sleep(seconds)
        cpu, took = time.process_time() - cpu, time.perf_counter() - began
        runs = sum(sum(one.results.values()) for one in prober.statistics()) - counted
        memory = resident() - before
        end.set()
    return {
        "kind": kind,
        "probes": probes,
        "period_s": period,
        "runs_per_s": round(runs / took),
        "cpu_percent": round(100 * cpu / took, 1),
        "cpu_us_per_run": round(1e6 * cpu / max(1, runs)),
        "kb_per_probe": round(memory / probes / 1024, 1),
        "failures": failures,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--probes", type=int, default=10_000)
    parser.add_argument("--period", type=int, default=10, help="seconds")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--kind", choices=["tcp", "http", "exec", "grpc", "nothing"], default="tcp")
    arguments = parser.parse_args()
    receiver, sender = multiprocessing.Pipe(duplex=False)
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(arguments.kind, sender), daemon=True)
    server.start()
    try:
        port = receiver.recv()
        line = asyncio.run(measure(arguments.kind, port, arguments.probes, arguments.period, arguments.seconds))
    finally:
        server.terminate()
        server.join()
    print(json.dumps(line))


if __name__ == "__main__":
    main()
