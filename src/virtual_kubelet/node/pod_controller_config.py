"""What a PodController needs, and its limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from virtual_kubelet.clock import Clock, SystemClock
from virtual_kubelet.contracts.context import TokenReader
from virtual_kubelet.contracts.pods import PodLifecycleHandler
from virtual_kubelet.kube.client import ApiClient
from virtual_kubelet.kube.events import EventRecorder
from virtual_kubelet.kube.references import ReferenceCache
from virtual_kubelet.objects.core_v1 import Pod
from virtual_kubelet.runtime.admission import NodeFacts
from virtual_kubelet.telemetry.metrics import Metrics

__all__ = ["PodControllerConfig"]


@dataclass(slots=True)
class PodControllerConfig:
    """What a PodController needs, and its limits.

    Attributes:
        client: with the node's identity.
        node_name: pods with this ``spec.nodeName`` are ours.
        provider: runs them.
        event_recorder, references, tokens: made by the controller where None.
        pod_event_filter: false for pods to leave alone.
        skip_downward_api_resolution: give the provider ``env`` and ``envFrom`` as they are.
        workers: pods that may be with the provider at once.
        slow_after, most_slow: a pod whose provider calls take more than ``slow_after`` seconds gives its worker to others,
            unless ``most_slow`` have done so: a provider that hangs for some pods does not hold up the rest.
        kill_margin: seconds beyond its grace period that a pod has to be killed and to say how it ended, before its API
            object goes.
        status_writers: status patches and final deletions under way at once.
        provider_call_timeout: seconds one call to the provider may take; then it is cancelled, and tried again.
        poll_interval: seconds between status rounds, for a provider that does not notify.
        orphan_interval: seconds between sweeps for pods that only the provider knows.
        retry_initial, retry_cap: seconds of back-off after a failure: doubling, with jitter, for ever.
        early_statuses: statuses kept for pods not known yet; the oldest give way.
        host_ips: the node's addresses, for ``status.hostIP(s)``.
        allocatable: the node's, for ``resourceFieldRef`` without a limit.
        node: the node as last known; with it, pods that do not fit are rejected as by a kubelet, whoever bound them. None:
            the provider gets all.
        api_server: host and port that pods shall find in ``KUBERNETES_SERVICE_HOST`` and ``_PORT``.
    """

    client: ApiClient
    node_name: str
    provider: PodLifecycleHandler
    event_recorder: EventRecorder | None = None
    references: ReferenceCache | None = None
    tokens: TokenReader | None = None
    pod_event_filter: Callable[[Pod], bool] | None = None
    skip_downward_api_resolution: bool = False
    workers: int = 10
    slow_after: float = 10.0
    most_slow: int = 90
    kill_margin: float = 10.0
    status_writers: int = 24
    provider_call_timeout: float = 900.0
    poll_interval: float = 5.0
    orphan_interval: float = 600.0
    retry_initial: float = 1.0
    retry_cap: float = 300.0
    early_statuses: int = 10_000
    host_ips: Sequence[str] = ()
    allocatable: Callable[[], Mapping[str, str]] = field(default=dict)
    node: Callable[[], NodeFacts] | None = None
    api_server: tuple[str, int] | None = None
    metrics: Metrics = field(default_factory=Metrics)
    clock: Clock = field(default_factory=SystemClock)

    def __post_init__(self) -> None:
        for name in ("workers", "status_writers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        for name in ("most_slow", "kill_margin"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")
        for name in (
            "slow_after",
            "provider_call_timeout",
            "poll_interval",
            "orphan_interval",
            "retry_initial",
            "retry_cap",
        ):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive")
