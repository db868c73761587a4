"""A node that holds pods and log lines given to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from datetime import UTC, datetime

from virtual_kubelet.contracts.logs import ContainerLogOptions, LogLine
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.objects.core_v1 import Pod, PodStatus


class FixedClock:
    """A wall clock that stands still."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def now(self) -> datetime:
        return self.moment.astimezone(UTC)

    def monotonic(self) -> float:
        return self.moment.timestamp()


class Pods:
    """The pods of the API server, by namespace and name."""

    def __init__(self, pods: Iterable[Pod] = ()) -> None:
        self.by_name = {(pod.metadata.namespace, pod.metadata.name): pod for pod in pods}

    def get(self, namespace: str, name: str) -> Pod | None:
        return self.by_name.get((namespace, name))

    def list(self) -> Iterable[Pod]:
        return self.by_name.values()


class SilentProvider:
    """A provider without logs."""

    def __init__(self, pods: Sequence[Pod] = ()) -> None:
        self.pods = list(pods)

    async def create_pod(self, pod: Pod) -> None:
        raise NotImplementedError

    async def update_pod(self, pod: Pod) -> None:
        raise NotImplementedError

    async def delete_pod(self, pod: Pod) -> None:
        raise NotImplementedError

    async def get_pod(self, key: PodKey) -> Pod | None:
        raise NotImplementedError

    async def get_pod_status(self, key: PodKey) -> PodStatus | None:
        raise NotImplementedError

    async def get_pods(self) -> Sequence[Pod]:
        return self.pods


Source = Callable[[PodKey, str, ContainerLogOptions], AsyncIterator[LogLine]]


class LoggingProvider(SilentProvider):
    """Its logs are what ``source`` says."""

    def __init__(self, source: Source, pods: Sequence[Pod] = ()) -> None:
        super().__init__(pods)
        self.source = source
        self.asked: list[tuple[PodKey, str, ContainerLogOptions]] = []

    def get_container_logs(self, key: PodKey, container: str, options: ContainerLogOptions) -> AsyncIterator[LogLine]:
        self.asked.append((key, container, options))
        return self.source(key, container, options)
