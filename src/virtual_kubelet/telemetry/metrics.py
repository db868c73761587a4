"""The node's own metrics, in a registry of its own: many nodes in one process stay apart."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["Metrics"]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """Counters, gauges and histograms. Label values are bounded: verbs, codes, reasons; never a pod's name."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.api_requests = Counter(
            "virtual_kubelet_api_requests_total",
            "Requests to the API server.",
            ["verb", "resource", "code"],
            registry=registry,
        )
        self.api_request_seconds = Histogram(
            "virtual_kubelet_api_request_duration_seconds",
            "Time of requests to the API server.",
            ["verb", "resource"],
            registry=registry,
            buckets=_SECONDS,
        )
        self.watch_restarts = Counter(
            "virtual_kubelet_watch_restarts_total",
            "Watches begun again, by what ended the last one.",
            ["resource", "reason"],
            registry=registry,
        )
        self.malformed_objects = Counter(
            "virtual_kubelet_malformed_objects_total",
            "Objects of lists and watches that could not be read and stay as last known.",
            ["resource"],
            registry=registry,
        )
        self.provider_call_seconds = Histogram(
            "virtual_kubelet_provider_call_duration_seconds",
            "Time of calls to the provider.",
            ["call", "result"],
            registry=registry,
            buckets=_SECONDS,
        )
        self.pod_sync_seconds = Histogram(
            "virtual_kubelet_pod_sync_duration_seconds",
            "Time of one reconciliation of one pod.",
            ["result"],
            registry=registry,
            buckets=_SECONDS,
        )
        self.pod_sync_retries = Counter(
            "virtual_kubelet_pod_sync_retries_total", "Reconciliations that failed and wait.", registry=registry
        )
        self.pod_queue_depth = Gauge(
            "virtual_kubelet_pod_queue_depth", "Pods that wait for a worker.", registry=registry
        )
        self.pod_queue_seconds = Histogram(
            "virtual_kubelet_pod_queue_duration_seconds",
            "Time that pods waited for a worker.",
            registry=registry,
            buckets=_SECONDS,
        )
        self.pods_syncing = Gauge("virtual_kubelet_pods_syncing", "Pods that a worker is busy with.", registry=registry)
        self.pods = Gauge("virtual_kubelet_pods", "Pods bound to this node.", registry=registry)
        self.status_writes = Counter(
            "virtual_kubelet_pod_status_writes_total", "Status patches by result.", ["result"], registry=registry
        )
        self.events_sent = Counter("virtual_kubelet_events_sent_total", "Events written.", registry=registry)
        self.events_dropped = Counter(
            "virtual_kubelet_events_dropped_total", "Events not written, by why.", ["reason"], registry=registry
        )
        self.lease_renewals = Counter(
            "virtual_kubelet_lease_renewals_total", "Lease renewals by result.", ["result"], registry=registry
        )
        self.node_status_updates = Counter(
            "virtual_kubelet_node_status_updates_total", "Node status updates by result.", ["result"], registry=registry
        )
        self.ping_seconds = Histogram(
            "virtual_kubelet_ping_duration_seconds", "Time of provider pings.", ["result"], registry=registry
        )
        self.server_requests = Counter(
            "virtual_kubelet_http_requests_total",
            "Requests to the node's HTTPS API.",
            ["method", "path", "code"],
            registry=registry,
        )

    def exposition(self) -> bytes:
        """Prometheus text format 0.0.4."""
        return generate_latest(self.registry)
