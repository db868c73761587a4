"""The engine and a pod's volumes: waited for, mounted, kept up to date while containers run, removed; others refused."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.contract.scenarios import eventually
from tests.environment.pod_specs import pod_of
from tests.providers.contexts import context
from tests.runtime.container_fakes import LoopClock, Runtime
from tests.volumes.cluster_stand_in import ClusterStandIn
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.contracts.runtime import ContainerConfig, ContainerInstance, Mount
from virtual_kubelet.errors import InvalidInputError
from virtual_kubelet.objects.core_v1 import Pod, PodStatus
from virtual_kubelet.runtime.engine_options import EngineOptions
from virtual_kubelet.runtime.pod_engine import PodEngine
from virtual_kubelet.volumes.pod_volumes import PodVolumes


class MountingRuntime(Runtime):
    """Remembers what each container was to see."""

    def __init__(self) -> None:
        super().__init__(LoopClock())
        self.mounts: dict[str, Mount] = {}

    async def start_container(self, config: ContainerConfig) -> ContainerInstance:
        self.mounts = {mount.container_path: mount for mount in config.mounts}
        return await super().start_container(config)


class Rig:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.options = EngineOptions(directory=folder)
        self.cluster = ClusterStandIn()
        self.runtime = MountingRuntime()
        self.events: list[tuple[str, str]] = []
        self.statuses: dict[PodKey, PodStatus] = {}

    @asynccontextmanager
    async def engine(self) -> AsyncIterator[PodEngine]:
        def record(key: PodKey, event_type: str, reason: str, message: str, **where: Any) -> None:
            self.events.append((reason, message))

        def take(key: PodKey, status: PodStatus, *, deleting: bool = False) -> None:
            self.statuses[key] = status

        sources = self.cluster.sources()
        given = replace(
            context(self.folder, clock=self.runtime.clock),
            config_maps=sources.config_maps,
            secrets=sources.secrets,
            references=self.cluster,
            tokens=self.cluster,
            record_event=record,
        )
        async with PodEngine(self.runtime, given, self.options) as engine:
            engine.notify_pods(take)
            yield engine

    async def runs(self, pod: Pod) -> None:
        await eventually(lambda: PodKey.of(pod) in self.statuses and self.statuses[PodKey.of(pod)].phase == "Running")


def with_volume(**source: Any) -> Pod:
    return pod_of({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}, volumes=[{"name": "v", **source}])


@pytest.fixture
async def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


pytestmark = pytest.mark.may_block


async def test_a_running_container_sees_an_edited_config_map(rig: Rig) -> None:
    rig.cluster.config_map("c", k="one")
    pod = with_volume(configMap={"name": "c"})
    async with rig.engine() as engine:
        await engine.create_pod(pod)
        await rig.runs(pod)
        mount = rig.runtime.mounts["/v"]
        assert (mount.read_only, (mount.host_path / "k").read_text()) == (True, "one")
        rig.cluster.config_map("c", k="two")
        await eventually(lambda: (mount.host_path / "k").read_text() == "two")
        assert rig.runtime.started == ["main-0"]


async def test_it_waits_for_a_missing_secret_with_the_recorded_event(rig: Rig) -> None:
    pod = with_volume(secret={"secretName": "lc-none"})
    async with rig.engine() as engine:
        await engine.create_pod(pod)
        message = 'MountVolume.SetUp failed for volume "v" : secret "lc-none" not found'
        await eventually(lambda: ("FailedMount", message) in rig.events)
        assert rig.runtime.started == []
        rig.cluster.secret("lc-none", k="v")
        await rig.runs(pod)


async def test_a_source_that_is_deleted_under_a_running_pod_is_said_and_comes_back(rig: Rig) -> None:
    rig.cluster.config_map("c", k="one")
    pod = with_volume(configMap={"name": "c"})
    async with rig.engine() as engine:
        await engine.create_pod(pod)
        await rig.runs(pod)
        rig.cluster.remove("configmap", "c")
        message = 'MountVolume.SetUp failed for volume "v" : configmap "c" not found'
        await eventually(lambda: ("FailedMount", message) in rig.events)
        file = rig.runtime.mounts["/v"].host_path / "k"
        assert file.read_text() == "one"
        assert rig.statuses[PodKey.of(pod)].phase == "Running"
        rig.cluster.config_map("c", k="two")
        await eventually(lambda: file.read_text() == "two")


async def test_a_new_engine_keeps_the_volumes_of_what_runs_up_to_date(rig: Rig) -> None:
    rig.cluster.config_map("c", k="one")
    pod = with_volume(configMap={"name": "c"})
    async with rig.engine() as engine:
        await engine.create_pod(pod)
        await rig.runs(pod)
    file = rig.runtime.mounts["/v"].host_path / "k"
    assert rig.cluster.held == {}
    rig.cluster.config_map("c", k="two")
    async with rig.engine():
        await eventually(lambda: file.read_text() == "two")
        rig.cluster.config_map("c", k="three")
        await eventually(lambda: file.read_text() == "three")
        assert rig.runtime.started == ["main-0"]


async def test_what_a_pod_had_goes_with_it(rig: Rig) -> None:
    rig.cluster.secret("s", k="v")
    pod = with_volume(secret={"secretName": "s"})
    async with rig.engine() as engine:
        await engine.create_pod(pod)
        await rig.runs(pod)
        place = rig.runtime.mounts["/v"].host_path
        pod.metadata.deletion_grace_period_seconds = 0
        await engine.delete_pod(pod)
        await eventually(lambda: not place.exists())
        await eventually(lambda: rig.cluster.held == {})


@pytest.mark.parametrize(
    "source", [{"persistentVolumeClaim": {"claimName": "c"}}, {"nfs": {"server": "s", "path": "/"}}]
)
async def test_a_pod_with_a_volume_that_there_is_not_is_refused(rig: Rig, source: dict[str, Any]) -> None:
    async with rig.engine() as engine:
        with pytest.raises(InvalidInputError, match=r"spec\.volumes\[0\]\.\w+: this node has no \w+ volumes"):
            await engine.create_pod(with_volume(**source))
        assert await engine.get_pods() == []


async def test_a_pod_whose_empty_dir_grows_beyond_its_limit_is_evicted(rig: Rig) -> None:
    pod = with_volume(emptyDir={"sizeLimit": "1Mi"})
    pod.spec.restart_policy = "Always"
    rig.options = replace(rig.options, usage_period=0.05)
    message = 'Usage of EmptyDir volume "v" exceeds the limit "1Mi". '
    async with rig.engine() as engine:
        await engine.create_pod(pod)
        await rig.runs(pod)
        file = rig.runtime.mounts["/v"].host_path / "file"
        file.write_bytes(b"x" * 900_000)
        await asyncio.sleep(0.2)
        assert rig.statuses[PodKey.of(pod)].phase == "Running"
        file.write_bytes(b"x" * 1_200_000)
        await eventually(lambda: rig.statuses[PodKey.of(pod)].phase == "Failed")
        status = rig.statuses[PodKey.of(pod)]
        assert (status.reason, status.message) == ("Evicted", message)
        assert [event for event in rig.events if event[0] == "Evicted"] == [("Evicted", message)]
        assert rig.runtime.signals, "what ran was ended"
        assert rig.runtime.started == ["main-0"], "and does not come back, whatever the policy"


async def test_a_new_engine_evicts_too(rig: Rig) -> None:
    pod = with_volume(emptyDir={"sizeLimit": "1Mi"})
    async with rig.engine() as engine:
        await engine.create_pod(pod)
        await rig.runs(pod)
        (rig.runtime.mounts["/v"].host_path / "file").write_bytes(b"x" * 1_200_000)
    rig.options = replace(rig.options, usage_period=0.05)
    async with rig.engine():
        await eventually(lambda: rig.statuses[PodKey.of(pod)].reason == "Evicted")


async def test_files_that_a_full_disk_does_not_take_stay_as_they_are_and_come_when_there_is_room(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = with_volume(configMap={"name": "c"})
    rig.cluster.config_map("c", k="one")
    async with rig.engine() as engine:
        await engine.create_pod(pod)
        await rig.runs(pod)
        file = rig.runtime.mounts["/v"].host_path / "k"

        def full(*args: Any, **kwargs: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(PodVolumes, "_write", full)
            rig.cluster.config_map("c", k="two")
            await eventually(
                lambda: any(
                    reason == "FailedMount" and "no space left on device" in text for reason, text in rig.events
                )
            )
            assert file.read_text() == "one"
        await eventually(lambda: file.read_text() == "two")
