"""CPU and memory in use, from what nodes say on ``/metrics/resource``: two samples give a rate. As metrics-server. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

__all__ = ["ContainerKey", "NodeSample", "Point", "Usage", "parse_sample", "usage_between"]

#: Namespace, pod and container.
ContainerKey: TypeAlias = tuple[str, str, str]


class Point(NamedTuple):
    """One thing at one moment; ``started`` is when it began to run, or 0.

    ``at`` and ``started`` are seconds since the epoch, ``cpu`` seconds of CPU since it started, ``memory`` bytes.
    """

    at: float = 0.0
    cpu: float | None = None
    memory: float | None = None
    started: float = 0.0


@dataclass(slots=True)
class NodeSample:
    """What one node said once."""

    node: Point = field(default_factory=Point)
    containers: dict[ContainerKey, Point] = field(default_factory=dict)


class Usage(NamedTuple):
    """As the API gives it: cores, bytes, and the seconds they are an average over, up to ``at``."""

    at: float
    window: float
    cpu: float
    memory: float


_NODE: Final = {"node_cpu_usage_seconds_total": "cpu", "node_memory_working_set_bytes": "memory"}
_CONTAINER: Final = {
    "container_cpu_usage_seconds_total": "cpu",
    "container_memory_working_set_bytes": "memory",
    "container_start_time_seconds": "started",
}


def parse_sample(text: str, now: float) -> NodeSample:
    """A node's answer, taken at ``now`` where it says no time itself. Raises ``ValueError`` for what is no metrics text."""
    from prometheus_client.parser import text_string_to_metric_families  # slow to import, and seldom needed

    found = NodeSample()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            at = float(sample.timestamp) if sample.timestamp else now
            if (name := _NODE.get(sample.name)) is not None:
                found.node = found.node._replace(**{name: sample.value, "at": at})
            elif (name := _CONTAINER.get(sample.name)) is not None:
                labels = sample.labels
                key = (labels.get("namespace", ""), labels.get("pod", ""), labels.get("container", ""))
                changed: dict[str, float] = {name: sample.value}
                if name == "cpu":
                    changed["at"] = at
                found.containers[key] = found.containers.get(key, Point())._replace(**changed)
    return found


def usage_between(earlier: Point | None, later: Point) -> Usage | None:
    """The average over the time between two samples; of a thing that has started since, over its life. None: not known.

    (metrics-server, pkg/storage: a container younger than the last sample is measured from its start.)
    """
    if later.cpu is None or later.memory is None:
        return None
    if earlier is None or earlier.cpu is None or later.cpu < earlier.cpu or earlier.started != later.started:
        if not later.started or later.at <= later.started:
            return None
        window, cpu = later.at - later.started, later.cpu
    else:
        # To the millisecond, which is all that the text can say: so large a float is coarser than a nanosecond of CPU.
        window, cpu = round(later.at - earlier.at, 3), later.cpu - earlier.cpu
        if window <= 0:
            return None
    return Usage(later.at, window, cpu / window, later.memory)
