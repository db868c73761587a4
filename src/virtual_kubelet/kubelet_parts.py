"""The parts of one node, made but not started. What the user got wrong is raised here, before anything is touched."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from virtual_kubelet.contracts.configuration import PodConfiguration
from virtual_kubelet.contracts.context import ProviderContext
from virtual_kubelet.contracts.nodes import FeatureDeclarer, NodeConfigurer
from virtual_kubelet.contracts.pods import PodKey, PodLifecycleHandler
from virtual_kubelet.errors import ConfigurationError, ProviderConfigError
from virtual_kubelet.kube.certificate_rotation import CertificateRotation
from virtual_kubelet.kube.client import ApiClient, ServerVersion
from virtual_kubelet.kube.events import EventRecorder
from virtual_kubelet.kube.references import ReferenceCache
from virtual_kubelet.kube.service_account_tokens import ServiceAccountTokens
from virtual_kubelet.kubelet_config import AuthorizationMode, KubeletConfig
from virtual_kubelet.kubelet_configz import configz
from virtual_kubelet.node.node_controller import NodeController
from virtual_kubelet.node.node_template import default_node, system_information
from virtual_kubelet.node.pod_controller import PodController
from virtual_kubelet.node.pod_controller_config import PodControllerConfig
from virtual_kubelet.node.readiness import NodeReadiness
from virtual_kubelet.node.registration import copy_node
from virtual_kubelet.node_certificates import ServingCertificate, client_rotation
from virtual_kubelet.node_view import NodeView
from virtual_kubelet.objects.core_v1 import Node, ObjectReference, Pod, PodStatus
from virtual_kubelet.preflight import address_towards, kubelet_version, meet_api_server
from virtual_kubelet.provider_binding import NodeHalf, make_provider
from virtual_kubelet.server.authentication import (
    Authenticator,
    CertificateAuthenticator,
    FirstOf,
    TokenAuthenticator,
)
from virtual_kubelet.server.authorization import AccessReviewAuthorizer, AlwaysAllowAuthorizer, Authorizer
from virtual_kubelet.server.connection import open_listeners
from virtual_kubelet.server.kubelet_api import KubeletServer
from virtual_kubelet.server.serving_tls import ServingTls
from virtual_kubelet.state_directory import default_state_directory, held
from virtual_kubelet.telemetry.logs import get_logger
from virtual_kubelet.telemetry.tracing import tracer
from virtual_kubelet.version import VERSION
from virtual_kubelet.volumes.configuration import read_configuration
from virtual_kubelet.volumes.sources import VolumeSources

__all__ = ["HTTPS_SERVER", "POD_CONTROLLER", "KubeletParts", "make_parts"]

log = get_logger(__name__)

#: Readiness gates: the parts without which a node is not Ready.
POD_CONTROLLER: Final = "pod controller"
HTTPS_SERVER: Final = "HTTPS server"
#: The API server passes clients' WebSockets on to a node that declares it (KEP-4006).
_DIRECT_WEBSOCKETS: Final = "ExtendWebSocketsToKubelet"
#: The minor version from which on nodes declare features (KEP-5328).
_FIRST_DECLARED: Final = 36
_ANY_ADDRESS: Final = ("::", "0.0.0.0")


@dataclass(frozen=True, slots=True)
class KubeletParts:
    """What a node consists of.

    Attributes:
        recorder, references, pod_controller, node_controller: each with a ``run``.
        tls: of the HTTPS API; ``run`` keeps it up to date.
        https, listeners: the HTTPS API and the sockets it is to be started with; None if it is off.
        url: of the HTTPS API as the API server reaches it; empty if it is off.
        serving, client_rotation: keep the node's certificates valid, each with a ``run``; None if it has none to keep.
    """

    recorder: EventRecorder
    references: ReferenceCache
    pod_controller: PodController
    node_controller: NodeController
    tls: ServingTls | None
    https: KubeletServer | None
    listeners: Sequence[socket.socket]
    url: str
    serving: ServingCertificate | None
    client_rotation: CertificateRotation | None


async def make_parts(config: KubeletConfig, stack: AsyncExitStack, deadline: float | None) -> KubeletParts:
    """Make them; what must be closed at the end is put on ``stack``.

    An API server that cannot be reached is tried again until ``deadline`` (loop time). Errors: see ``Kubelet.run``.
    """
    listeners: Sequence[socket.socket] = []
    if config.kubelet_server:
        listeners = await open_listeners(config.listen_host, config.listen_port)
        for listener in listeners:
            stack.callback(listener.close)
    ips = await _node_ips(config, listeners)
    port: int = listeners[0].getsockname()[1] if listeners else 0
    tls = await asyncio.to_thread(_tls, config, ips) if listeners else None
    directory = config.state_directory or default_state_directory(config.client_config.server, config.node_name)
    state = await asyncio.to_thread(stack.enter_context, held(directory))
    client = await stack.enter_async_context(
        ApiClient(config.client_config, metrics=config.metrics, qps=config.kube_api_qps, burst=config.kube_api_burst)
    )
    recorder = EventRecorder(
        client, component="virtual-kubelet", host=config.node_name, metrics=config.metrics, clock=config.clock
    )
    pods = NodeView()
    references = ReferenceCache(client, on_change=pods.reference_changed, metrics=config.metrics)
    tokens = ServiceAccountTokens(client, clock=config.clock)
    context = _context(config, state, ips, port, pods, references, tokens, recorder)
    provider = await make_provider(config.provider, context, name=config.provider_name)
    version = await meet_api_server(client, config.node_name, deadline=deadline)
    if isinstance(provider, AbstractAsyncContextManager):
        await stack.enter_async_context(provider)
    node = _node(config, ips, port, version, provider)
    half = pods.half = NodeHalf(provider, node)
    pods.controller = pod_controller = _pod_controller(
        config, client, provider, pods, ips, recorder, references, tokens
    )
    # Of its own, so that neither the budget nor a busy connection pool delays the heartbeat.
    lease_client = await stack.enter_async_context(
        ApiClient(config.client_config, metrics=config.metrics, connections=1)
    )
    gates = [POD_CONTROLLER, HTTPS_SERVER] if tls is not None else [POD_CONTROLLER]
    try:
        node_controller = NodeController(
            half,
            node,
            client,
            readiness=NodeReadiness(gates),
            recorder=recorder,
            lease_client=lease_client,
            lease_duration=config.lease_duration,
            ping_interval=config.ping_interval,
            ping_timeout=config.ping_timeout,
            status_update_interval=config.status_update_interval,
            metrics=config.metrics,
            clock=config.clock,
        )
    except ValueError as error:  # periods that cannot work together
        raise ConfigurationError(str(error)) from None
    pods.seen = lambda: node_controller.seen
    https = None
    if tls is not None:
        https = _https_server(config, client, provider, pod_controller, node_controller, tls, port)
        tls.on_change = https.replace_context
    url = _url(listeners, ips) if listeners else ""
    serving = None
    if tls is not None and config.rotate_server_certificates:
        serving = ServingCertificate(
            client,
            config.node_name,
            tls.show,
            state,
            addresses=lambda: node_controller.addresses,
            fallback=config.self_signed_fallback,
            clock=config.clock,
        )
    renewal = None
    shown = config.client_config.client_certificate
    if config.client_certificate is not None and shown is not None:
        renewal = client_rotation(client, config.node_name, shown, config.client_certificate, clock=config.clock)
    return KubeletParts(
        recorder, references, pod_controller, node_controller, tls, https, listeners, url, serving, renewal
    )


async def _node_ips(config: KubeletConfig, listeners: Sequence[socket.socket]) -> Sequence[str]:
    if config.node_ips:
        return config.node_ips
    named = [str(listener.getsockname()[0]) for listener in listeners]
    named = [ip for ip in named if ip not in _ANY_ADDRESS]
    return named or await address_towards(config.client_config.server)


def _tls(config: KubeletConfig, ips: Sequence[str]) -> ServingTls:
    return ServingTls(
        config.tls_certificate,
        config.tls_private_key,
        client_ca=config.client_ca if config.client_ca is not None else config.client_config.certificate_authority,
        names=[config.node_name],
        ips=ips,
        clock=config.clock,
    )


def _context(
    config: KubeletConfig,
    state: Path,
    ips: Sequence[str],
    port: int,
    pods: NodeView,
    references: ReferenceCache,
    tokens: ServiceAccountTokens,
    recorder: EventRecorder,
) -> ProviderContext:
    def record(key: PodKey, event_type: str, reason: str, message: str, *, field_path: str | None = None) -> None:
        pod = ObjectReference(
            api_version="v1",
            kind="Pod",
            namespace=key.namespace,
            name=key.name,
            uid=key.uid,
            field_path=field_path,
        )
        recorder.event(pod, event_type, reason, message)

    async def read(pod: Pod) -> PodConfiguration:
        sources = VolumeSources(
            references.config_maps, references.secrets, references, tokens, pods.allocatable, config.clock
        )
        return (await read_configuration(sources, pod)).configuration

    return ProviderContext(
        node_name=config.node_name,
        config_path=config.provider_config,
        state_directory=state,
        internal_ip=ips[0] if ips else "",
        host_ips=ips,
        daemon_port=port,
        operating_system=config.operating_system,
        cluster_domain=config.cluster_domain,
        cluster_dns=config.cluster_dns,
        pods=pods,
        config_maps=references.config_maps,
        secrets=references.secrets,
        references=references,
        tokens=tokens,
        allocatable=pods.allocatable,
        read_configuration=read,
        services=references.services,
        api_server=config.api_server_for_pods,
        record_event=record,
        logger=get_logger(f"virtual_kubelet.providers.{config.provider_name}"),
        tracer=tracer(),
        clock=config.clock,
    )


def _node(
    config: KubeletConfig, ips: Sequence[str], port: int, server: ServerVersion, provider: PodLifecycleHandler
) -> Node:
    system = system_information(
        kubelet_version(server, VERSION),
        operating_system=config.operating_system,
        runtime=f"{config.provider_name}://{VERSION}",
    )
    node = default_node(
        config.node_name,
        system=system,
        internal_ips=ips,
        daemon_port=port,
        taints=config.taints,
        labels=config.labels,
    )
    if server.minor >= _FIRST_DECLARED:
        features = set(provider.declared_features) if isinstance(provider, FeatureDeclarer) else set()
        if port:
            features.add(_DIRECT_WEBSOCKETS)
        node.status.declared_features = sorted(features) or None
    if isinstance(provider, NodeConfigurer):
        try:
            provider.configure_node(node)
            copy_node(node)  # is it still one?
        except ConfigurationError:
            raise
        except Exception as error:
            # Somebody else's code: without its node there is none, and the user must hear whose fault it is.
            said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise ProviderConfigError(f"provider {config.provider_name!r} made no Node of it: {said}") from error
    if config.configure_node is not None:
        config.configure_node(node)
    return node


def _pod_controller(
    config: KubeletConfig,
    client: ApiClient,
    provider: PodLifecycleHandler,
    pods: NodeView,
    ips: Sequence[str],
    recorder: EventRecorder,
    references: ReferenceCache,
    tokens: ServiceAccountTokens,
) -> PodController:
    return PodController(
        PodControllerConfig(
            client=client,
            node_name=config.node_name,
            provider=provider,
            event_recorder=recorder,
            references=references,
            tokens=tokens,
            pod_event_filter=config.pod_event_filter,
            skip_downward_api_resolution=config.skip_downward_api_resolution,
            workers=config.pod_sync_workers,
            host_ips=ips,
            allocatable=pods.allocatable,
            node=pods.node if config.pod_admission else None,
            api_server=config.api_server_for_pods,
            metrics=config.metrics,
            clock=config.clock,
        )
    )


def _https_server(
    config: KubeletConfig,
    client: ApiClient,
    provider: PodLifecycleHandler,
    pods: PodController,
    node: NodeController,
    tls: ServingTls,
    port: int,
) -> KubeletServer:
    callers: list[Authenticator] = [CertificateAuthenticator(clock=config.clock)]
    if config.token_reviews:
        callers.append(TokenAuthenticator(client, cache_seconds=config.token_review_cache, clock=config.clock))

    async def node_is_well() -> None:
        """The provider answers its pings, and nothing else keeps the node from being Ready for good."""
        wrong = [obstacle.message for obstacle in node.obstacles if not obstacle.starting]
        if wrong:
            raise RuntimeError("; ".join(wrong))

    def newest_status(key: PodKey) -> PodStatus | None:
        status = pods.newest_status(key)
        return status if isinstance(status, PodStatus) else None

    return KubeletServer(
        config.node_name,
        provider,
        pods,
        authenticator=FirstOf(*callers),
        authorizer=_authorizer(config, client),
        ssl_context=tls.context,
        metrics=config.metrics,
        limits=config.server_limits,
        log_limits=config.log_limits,
        stream_limits=config.stream_limits,
        newest_status=newest_status,
        configuration=configz(config, port),
        debugging_handlers=config.debugging_handlers,
        health_checks={"syncloop": pods.wait_ready, "node": node_is_well},
        clock=config.clock,
    )


def _authorizer(config: KubeletConfig, client: ApiClient) -> Authorizer:
    if config.authorization_mode is AuthorizationMode.ALWAYS_ALLOW:
        log.warning(
            "authorization mode AlwaysAllow: whoever has credentials of the cluster, each service account too, may read "
            "the logs of all pods of this node and run commands in them"
        )
        return AlwaysAllowAuthorizer()
    return AccessReviewAuthorizer(
        client,
        allow_seconds=config.access_allowed_cache,
        deny_seconds=config.access_denied_cache,
        clock=config.clock,
    )


def _url(listeners: Sequence[socket.socket], ips: Sequence[str]) -> str:
    host, port = listeners[0].getsockname()[:2]
    if host in _ANY_ADDRESS:
        host = ips[0] if ips else "127.0.0.1"
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
