"""What the pods of one engine share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from virtual_kubelet.contracts.context import ProviderContext
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.contracts.runtime import ContainerExit, ContainerInstance
from virtual_kubelet.objects.core_v1 import PodStatus
from virtual_kubelet.runtime.checkpoint import PodCheckpoints
from virtual_kubelet.runtime.container_environment import EnvironmentSources
from virtual_kubelet.runtime.engine_options import EngineOptions
from virtual_kubelet.runtime.hooks import Hooks
from virtual_kubelet.runtime.image_pulls import ImagePulls
from virtual_kubelet.runtime.pod_state import Now
from virtual_kubelet.runtime.probing import Prober
from virtual_kubelet.runtime.runtime_calls import RuntimeCalls
from virtual_kubelet.volumes.sources import VolumeSources

__all__ = ["ContainerIndex", "EngineParts", "ExitSink"]


class ExitSink(Protocol):
    """A pod that owns containers of the runtime's."""

    def container_exited(self, name: str, container_id: str, ended: ContainerExit) -> None: ...

    def sandbox_exited(self, sandbox_id: str) -> None: ...


@dataclass
class ContainerIndex:
    """Whose a container, or a sandbox, of the runtime's is; and the ends of those whose ids are not known yet."""

    owners: dict[str, tuple[ExitSink, str]] = field(default_factory=dict)
    sandboxes: dict[str, ExitSink] = field(default_factory=dict)
    unnamed: int = 0
    early: dict[str, ContainerExit] = field(default_factory=dict)

    def __enter__(self) -> ContainerIndex:
        """Within: containers may end before their ids are known here; their exits are kept until they are."""
        self.unnamed += 1
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.unnamed -= 1
        if not self.unnamed:
            self.early.clear()

    def own(self, owner: ExitSink, name: str, instance: ContainerInstance) -> ContainerExit | None:
        """From now on its end is told to ``owner``; gives its end, if that was told before."""
        self.owners[instance.id] = (owner, name)
        return instance.exit or self.early.pop(instance.id, None)

    def ended(self, some_id: str, ended: ContainerExit) -> bool:
        """Whether it is known, or may be soon."""
        found = self.owners.get(some_id)
        if found is not None:
            found[0].container_exited(found[1], some_id, ended)
            return True
        sandbox = self.sandboxes.get(some_id)
        if sandbox is not None:
            sandbox.sandbox_exited(some_id)
            return True
        if self.unnamed:
            self.early[some_id] = ended
        return bool(self.unnamed)


@dataclass
class EngineParts:
    """Attributes:
    directory: a directory for each pod, by UID, with its volumes and what else its containers see.
    notify: told every status.
    """

    context: ProviderContext
    options: EngineOptions
    calls: RuntimeCalls
    checkpoints: PodCheckpoints
    directory: Path
    index: ContainerIndex
    images: ImagePulls | None
    volume_sources: VolumeSources
    environment_sources: EnvironmentSources
    prober: Prober
    hooks: Hooks
    notify: Callable[[PodKey, PodStatus], None]
    host_ips: Sequence[str]

    def now(self) -> Now:
        clock = self.context.clock
        return Now(clock.monotonic(), clock.now())
