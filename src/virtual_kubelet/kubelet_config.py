"""The configuration of one node, checked as far as it can be without looking at anything outside."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from virtual_kubelet.clock import Clock, SystemClock
from virtual_kubelet.errors import ConfigurationError
from virtual_kubelet.kube.config import ClientConfig
from virtual_kubelet.node.lease import DEFAULT_LEASE_DURATION
from virtual_kubelet.node.node_controller import DEFAULT_STATUS_UPDATE_INTERVAL
from virtual_kubelet.node.ping import DEFAULT_PING_INTERVAL, DEFAULT_PING_TIMEOUT
from virtual_kubelet.objects.core_v1 import Node, Pod, Taint
from virtual_kubelet.provider_binding import ProviderSource, provider_label
from virtual_kubelet.server.certificates import Pem
from virtual_kubelet.server.container_logs import LogLimits
from virtual_kubelet.server.limits import ServerLimits
from virtual_kubelet.server.stream_limits import StreamLimits
from virtual_kubelet.telemetry.metrics import Metrics

__all__ = ["AuthorizationMode", "KubeletConfig", "OnShutdown"]

_NODE_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


class OnShutdown(enum.Enum):
    """What a node does to itself and its pods when it stops."""

    KEEP = "keep"
    CORDON = "cordon"
    DRAIN = "drain"
    DELETE_NODE = "delete-node"


class AuthorizationMode(enum.Enum):
    """Who says what an authenticated caller of the HTTPS API may do; the kubelet's words."""

    WEBHOOK = "Webhook"
    ALWAYS_ALLOW = "AlwaysAllow"


@dataclass(kw_only=True)
class KubeletConfig:
    """One node. Durations are seconds.

    Attributes:
        provider: runs the pods; see ``ProviderSource``.
        client_config: the API server, and who we are there; see ``find_config``.
        node_name: of the Node; a DNS name.
        provider_name: what people call it; by default the name it was given by, or that of its class.
        provider_config: a file for the provider.
        kube_api_qps, kube_api_burst: a budget for requests; 0: none.
        node_ips: the Node's InternalIPs, the preferred one first; by default the address that ``listen_host`` names, else
            this machine's towards the API server.
        operating_system: of the pods, ``linux`` or ``windows``.
        cluster_domain, cluster_dns: of the pods' DNS: the domain of Services, and who answers; told to the provider.
        pod_admission: reject pods that do not fit or suit the node, whoever has bound them, as a kubelet does. Only what the
            provider declares as allocatable counts.
        labels, taints: more labels for the Node, and its taints.
        configure_node: changes the Node before it is registered, after the provider has.
        state_directory: see ``default_state_directory``.
        kubelet_server: serve the node's HTTPS API on ``listen_host`` (empty: all addresses) and ``listen_port`` (0: any).
        debugging_handlers: off, it answers 405 to logs, exec, attach, port-forward and run, as the kubelet's
            ``enableDebuggingHandlers: false`` has it.
        tls_certificate, tls_private_key: for it, PEM or path; both None: self-signed.
        rotate_server_certificates: have the cluster sign the serving certificate (kubernetes.io/kubelet-serving), wait until
            somebody approves that, and renew it; the node is not Ready before. Not with a given one.
        self_signed_fallback: serve with a self-signed certificate when nobody has approved within so many seconds.
        client_certificate: the file of the node's own client certificate, which ``join_cluster`` got: it is renewed.
        client_ca: whose client certificates it accepts; by default the cluster's CA.
        token_reviews: accept bearer tokens, by asking the API server.
        token_review_cache, access_allowed_cache, access_denied_cache: how long the API server's answers are good.
        authorization_mode: ``WEBHOOK`` asks the API server what a caller may do. ``ALWAYS_ALLOW`` lets everybody whom the
            cluster knows do everything, each service account too; a warning says so at start.
        server_limits, log_limits, stream_limits: what callers of the HTTPS API may use of it.
        pod_sync_workers: pods that may be with the provider at once.
        startup_timeout: raise ``StartupTimeoutError`` unless Ready by then, and try an API server that cannot be reached
            again until then; None: no limit, and that is tried once.
        on_shutdown: ``KEEP`` leaves everything as it is. ``CORDON`` makes the node unschedulable. ``DRAIN`` does too, and
            has the provider end all pods, each within its own grace period but at most ``drain_timeout``.
            ``DELETE_NODE`` deletes the Node (a node's own identity may not).
        api_server_for_pods: host and port that pods find in ``KUBERNETES_SERVICE_HOST`` and ``_PORT``.
        pod_event_filter, skip_downward_api_resolution: as in ``PodControllerConfig``.
        lease_duration, status_update_interval, ping_interval, ping_timeout: as in ``NodeController``.
    """

    provider: ProviderSource
    client_config: ClientConfig
    node_name: str = "virtual-kubelet"
    provider_name: str = ""
    provider_config: Path | None = None
    kube_api_qps: float = 0.0
    kube_api_burst: int = 0
    node_ips: Sequence[str] = ()
    operating_system: str = "linux"
    cluster_domain: str = "cluster.local"
    cluster_dns: Sequence[str] = ()
    pod_admission: bool = True
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: Sequence[Taint] = ()
    configure_node: Callable[[Node], None] | None = None
    state_directory: Path | None = None
    kubelet_server: bool = True
    listen_host: str = ""
    listen_port: int = 10250
    debugging_handlers: bool = True
    tls_certificate: Pem | None = None
    tls_private_key: Pem | None = field(default=None, repr=False)
    rotate_server_certificates: bool = False
    self_signed_fallback: float | None = None
    client_certificate: Path | None = None
    client_ca: Pem | None = None
    token_reviews: bool = True
    token_review_cache: float = 120.0
    access_allowed_cache: float = 300.0
    access_denied_cache: float = 30.0
    authorization_mode: AuthorizationMode = AuthorizationMode.WEBHOOK
    server_limits: ServerLimits = field(default_factory=ServerLimits)
    log_limits: LogLimits = field(default_factory=LogLimits)
    stream_limits: StreamLimits = field(default_factory=StreamLimits)
    pod_sync_workers: int = 10
    startup_timeout: float | None = None
    on_shutdown: Sequence[OnShutdown] = (OnShutdown.KEEP,)
    drain_timeout: float = 30.0
    api_server_for_pods: tuple[str, int] | None = None
    pod_event_filter: Callable[[Pod], bool] | None = None
    skip_downward_api_resolution: bool = False
    lease_duration: float = DEFAULT_LEASE_DURATION
    status_update_interval: float = DEFAULT_STATUS_UPDATE_INTERVAL
    ping_interval: float = DEFAULT_PING_INTERVAL
    ping_timeout: float = DEFAULT_PING_TIMEOUT
    metrics: Metrics = field(default_factory=Metrics)
    clock: Clock = field(default_factory=SystemClock)

    def __post_init__(self) -> None:
        self.provider_name = self.provider_name or provider_label(self.provider)
        if len(self.node_name) > 253 or not _NODE_NAME.fullmatch(self.node_name):
            raise ConfigurationError(
                f"{self.node_name!r} is no name for a node",
                hint="it is a DNS name: lower-case letters, digits, '-' and '.', at most 253",
            )
        if (self.tls_certificate is None) != (self.tls_private_key is None):
            raise ConfigurationError(
                "the serving certificate and its key belong together, and only one of them is given",
                hint="give both, or none for a self-signed certificate",
            )
        if self.rotate_server_certificates and self.tls_certificate is not None:
            raise ConfigurationError(
                "a serving certificate is given, and the cluster is to sign one as well",
                hint="drop --rotate-server-certificates, or the certificate and its key",
            )
        if self.self_signed_fallback is not None and not self.rotate_server_certificates:
            raise ConfigurationError(
                "without --rotate-server-certificates there is nothing to fall back from", hint="drop the fall-back"
            )
        if OnShutdown.KEEP in self.on_shutdown and len(set(self.on_shutdown)) > 1:
            raise ConfigurationError("on shutdown a node cannot keep everything and do something else as well")
