"""A Summary as metrics: ``/metrics/resource`` (pkg/kubelet/metrics/collectors) and ``/metrics/cadvisor``. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple, TypeAlias

from virtual_kubelet.objects.core_v1 import Pod
from virtual_kubelet.objects.stats_v1alpha1 import (
    ContainerStats,
    InterfaceStats,
    NetworkStats,
    NodeStats,
    PodStats,
    Summary,
    SwapStats,
)
from virtual_kubelet.server.metrics_text import Family, Sample

__all__ = ["cadvisor_metrics", "resource_metrics", "scrape_error"]

#: A value and when it was measured.
Measured: TypeAlias = tuple[float, datetime | None]
#: What has statistics.
Thing: TypeAlias = ContainerStats | PodStats | NodeStats
Labels: TypeAlias = tuple[tuple[str, str], ...]


class _Metric(NamedTuple):
    """One metric of a thing that has statistics: its name, and how its value is found (None: not known)."""

    name: str
    kind: str
    help: str
    value: Callable[[Thing], Measured | None]


def _cpu(of: Thing) -> Measured | None:
    if of.cpu is None or of.cpu.usage_core_nano_seconds is None:
        return None
    return of.cpu.usage_core_nano_seconds / 1e9, of.cpu.time


def _memory(name: str) -> Callable[[Thing], Measured | None]:
    def value(of: Thing) -> Measured | None:
        number = None if of.memory is None else getattr(of.memory, name)
        return None if number is None or of.memory is None else (number, of.memory.time)

    return value


def _started(of: Thing) -> Measured | None:
    seconds = of.start_time.timestamp()
    return (seconds, None) if seconds > 0 else None


def _swap(of: Thing) -> Measured | None:
    if of.swap is None or of.swap.swap_usage_bytes is None:
        return None
    return of.swap.swap_usage_bytes, of.swap.time


def _swap_limit(of: Thing) -> Measured | None:
    swap: SwapStats | None = of.swap
    if swap is None or swap.swap_available_bytes is None:
        return None
    return swap.swap_available_bytes + (swap.swap_usage_bytes or 0), swap.time


_WINDOWS = "Reported only on non-windows systems"
_CONTAINER = (
    _Metric(
        "container_cpu_usage_seconds_total",
        "counter",
        "[STABLE] Cumulative cpu time consumed by the container in core-seconds",
        _cpu,
    ),
    _Metric(
        "container_memory_working_set_bytes",
        "gauge",
        "[STABLE] Current working set of the container in bytes",
        _memory("working_set_bytes"),
    ),
    _Metric(
        "container_start_time_seconds",
        "gauge",
        "[STABLE] Start time of the container since unix epoch in seconds",
        _started,
    ),
    _Metric(
        "container_swap_limit_bytes",
        "gauge",
        f"[ALPHA] Current amount of the container swap limit in bytes. {_WINDOWS}",
        _swap_limit,
    ),
    _Metric(
        "container_swap_usage_bytes",
        "gauge",
        f"[ALPHA] Current amount of the container swap usage in bytes. {_WINDOWS}",
        _swap,
    ),
)
_POD = (
    _Metric(
        "pod_cpu_usage_seconds_total",
        "counter",
        "[STABLE] Cumulative cpu time consumed by the pod in core-seconds",
        _cpu,
    ),
    _Metric(
        "pod_memory_working_set_bytes",
        "gauge",
        "[STABLE] Current working set of the pod in bytes",
        _memory("working_set_bytes"),
    ),
    _Metric(
        "pod_swap_usage_bytes",
        "gauge",
        f"[ALPHA] Current amount of the pod swap usage in bytes. {_WINDOWS}",
        _swap,
    ),
)
_NODE = (
    _Metric(
        "node_cpu_usage_seconds_total",
        "counter",
        "[STABLE] Cumulative cpu time consumed by the node in core-seconds",
        _cpu,
    ),
    _Metric(
        "node_memory_working_set_bytes",
        "gauge",
        "[STABLE] Current working set of the node in bytes",
        _memory("working_set_bytes"),
    ),
    _Metric(
        "node_swap_usage_bytes",
        "gauge",
        f"[ALPHA] Current swap usage of the node in bytes. {_WINDOWS}",
        _swap,
    ),
)


def resource_metrics(summary: Summary) -> list[Family]:
    """What metrics-server scrapes."""
    containers = [(_container_labels(pod, container), container) for pod, container in _containers(summary)]
    pods = [(_pod_labels(pod), pod) for pod in summary.pods]
    return [
        *_families(_CONTAINER, containers),
        *_families(_POD, pods),
        *_families(_NODE, [((), summary.node)]),
        scrape_error(failed=False),
    ]


def scrape_error(*, failed: bool) -> Family:
    """Whether the statistics could not be had; then nothing else is shown."""
    return Family(
        "resource_scrape_error",
        "gauge",
        "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise",
        [Sample((), float(failed))],
    )


_CADVISOR = (
    _Metric("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed in seconds.", _cpu),
    _Metric("container_memory_rss", "gauge", "Size of RSS in bytes.", _memory("rss_bytes")),
    _Metric(
        "container_memory_usage_bytes",
        "gauge",
        "Current memory usage in bytes, including all memory regardless of when it was accessed",
        _memory("usage_bytes"),
    ),
    _Metric(
        "container_memory_working_set_bytes",
        "gauge",
        "Current working set in bytes.",
        _memory("working_set_bytes"),
    ),
    _Metric(
        "container_start_time_seconds",
        "gauge",
        "Start time of the container since unix epoch in seconds.",
        _started,
    ),
)
_NETWORK = (
    ("container_network_receive_bytes_total", "Cumulative count of bytes received", "rx_bytes"),
    ("container_network_receive_errors_total", "Cumulative count of errors encountered while receiving", "rx_errors"),
    ("container_network_transmit_bytes_total", "Cumulative count of bytes transmitted", "tx_bytes"),
    (
        "container_network_transmit_errors_total",
        "Cumulative count of errors encountered while transmitting",
        "tx_errors",
    ),
)


def cadvisor_metrics(summary: Summary, pods: Iterable[Pod]) -> list[Family]:
    """Of cAdvisor's metrics those that a Summary knows, of containers and of pods' networks.

    There is neither ``id`` (a cgroup's path) nor ``name`` (a runtime's id): a provider need not have them.
    """
    images = {
        (pod.metadata.uid, container.name): container.image or ""
        for pod in pods
        for container in (*(pod.spec.init_containers or ()), *pod.spec.containers)
    }
    containers = []
    for pod, container in _containers(summary):
        name, namespace, of = _container_labels(pod, container)
        image = ("image", images.get((pod.pod_ref.uid, container.name), ""))
        containers.append(((name, image, namespace, of), container))
    families = [_per_cpu(family) for family in _families(_CADVISOR, containers)]
    networks = [(pod, pod.network) for pod in summary.pods if pod.network is not None]
    counted = [Family(name, "counter", text, [*_network(networks, field)]) for name, text, field in _NETWORK]
    return [*families, *counted]


def _per_cpu(family: Family) -> Family:
    """CPU time has one more label, of which only the sum is known."""
    if family.name != "container_cpu_usage_seconds_total":
        return family
    total = [
        sample._replace(labels=(sample.labels[0], ("cpu", "total"), *sample.labels[1:])) for sample in family.samples
    ]
    return family._replace(samples=total)


def _network(networks: Iterable[tuple[PodStats, NetworkStats]], field: str) -> Iterator[Sample]:
    for pod, network in networks:
        interfaces: list[InterfaceStats | NetworkStats] = [*(network.interfaces or ())]
        for interface in interfaces or ([network] if network.name else []):
            value = getattr(interface, field)
            if value is not None:
                yield Sample((("interface", interface.name), *_pod_labels(pod)), value, network.time)


def _containers(summary: Summary) -> Iterator[tuple[PodStats, ContainerStats]]:
    for pod in summary.pods:
        for container in pod.containers:
            yield pod, container


def _pod_labels(pod: PodStats) -> Labels:
    return ("namespace", pod.pod_ref.namespace), ("pod", pod.pod_ref.name)


def _container_labels(pod: PodStats, container: ContainerStats) -> Labels:
    return ("container", container.name), *_pod_labels(pod)


def _families(metrics: Iterable[_Metric], things: Sequence[tuple[Labels, Thing]]) -> Iterator[Family]:
    for metric in metrics:
        samples = []
        for labels, thing in things:
            measured = metric.value(thing)
            if measured is not None:
                samples.append(Sample(labels, *measured))
        yield Family(metric.name, metric.kind, metric.help, samples)
