"""Streams through the whole chain: kubectl, an API server, a node with real processes: MB/s, and the node's CPU a MB.

    python bench/streams_through.py                        the dev cluster
    python bench/streams_through.py --server debian        a real control plane (tools/kubernetes/up)
    bench/stream_node/build FILE                           the yardstick: Kubernetes' own Go code (Debian's source)
    python bench/streams_through.py --yardstick FILE …     … in the same breath
    python bench/streams_through.py --sessions 1000        exec sessions, half of them cut: what is left afterwards

One JSON line for each subject. CPU is that of the node's process alone, without the commands in its containers. kubectl
and the API server need more of it than the node, so MB/s on two cores says how little the node is in their way, and
``cpu_ms_per_mb`` what it costs. Nothing here asserts: compare lines.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))
from bench.connection import connect  # noqa: E402
from bench.pods import NAMESPACE, cpu_seconds, exists, memory_mb, process  # noqa: E402

from tests.contract.identities import sign  # noqa: E402

#: Says its port; sends as many bytes as a line of a client's asks for.
SOURCE = """
import socketserver
class Send(socketserver.StreamRequestHandler):
    def handle(self):
        left, piece = int(self.rfile.readline()), bytes(65536)
        while left > 0:
            self.wfile.write(piece[:left]); left -= len(piece)
with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Send) as server:
    print(server.server_address[1], flush=True)
    server.serve_forever()
"""
LINES = (
    "i=0; while [ $i -lt {} ]; do i=$((i+1)); "
    "seq -f 'line of a log, as long as they are usually, and its number %010.0f' 1 10000; done"
)


class Chain:
    """kubectl of an administrator, and one node's process."""

    def __init__(self, kubeconfig: Path, pid: int, megabytes: int, environment: dict[str, str]) -> None:
        self.line = ["kubectl", "--kubeconfig", str(kubeconfig), "--namespace", NAMESPACE]
        self.pid, self.megabytes, self.environment = pid, megabytes, {**os.environ, **environment}

    async def kubectl(self, *args: str, stdin: Any = subprocess.DEVNULL, out: Any = subprocess.DEVNULL) -> None:
        child = await asyncio.create_subprocess_exec(
            *self.line, *args, stdin=stdin, stdout=out, stderr=subprocess.PIPE, env=self.environment
        )
        _, said = await child.communicate()
        if child.returncode:
            raise SystemExit(f"kubectl {' '.join(args)}: {said.decode()}")

    async def measured(self, work: Callable[[], Awaitable[int]]) -> dict[str, float]:
        """Megabytes a second, and the node's CPU for one; ``work`` gives its bytes."""
        cpu, began = cpu_seconds(self.pid), time.monotonic()
        megabytes = await work() / 1e6
        took, used = time.monotonic() - began, cpu_seconds(self.pid) - cpu
        return {
            "mb": megabytes,
            "mb_per_s": round(megabytes / took, 1),
            "cpu_ms_per_mb": round(used * 1000 / megabytes, 2),
        }

    async def exec_out(self) -> int:
        size = self.megabytes * 1_000_000
        await self.kubectl("exec", "p", "--", "head", "-c", str(size), "/dev/zero")
        return size

    async def exec_in(self) -> int:
        size = self.megabytes * 1_000_000
        with tempfile.TemporaryFile() as file:
            file.truncate(size)
            await self.kubectl("exec", "-i", "p", "--", "sh", "-c", "cat >/dev/null", stdin=file)
        return size

    async def port_forward(self, port: int) -> int:
        size = self.megabytes * 1_000_000
        child = await asyncio.create_subprocess_exec(
            *self.line, "port-forward", "p", f":{port}", stdout=subprocess.PIPE, env=self.environment
        )
        assert child.stdout is not None
        try:
            local = int((await child.stdout.readline()).split(b" -> ")[0].rpartition(b":")[2])
            reader, writer = await asyncio.open_connection("127.0.0.1", local)
            writer.write(b"%d\n" % size)
            left = size
            while left and (data := await reader.read(1 << 20)):
                left -= len(data)
            writer.close()
            return size - left
        finally:
            child.terminate()
            await child.wait()

    async def logs(self, pod: str) -> int:
        reading, writing = os.pipe()
        counted = asyncio.get_running_loop().run_in_executor(None, _count, reading)
        try:
            await self.kubectl("logs", pod, "-c", "main", out=writing)
        finally:
            os.close(writing)
        return await counted


def _count(descriptor: int) -> int:
    size = 0
    with open(descriptor, "rb", buffering=0) as file:
        while data := file.read(1 << 20):
            size += len(data)
    return size


async def sessions(chain: Chain, count: int, rounds: int) -> dict[str, Any]:
    """Rounds of ``kubectl exec``, some at a time, every other one killed amid its work; how the node is after each.

    The first round brings a process to its working size; what a session leaves behind shows in those after it.
    """
    few = asyncio.Semaphore(8)

    async def one(number: int) -> None:
        async with few:
            child = await asyncio.create_subprocess_exec(
                *chain.line, "exec", "-i", "p", "--", "cat",
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=chain.environment,
            )  # fmt: skip
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(b"x\n")
            await child.stdout.readline()
            if number % 2:
                child.kill()
            await child.communicate(b"")  # its input ends

    def state() -> dict[str, float]:
        children = Path(f"/proc/{chain.pid}/task/{chain.pid}/children").read_text().split()
        return {
            "descriptors": len(os.listdir(f"/proc/{chain.pid}/fd")),
            "threads": len(os.listdir(f"/proc/{chain.pid}/task")),
            "children": len(children),
            "rss_mb": round(memory_mb(chain.pid), 1),
        }

    async def settled() -> dict[str, float]:
        await asyncio.sleep(20)  # the API server keeps connections that it has used
        return state()

    await asyncio.gather(*map(one, range(50)))
    states, rates = [await settled()], []
    for _ in range(rounds):
        began = time.monotonic()
        await asyncio.gather(*map(one, range(count)))
        rates.append(round(count / (time.monotonic() - began), 1))
        states.append(await settled())
    return {"sessions_a_round": count, "sessions_per_s": rates, "states": states}


async def output_of(command: list[str]) -> bytes:
    child = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    out, _ = await child.communicate()
    if child.returncode:
        raise SystemExit(f"{command[0]} ended with {child.returncode}")
    return out


async def put_pods(kubeconfig: Path, node: str, pods: dict[str, list[str]], *, status: bool) -> None:
    """Pods that are bound to the node, each with one command; running by decree if nobody else says so."""
    session, url = connect(kubeconfig, 4)
    async with session:
        await exists(session, url, "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        account = f"{url}/api/v1/namespaces/{NAMESPACE}/serviceaccounts/default"
        for _ in range(200):
            async with session.get(account) as answer:
                if answer.status == 200 and (NAMESPACE in await answer.text()):
                    break
            await asyncio.sleep(0.1)
        for name, command in pods.items():
            path = f"{url}/api/v1/namespaces/{NAMESPACE}/pods/{name}"
            async with session.delete(path, params={"gracePeriodSeconds": "0"}):
                pass
            spec = {
                "nodeName": node, "restartPolicy": "Never", "tolerations": [{"operator": "Exists"}],
                "containers": [{"name": "main", "image": "none", "command": command}],
            }  # fmt: skip
            for _ in range(100):
                body = {"metadata": {"name": name}, "spec": spec}
                async with session.post(path.rpartition("/")[0], json=body) as answer:
                    if answer.status == 201:
                        break
                    said = await answer.text()
                await asyncio.sleep(0.2)
            else:
                raise SystemExit(f"pod {name} cannot be created: {said}")
            if status:
                running = {"phase": "Running", "containerStatuses": [{"name": "main", "image": "", "imageID": "",
                           "ready": True, "restartCount": 0, "state": {"running": {}}}]}  # fmt: skip
                headers = {"Content-Type": "application/merge-patch+json"}
                async with session.patch(f"{path}/status", json={"status": running}, headers=headers) as answer:
                    answer.raise_for_status()
        for name in pods:
            # The one that writes the log has to have written it.
            wanted = "Succeeded" if name == "l" and not status else "Running"
            for _ in range(3000):
                async with session.get(f"{url}/api/v1/namespaces/{NAMESPACE}/pods/{name}") as answer:
                    if (await answer.json()).get("status", {}).get("phase") == wanted:
                        break
                await asyncio.sleep(0.1)
            else:
                raise SystemExit(f"pod {name} is not {wanted}")


async def declare(kubeconfig: Path, node: str, port: int) -> None:
    """The Node of a program that does not say so itself."""
    session, url = connect(kubeconfig, 2)
    async with session:
        await exists(session, url, "/api/v1/nodes", {"metadata": {"name": node}})
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        }
        headers = {"Content-Type": "application/merge-patch+json"}
        async with session.patch(f"{url}/api/v1/nodes/{node}/status", json={"status": status}, headers=headers) as sent:
            sent.raise_for_status()


async def measure(arguments: argparse.Namespace, subject: str, kubeconfig: Path, pki: Path) -> dict[str, Any]:
    node = f"bench-{subject}-{os.getpid()}"
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        certificate, key = sign(
            (pki / "ca.crt").read_bytes(), (pki / "ca.key").read_bytes(), "system:node", ips=["127.0.0.1"]
        )
        (folder / "tls.crt").write_bytes(certificate)
        (folder / "tls.key").write_bytes(key)
        files = ["--tls-cert-file", str(folder / "tls.crt"), "--tls-private-key-file", str(folder / "tls.key")]
        source = [sys.executable, "-c", SOURCE]
        lines = LINES.format(arguments.megabytes // 2)  # about as many megabytes
        pods = {"p": source, "l": ["sh", "-c", lines]}
        if subject == "virtual-kubelet":
            (folder / "provider.yaml").write_text("maxLogBytes: 4000000000\n")
            command = [
                sys.executable, "-m", "virtual_kubelet", "run", "--kubeconfig", str(kubeconfig), "--nodename", node,
                "--provider", "process", "--allow-host-processes", "--state-dir", str(folder / "state"),
                "--provider-config", str(folder / "provider.yaml"), "--listen", "127.0.0.1:0", "--node-ip", "127.0.0.1",
                "--on-shutdown", "drain", "--drain-timeout", "1s", *files, *arguments.option,
            ]  # fmt: skip
            log = None if arguments.verbose else subprocess.DEVNULL
            child, _ = stack.enter_context(process(command, "is Ready", stderr=log))
            await put_pods(kubeconfig, node, pods, status=False)
        else:
            (folder / "log").write_bytes(await output_of(["sh", "-c", lines]))
            environment = {**os.environ, "LOG_FILE": str(folder / "log")}
            child, port = stack.enter_context(process([str(arguments.yardstick), *files], "", env=environment))
            await declare(kubeconfig, node, int(port))
            await put_pods(kubeconfig, node, {"p": ["none"], "l": ["none"]}, status=True)
        environment = {} if arguments.transport == "websocket" else dict.fromkeys(
            ("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "KUBECTL_PORT_FORWARD_WEBSOCKETS"), "false"
        )  # fmt: skip
        chain = Chain(kubeconfig, child.pid, arguments.megabytes, environment)
        result: dict[str, Any] = {"subject": subject, "server": arguments.server, "transport": arguments.transport}
        if arguments.sessions:
            return result | await sessions(chain, arguments.sessions, arguments.rounds)
        if subject == "virtual-kubelet":
            target = int(await output_of([*chain.line, "logs", "p"]))
        else:
            _, said = stack.enter_context(process(source, ""))
            target = int(said)
        await chain.exec_out()  # connections are made, and kubectl is in the page cache
        result["exec_out"] = await chain.measured(chain.exec_out)
        result["exec_in"] = await chain.measured(chain.exec_in)
        result["port_forward"] = await chain.measured(lambda: chain.port_forward(target))
        result["logs"] = await chain.measured(lambda: chain.logs("l"))
        result["rss_mb"] = round(memory_mb(child.pid), 1)
        return result


@contextlib.contextmanager
def server(arguments: argparse.Namespace) -> Iterator[tuple[Path, Path]]:
    """An administrator's kubeconfig, and the folder with the cluster's CA."""
    with tempfile.TemporaryDirectory() as directory:
        if arguments.server == "dev":
            command = [sys.executable, "bench/dev_cluster.py", f"{directory}/kubeconfig", "--pki", directory]
            with process(command, "kubeconfig") as (_, path):
                yield Path(path), Path(directory)
        elif arguments.directory:
            yield arguments.directory / "admin.kubeconfig", arguments.directory / "pki"
        else:
            up = [str(REPOSITORY / "tools/kubernetes/up"), directory]
            try:
                yield (
                    Path(subprocess.run(up, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()),
                    Path(directory) / "pki",
                )
            finally:
                subprocess.run([*up, "--stop"], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", choices=["dev", "debian"], default="dev")
    parser.add_argument("--directory", type=Path, help="of a control plane that runs already (tools/kubernetes/up DIR)")
    parser.add_argument("--transport", choices=["websocket", "spdy"], default="websocket", help="of kubectl")
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--sessions", type=int, default=0, help="instead: so many exec sessions, half of them cut")
    parser.add_argument("--rounds", type=int, default=3, help="of --sessions")
    parser.add_argument("--yardstick", type=Path, help="what bench/stream_node/build made")
    parser.add_argument("--runs", type=int, default=1, help="rounds, the subjects in turn")
    parser.add_argument("--option", action="append", default=[], help="one more argument for `virtual-kubelet run`")
    parser.add_argument("--verbose", action="store_true", help="show the node's log")
    arguments = parser.parse_args()
    with server(arguments) as (kubeconfig, pki):
        for _ in range(arguments.runs):
            for subject in [*(["go"] if arguments.yardstick else []), "virtual-kubelet"]:
                print(json.dumps(asyncio.run(measure(arguments, subject, kubeconfig, pki))), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
