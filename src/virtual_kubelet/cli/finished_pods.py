"""``up --run``: apply files, wait until their pods have finished, print their logs, and say how it went."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from virtual_kubelet.cli.activity import Screen, describe_pod
from virtual_kubelet.cli.exit_codes import ExitCode
from virtual_kubelet.cli.manifests import Manifest, apply
from virtual_kubelet.errors import ApiConnectionError, ApiError, ConfigurationError
from virtual_kubelet.kube.client import ApiClient
from virtual_kubelet.kube.resources import PODS
from virtual_kubelet.objects.core_v1 import Pod
from virtual_kubelet.objects.durations import format_duration

__all__ = ["FinishedPods", "check_pods"]

#: Seconds for one container's log, and its greatest size: what a node keeps of a container is no more by default.
_LOG_TIMEOUT: Final = 30.0
_LOG_LIMIT: Final = 64 * 1024 * 1024


class FinishedPods:
    """The pods of some files, by UID, from their creation to their end. ``pod_changed`` is told of every pod.

    Args:
        screen: what is said on the way.
        output: where the logs go.
    """

    def __init__(self, client: ApiClient, screen: Screen, output: Screen) -> None:
        self._client = client
        self._screen = screen
        self._output = output
        self._wanted: dict[str, str] = {}
        self._newest: dict[str, Pod | None] = {}
        self._changed = asyncio.Event()

    def pod_changed(self, uid: str, pod: Pod | None) -> None:
        """A pod's new state; None: it is gone."""
        self._newest[uid] = pod
        self._changed.set()

    async def run(self, manifests: Sequence[Manifest], timeout: float) -> ExitCode:
        """All of it. ``timeout`` counts from now. Raises ``ConfigurationError`` if an object is refused."""
        try:
            async with asyncio.timeout(timeout):
                for manifest in manifests:
                    uid = await apply(self._client, manifest)
                    if manifest.resource is PODS:
                        self._wanted[uid] = f"{manifest.namespace}/{manifest.name}"
                await self._until_finished()
        except TimeoutError:
            self._screen.say(f"not finished within {format_duration(timeout)}:")
            for uid, name in self._wanted.items():
                pod = self._newest.get(uid)
                state = describe_pod(pod)[0] if pod is not None else "gone"
                always = pod is not None and (pod.spec.restart_policy or "Always") == "Always"
                hint = " (its restartPolicy is Always, so it never finishes)" if always else ""
                self._screen.say(f"  pod {name}: {state}{hint}")
            await self._print_logs()
            return ExitCode.TIMEOUT
        await self._print_logs()
        pods = [self._newest[uid] for uid in self._wanted]
        return ExitCode.OK if all(p is not None and p.status.phase == "Succeeded" for p in pods) else ExitCode.FAILURE

    async def _until_finished(self) -> None:
        while not all(uid in self._newest and _finished(self._newest[uid]) for uid in self._wanted):
            self._changed.clear()
            await self._changed.wait()

    async def _print_logs(self) -> None:
        pods = [pod for uid in self._wanted if (pod := self._newest.get(uid)) is not None]
        containers = [
            (pod, container.name)
            for pod in pods
            for container in [*(pod.spec.init_containers or ()), *pod.spec.containers]
            if _has_run(pod, container.name)
        ]
        for pod, container in containers:
            name = f"{pod.metadata.name}/{container}"
            try:
                answer = await self._client.request(
                    "GET",
                    PODS.path(pod.metadata.name, pod.metadata.namespace, "log"),
                    query={"container": container, "limitBytes": str(_LOG_LIMIT)},
                    timeout=_LOG_TIMEOUT,
                )
            except (ApiError, ApiConnectionError) as error:
                self._screen.say(f"the log of {name} could not be read: {error}")
                continue
            prefix = f"{name}: " if len(containers) > 1 else ""
            for line in answer.body.decode(errors="replace").splitlines():
                self._output.say(prefix + line)


def check_pods(manifests: Sequence[Manifest]) -> None:
    """Raises ``ConfigurationError`` if there is nothing to wait for."""
    if not any(manifest.resource is PODS for manifest in manifests):
        raise ConfigurationError("there is no Pod in what --run names", hint="it waits for Pods to finish")


def _finished(pod: Pod | None) -> bool:
    return pod is None or pod.status.phase in ("Succeeded", "Failed")


def _has_run(pod: Pod, container: str) -> bool:
    """Whether there can be a log: the container has been started at least once."""
    for status in [*(pod.status.init_container_statuses or ()), *(pod.status.container_statuses or ())]:
        if status.name == container:
            state, last = status.state, status.last_state
            return any(s is not None and (s.running or s.terminated) for s in (state, last))
    return False
