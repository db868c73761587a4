"""Every example does what it says, as a user would run it, in a dev cluster."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.contract.scenarios import eventually
from virtual_kubelet.devcluster import DevCluster
from virtual_kubelet.kube.client import ApiClient
from virtual_kubelet.kube.kubeconfig import load_kubeconfig
from virtual_kubelet.kube.resources import NODES, PODS
from virtual_kubelet.objects.core_v1 import Container, Pod, PodSpec
from virtual_kubelet.objects.meta_v1 import ObjectMeta

WithIdentity = Callable[[str], Path]


@pytest.fixture
async def cluster() -> AsyncIterator[DevCluster]:
    async with DevCluster() as cluster:
        yield cluster


@pytest.fixture
def identity(cluster: DevCluster, tmp_path: Path) -> WithIdentity:
    """Writes the kubeconfig of a node."""

    def write(node_name: str) -> Path:
        path = tmp_path / f"{node_name}.kubeconfig"
        path.write_text(cluster.node_kubeconfig(node_name))
        return path

    return write


@pytest.fixture
async def admin(cluster: DevCluster, tmp_path: Path) -> AsyncIterator[ApiClient]:
    path = tmp_path / "admin.kubeconfig"
    path.write_text(cluster.kubeconfig())
    async with ApiClient(load_kubeconfig(path)) as client:
        yield client


@contextlib.asynccontextmanager
async def example(repository: Path, tmp_path: Path, *args: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """``python examples/…`` until the block ends; then Ctrl-C, and it must end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *args,
        cwd=repository,
        stdin=asyncio.subprocess.DEVNULL,
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
    )
    try:
        yield process
        assert process.returncode is None, "the example ended by itself"
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(20):
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def becomes(admin: ApiClient, name: str, phase: str) -> None:
    async def is_so() -> bool:
        return (await admin.get(PODS, name, "default")).status.phase == phase

    await eventually(is_so)


async def is_ready(admin: ApiClient, name: str) -> None:
    async def is_so() -> bool:
        nodes = [node for node in (await admin.list(NODES)).items if node.metadata.name == name]
        conditions = [c for node in nodes for c in node.status.conditions or []]
        return any(c.type == "Ready" and c.status == "True" for c in conditions)

    await eventually(is_so)


async def has_no_pods(admin: ApiClient) -> bool:
    return not (await admin.list(PODS, "default")).items


def pod(node_name: str) -> Pod:
    containers = [Container(name="main", image="paper")]
    return Pod(metadata=ObjectMeta(name="p"), spec=PodSpec(node_name=node_name, containers=containers))


async def test_minimal_node(repository: Path, tmp_path: Path, admin: ApiClient, identity: WithIdentity) -> None:
    async with example(repository, tmp_path, "examples/minimal_node.py", str(identity("paper"))):
        await is_ready(admin, "paper")
        await admin.create(PODS, pod("paper"), "default")
        await becomes(admin, "p", "Running")
        await admin.delete(PODS, "p", "default", grace_period_seconds=1)
        await eventually(lambda: has_no_pods(admin))


async def test_controllers(repository: Path, tmp_path: Path, admin: ApiClient, identity: WithIdentity) -> None:
    async with example(repository, tmp_path, "examples/controllers.py", "own", str(identity("own"))):
        await is_ready(admin, "own")
        await admin.create(PODS, pod("own"), "default")
        await becomes(admin, "p", "Succeeded")


def test_the_minimal_node_is_minimal(repository: Path) -> None:
    lines = (repository / "examples" / "minimal_node.py").read_text().splitlines()
    code = [line for line in lines if line.strip() and not line.startswith(("import", "from", '"""', "python"))]
    provider = [line for line in code if line.startswith(("class", "    ")) and "config" not in line.lower()]
    assert len(code) - len(provider) <= 20
    assert len(code) <= 30


async def test_child_processes_keep_what_their_provider_promises(repository: Path) -> None:
    """A selection, by the kit; the whole takes a minute: ``virtual-kubelet conformance --provider child_processes:…``."""
    checks = [
        "lifecycle.runs",
        "lifecycle.exit-code",
        "lifecycle.deletion",
        "restart.always",
        "logs.follow",
        "logs.tail",
    ]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "virtual_kubelet", "conformance", "--timeout", "150s"),
        *("--provider", "child_processes:ChildProcessProvider", "--suite", *checks),
        cwd=repository / "examples",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(200):
            out, error = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    assert process.returncode == 0, (out + error).decode()
    assert f"All {len(checks)} promises hold." in out.decode()
