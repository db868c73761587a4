"""The pods of the recording of kubectl with a real kubelet (``../shared/kubelet-1.36``), here as processes.

h1 has containers a and b, h2 has finished with 3, h3 cannot start, h4 is in a crash loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.contract.api_servers import ApiServer
from tests.contract.commands import Kubectl, running_node
from tests.contract.scenarios import eventually

LINES = ["err", "line 1", "line 2", "line 3", "line 4", "line 5"]
SCRIPTS: dict[str, dict[str, str | None]] = {
    "h1": {"a": f"printf '%s\\n' {' '.join(f'{line!r}' for line in LINES)}; exec sleep 1000", "b": "exec sleep 1000"},
    "h2": {"a": "echo bye; exit 3"},
    "h3": {"a": None},
    "h4": {"a": "echo run $$$$; sleep 0.2; exit 1"},
}


class Logs:
    """``kubectl logs`` in the namespace of the pods."""

    def __init__(self, kubectl: Kubectl, namespace: str) -> None:
        self.kubectl = kubectl
        self.namespace = namespace

    async def __call__(self, *args: str, code: int = 0) -> str:
        """Its output, or what it says on stderr if it is to fail."""
        result = await self.kubectl("logs", "-n", self.namespace, *args, code=code)
        return result.err if code else result.out

    async def get(self, pod: str, path: str) -> str:
        """A part of a pod, by JSONPath."""
        return (await self.kubectl("get", "pod", pod, "-n", self.namespace, "-o", f"jsonpath={{{path}}}")).out

    async def create(self, pod: str, scripts: dict[str, str | None], **spec: Any) -> None:
        containers = [
            {"name": name, "image": "busybox", **({"command": ["sh", "-c", script]} if script is not None else {})}
            for name, script in scripts.items()
        ]
        manifest = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": pod, "namespace": self.namespace, "labels": {"app": pod}},
            "spec": {"tolerations": [{"operator": "Exists"}], "containers": containers, **spec},
        }
        await self.kubectl("create", "-f", "-", stdin=json.dumps(manifest))

    @contextlib.asynccontextmanager
    async def following(self, *args: str) -> AsyncIterator[asyncio.StreamReader]:
        """The output of ``kubectl logs -f``, which must end by itself."""
        child = await asyncio.create_subprocess_exec(
            "kubectl", "--kubeconfig", str(self.kubectl.kubeconfig), "logs", "-f", "-n", self.namespace, *args,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert child.stdout is not None
        try:
            async with asyncio.timeout(40):
                yield child.stdout
                assert await child.stdout.read() == b""
                assert await child.wait() == 0
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()


@pytest.fixture
async def logs(
    api_server: ApiServer,
    node_name: str,
    namespace: str,
    kubeconfig_file: Callable[[str], Path],
    tmp_path: Path,
) -> AsyncIterator[Logs]:
    """With a node whose containers are processes, under the node's own identity."""
    certificate, key = api_server.serving_certificate("127.0.0.1")
    (tmp_path / "tls.crt").write_bytes(certificate)
    (tmp_path / "tls.key").write_bytes(key)
    options = [
        "--listen", "127.0.0.1:0", "--node-ip", "127.0.0.1",
        "--tls-cert-file", str(tmp_path / "tls.crt"), "--tls-private-key-file", str(tmp_path / "tls.key"),
        "--provider", "process", "--allow-host-processes", "--state-dir", str(tmp_path / "state"),
        "--provider-config", str(tmp_path / "provider.yaml"),
        "--on-shutdown", "drain", "--drain-timeout", "1s",
    ]  # fmt: skip
    # A file of logs is full after some 80 lines.
    (tmp_path / "provider.yaml").write_text("maxLogBytes: 4096\nmaxLogFiles: 200\n")
    kubeconfig = kubeconfig_file(api_server.node_kubeconfig(node_name))
    async with running_node(kubeconfig, node_name, *options) as node:
        yield Logs(Kubectl(kubeconfig_file(api_server.admin_kubeconfig())), namespace)
        assert await node.stop() == 0


@pytest.fixture
async def recorded_pods(logs: Logs, node_name: str) -> None:
    """Those of the recording, in the state in which it was made."""
    for name, scripts in SCRIPTS.items():
        await logs.create(name, scripts, nodeName=node_name, restartPolicy="Never" if name == "h2" else "Always")

    async def settled() -> bool:
        return (
            await logs.get("h1", ".status.containerStatuses[*].ready") == "true true"
            and await logs.get("h2", ".status.phase") == "Failed"
            and await logs.get("h3", ".status.containerStatuses[0].state.waiting.reason")
            not in ("", "ContainerCreating")
            and await logs.get("h4", ".status.containerStatuses[0].lastState.terminated.exitCode") == "1"
        )

    await eventually(settled, seconds=40)
