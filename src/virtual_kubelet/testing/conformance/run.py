"""Runs the checks: a cluster, a node with the provider, a namespace, all checks side by side, and everything away again."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from virtual_kubelet.devcluster import DevCluster
from virtual_kubelet.errors import ApiConnectionError, ApiError, ApiNotFoundError, ConfigurationError
from virtual_kubelet.kube.client import ApiClient
from virtual_kubelet.kube.kubeconfig import load_kubeconfig
from virtual_kubelet.kube.resources import LEASES, NAMESPACES, NODES, PODS, SERVICE_ACCOUNTS
from virtual_kubelet.objects.core_v1 import Namespace, Pod
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.provider_binding import ProviderSource, provider_label
from virtual_kubelet.provider_registry import load_provider
from virtual_kubelet.telemetry.logs import get_logger
from virtual_kubelet.testing.cluster_user import ClusterUser, NotSeenError
from virtual_kubelet.testing.conformance.approval import approving
from virtual_kubelet.testing.conformance.catalogue import all_checks
from virtual_kubelet.testing.conformance.check import Check
from virtual_kubelet.testing.conformance.declaration import Declaration
from virtual_kubelet.testing.conformance.declaration_files import find_declaration, read_declaration
from virtual_kubelet.testing.conformance.judge import Judge
from virtual_kubelet.testing.conformance.nodes import JudgedNode, NodeInProcess, NodeProcess, run_options
from virtual_kubelet.testing.conformance.results import CheckResult, ConformanceReport
from virtual_kubelet.testing.dev_node import dev_kubelet_config

__all__ = ["ConformanceConfig", "run_conformance"]

log = get_logger(__name__)

#: Seconds for the pods of all checks to be gone at the end.
_CLEANING: Final = 20.0


@dataclass(frozen=True, kw_only=True)
class ConformanceConfig:
    """What is judged, and how.

    Attributes:
        provider: the name of an installed provider or ``module:Name``: its node is a process of its own. A class or
            factory: its node runs in this process.
        provider_config: a file for the provider.
        allow_host_processes: as ``run --allow-host-processes``.
        kubeconfig: of a cluster, with all rights; None: a dev cluster is made.
        declaration: see there; None: the file beside the provider's module, if there is one.
        image: other than the declaration's.
        checks: which; by default all.
        timeout: seconds for one check; half of that for one thing that it waits for.
        parallel: checks at once.
        unclaimed: also make the checks that the declaration does not promise.
    """

    provider: ProviderSource
    provider_config: Path | None = None
    allow_host_processes: bool = False
    kubeconfig: Path | None = None
    declaration: Declaration | None = None
    image: str = ""
    checks: Sequence[Check] = ()
    timeout: float = 120.0
    parallel: int = 40
    unclaimed: bool = False


def _nobody(result: CheckResult) -> None:
    """Nobody is told on the way."""


async def run_conformance(
    config: ConformanceConfig, on_result: Callable[[CheckResult], None] = _nobody
) -> ConformanceReport:
    """All of it; ``on_result`` is told of each check when it has ended.

    Errors: ``ConfigurationError``; ``ApiError`` and ``ApiConnectionError`` if the cluster cannot be used; ``RuntimeError``
    if the node does not start. Cancelling removes what was made.
    """
    began = time.monotonic()
    factory: Any = config.provider
    if isinstance(factory, str):
        factory = await asyncio.to_thread(load_provider, factory)
    declaration = config.declaration
    if declaration is None:
        path = await asyncio.to_thread(find_declaration, factory)
        declaration = Declaration() if path is None else await asyncio.to_thread(read_declaration, path)
    if config.image:
        declaration = msgspec.structs.replace(declaration, image=config.image)
    async with AsyncExitStack() as stack:
        judge = await _prepare(config, factory, declaration, stack, on_result)
        checks = list(config.checks) or all_checks()
        results = await judge.results_of(checks)
    return ConformanceReport(
        provider=provider_label(config.provider),
        where=str(config.kubeconfig) if config.kubeconfig is not None else "dev cluster",
        killing=judge.node.killing,
        results=[results[check] for check in checks],
        seconds=time.monotonic() - began,
    )


async def _prepare(
    config: ConformanceConfig,
    factory: Any,
    declaration: Declaration,
    stack: AsyncExitStack,
    on_result: Callable[[CheckResult], None],
) -> Judge:
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="conformance-"))
    stack.push_async_callback(asyncio.to_thread, shutil.rmtree, folder, ignore_errors=True)
    name = f"conformance-{secrets.token_hex(4)}"
    node: JudgedNode
    if config.kubeconfig is None:
        cluster = await stack.enter_async_context(DevCluster(node_timeout=60.0))
        admin = await asyncio.to_thread(_write, folder / "admin.kubeconfig", cluster.kubeconfig().encode())
        node = await _dev_node(config, cluster, name, folder)
    else:
        admin = config.kubeconfig
        if not isinstance(config.provider, str):
            raise ConfigurationError(
                "a provider that has no name runs on the dev cluster only", hint="name it as module:Name"
            )
        node = NodeProcess(name, _options(config, config.provider, folder / "node.kubeconfig", folder, None, admin))
    client = await stack.enter_async_context(ApiClient(await asyncio.to_thread(load_kubeconfig, admin), retries=2))
    version = await client.server_version()
    await client.create(NAMESPACES, Namespace(metadata=ObjectMeta(name=name)))
    stack.push_async_callback(_remove, client, name)
    await _service_account(client, name)
    if config.kubeconfig is not None:
        await stack.enter_async_context(approving(client, name))
    stack.push_async_callback(node.stop)  # one that is not Ready in time is ended, too
    await node.start()
    user = await stack.enter_async_context(ClusterUser(client, name, patience=config.timeout / 2))
    stack.push_async_callback(_end_pods, user, node, name)
    return Judge(
        user=user,
        node=node,
        node_name=name,
        declaration=declaration,
        factory=factory,
        version=(version.major, version.minor),
        timeout=config.timeout,
        parallel=config.parallel,
        unclaimed=config.unclaimed,
        on_result=on_result,
    )


async def _dev_node(config: ConformanceConfig, cluster: DevCluster, name: str, folder: Path) -> JudgedNode:
    if not isinstance(config.provider, str):
        source = config.provider
        return NodeInProcess(
            lambda: dev_kubelet_config(cluster, name, source, folder, provider_config=config.provider_config)
        )
    own = await asyncio.to_thread(_write, folder / "node.kubeconfig", cluster.node_kubeconfig(name).encode())
    certificate, key = cluster.serving_certificate([name], ["127.0.0.1"])
    serving = (
        await asyncio.to_thread(_write, folder / "tls.crt", certificate),
        await asyncio.to_thread(_write, folder / "tls.key", key),
    )
    return NodeProcess(name, _options(config, config.provider, own, folder, serving))


def _options(
    config: ConformanceConfig,
    provider: str,
    kubeconfig: Path,
    folder: Path,
    serving: tuple[Path, Path] | None,
    bootstrap: Path | None = None,
) -> list[str]:
    return run_options(
        provider=provider,
        kubeconfig=kubeconfig,
        bootstrap=bootstrap,
        state_directory=folder / "state",
        provider_config=config.provider_config,
        serving=serving,
        allow_host_processes=config.allow_host_processes,
    )


def _write(path: Path, content: bytes) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(content)
    return path


async def _service_account(client: ApiClient, namespace: str) -> None:
    """Without it a real server refuses pods; before 1.24 they wait for its token, too."""
    async with asyncio.timeout(60):
        while True:
            try:
                account = await client.get(SERVICE_ACCOUNTS, "default", namespace)
                version = await client.server_version()
                if account.secrets or version.minor >= 24:
                    return
            except ApiNotFoundError:
                pass
            await asyncio.sleep(0.1)


async def _end_pods(user: ClusterUser, node: JudgedNode, node_name: str) -> None:
    """Whatever the checks have left: ended by the node, in order and then by force. If it was killed it comes again."""
    if not await _left(user):
        return
    if not node.runs:
        try:
            await node.start()
        except (RuntimeError, TimeoutError) as error:
            log.error("the node cannot be started again to end its pods: %s", error)
    try:
        async with asyncio.timeout(_CLEANING):
            for pod in await _left(user):
                if pod.metadata.finalizers:
                    await user.patch(pod, [{"op": "remove", "path": "/metadata/finalizers"}])
                await user.delete(pod, 1)
            for pod in await _left(user):
                await user.gone(pod, _CLEANING)
            return
    except (TimeoutError, NotSeenError, ApiError, ApiConnectionError):
        for pod in await _left(user):
            await user.delete(pod, 0)
    until = time.monotonic() + _CLEANING
    try:
        while node.runs and await _knows_pods(user, node_name):
            if time.monotonic() > until:
                log.error("the node has not ended its pods in %g s", _CLEANING)
                return
            await asyncio.sleep(0.2)
    except (ApiError, ApiConnectionError) as error:
        log.error("whether the node has ended its pods cannot be known: %s", error)


async def _left(user: ClusterUser) -> list[Pod]:
    return (await user.client.list(PODS, user.namespace)).items


async def _knows_pods(user: ClusterUser, node_name: str) -> bool:
    return bool(msgspec.json.decode(await user.node(node_name, "pods")).get("items"))


async def _remove(client: ApiClient, name: str) -> None:
    for resource, where in ((NAMESPACES, None), (NODES, None), (LEASES, "kube-node-lease")):
        try:
            await client.delete(resource, name, where)
        except ApiNotFoundError:
            continue
