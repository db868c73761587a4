"""The dev cluster: starts and stops its parts in order, and makes credentials for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeVar

import msgspec

from virtual_kubelet.clock import Clock, SystemClock
from virtual_kubelet.devcluster.api_server import ApiServer, apply_to_watch
from virtual_kubelet.devcluster.authentication import Authenticator
from virtual_kubelet.devcluster.authorization import Authorizer
from virtual_kubelet.devcluster.bootstrap import bootstrap
from virtual_kubelet.devcluster.bootstrap_tokens import BootstrapTokens
from virtual_kubelet.devcluster.certificate_controller import CertificateController
from virtual_kubelet.devcluster.cluster_identity import ClusterIdentity
from virtual_kubelet.devcluster.cluster_state import ClusterState
from virtual_kubelet.devcluster.controller import Controller
from virtual_kubelet.devcluster.data_directory import QUOTA_BYTES, DataDirectory, NotStored, Saved, damaged
from virtual_kubelet.devcluster.described_lists import DescribedLists
from virtual_kubelet.devcluster.discovery import Discovery
from virtual_kubelet.devcluster.durability import Durability
from virtual_kubelet.devcluster.expiry import Expiry
from virtual_kubelet.devcluster.faults import Fault, FaultKind, Faults
from virtual_kubelet.devcluster.garbage_collector import GarbageCollector
from virtual_kubelet.devcluster.metrics_api import MetricsApi
from virtual_kubelet.devcluster.namespace_controller import NamespaceController
from virtual_kubelet.devcluster.node_lifecycle import GRACE_PERIOD, STARTUP_GRACE_PERIOD, NodeLifecycleController
from virtual_kubelet.devcluster.node_proxy import NodeProxy
from virtual_kubelet.devcluster.node_restriction import NodeRestriction
from virtual_kubelet.devcluster.openapi import OpenApi
from virtual_kubelet.devcluster.own_service_controller import OwnServiceController
from virtual_kubelet.devcluster.pod_gc import QUARANTINE, PodGarbageCollector
from virtual_kubelet.devcluster.pod_index import PodIndex
from virtual_kubelet.devcluster.reading import Reader
from virtual_kubelet.devcluster.registry.value_validation import is_address
from virtual_kubelet.devcluster.request_info import ResourceTable
from virtual_kubelet.devcluster.reviews import Reviews
from virtual_kubelet.devcluster.scheduler import Scheduler
from virtual_kubelet.devcluster.service_account_controller import ServiceAccountController
from virtual_kubelet.devcluster.statuses import StatusError
from virtual_kubelet.devcluster.stream_proxy import StreamProxy
from virtual_kubelet.devcluster.subresources import Subresources
from virtual_kubelet.devcluster.taint_eviction import TaintEvictionController
from virtual_kubelet.devcluster.tokens import ServiceAccountTokens
from virtual_kubelet.devcluster.users import MASTERS, NODES
from virtual_kubelet.devcluster.writing import Writer
from virtual_kubelet.errors import ConfigurationError
from virtual_kubelet.server.certificates import server_context
from virtual_kubelet.server.connection import HttpServer, Request, Response, ServerLimits

__all__ = ["LIMITS", "DevCluster"]

#: Many watches, each a connection; clients keep theirs open between requests.
LIMITS: Final = ServerLimits(max_connections=4096, idle_timeout=180.0, write_timeout=300.0)
#: X509_V_FLAG_NO_CHECK_TIME: expired certificates are answered 401 by us, as the API server does, not by TLS.
_NO_CHECK_TIME: Final = 0x200000


T = TypeVar("T")


class DevCluster:
    """A Kubernetes API in this process: for first steps and for tests. In memory, unless it is given a ``data_dir``.

    ``async with DevCluster() as cluster`` starts and stops it; ``wait`` raises what broke it meanwhile. Not safe to use
    from other event loops or threads.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        names: Sequence[str] = (),
        data_dir: Path | None = None,
        data_quota_bytes: int = QUOTA_BYTES,
        scheduler: bool = True,
        service_account_admission: bool = False,
        history: int = 10_000,
        bookmark_interval: float = 60.0,
        watch_buffer_bytes: int = 16 * 1024 * 1024,
        node_timeout: float = 10.0,
        node_monitor_grace_period: float = GRACE_PERIOD,
        node_startup_grace_period: float = STARTUP_GRACE_PERIOD,
        pod_gc_quarantine: float = QUARANTINE,
        limits: ServerLimits = LIMITS,
        clock: Clock | None = None,
    ) -> None:
        """
        Args:
            host: address to listen on, which is also the one in ``url`` and in the certificate.
            port: 0 lets the system choose one.
            names: more names and addresses that the serving certificate is good for.
            data_dir: a folder that keeps the state, the port and the keys for the next start; None: nothing is kept.
            data_quota_bytes: what its database may grow to; then writes are answered 500.
            scheduler: whether pods without a node are bound to one.
            service_account_admission: whether new pods get the service account ``default`` and its token, as with the
                admission plugin of a real cluster; the recordings were made without.
            history: changes that each kind remembers; a watch from before them answers 410.
            bookmark_interval: seconds between bookmarks of watches that want them.
            watch_buffer_bytes: held for a watcher that reads too slowly; then its watch ends.
            node_timeout: seconds for a node's HTTPS port to begin its answer.
            node_monitor_grace_period: seconds without a sign of life until a node is Unknown.
            node_startup_grace_period: the same for a node that has never said anything.
            pod_gc_quarantine: seconds that a node is missing until its pods are removed.
            limits: of the HTTP server.
            clock: time in objects; certificates go by the machine's.
        """
        self._host = host
        self._port = port
        self._names = tuple(names)
        self._with_scheduler = scheduler
        self._service_account_admission = service_account_admission
        self._clock = clock or SystemClock()
        self._limits = limits
        self._bookmark_interval = bookmark_interval
        self._watch_buffer_bytes = watch_buffer_bytes
        self._node_timeout = node_timeout
        self._grace_period = node_monitor_grace_period
        self._startup_grace_period = node_startup_grace_period
        self._quarantine = pod_gc_quarantine
        self._history = history
        self._directory = None if data_dir is None else DataDirectory(data_dir, quota_bytes=data_quota_bytes)
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="dev cluster's disk")
        self._saved = Saved({}, [])
        self._durability: Durability | None = None
        self._identity = ClusterIdentity()
        self._state: ClusterState | None = None
        self._server: HttpServer | None = None
        self._reader: Reader | None = None
        self._proxy: NodeProxy | None = None
        self._runner: asyncio.Task[None] | None = None
        self._handler: ApiServer | None = None
        #: Faults to inject; see ``devcluster.faults``.
        self.faults = Faults(self._on_watches, self._compact)

    # Life

    async def start(self) -> None:
        """Returns when it serves.

        Raises ``ConfigurationError`` if it cannot listen or use its folder, ``RuntimeError`` the second time. Cancelled,
        it leaves nothing behind.
        """
        if self._server is not None:
            raise RuntimeError("this cluster has been started already")
        try:
            await self._start()
        except BaseException:
            if self._runner is not None:
                self._runner.cancel()
                await asyncio.wait({self._runner})
            if self._server is not None:
                await self._server.aclose(grace=0)
            await self._close_directory()
            raise

    async def _start(self) -> None:
        if self._directory is not None:
            self._saved = await self._on_disk(self._directory.open)
            self._resume(self._saved.values)
        certificate, key = self._identity.authority.serving(
            ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", *self._by_kind(False)],
            ["127.0.0.1", "::1", *self._by_kind(True)],
            "kube-apiserver",
        )
        context = await asyncio.to_thread(server_context, certificate, key, client_ca=self.ca_pem)
        context.verify_flags |= _NO_CHECK_TIME
        self._server = HttpServer(self._handle, ssl_context=context, limits=self._limits, at_once=self._answer_at_once)
        addresses = await self._server.start(self._host, self._port)
        self._port = addresses[0][1]
        if self._directory is not None:
            await self._keep_identity(self._directory)
        started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._runner = asyncio.create_task(self._run(started), name="dev cluster")
        await asyncio.wait({started, self._runner}, return_when=asyncio.FIRST_COMPLETED)
        if self._runner.done():
            await self._runner

    async def stop(self) -> None:
        """Ends open watches, then everything else. Raises what had broken it."""
        if self._reader is not None:
            for hub in self._reader.hubs.values():
                for watcher in hub.watchers():
                    watcher.cut() if watcher.stalled else watcher.end()
        if self._server is not None:
            await self._server.aclose(grace=1.0)
        if self._proxy is not None:
            await self._proxy.aclose()
        if self._runner is not None:
            runner, self._runner = self._runner, None
            runner.cancel()
            await asyncio.wait({runner})
            try:
                if self._durability is not None:
                    await self._durability.finish()
            finally:
                await self._close_directory()
            if not runner.cancelled() and (error := runner.exception()) is not None:
                raise error

    # What is kept

    async def _on_disk(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)

    async def _close_directory(self) -> None:
        if self._directory is not None:
            await self._on_disk(self._directory.close)
        self._executor.shutdown(wait=False)

    def _resume(self, values: Mapping[str, bytes]) -> None:
        """Be who an earlier run was: its kubeconfigs and tokens go on working."""
        if not values:
            return
        try:
            self._identity.resume(values)
            self._port = self._port or int(values["port"])
        except (KeyError, ValueError, TypeError) as error:
            assert self._directory is not None
            raise damaged(self._directory.path, f"its keys cannot be read ({type(error).__name__})") from None

    async def _keep_identity(self, directory: DataDirectory) -> None:
        values = {**self._identity.values(), "port": str(self._port).encode()}
        try:
            await self._on_disk(partial(directory.write, (), values))
        except NotStored as error:
            raise ConfigurationError(f"cannot write to {directory.path}: {error}") from None

    async def wait(self) -> None:
        """Until it stops. Raises what broke it."""
        if self._runner is None:
            raise RuntimeError("this cluster has not been started")
        await asyncio.shield(self._runner)

    async def __aenter__(self) -> DevCluster:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _run(self, started: asyncio.Future[None]) -> None:
        assert self._server is not None
        admission = self._service_account_admission
        state = await asyncio.to_thread(  # it reads a file
            ClusterState, clock=self._clock, history=self._history, service_account_admission=admission
        )
        pods = PodIndex(state.pods.objects)
        authorizer = Authorizer(pods)
        controllers: list[Controller[Any] | Expiry] = [
            OwnServiceController(state, self._port),
            ServiceAccountController(state, self.ca_pem.decode()),
            NamespaceController(state),
            GarbageCollector(state),
            NodeLifecycleController(
                state, pods, grace_period=self._grace_period, startup_grace_period=self._startup_grace_period
            ),
            TaintEvictionController(state, pods),
            PodGarbageCollector(state, pods, quarantine=self._quarantine),
            CertificateController(state, self._identity.authority, authorizer),
            Expiry(state),
        ]
        if self._with_scheduler:
            controllers.append(Scheduler(state))
        if self._directory is not None:
            self._durability = Durability(state, self._directory, self._executor)
            try:
                self._durability.load(self._saved)
            except (ValueError, KeyError, TypeError, msgspec.DecodeError, StatusError) as error:
                raise damaged(self._directory.path, f"its objects cannot be read ({type(error).__name__})") from None
            self._saved = Saved({}, [])
        self._handler = self._assemble(state, pods, authorizer)
        self._state = state
        bootstrap(state)
        async with asyncio.TaskGroup() as group:
            for controller in controllers:
                group.create_task(controller.run())
            group.create_task(self._server.wait())
            group.create_task(self._streams.run())
            if self._durability is not None:
                group.create_task(self._durability.run())
            # One round, so that the first client finds what controllers make at once.
            await asyncio.sleep(0)
            started.set_result(None)

    def _assemble(self, state: ClusterState, pods: PodIndex, authorizer: Authorizer) -> ApiServer:
        tokens = ServiceAccountTokens(state, self._identity.token_key)
        restriction = NodeRestriction(pods)
        self._reader = Reader(
            state, bookmark_interval=self._bookmark_interval, watch_buffer_bytes=self._watch_buffer_bytes
        )
        self._proxy = NodeProxy(state, self._identity.node_client_context, timeout=self._node_timeout)
        self._streams = StreamProxy(state, self._proxy, self._identity.node_client_context, timeout=self._node_timeout)
        return ApiServer(
            table=ResourceTable(state.resources),
            authenticator=Authenticator(tokens, BootstrapTokens(state)),
            authorizer=authorizer,
            discovery=Discovery(state.resources.values(), f"{self._url_host}:{self._port}"),
            openapi=OpenApi(state.openapi),
            reader=self._reader,
            writer=Writer(state, restriction, self._reader),
            subresources=Subresources(state, restriction, tokens),
            reviews=Reviews(state, tokens, authorizer),
            proxy=self._proxy,
            streams=self._streams,
            metrics=MetricsApi(state, self._proxy),
            described=DescribedLists(state, self._url_host.strip("[]"), self._port),
            faults=self.faults,
            durability=self._durability,
        )

    async def _handle(self, request: Request) -> Response:
        if self._handler is None:
            return Response(503, [("Content-Type", "text/plain"), ("Retry-After", "1")], b"starting\n")
        return await self._handler.handle(request)

    def _answer_at_once(self, request: Request) -> Response | None:
        return None if self._handler is None else self._handler.at_once(request)

    # Credentials

    @property
    def url(self) -> str:
        """``https://HOST:PORT``; the port is known once it has started."""
        return f"https://{self._url_host}:{self._port}"

    @property
    def ca_pem(self) -> bytes:
        """The CA's certificate."""
        return self._identity.authority.certificate_pem

    @property
    def ca_key_pem(self) -> bytes:
        """The CA's private key: for tests that need a certificate the cluster itself would not give."""
        return self._identity.authority.key_pem

    def kubeconfig(
        self,
        user: str = "admin",
        groups: Sequence[str] = (MASTERS,),
        *,
        lifetime: timedelta = timedelta(days=365),
    ) -> str:
        """A kubeconfig (JSON, which is YAML) with a client certificate of its own for ``user``."""
        return self._identity.kubeconfig(self.url, user, groups, lifetime)

    def node_kubeconfig(self, node_name: str) -> str:
        """The identity of a node: ``system:node:NAME`` in ``system:nodes``, with the rights of a kubelet."""
        return self.kubeconfig(f"system:node:{node_name}", (NODES,))

    def serving_certificate(self, names: Iterable[str] = (), ips: Iterable[str] = ()) -> tuple[bytes, bytes]:
        """A certificate and key (PEM) for a node's HTTPS port. Raises ``ValueError`` if an address is none."""
        return self._identity.authority.serving(names, ips)

    @property
    def _url_host(self) -> str:
        host = "127.0.0.1" if self._host in ("", "0.0.0.0", "::") else self._host
        return f"[{host}]" if ":" in host else host

    def _by_kind(self, addresses: bool) -> list[str]:
        """Names, or addresses, that the certificate is to have besides the usual ones."""
        given = [*self._names, *([self._host] if self._host else [])]
        return [name for name in given if is_address(name) is addresses]

    # Faults

    def _on_watches(self, resource: str, kind: FaultKind) -> int:
        if self._reader is None:
            return 0
        fault = {
            FaultKind.EXPIRE: Fault.expire,
            FaultKind.MALFORMED: Fault.malformed,
            FaultKind.STALL: Fault.stall,
        }.get(kind, Fault.drop)()
        count = 0
        for (_, plural), hub in self._reader.hubs.items():
            if resource in ("", plural):
                for watcher in hub.watchers():
                    apply_to_watch(watcher, fault)
                    count += 1
        return count

    def _compact(self, resource: str) -> None:
        if self._state is None:
            return
        for registry in self._state.registries:
            if resource in ("", registry.resource.plural):
                registry.objects.compact()
