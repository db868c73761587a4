"""The engine with a runtime that has images: what pods are told while theirs are not there, in virtual time."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.providers.contexts import context
from tests.runtime.container_fakes import LoopClock, Runtime
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.contracts.runtime import Image, ImagePullError, RegistryCredentials
from virtual_kubelet.errors import ApiNotFoundError
from virtual_kubelet.objects.core_v1 import (
    Container,
    ContainerStateWaiting,
    LocalObjectReference,
    Pod,
    PodSecurityContext,
    PodSpec,
    PodStatus,
    Secret,
)
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.runtime.engine_options import EngineOptions
from virtual_kubelet.runtime.pod_engine import PodEngine

pytestmark = [pytest.mark.looptime, pytest.mark.may_block]

IMAGE = "registry.example.com/app:1"


class ImageRuntime(Runtime):
    """With images: ``IMAGE`` can be had with the password, if one is set."""

    def __init__(self, clock: LoopClock) -> None:
        super().__init__(clock)
        self.here: dict[str, Image] = {}
        self.password = ""
        self.user = "1000"
        self.hang = False
        self.pulls: list[RegistryCredentials | None] = []
        self.cut = 0

    async def find_image(self, image: str) -> Image | None:
        return self.here.get(image)

    async def pull_image(
        self, image: str, credentials: RegistryCredentials | None, on_progress: Callable[[str], None]
    ) -> Image:
        self.pulls.append(credentials)
        try:
            await asyncio.sleep(1_000_000 if self.hang else 1)
        except asyncio.CancelledError:
            self.cut += 1
            raise
        if self.password and (credentials is None or credentials.password != self.password):
            raise ImagePullError("pull access denied")
        found = self.here[image] = Image("sha256:1", user=self.user, size=7)
        return found


class Secrets:
    def __init__(self, **passwords: str) -> None:
        self.passwords = passwords

    async def get(self, namespace: str, name: str) -> Secret:
        if name not in self.passwords:
            raise ApiNotFoundError(404, "NotFound", f'secrets "{name}" not found')
        config = json.dumps({"registry.example.com": {"username": "u", "password": self.passwords[name]}})
        data = {".dockercfg": base64.b64encode(config.encode()).decode()}
        return Secret(type="kubernetes.io/dockercfg", data=data)


def a_pod(uid: str = "u1", *secrets: str, **spec: Any) -> Pod:
    return Pod(
        metadata=ObjectMeta(name=f"p-{uid}", namespace="default", uid=uid),
        spec=PodSpec(
            containers=[Container(name="main", image=IMAGE, image_pull_policy="IfNotPresent")],
            image_pull_secrets=[LocalObjectReference(name=name) for name in secrets],
            **spec,
        ),
    )


class Watched:
    """An engine; the newest status, and the events, of each pod."""

    def __init__(self, engine: PodEngine) -> None:
        self.engine = engine
        self.statuses: dict[str, PodStatus] = {}
        self.events: list[tuple[str, str, str | None]] = []
        engine.notify_pods(self._take)

    def _take(self, key: PodKey, status: PodStatus, *, deleting: bool = False) -> None:
        self.statuses[key.uid] = status

    def waiting(self, uid: str = "u1") -> ContainerStateWaiting:
        container = (self.statuses[uid].container_statuses or [])[0]
        assert container.state is not None
        return container.state.waiting or ContainerStateWaiting(reason="none")

    async def until(self, condition: Callable[[], object], seconds: float = 100) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.05)

    async def runs(self, uid: str = "u1") -> None:
        await self.until(lambda: self.statuses[uid].phase == "Running")


@asynccontextmanager
async def an_engine(folder: Path, runtime: ImageRuntime, **passwords: str) -> AsyncIterator[Watched]:
    events: list[tuple[str, str, str | None]] = []

    def record(key: PodKey, event_type: str, reason: str, message: str, *, field_path: str | None = None) -> None:
        events.append((reason, message, field_path))

    secrets: Any = Secrets(**passwords)
    given = replace(context(folder, clock=runtime.clock), secrets=secrets, record_event=record)
    async with PodEngine(runtime, given, EngineOptions(directory=folder / "pods")) as engine:
        watched = Watched(engine)
        watched.events = events
        yield watched


async def test_an_image_is_pulled_and_its_container_runs(tmp_path: Path) -> None:
    runtime = ImageRuntime(LoopClock())
    async with an_engine(tmp_path, runtime) as watched:
        await watched.engine.create_pod(a_pod())
        await watched.runs()
    field = "spec.containers{main}"
    assert ("Pulling", f'Pulling image "{IMAGE}"', field) in watched.events
    pulled = f'Successfully pulled image "{IMAGE}" in 1s (1s including waiting). Image size: 7 bytes.'
    assert ("Pulled", pulled, field) in watched.events


async def test_pull_secrets_reach_the_registry_and_what_is_missing_is_told(tmp_path: Path) -> None:
    """virtual-kubelet#505, #411, #442, macOS-vz#22."""
    runtime = ImageRuntime(LoopClock())
    runtime.password = "open sesame"
    async with an_engine(tmp_path, runtime, wrong="no", right="open sesame") as watched:
        await watched.engine.create_pod(a_pod("u1", "absent", "wrong", "right"))
        await watched.runs()
    assert [credentials and credentials.password for credentials in runtime.pulls] == ["no", "open sesame"]
    message = "Unable to retrieve some image pull secrets (absent); attempting to pull the image may not succeed."
    assert ("FailedToRetrieveImagePullSecret", message, None) in watched.events
    assert "sesame" not in repr(watched.events) + repr(watched.statuses)


async def test_a_pod_that_may_not_have_an_image_waits_and_a_secret_that_comes_later_is_used(tmp_path: Path) -> None:
    """virtual-kubelet#1257."""
    runtime = ImageRuntime(LoopClock())
    runtime.password = "open sesame"
    passwords: dict[str, str] = {}
    async with an_engine(tmp_path, runtime) as watched:
        watched.engine._parts.context.secrets.passwords = passwords  # type: ignore[attr-defined]
        await watched.engine.create_pod(a_pod("u1", "later"))
        await watched.until(lambda: watched.waiting().reason == "ErrImagePull")
        assert watched.waiting().message == "pull access denied"
        await watched.until(lambda: watched.waiting().reason == "ImagePullBackOff")
        passwords["later"] = "open sesame"
        await watched.runs()


async def test_a_private_image_is_not_for_a_pod_without_its_secret_also_after_a_restart(tmp_path: Path) -> None:
    runtime = ImageRuntime(LoopClock())
    runtime.password = "open sesame"
    async with an_engine(tmp_path, runtime, right="open sesame") as watched:
        await watched.engine.create_pod(a_pod("u1", "right"))
        await watched.runs()
    async with an_engine(tmp_path, runtime, right="open sesame") as watched:
        await watched.engine.create_pod(a_pod("u2"))
        await watched.until(lambda: watched.waiting("u2").reason == "ErrImagePull")
        await watched.engine.create_pod(a_pod("u3", "right"))
        await watched.runs("u3")


async def test_a_pod_that_is_deleted_while_its_image_is_pulled_goes_at_once(tmp_path: Path) -> None:
    runtime = ImageRuntime(LoopClock())
    runtime.hang = True
    async with an_engine(tmp_path, runtime) as watched:
        one = a_pod()
        await watched.engine.create_pod(one)
        await watched.until(lambda: runtime.pulls)
        one.metadata.deletion_grace_period_seconds = 30
        before = runtime.clock.monotonic()
        await watched.engine.delete_pod(one)
        gone = PodKey.of(one)
        while await watched.engine.get_pod(gone) is not None:
            await asyncio.sleep(0.05)
        assert runtime.clock.monotonic() - before < 5
        assert runtime.cut == 1


async def test_an_image_that_would_run_as_root_waits_with_the_kubelets_words(tmp_path: Path) -> None:
    runtime = ImageRuntime(LoopClock())
    runtime.user = ""
    async with an_engine(tmp_path, runtime) as watched:
        await watched.engine.create_pod(a_pod(security_context=PodSecurityContext(run_as_non_root=True)))
        await watched.until(lambda: watched.waiting().reason == "CreateContainerConfigError")
        said = 'container has runAsNonRoot and image will run as root (pod: "p-u1_default(u1)", container: main)'
        assert watched.waiting().message == said
        assert ("Failed", f"Error: {said}", "spec.containers{main}") in watched.events
        assert runtime.started == []
