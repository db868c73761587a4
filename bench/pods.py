"""Pods bound to one mock node, created as fast as can be: pods/s, CPU a pod, latency, memory, deletion, idling.

    python bench/pods.py                                   the dev cluster
    python bench/pods.py --server debian                   a real control plane (tools/kubernetes/up)
    python bench/pods.py --kubeconfig FILE                 any cluster (an administrator's kubeconfig)
    python bench/pods.py --pods 10000 --idle 30            memory and idle CPU

One JSON line for each subject: ``bare-loop`` (bench/bare_loop.py, the yardstick: run in the same breath on the same
server) and ``virtual-kubelet`` (the real command). Pods/s counts from the first create to the last Running that a
watch saw; CPU is that of the subject's process from then until the last Running; latency from a create's answer to the
watch's Running. Nothing here asserts: compare lines, on an idle machine, several runs.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))
from bench.connection import connect  # noqa: E402

TICK = os.sysconf("SC_CLK_TCK")
NAMESPACE = "bench"


class Meta(msgspec.Struct):
    name: str = ""
    resourceVersion: str = ""


class PodStatus(msgspec.Struct):
    phase: str | None = None


class Pod(msgspec.Struct):
    metadata: Meta
    status: PodStatus


class Event(msgspec.Struct):
    type: str
    object: Pod


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def memory_mb(pid: int) -> float:
    _, found, rest = Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")
    if not found:
        raise SystemExit(f"process {pid}, which is measured, has ended")
    return int(rest.split()[0]) / 1024


@contextlib.contextmanager
def process(command: list[str], ready: str, **kwargs: Any) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A child that has printed a line with ``ready`` in it; ended with SIGTERM."""
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY, **kwargs)
    assert child.stdout is not None
    try:
        for line in child.stdout:
            if ready in line:
                yield child, line.strip()
                break
        else:
            raise SystemExit(f"{command[0]} ended with {child.wait()} before it was ready")
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


class Measurement:
    """One run of one subject on one node of its own."""

    def __init__(self, session: aiohttp.ClientSession, url: str, node: str, pods: int, in_flight: int) -> None:
        self.session, self.url, self.node, self.pods, self.in_flight = session, url, node, pods, in_flight
        self.created: dict[str, float] = {}
        self.running: dict[str, float] = {}
        self.gone: set[str] = set()
        self.progress = asyncio.Event()

    async def watch(self) -> None:
        """Note when each pod is first seen Running, and when it is gone; begun again where the server ends it."""
        query = {"fieldSelector": f"spec.nodeName={self.node}", "watch": "1"}
        decoder = msgspec.json.Decoder(Event)
        timeout = aiohttp.ClientTimeout(total=None)
        while True:
            async with self.session.get(f"{self.url}/api/v1/pods", params=query, timeout=timeout) as answer:
                answer.raise_for_status()
                rest = b""
                async for chunk in answer.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    now = time.monotonic()
                    for line in lines:
                        event = decoder.decode(line)
                        name = event.object.metadata.name
                        query["resourceVersion"] = event.object.metadata.resourceVersion
                        if event.type == "DELETED":
                            self.gone.add(name)
                        elif event.object.status.phase == "Running":
                            self.running.setdefault(name, now)
                    self.progress.set()

    async def until(self, done: Any, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                while not done():
                    self.progress.clear()
                    await self.progress.wait()
        except TimeoutError:
            return False
        return True

    async def each(self, names: list[str], request: Any) -> None:
        pending = iter(names)

        async def worker() -> None:
            for name in pending:
                await request(name)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(self.in_flight):
                tasks.create_task(worker())

    async def create(self, name: str) -> None:
        body = {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {
                "nodeName": self.node, "automountServiceAccountToken": False,
                "tolerations": [{"operator": "Exists"}],
                "containers": [{"name": "main", "image": "busybox", "command": ["sleep", "infinity"]}],
            },
        }  # fmt: skip
        async with self.session.post(f"{self.url}/api/v1/namespaces/{NAMESPACE}/pods", json=body) as answer:
            if answer.status != 201:
                raise SystemExit(f"creating a pod: {answer.status} {await answer.text()}")
            await answer.read()
        self.created[name] = time.monotonic()

    async def delete(self, name: str) -> None:
        async with self.session.delete(f"{self.url}/api/v1/namespaces/{NAMESPACE}/pods/{name}") as answer:
            await answer.read()


async def exists(session: aiohttp.ClientSession, url: str, path: str, body: dict[str, Any]) -> None:
    async with session.post(url + path, json=body) as answer:
        if answer.status not in (201, 409):
            raise SystemExit(f"{path}: {answer.status} {await answer.text()}")


async def measure(args: argparse.Namespace, subject: str, kubeconfig: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as directory:
        return await measure_in(directory, args, subject, kubeconfig)


async def measure_in(directory: str, args: argparse.Namespace, subject: str, kubeconfig: Path) -> dict[str, Any]:
    node = f"bench-{subject}-{os.getpid()}"
    session, url = connect(kubeconfig, args.in_flight + 4)
    async with session:
        await exists(session, url, "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/default"
        for _ in range(100):
            async with session.get(url + path) as answer:
                if answer.status == 200:
                    break
            await asyncio.sleep(0.1)
        if subject == "bare-loop":
            await exists(session, url, "/api/v1/nodes", {"metadata": {"name": node}})
            command = [sys.executable, "bench/bare_loop.py", str(kubeconfig), node]
            ready = "ready"
        else:
            command = [
                sys.executable,
                "-m",
                "virtual_kubelet",
                "run",
                "--kubeconfig",
                str(kubeconfig),
                "--nodename",
                node,
            ]
            room = Path(directory) / "mock.json"  # by default it has room for 20 pods
            room.write_text(json.dumps({node: {"cpu": "1M", "memory": "1Pi", "pods": "1M"}}))
            command += ["--provider", "mock", "--provider-config", str(room)]
            command += ["--listen", "127.0.0.1:0", "--node-ip", "127.0.0.1", *args.option]
            ready = "is Ready"
        with process(command, ready, stderr=None if args.verbose else subprocess.DEVNULL) as (child, _):
            run = Measurement(session, url, node, args.pods, args.in_flight)
            watcher = asyncio.create_task(run.watch())
            await asyncio.sleep(1)
            names = [f"{node}-{i}" for i in range(args.pods)]
            cpu, first = cpu_seconds(child.pid), time.monotonic()
            await run.each(names, run.create)
            created = time.monotonic() - first
            complete = await run.until(lambda: len(run.running) >= args.pods, args.timeout)
            took = max(run.running.values(), default=first) - first
            used = cpu_seconds(child.pid) - cpu
            latency = sorted(max(0.0, run.running[n] - run.created[n]) for n in run.running)
            result: dict[str, Any] = {
                "subject": subject, "server": args.kubeconfig or args.server, "pods": args.pods,
                "running": len(run.running), "pods_per_s": round(len(run.running) / took, 1) if took else 0,
                "creates_per_s": round(args.pods / created, 1), "cpu_ms_per_pod": round(used * 1000 / args.pods, 3),
                "latency_ms": {f"p{p}": round(latency[min(len(latency) - 1, len(latency) * p // 100)] * 1000, 1)
                               for p in (50, 90, 99)} if latency else None,
                "rss_mb": round(memory_mb(child.pid), 1),
            }  # fmt: skip
            if args.idle and complete:
                await asyncio.sleep(10)  # let events and status writes settle
                cpu = cpu_seconds(child.pid)
                await asyncio.sleep(args.idle)
                result["idle_cpu_percent"] = round((cpu_seconds(child.pid) - cpu) * 100 / args.idle, 2)
                result["rss_mb_settled"] = round(memory_mb(child.pid), 1)
            first = time.monotonic()
            await run.each(names, run.delete)
            result["deletes_sent_s"] = round(time.monotonic() - first, 2)
            await run.until(lambda: len(run.gone) >= args.pods, args.timeout)
            result["gone"], result["all_gone_s"] = len(run.gone), round(time.monotonic() - first, 2)
            watcher.cancel()
        async with session.delete(f"{url}/api/v1/nodes/{node}") as answer:
            await answer.read()
    return result


@contextlib.contextmanager
def server(args: argparse.Namespace) -> Iterator[Path]:
    if args.kubeconfig:
        yield Path(args.kubeconfig)
        return
    with tempfile.TemporaryDirectory() as directory:
        if args.server == "dev":
            command = [sys.executable, "bench/dev_cluster.py", f"{directory}/kubeconfig"]
            with process(command, "kubeconfig") as (_, path):
                yield Path(path)
            return
        up = [str(REPOSITORY / "tools/kubernetes/up"), directory]
        try:
            yield Path(subprocess.run(up, check=True, stdout=subprocess.PIPE, text=True).stdout.strip())
        finally:
            subprocess.run([*up, "--stop"], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", choices=["dev", "debian"], default="dev")
    parser.add_argument("--kubeconfig", help="an administrator's kubeconfig of any cluster, instead of --server")
    parser.add_argument("--subject", action="append", choices=["bare-loop", "virtual-kubelet"])
    parser.add_argument("--pods", type=int, default=500)
    parser.add_argument("--runs", type=int, default=1, help="rounds, the subjects in turn")
    parser.add_argument("--in-flight", type=int, default=16, help="creates (and deletes) under way at once")
    parser.add_argument("--idle", type=float, default=0, metavar="SECONDS", help="also measure idling with all pods")
    parser.add_argument("--timeout", type=float, default=300, metavar="SECONDS")
    parser.add_argument("--option", action="append", default=[], help="one more argument for `virtual-kubelet run`")
    parser.add_argument("--verbose", action="store_true", help="show the subject's log")
    args = parser.parse_args()
    with server(args) as kubeconfig:
        for _ in range(args.runs):
            for subject in args.subject or ["bare-loop", "virtual-kubelet"]:
                result = asyncio.run(measure(args, subject, kubeconfig))
                result["own_cpu_s"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_utime, 2)
                print(json.dumps(result), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
