"""Starting one container: its image, its environment, its mounts, and then the runtime's start."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from msgspec.structs import replace

from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.contracts.runtime import (
    ContainerConfig,
    ContainerKind,
    ContainerStartError,
    Image,
    Mount,
)
from virtual_kubelet.errors import text_of
from virtual_kubelet.objects.core_v1 import Container
from virtual_kubelet.runtime import pod_events as on
from virtual_kubelet.runtime.container_environment import ContainerEnvironment
from virtual_kubelet.runtime.engine_parts import EngineParts, ExitSink
from virtual_kubelet.runtime.field_path import field_path
from virtual_kubelet.runtime.image_pulls import ImageNotReadyError
from virtual_kubelet.runtime.name_files import name_mounts
from virtual_kubelet.runtime.pod_state import ContainerRecord, PodState
from virtual_kubelet.runtime.pull_secrets import read_keyring
from virtual_kubelet.runtime.security import RunAsNonRootError, verify_run_as_non_root
from virtual_kubelet.runtime.termination_message import make_message_file
from virtual_kubelet.telemetry.logs import get_logger
from virtual_kubelet.volumes.pod_volumes import PodVolumes

__all__ = ["ContainerStarts", "config_of", "pod_ips"]

log = get_logger(__name__)

#: Seconds until an image is asked for again that only another name, or somebody's hand, can bring.
_NEVER = 300.0


def pod_ips(parts: EngineParts, state: PodState) -> Sequence[str]:
    """As far as they are known."""
    if state.pod.spec.host_network:
        return parts.host_ips
    return state.sandbox.ips if state.sandbox is not None else parts.calls.runtime.pod_ips(state.pod)


class _Inbox(ExitSink, Protocol):
    def post(self, event: on.ContainerEvent | on.PodEvent) -> None: ...


class ContainerStarts:
    """Of one pod. Every start ends with ``Started``, ``StartFailed`` or, if it was cut, ``NotStarted``."""

    def __init__(
        self,
        parts: EngineParts,
        state: PodState,
        key: PodKey,
        inbox: _Inbox,
        volumes: PodVolumes,
        environment: ContainerEnvironment,
    ) -> None:
        self._parts = parts
        self._volumes = volumes
        self._environment = environment
        self._state = state
        self._key = key
        self._inbox = inbox
        self._asked: set[str] = set()

    def may_be_cut(self, name: str) -> bool:
        """Whether the runtime has not been asked yet: after that, its answer is waited for."""
        return name not in self._asked

    def message_file(self, name: str, attempt: int) -> Path:
        """Where a run's termination message is."""
        return self._parts.directory / self._key.uid / "containers" / name / str(attempt)

    async def start(self, name: str) -> None:
        record = self._state.find(name)
        assert record is not None
        container = self._state.spec_of(record)
        wanted = container.image or ""
        try:
            image = await self._image(record, container)
            ips = pod_ips(self._parts, self._state)
            container = await self._environment.resolve(self._state.pod, container, ips)
            mounts = await self._mounts(record, container)
        except asyncio.CancelledError:
            self._inbox.post(on.NotStarted(name))
            raise
        except ImageNotReadyError as error:
            again = error.again_at
            wait = _NEVER if again is None else max(0.0, again - self._parts.now().monotonic)
            self._inbox.post(on.StartFailed(name, error.reason, str(error), wait=wait, recorded=True))
            return
        except ContainerStartError as error:
            self._inbox.post(on.StartFailed(name, error.reason, str(error), error.exit_code))
            return
        except RunAsNonRootError as error:
            self._inbox.post(on.StartFailed(name, error.reason, str(error)))
            return
        except Exception as error:
            # A disk that is full, say: it is shown, and tried again.
            log.warning("container %s could not be prepared", name, exc_info=error)
            self._inbox.post(on.StartFailed(name, "CreateContainerConfigError", text_of(error)))
            return
        self._asked.add(name)
        try:
            await self._ask(record, container, image, mounts, wanted)
        finally:
            self._asked.discard(name)

    async def _image(self, record: ContainerRecord, container: Container) -> Image | None:
        if self._parts.images is None:
            return None
        context, pod = self._parts.context, self._state.pod

        def tell(event_type: str, reason: str, message: str) -> None:
            path = field_path(self._state, record.name)
            context.record_event(self._key, event_type, reason, message, field_path=path)

        def tell_of_pod(event_type: str, reason: str, message: str) -> None:
            context.record_event(self._key, event_type, reason, message)

        image = await self._parts.images.ensure(
            pod, container, lambda: read_keyring(pod, context.secrets, tell_of_pod), tell
        )
        verify_run_as_non_root(pod, container, image.user)
        return image

    async def _mounts(self, record: ContainerRecord, container: Container) -> list[Mount]:
        mounts = list(await self._volumes.mounts(container))
        path = self.message_file(record.name, record.attempts)
        mounts.append(await asyncio.to_thread(make_message_file, path, container))
        ips = pod_ips(self._parts, self._state)
        pod, folder = self._state.pod, self._parts.directory / self._key.uid
        sandboxes = self._parts.calls.sandboxes is not None
        mounts += await asyncio.to_thread(
            name_mounts, pod, container, self._parts.context, folder, ips, sandboxes=sandboxes
        )
        return mounts

    async def _ask(
        self, record: ContainerRecord, container: Container, image: Image | None, mounts: list[Mount], wanted: str
    ) -> None:
        name = record.name
        config = ContainerConfig(
            self._state.pod,
            container,
            record.attempts,
            kind=record.kind,
            mounts=mounts,
            sandbox=self._state.sandbox,
            image=image,
            target=self._target(record),
        )
        index = self._parts.index
        with index:
            try:
                instance = await self._parts.calls.start_container(config)
            except ContainerStartError as error:
                self._inbox.post(
                    on.StartFailed(name, error.reason, str(error), error.exit_code, image=image, wanted_image=wanted)
                )
                return
            except Exception as error:
                # Whatever a runtime raises: it is shown in the container's status and tried again, never swallowed.
                log.warning("container %s could not be started", name, exc_info=error)
                message = text_of(error)
                self._inbox.post(on.StartFailed(name, "CreateContainerError", message, unsure=True))
                return
            ended = index.own(self._inbox, name, instance)
        self._inbox.post(on.Started(name, instance, image, wanted, container.env or ()))
        if ended is not None:
            self._inbox.container_exited(name, instance.id, ended)

    def _target(self, record: ContainerRecord) -> str | None:
        if record.kind is not ContainerKind.EPHEMERAL:
            return None
        for ephemeral in self._state.pod.spec.ephemeral_containers or ():
            if ephemeral.name == record.name and ephemeral.target_container_name:
                target = self._state.find(ephemeral.target_container_name)
                return target.run.id if target is not None and target.up and target.run is not None else None
        return None


def config_of(state: PodState, record: ContainerRecord) -> ContainerConfig:
    """What a container that runs was started with, as far as commands in it care."""
    run = record.run
    container = replace(state.spec_of(record), env=run.env if run is not None else None, env_from=None)
    attempt = run.attempt if run is not None else record.attempts
    return ContainerConfig(state.pod, container, attempt, kind=record.kind, sandbox=state.sandbox)
