"""How fast the dev cluster is, alone in its process: start, pod creates, status PATCHes, memory, watch fan-out.

    python bench/dev_cluster_speed.py                      all of it, one JSON line each, then the goals; under a minute
    python bench/dev_cluster_speed.py --only create,patch  some of it: start, up, create, schedule, patch, memory, watch
    python bench/dev_cluster_speed.py --data-dir DIR       with its state kept on disk

The client is one process with ``--connections`` connections and next to no work of its own (raw HTTP/1.1 over TLS);
``cpu_ms`` is the server's CPU time a request, which other work on the machine hardly changes: compare that;
``client_cpu_ms`` is the client's, which must be less, or it is the client that is measured.
``per_second`` is what this machine gave meanwhile; ``per_second_of_cpu`` is what the server can do with a core of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import os
import signal
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

REPOSITORY = Path(__file__).resolve().parent.parent
TICK = os.sysconf("SC_CLK_TCK")
NAMESPACE = "default"
NODE = "bench-node"
#: Of what is measured: with PYTHONDONTWRITEBYTECODE each start would compile everything anew, which takes as long again.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def memory_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


@contextlib.contextmanager
def dev_cluster(arguments: argparse.Namespace) -> Iterator[tuple[subprocess.Popen[str], str, ssl.SSLContext, float]]:
    """The server's process, its URL, TLS for an administrator, and the seconds until it answered."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kubeconfig"
        began = time.perf_counter()
        command = [sys.executable, str(REPOSITORY / "bench/dev_cluster.py"), str(path)]
        if arguments.data_dir:
            command += ["--data-dir", arguments.data_dir]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY, env=ENVIRONMENT)
        try:
            assert server.stdout is not None
            server.stdout.readline()
            ready = time.perf_counter() - began
            content = json.loads(path.read_text())
            yield server, content["clusters"][0]["cluster"]["server"], tls(content, Path(folder)), ready
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(20)


def tls(content: dict[str, Any], folder: Path) -> ssl.SSLContext:
    user = content["users"][0]["user"]
    authority = base64.b64decode(content["clusters"][0]["cluster"]["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=authority)
    pem = folder / "client.pem"
    pem.touch(mode=0o600)
    pem.write_bytes(
        base64.b64decode(user["client-certificate-data"]) + b"\n" + base64.b64decode(user["client-key-data"])
    )
    context.load_cert_chain(pem)
    return context


class Client:
    """One connection; each request waits for its answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self._reader, self._writer, self._host = reader, writer, host

    @classmethod
    async def open(cls, url: str, context: ssl.SSLContext) -> Client:
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, ssl=context, limit=1 << 20)
        return cls(reader, writer, parts.netloc)

    def send(self, method: str, path: str, body: bytes = b"", content_type: str = "application/json") -> None:
        head = f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\nAccept: application/json\r\n"
        if body:
            head += f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        self._writer.write(head.encode() + b"\r\n" + body)

    async def answer(self) -> bytes:
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        status = int(head[9:12])
        if b"content-length: " in head:
            size = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            body = await self._reader.readexactly(size)
        else:
            body = await self._chunks()
        if status >= 300:
            raise RuntimeError(f"{status}: {body[:500].decode()}")
        return body

    async def _chunks(self) -> bytes:
        parts: list[bytes] = []
        while chunk := await self.chunk():
            parts.append(chunk)
        return b"".join(parts)

    async def chunk(self) -> bytes:
        size = int(await self._reader.readline(), 16)
        data = await self._reader.readexactly(size)
        await self._reader.readline()
        return data

    async def head(self) -> None:
        await self._reader.readuntil(b"\r\n\r\n")

    async def call(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> bytes:
        self.send(method, path, b"" if body is None else json.dumps(body).encode(), content_type)
        return await self.answer()

    def close(self) -> None:
        self._writer.close()


def pod(name: str, node: str | None) -> bytes:
    spec: dict[str, Any] = {
        "containers": [
            {
                "name": "main",
                "image": "registry.example/app:1.0",
                "command": ["sh", "-c", "sleep 3600"],
                "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
            }
        ]
    }
    if node:
        spec["nodeName"] = node
    metadata = {"name": name, "labels": {"app": "bench"}}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}).encode()


def status_patch(number: int) -> bytes:
    started = f"2026-01-01T00:{number // 60 % 60:02}:{number % 60:02}Z"
    conditions = [
        {"type": kind, "status": "True", "lastTransitionTime": started}
        for kind in ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    ]
    container = {
        "name": "main",
        "image": "registry.example/app:1.0",
        "imageID": "",
        "containerID": f"bench://{number}",
        "ready": True,
        "started": True,
        "restartCount": 0,
        "state": {"running": {"startedAt": started}},
    }
    status = {
        "phase": "Running",
        "conditions": conditions,
        "containerStatuses": [container],
        "hostIP": "127.0.0.1",
        "podIP": "10.0.0.1",
        "startTime": started,
    }
    return json.dumps({"status": status}).encode()


async def prepare(client: Client) -> None:
    """A node that can take everything."""
    await client.call("POST", "/api/v1/nodes", {"metadata": {"name": NODE}})
    room = {"cpu": "1000000", "memory": "100Ti", "pods": "1000000"}
    now = "2026-01-01T00:00:00Z"
    ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": now, "lastTransitionTime": now}
    status = {"capacity": room, "allocatable": room, "conditions": [ready]}
    merge = "application/merge-patch+json"
    await client.call("PATCH", f"/api/v1/nodes/{NODE}/status", {"status": status}, merge)


async def hammer(
    arguments: argparse.Namespace, url: str, context: ssl.SSLContext, total: int, send: Callable[[Client, int], None]
) -> None:
    """``total`` requests over ``--connections`` connections."""
    numbers = iter(range(total))

    async def work(client: Client) -> None:
        for number in numbers:
            send(client, number)
            await client.answer()

    clients = [await Client.open(url, context) for _ in range(arguments.connections)]
    async with asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(work(client))
    for client in clients:
        client.close()


def loop_us() -> float:
    """CPU time of a fixed loop: how fast this machine is at the moment."""
    began, sum_ = time.process_time(), 0
    for number in range(200_000):
        sum_ += number * number
    return (time.process_time() - began) / 200 * 1e6


async def measured(pid: int, total: int, work: Awaitable[None]) -> dict[str, Any]:
    before = loop_us()
    cpu, own, began = cpu_seconds(pid), time.process_time(), time.perf_counter()
    await work
    client = time.process_time() - own
    seconds, used = time.perf_counter() - began, cpu_seconds(pid) - cpu
    loop = (before + loop_us()) / 2
    return {
        "requests": total,
        "per_second": round(total / seconds),
        "cpu_ms": round(used / total * 1000, 3),
        "client_cpu_ms": round(client / total * 1000, 3),
        "per_second_of_cpu": round(total / used) if used else None,
        "loop_us": round(loop, 1),
        "cpu_loops": round(used / total * 1e6 / loop, 2),
    }


#: Of a benchmark, a value of its line: the least or the most it should be, on an idle machine.
GOALS: dict[tuple[str, str], tuple[str, float]] = {
    ("start", "seconds"): ("<", 1),
    ("up", "seconds"): ("<", 1),
    ("create", "per_second"): (">", 1000),
    ("status-patch", "per_second"): (">", 2000),
    ("memory", "mb"): ("<", 300),
    ("watch", "p99_ms"): ("<", 50),
}
results: list[tuple[bool, str]] = []


def show(name: str, **values: Any) -> None:
    for (benchmark, value), (sign, goal) in GOALS.items():
        if benchmark == name:
            met = values[value] < goal if sign == "<" else values[value] > goal
            results.append((met, f"{name} {value}: {values[value]} ({sign} {goal})"))
    print(json.dumps({"benchmark": f"dev-cluster-{name}", **values}), flush=True)


def start(arguments: argparse.Namespace, name: str, command: list[str], sign: str) -> None:
    """How long ``command``, with a kubeconfig's path behind it, takes to print a line with ``sign`` in it.

    The first start does not count: it may have to compile what has been edited since.
    """
    times, cpu = [], []
    for _ in range(1 + arguments.starts):
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            line = [sys.executable, *command, f"{folder}/kubeconfig"]
            with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, cwd=folder, env=ENVIRONMENT) as process:
                assert process.stdout is not None
                seen = any(sign in said for said in iter(process.stdout.readline, ""))
                times.append(time.perf_counter() - began)
                cpu.append(cpu_seconds(process.pid))
                process.send_signal(signal.SIGTERM)
                process.communicate()
            if not seen:
                raise RuntimeError(f"{command} ended before it was ready")
    times, cpu, median = times[1:], cpu[1:], statistics.median
    show(name, seconds=round(median(times), 3), worst=round(max(times), 3), cpu_seconds=median(cpu), runs=len(times))


async def create(arguments: argparse.Namespace, node: str | None, name: str) -> None:
    path = f"/api/v1/namespaces/{NAMESPACE}/pods"
    with dev_cluster(arguments) as (server, url, context, _):
        first = await Client.open(url, context)
        await prepare(first)
        work = hammer(
            arguments, url, context, arguments.pods, lambda c, n: c.send("POST", path, pod(f"pod-{n:06}", node))
        )
        result = await measured(server.pid, arguments.pods, work)
        show(name, connections=arguments.connections, **result)
        first.close()


async def patch(arguments: argparse.Namespace) -> None:
    pods, rounds = f"/api/v1/namespaces/{NAMESPACE}/pods", max(1, arguments.patches // 1000)
    with dev_cluster(arguments) as (server, url, context, _):
        first = await Client.open(url, context)
        await prepare(first)
        for number in range(1000):
            first.send("POST", pods, pod(f"pod-{number:06}", NODE))
            await first.answer()
        kind, bodies = "application/strategic-merge-patch+json", [status_patch(n) for n in range(rounds)]

        def send(client: Client, number: int) -> None:
            client.send("PATCH", f"{pods}/pod-{number % 1000:06}/status", bodies[number // 1000], kind)

        total = rounds * 1000
        result = await measured(server.pid, total, hammer(arguments, url, context, total, send))
        show("status-patch", connections=arguments.connections, **result)
        first.close()


async def memory(arguments: argparse.Namespace) -> None:
    pods = f"/api/v1/namespaces/{NAMESPACE}/pods"
    with dev_cluster(arguments) as (server, url, context, _):
        first = await Client.open(url, context)
        await prepare(first)
        before, total = memory_mb(server.pid), 10_000
        body = status_patch(1)
        await hammer(arguments, url, context, total, lambda c, n: c.send("POST", pods, pod(f"pod-{n:06}", None)))
        kind = "application/strategic-merge-patch+json"
        await hammer(
            arguments, url, context, total, lambda c, n: c.send("PATCH", f"{pods}/pod-{n:06}/status", body, kind)
        )
        full = memory_mb(server.pid)
        await first.call("GET", "/api/v1/pods")
        show(
            "memory",
            pods=total,
            empty_mb=round(before, 1),
            mb=round(full, 1),
            after_list_mb=round(memory_mb(server.pid), 1),
        )
        first.close()


async def watch(arguments: argparse.Namespace) -> None:
    pods = f"/api/v1/namespaces/{NAMESPACE}/pods"
    with dev_cluster(arguments) as (server, url, context, _):
        first = await Client.open(url, context)
        await prepare(first)
        first.send("POST", pods, pod("watched", NODE))
        await first.answer()
        watchers = [await Client.open(url, context) for _ in range(arguments.watchers)]
        for watcher in watchers:
            watcher.send("GET", f"{pods}?watch=true")
            await watcher.head()
            await watcher.chunk()
        times: list[float] = []
        cpu, kind = cpu_seconds(server.pid), "application/merge-patch+json"
        for number in range(arguments.events):
            began = time.perf_counter()
            body = json.dumps({"metadata": {"labels": {"n": str(number)}}}).encode()
            first.send("PATCH", f"{pods}/watched", body, kind)
            await asyncio.gather(*(watcher.chunk() for watcher in watchers))
            times.append((time.perf_counter() - began) * 1000)
            await first.answer()
        used = cpu_seconds(server.pid) - cpu
        for client in (first, *watchers):
            client.close()
    show(
        "watch",
        watchers=len(watchers),
        events=len(times),
        median_ms=round(statistics.median(times), 2),
        p99_ms=round(sorted(times)[int(len(times) * 0.99)], 2),
        cpu_ms=round(used / len(times) * 1000, 2),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="start,up,create,schedule,patch,memory,watch")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--pods", type=int, default=5000)
    parser.add_argument("--patches", type=int, default=10_000)
    parser.add_argument("--watchers", type=int, default=100)
    parser.add_argument("--events", type=int, default=200)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--data-dir", metavar="DIR", help="must be empty; the state is kept there")
    arguments = parser.parse_args()
    for name in arguments.only.split(","):
        match name:
            case "start":
                start(arguments, "start", [str(REPOSITORY / "bench/dev_cluster.py")], "kubeconfig")
            case "up":
                up = ["-m", "virtual_kubelet", "up", "--kubeconfig-out"]
                start(arguments, "up", up, "export KUBECONFIG")
            case "create":
                asyncio.run(create(arguments, NODE, "create"))
            case "schedule":
                asyncio.run(create(arguments, None, "create-and-schedule"))
            case "patch":
                asyncio.run(patch(arguments))
            case "memory":
                asyncio.run(memory(arguments))
            case "watch":
                asyncio.run(watch(arguments))
            case _:
                parser.error(f"no benchmark {name!r}")
    for met, text in results:
        print("met " if met else "MISS", text, flush=True)


if __name__ == "__main__":
    main()
