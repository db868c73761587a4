"""Fixtures of the contract tests: one API server of either kind, and a node name and a namespace of the test's own."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.contract.api_servers import ApiServer, DebianApiServer, DevApiServer
from tests.contract.recorded_pods import logs, recorded_pods  # noqa: F401 (fixtures)
from virtual_kubelet.devcluster import DevCluster
from virtual_kubelet.errors import ApiNotFoundError
from virtual_kubelet.kube.client import ApiClient
from virtual_kubelet.kube.kubeconfig import load_kubeconfig
from virtual_kubelet.kube.resources import LEASES, NAMESPACES, NODES, PODS, SERVICE_ACCOUNTS
from virtual_kubelet.objects.core_v1 import Namespace, Node
from virtual_kubelet.objects.meta_v1 import ObjectMeta

ClientFactory = Callable[[str], ApiClient]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    kind = "debian" if config.getoption("--kubernetes") else "dev"
    elsewhere = []
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.contract)
            marker = item.get_closest_marker("only_on")
            if marker is not None and marker.args[0] != kind:
                elsewhere.append(item)
    if elsewhere:
        config.hook.pytest_deselected(items=elsewhere)
        items[:] = [item for item in items if item not in elsewhere]


@pytest.fixture
async def api_server(request: pytest.FixtureRequest) -> AsyncIterator[ApiServer]:
    """The dev cluster, or the control plane named by ``--kubernetes``."""
    directory = request.config.getoption("--kubernetes")
    if directory:
        yield DebianApiServer(Path(directory))
        return
    async with DevCluster(bookmark_interval=1.0) as cluster:
        yield DevApiServer(cluster)


@pytest.fixture
async def admin(api_server: ApiServer, kubeconfig_file: Callable[[str], Path]) -> AsyncIterator[ApiClient]:
    """A client with all rights: for what a user does. The code under test gets ``node_client``."""
    async with ApiClient(load_kubeconfig(kubeconfig_file(api_server.admin_kubeconfig()))) as client:
        yield client


@pytest.fixture
async def node_client(
    api_server: ApiServer, node_name: str, kubeconfig_file: Callable[[str], Path]
) -> AsyncIterator[ApiClient]:
    """A client with the node's own identity and no other right."""
    async with ApiClient(load_kubeconfig(kubeconfig_file(api_server.node_kubeconfig(node_name)))) as client:
        yield client


@pytest.fixture
def kubeconfig_file(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a kubeconfig's text to a file of its own."""

    def write(text: str) -> Path:
        path = tmp_path / f"{uuid.uuid4().hex[:8]}.kubeconfig"
        path.write_text(text)
        path.chmod(0o600)
        return path

    return write


@pytest.fixture
async def node_name(api_server: ApiServer, kubeconfig_file: Callable[[str], Path]) -> AsyncIterator[str]:
    """A node name of this test's own; the Node, its Lease and its pods are removed at the end."""
    name = f"node-{uuid.uuid4().hex[:8]}"
    yield name
    async with ApiClient(load_kubeconfig(kubeconfig_file(api_server.admin_kubeconfig()))) as client:
        for pod in (await client.list(PODS, field_selector=f"spec.nodeName={name}")).items:
            await _gone(client.delete(PODS, pod.metadata.name or "", pod.metadata.namespace, grace_period_seconds=0))
        await _gone(client.delete(NODES, name))
        await _gone(client.delete(LEASES, name, "kube-node-lease"))


async def _gone(deletion: object) -> None:
    try:
        await deletion  # type: ignore[misc]
    except ApiNotFoundError:
        return


@pytest.fixture
async def namespace(admin: ApiClient, api_server: ApiServer) -> AsyncIterator[str]:
    """A namespace of this test's own, with its service account: without it a real server refuses pods."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    await admin.create(NAMESPACES, Namespace(metadata=ObjectMeta(name=name)))
    async with asyncio.timeout(30):
        while True:
            try:
                account = await admin.get(SERVICE_ACCOUNTS, "default", name)
                if account.secrets or api_server.kind != "debian":  # before 1.24 pods wait for the account's token too
                    break
            except ApiNotFoundError:
                pass
            await asyncio.sleep(0.05)
    yield name
    await admin.delete(NAMESPACES, name)


@pytest.fixture
async def registered_node(admin: ApiClient, node_name: str) -> Node:
    """A bare Node object: enough for the server to accept pods and leases of ``node_name``."""
    return await admin.create(NODES, Node(metadata=ObjectMeta(name=node_name)))
