"""A node on a dev cluster, in this process, for the time of a block: what a test of a provider begins with."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from virtual_kubelet.devcluster import DevCluster
from virtual_kubelet.kube.client import ApiClient
from virtual_kubelet.kube.kubeconfig import load_kubeconfig
from virtual_kubelet.kubelet import Kubelet, KubeletConfig
from virtual_kubelet.provider_binding import ProviderSource
from virtual_kubelet.testing.cluster_user import PATIENCE, ClusterUser

__all__ = ["RunningNode", "dev_kubelet_config", "running_node"]


@dataclass(frozen=True, slots=True)
class RunningNode:
    """A node that is Ready.

    Attributes:
        name: of the Node.
        kubelet: what runs it; ``kubelet.parts`` has all its parts.
        cluster: the dev cluster; ``cluster.faults`` are its faults.
        user: somebody with all rights, in the namespace ``default``.
    """

    name: str
    kubelet: Kubelet
    cluster: DevCluster
    user: ClusterUser


@asynccontextmanager
async def running_node(
    provider: ProviderSource,
    *,
    node_name: str = "test-node",
    cluster: DevCluster | None = None,
    state_directory: Path | None = None,
    patience: float = PATIENCE,
    **config: Any,
) -> AsyncIterator[RunningNode]:
    """A node with this provider, Ready, until the block ends; the pods are left as they are then.

    Args:
        provider: a class or factory that takes a ``ProviderContext``, a provider that is ready, or the name of one.
        cluster: a dev cluster that runs already; by default one of this node's own.
        state_directory: for two nodes, one after the other, that are to be the same one.
        patience: seconds that whatever ``user`` waits for may take.
        config: more of ``KubeletConfig``.

    Raises:
        Exception: whatever the node ended with, if it ended by itself.
    """
    async with AsyncExitStack() as stack:
        if cluster is None:
            cluster = await stack.enter_async_context(DevCluster())
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="running-node-"))
        stack.push_async_callback(asyncio.to_thread, shutil.rmtree, folder, ignore_errors=True)
        admin = await asyncio.to_thread(_load, folder / "admin.kubeconfig", cluster.kubeconfig())
        client = await stack.enter_async_context(ApiClient(admin))
        user = await stack.enter_async_context(ClusterUser(client, patience=patience))
        if state_directory is not None:
            config["state_directory"] = state_directory
        kubelet = Kubelet(await dev_kubelet_config(cluster, node_name, provider, folder, **config))
        await stack.enter_async_context(_running(kubelet))
        yield RunningNode(node_name, kubelet, cluster, user)


@asynccontextmanager
async def _running(kubelet: Kubelet) -> AsyncIterator[None]:
    """The node, Ready, for the time of the block; if it ends by itself the block ends, too, with what it ended with."""
    running = asyncio.create_task(kubelet.run(), name=f"node {kubelet.config.node_name}")
    body = asyncio.current_task()
    assert body is not None
    over = broken = False

    def ended(_: asyncio.Task[None]) -> None:
        nonlocal broken
        if not over:
            broken = True
            body.cancel()  # nothing that the block waits for can happen any more

    try:
        await kubelet.wait_ready()
        running.add_done_callback(ended)
        yield
    except asyncio.CancelledError:
        if broken and body.uncancel() == 0:
            await running  # raises what it ended with
        raise
    finally:
        over = True
        running.cancel()
        await asyncio.wait({running})


async def dev_kubelet_config(
    cluster: DevCluster, name: str, provider: ProviderSource, folder: Path, **config: Any
) -> KubeletConfig:
    """A node of ``cluster``, with a node's own identity and no other right.

    Args:
        folder: for its credentials and its state.
        config: more of ``KubeletConfig``, or other than here.
    """
    own = await asyncio.to_thread(_load, folder / f"{name}.kubeconfig", cluster.node_kubeconfig(name))
    certificate, key = cluster.serving_certificate([name], ["127.0.0.1"])
    settings: dict[str, Any] = {
        "node_ips": ["127.0.0.1"],
        "state_directory": folder / "state",
        "listen_host": "127.0.0.1",
        "listen_port": 0,
        "tls_certificate": certificate,
        "tls_private_key": key,
        "client_ca": cluster.ca_pem,
        "startup_timeout": 120.0,
        **config,
    }
    return KubeletConfig(node_name=name, provider=provider, client_config=own, **settings)


def _load(path: Path, text: str) -> Any:
    path.touch(mode=0o600)
    path.write_text(text)
    return load_kubeconfig(path)
