"""PodVolumes: set up, mounted, refreshed, adopted, removed; with the right to mount and without it."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.environment.pod_specs import pod_of
from tests.volumes.cluster_stand_in import ClusterStandIn
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.contracts.runtime import ContainerStartError, Mount
from virtual_kubelet.errors import ForbiddenError, MountError
from virtual_kubelet.objects.core_v1 import Pod
from virtual_kubelet.volumes import mounting
from virtual_kubelet.volumes.pod_volumes import PodVolumes, remove_volumes_of_others

ROOT = os.geteuid() == 0 and mounting.may_mount()
needs_root = pytest.mark.skipif(not ROOT, reason="only root may mount and give files away")
BINDING = [False, pytest.param(True, marks=needs_root)]


def pod_with(*volumes: dict[str, Any], mounts: list[dict[str, Any]] | None = None, **spec: Any) -> Pod:
    named = [{"name": f"v{index}", **volume} for index, volume in enumerate(volumes)]
    plain = [{"name": volume["name"], "mountPath": f"/{volume['name']}"} for volume in named]
    container = {"volumeMounts": plain if mounts is None else mounts, "env": spec.pop("env", [])}
    return pod_of(container, volumes=named, **spec)


class Rig:
    def __init__(self, folder: Path, binding: bool) -> None:
        self.folder = folder
        self.binding = binding
        self.cluster = ClusterStandIn()
        self.changes = asyncio.Event()

    def volumes(self, uid: str = "u-1") -> PodVolumes:
        return PodVolumes(
            self.folder,
            PodKey("shop", "web-0", uid),
            self.cluster.sources(),
            changed=self.changes.set,
            binding=self.binding,
        )

    async def prepared(self, pod: Pod) -> PodVolumes:
        volumes = self.volumes()
        await volumes.prepare(pod)
        return volumes


@pytest.fixture(params=BINDING)
async def rig(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    made = Rig(tmp_path / "pods", request.param)
    yield made
    await remove_volumes_of_others(made.folder, [])
    assert await mount_points_below(tmp_path) == []


@pytest.fixture
async def plain(tmp_path: Path) -> AsyncIterator[Rig]:
    """Where mounting makes no difference."""
    made = Rig(tmp_path / "pods", False)
    yield made
    await remove_volumes_of_others(made.folder, [])


async def mounted(volumes: PodVolumes, pod: Pod) -> dict[str, Mount]:
    return {mount.container_path: mount for mount in await volumes.mounts(pod.spec.containers[0])}


async def is_mounted(path: Path) -> bool:
    return await asyncio.to_thread(mounting.is_mounted, path)


async def mount_points_below(path: Path) -> list[Path]:
    return list(await asyncio.to_thread(mounting.mount_points_below, path))


async def run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0


def mode(path: Path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


class TestContents:
    async def test_files_of_every_kind(self, rig: Rig) -> None:
        rig.cluster.config_map("c", k="v")
        rig.cluster.secret("s", k="hush")
        fields = {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}
        sources = [{"serviceAccountToken": {"path": "token"}}, {"configMap": {"name": "c"}}, {"downwardAPI": fields}]
        pod = pod_with(
            {"configMap": {"name": "c"}},
            {"secret": {"secretName": "s", "defaultMode": 0o400}},
            {"downwardAPI": fields},
            {"projected": {"sources": sources}},
        )
        volumes = await rig.prepared(pod)
        paths = await mounted(volumes, pod)
        assert {at: sorted(p.name for p in m.host_path.glob("[!.]*")) for at, m in paths.items()} == {
            "/v0": ["k"],
            "/v1": ["k"],
            "/v2": ["name"],
            "/v3": ["k", "name", "token"],
        }
        assert (paths["/v1"].host_path / "k").read_text() == "hush"
        assert mode(paths["/v1"].host_path / "k") == 0o400
        assert (paths["/v3"].host_path / "token").read_text() == "token-1"
        assert all(mount.read_only for mount in paths.values())
        assert mode(rig.folder / "u-1") == 0o700
        # What may be secret is in memory where that can be had, as with a kubelet.
        in_memory = [await is_mounted(mount.host_path) for mount in paths.values()]
        assert in_memory == [False, rig.binding, rig.binding, rig.binding]

    async def test_a_change_reaches_the_files_and_says_that_it_is_there(self, rig: Rig) -> None:
        rig.cluster.config_map("c", k="one")
        pod = pod_with({"configMap": {"name": "c"}})
        volumes = await rig.prepared(pod)
        file = (await mounted(volumes, pod))["/v0"].host_path / "k"
        rig.cluster.config_map("c", k="two", more="x")
        await rig.changes.wait()
        await volumes.refresh(pod)
        assert (file.read_text(), (file.parent / "more").read_text()) == ("two", "x")

    async def test_labels_and_annotations_are_those_of_the_refreshed_pod(self, plain: Rig) -> None:
        item = {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}
        pod = pod_with({"downwardAPI": {"items": [item]}})
        volumes = await plain.prepared(pod)
        pod.metadata.labels = {"now": "there"}
        await volumes.refresh(pod)
        assert (volumes_path(plain, "v0") / "labels").read_text() == 'now="there"'

    async def test_what_is_missing_is_said_in_the_kubelet_s_words_and_the_rest_is_set_up(self, plain: Rig) -> None:
        plain.cluster.secret("there", k="v")
        items = [{"key": "none", "path": "p"}]
        pod = pod_with(
            {"configMap": {"name": "gone"}},
            {"secret": {"secretName": "there", "items": items}},
            {"emptyDir": {}},
        )
        volumes = plain.volumes()
        with pytest.raises(MountError) as caught:
            await volumes.prepare(pod)
        assert caught.value.reason == "FailedMount"
        assert caught.value.messages == (
            'MountVolume.SetUp failed for volume "v0" : configmap "gone" not found',
            'MountVolume.SetUp failed for volume "v1" : references non-existent secret key: none',
        )
        assert volumes_path(plain, "v2").is_dir()
        with pytest.raises(ContainerStartError, match='volume "v0" is not set up'):
            await volumes.mounts(pod.spec.containers[0])
        plain.cluster.config_map("gone", k="v")
        await plain.changes.wait()
        plain.cluster.secret("there", none="v")
        await volumes.refresh(pod)
        assert len(await volumes.mounts(pod.spec.containers[0])) == 3

    async def test_a_source_deleted_under_a_running_pod_is_said_and_the_old_files_stay(self, plain: Rig) -> None:
        plain.cluster.config_map("c", k="v")
        pod = pod_with({"configMap": {"name": "c"}})
        volumes = await plain.prepared(pod)
        plain.cluster.remove("configmap", "c")
        await plain.changes.wait()
        with pytest.raises(MountError, match='configmap "c" not found'):
            await volumes.refresh(pod)
        assert (volumes_path(plain, "v0") / "k").read_text() == "v"
        assert len(await volumes.mounts(pod.spec.containers[0])) == 1

    async def test_so_they_do_for_a_process_that_is_started_again(self, plain: Rig) -> None:
        plain.cluster.config_map("c", k="v")
        pod = pod_with({"configMap": {"name": "c"}})
        (await plain.prepared(pod)).release()
        plain.cluster.remove("configmap", "c")
        again = plain.volumes()
        with pytest.raises(MountError, match='configmap "c" not found'):
            await again.prepare(pod)
        (mount,) = await again.mounts(pod.spec.containers[0])
        assert (mount.host_path / "k").read_text() == "v"

    @pytest.mark.parametrize("source", ["persistentVolumeClaim", "nfs"])
    async def test_a_kind_of_volume_that_there_is_not_is_never_an_empty_directory(
        self, plain: Rig, source: str
    ) -> None:
        values = {"persistentVolumeClaim": {"claimName": "c"}, "nfs": {"server": "s", "path": "/"}}
        with pytest.raises(MountError, match=f'volume "v0" : this node has no {source} volumes'):
            await plain.prepared(pod_with({source: values[source]}))

    async def test_a_volume_that_nobody_mounts_need_not_be_there(self, plain: Rig) -> None:
        pod = pod_with({"configMap": {"name": "gone"}}, mounts=[])
        await plain.prepared(pod)
        assert plain.cluster.held.popitem()[1][:2] == (set(), set())

    async def test_a_refusal_of_the_api_server_is_said(self, plain: Rig) -> None:
        plain.cluster.refusal = ForbiddenError(403, "Forbidden", "no relationship found")
        with pytest.raises(MountError, match='failed for volume "v0" : no relationship found'):
            await plain.prepared(pod_with({"secret": {"secretName": "s", "optional": True}}))

    @needs_root
    async def test_fs_group_and_run_as_user(self, rig: Rig) -> None:
        rig.cluster.config_map("c", k="v")
        projected = {"projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
        pod = pod_with(
            {"configMap": {"name": "c"}},
            {"emptyDir": {}},
            projected,
            {"emptyDir": {"medium": "Memory"}},
            securityContext={"fsGroup": 2000, "runAsUser": 1000},
        )
        await rig.prepared(pod)
        for name, expected in (("v0", 0o2777), ("v1", 0o2777), ("v2", 0o3777), ("v3", 0o3777)):
            about = os.stat(volumes_path(rig, name))
            assert (about.st_gid, stat.S_IMODE(about.st_mode)) == (2000, expected)
        token = os.stat(volumes_path(rig, "v2") / "token")
        assert (token.st_uid, token.st_gid, stat.S_IMODE(token.st_mode)) == (1000, 2000, 0o640)
        assert mode(volumes_path(rig, "v0") / "k") == 0o644

    @needs_root
    async def test_a_full_disk_leaves_the_old_files_and_says_so(self, plain: Rig, tmp_path: Path) -> None:
        plain.folder.mkdir()
        await run("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(plain.folder))
        try:
            plain.cluster.config_map("c", k="old", other="old")
            pod = pod_with({"configMap": {"name": "c"}})
            volumes = await plain.prepared(pod)
            plain.cluster.config_map("c", k="new" * 50_000, other="new")
            with pytest.raises(MountError) as caught:
                await volumes.refresh(pod)
            assert caught.value.messages == ('MountVolume.SetUp failed for volume "v0" : no space left on device',)
            files = volumes_path(plain, "v0")
            assert [(files / key).read_text() for key in ("k", "other")] == ["old", "old"]
            plain.cluster.config_map("c", k="new", other="new")
            await volumes.refresh(pod)
            assert [(files / key).read_text() for key in ("k", "other")] == ["new", "new"]
            await volumes.remove()
        finally:
            await run("umount", str(plain.folder))


def volumes_path(rig: Rig, name: str, uid: str = "u-1") -> Path:
    return rig.folder / uid / "volumes" / name


class TestTokens:
    async def test_a_token_is_renewed_when_its_time_has_come(self, plain: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("virtual_kubelet.volumes.pod_volumes._SHORTEST_SLEEP", 0.01)
        monkeypatch.setattr("virtual_kubelet.volumes.pod_volumes._LONGEST_SLEEP", 0.02)
        source = {"path": "token", "audience": "vault", "expirationSeconds": 1000}
        pod = pod_with({"projected": {"sources": [{"serviceAccountToken": source}]}})
        volumes = await plain.prepared(pod)
        assert plain.cluster.asked == [("web-0", "vault", 1000)]
        plain.cluster.clock.time += timedelta(seconds=799)
        await asyncio.sleep(0.1)
        assert not plain.changes.is_set()
        plain.cluster.clock.time += timedelta(seconds=2)
        await plain.changes.wait()
        await volumes.refresh(pod)
        assert (volumes_path(plain, "v0") / "token").read_text() == "token-2"
        plain.changes.clear()
        await volumes.remove()
        plain.cluster.clock.time += timedelta(days=2)
        await asyncio.sleep(0.1)
        assert not plain.changes.is_set()
        assert plain.cluster.forgotten == ["u-1"]

    async def test_a_token_that_cannot_be_had_is_said(self, plain: Rig) -> None:
        plain.cluster.token_refusal = ForbiddenError(403, "Forbidden", "pod is not bound")
        with pytest.raises(MountError, match='volume "v0" : failed to fetch token: pod is not bound'):
            await plain.prepared(pod_with({"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}))


class TestEmptyDir:
    async def test_it_is_open_to_all_and_keeps_what_is_in_it(self, rig: Rig) -> None:
        pod = pod_with({"emptyDir": {}}, {"emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}})
        volumes = await rig.prepared(pod)
        # That in memory as a kubelet leaves it: as the kernel makes a tmpfs.
        assert [mode(volumes_path(rig, name)) for name in ("v0", "v1")] == [0o777, 0o1777]
        for mount in (await mounted(volumes, pod)).values():
            assert not mount.read_only
            (mount.host_path / "kept").write_text("x")
            mount.host_path.chmod(0o700)
        await volumes.refresh(pod)
        volumes.release()
        # The process was killed; another one adopts.
        again = await rig.prepared(pod)
        for mount in (await mounted(again, pod)).values():
            assert (mount.host_path / "kept").read_text() == "x"
            assert mode(mount.host_path) == 0o700
        if rig.binding:
            assert len(await mount_points_below(rig.folder)) == 1
        await again.remove()
        assert os.listdir(rig.folder) == []

    @needs_root
    async def test_in_memory_it_has_its_limit_as_its_size(self, tmp_path: Path) -> None:
        rig = Rig(tmp_path / "pods", True)
        pod = pod_with({"emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}, {"emptyDir": {"medium": "Memory"}})
        volumes = await rig.prepared(pod)
        sizes = [os.statvfs(volumes_path(rig, name)) for name in ("v0", "v1")]
        assert [size.f_blocks * size.f_frsize for size in sizes] == [2**20, 64 * 2**20]
        with pytest.raises(OSError):
            (volumes_path(rig, "v0") / "large").write_bytes(bytes(2**20 + 1))
        await volumes.remove()

    @needs_root
    async def test_in_memory_it_is_made_again_when_the_machine_has_lost_it(self, tmp_path: Path) -> None:
        rig = Rig(tmp_path / "pods", True)
        pod = pod_with({"emptyDir": {"medium": "Memory"}})
        await rig.prepared(pod)
        await run("umount", str(volumes_path(rig, "v0")))
        volumes = await rig.prepared(pod)
        assert await is_mounted(volumes_path(rig, "v0"))
        assert mode(volumes_path(rig, "v0")) == 0o1777
        await volumes.remove()


class TestHostPath:
    @pytest.mark.parametrize(
        ("kind", "what"),
        [
            ("Directory", "a directory"),
            ("File", "a file"),
            ("Socket", "a socket file"),
            ("CharDevice", "a character device"),
            ("BlockDevice", "a block device"),
        ],
    )
    async def test_what_is_not_there_is_refused_in_the_kubelet_s_words(
        self, plain: Rig, tmp_path: Path, kind: str, what: str
    ) -> None:
        path = tmp_path / "none"
        with pytest.raises(MountError) as caught:
            await plain.prepared(pod_with({"hostPath": {"path": str(path), "type": kind}}))
        assert caught.value.messages == (
            f'MountVolume.SetUp failed for volume "v0" : hostPath type check failed: {path} is not {what}',
        )
        assert not path.exists()

    @pytest.mark.parametrize("kind", ["DirectoryOrCreate", "Directory", "Socket", "CharDevice", "BlockDevice"])
    async def test_a_file_is_nothing_else(self, plain: Rig, tmp_path: Path, kind: str) -> None:
        (tmp_path / "file").write_text("x")
        with pytest.raises(MountError, match=r"hostPath type check failed: .*/file is not "):
            await plain.prepared(pod_with({"hostPath": {"path": str(tmp_path / "file"), "type": kind}}))

    @pytest.mark.parametrize("kind", ["FileOrCreate", "File"])
    async def test_a_directory_is_no_file(self, plain: Rig, tmp_path: Path, kind: str) -> None:
        with pytest.raises(MountError, match="is not a file"):
            await plain.prepared(pod_with({"hostPath": {"path": str(tmp_path), "type": kind}}))

    async def test_what_is_there_is_mounted(self, plain: Rig, tmp_path: Path) -> None:
        (tmp_path / "dir").mkdir()
        (tmp_path / "file").write_text("x")
        (tmp_path / "link").symlink_to("dir")
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(tmp_path / "socket"))
        pairs = [
            ("Directory", tmp_path / "dir"),
            ("Directory", tmp_path / "link"),
            ("File", tmp_path / "file"),
            ("Socket", tmp_path / "socket"),
            ("CharDevice", Path("/dev/null")),
            ("", tmp_path / "file"),
        ]
        pod = pod_with(*({"hostPath": {"path": str(path), "type": kind}} for kind, path in pairs))
        paths = await mounted(await plain.prepared(pod), pod)
        listening.close()
        assert [m.host_path for m in paths.values()] == [path.resolve() for _, path in pairs]
        assert not any(m.read_only for m in paths.values())

    async def test_what_is_to_be_made_is_made_and_stays(self, plain: Rig, tmp_path: Path) -> None:
        made = {"DirectoryOrCreate": tmp_path / "a/dir", "FileOrCreate": tmp_path / "file", "": tmp_path / "b/dir"}
        pod = pod_with(*({"hostPath": {"path": str(path), "type": kind}} for kind, path in made.items()))
        volumes = await plain.prepared(pod)
        await plain.prepared(pod)
        assert made["DirectoryOrCreate"].is_dir()
        assert made[""].is_dir()
        assert made["FileOrCreate"].read_text() == ""
        await volumes.remove()
        assert all(path.exists() for path in made.values())

    async def test_a_file_in_no_directory_is_not_made(self, plain: Rig, tmp_path: Path) -> None:
        with pytest.raises(MountError, match="no such file or directory"):
            await plain.prepared(pod_with({"hostPath": {"path": str(tmp_path / "no/file"), "type": "FileOrCreate"}}))


class TestSubPath:
    def mount(self, sub_path: str, **more: Any) -> dict[str, Any]:
        return {"name": "v0", "mountPath": "/data", "subPath": sub_path, **more}

    @pytest.mark.parametrize(("source", "bits"), [({}, 0o777), ({"medium": "Memory"}, 0o1777)])
    async def test_a_part_of_a_volume_is_mounted_and_made_with_its_mode(self, rig: Rig, source: Any, bits: int) -> None:
        pod = pod_with({"emptyDir": source}, mounts=[self.mount("a/b")])
        volumes = await rig.prepared(pod)
        (mount,) = await volumes.mounts(pod.spec.containers[0])
        (mount.host_path / "file").write_text("x")
        assert (volumes_path(rig, "v0") / "a/b/file").read_text() == "x"
        assert mode(volumes_path(rig, "v0") / "a") == bits
        again = await volumes.mounts(pod.spec.containers[0])
        assert (again[0].host_path / "file").read_text() == "x"
        assert len(await mount_points_below(rig.folder)) == ((2 if source else 1) if rig.binding else 0)

    async def test_a_key_of_a_config_map_is_not_updated_until_the_container_starts_again(self, rig: Rig) -> None:
        rig.cluster.config_map("c", k="one")
        pod = pod_with({"configMap": {"name": "c"}}, mounts=[self.mount("k")])
        volumes = await rig.prepared(pod)
        (mount,) = await volumes.mounts(pod.spec.containers[0])
        with mount.host_path.open() as started:
            rig.cluster.config_map("c", k="two")
            await volumes.refresh(pod)
            assert started.read() == "one"
        if rig.binding:
            assert mount.host_path.read_text() == "one"
        (mount,) = await volumes.mounts(pod.spec.containers[0])
        assert mount.host_path.read_text() == "two"
        assert mount.read_only

    @pytest.mark.parametrize("target", ["/etc", "../../..", "../v1"])
    async def test_a_link_that_leads_out_is_an_error_that_tells_nothing(self, rig: Rig, target: str) -> None:
        pod = pod_with({"emptyDir": {}}, {"emptyDir": {}}, mounts=[self.mount("link/x")])
        volumes = await rig.prepared(pod)
        (volumes_path(rig, "v0") / "link").symlink_to(target)
        with pytest.raises(ContainerStartError) as caught:
            await volumes.mounts(pod.spec.containers[0])
        assert str(caught.value) == 'failed to prepare subPath for volumeMount "v0" of container "main-0"'
        assert caught.value.reason == "CreateContainerConfigError"

    async def test_a_link_within_the_volume_is_followed(self, rig: Rig) -> None:
        pod = pod_with({"emptyDir": {}}, mounts=[self.mount("link")])
        volumes = await rig.prepared(pod)
        (volumes_path(rig, "v0") / "real").mkdir()
        (volumes_path(rig, "v0") / "real/file").write_text("x")
        (volumes_path(rig, "v0") / "link").symlink_to("real")
        (mount,) = await volumes.mounts(pod.spec.containers[0])
        assert (mount.host_path / "file").read_text() == "x"

    @needs_root
    async def test_once_bound_a_swap_changes_nothing(self, tmp_path: Path) -> None:
        rig = Rig(tmp_path / "pods", True)
        pod = pod_with({"emptyDir": {}}, mounts=[self.mount("a")])
        volumes = await rig.prepared(pod)
        (mount,) = await volumes.mounts(pod.spec.containers[0])
        (volumes_path(rig, "v0") / "a").rename(volumes_path(rig, "v0") / "b")
        (volumes_path(rig, "v0") / "a").symlink_to("/etc")
        assert os.listdir(mount.host_path) == []
        await volumes.remove()
        assert Path("/etc/passwd").exists()

    @pytest.mark.parametrize(
        ("mount", "message"),
        [
            ({"subPath": "/etc"}, "error SubPath `/etc` must not be an absolute path"),
            ({"subPath": "a/../.."}, "unable to provision SubPath `a/../..`: must not contain '..'"),
            ({"subPathExpr": "$(UP)"}, "unable to provision SubPath `../x`: must not contain '..'"),
            ({"subPathExpr": "$(NONE)/$(A)/$(EMPTY)"}, "missing value for EMPTY, NONE"),
        ],
    )
    async def test_bad_paths_are_refused_in_the_kubelet_s_words(
        self, plain: Rig, mount: dict[str, Any], message: str
    ) -> None:
        env = [{"name": "A", "value": "a"}, {"name": "UP", "value": "../x"}, {"name": "EMPTY", "value": ""}]
        pod = pod_with({"emptyDir": {}}, mounts=[{"name": "v0", "mountPath": "/d", **mount}], env=env)
        volumes = await plain.prepared(pod)
        with pytest.raises(ContainerStartError) as caught:
            await volumes.mounts(pod.spec.containers[0])
        assert (str(caught.value), caught.value.reason) == (message, "CreateContainerConfigError")

    async def test_an_expression_is_expanded_with_the_container_s_variables(self, plain: Rig) -> None:
        mounts = [{"name": "v0", "mountPath": "/d", "subPathExpr": "$(POD)/$$(POD)"}]
        pod = pod_with({"emptyDir": {}}, mounts=mounts, env=[{"name": "POD", "value": "web-0"}])
        (mount,) = await (await plain.prepared(pod)).mounts(pod.spec.containers[0])
        assert mount.host_path == volumes_path(plain, "v0") / "web-0/$(POD)"


async def test_mounts_come_outer_paths_first_with_what_the_pod_says(plain: Rig) -> None:
    mounts: list[dict[str, Any]] = [
        {"name": "v0", "mountPath": "/a/b/c"},
        {"name": "v0", "mountPath": "/a/", "readOnly": True, "mountPropagation": "HostToContainer"},
        {"name": "v0", "mountPath": "relative"},
    ]
    pod = pod_with({"emptyDir": {}}, mounts=mounts)
    place = volumes_path(plain, "v0")
    assert await (await plain.prepared(pod)).mounts(pod.spec.containers[0]) == [
        Mount(place, "/a", read_only=True, propagation="HostToContainer"),
        Mount(place, "/relative"),
        Mount(place, "/a/b/c"),
    ]


class TestRemoval:
    async def test_it_leaves_nothing_whatever_the_container_has_made(self, rig: Rig, tmp_path: Path) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "precious").write_text("x")
        rig.cluster.secret("s", k="v")
        mounts = [
            {"name": "v0", "mountPath": "/a", "subPath": "x"},
            {"name": "v1", "mountPath": "/b"},
            {"name": "v2", "mountPath": "/c", "subPath": "k"},
            {"name": "v3", "mountPath": "/d"},
        ]
        host = {"hostPath": {"path": str(outside)}}
        pod = pod_with(
            {"emptyDir": {}}, {"emptyDir": {"medium": "Memory"}}, {"secret": {"secretName": "s"}}, host, mounts=mounts
        )
        volumes = await rig.prepared(pod)
        await volumes.mounts(pod.spec.containers[0])
        for name in ("v0", "v1"):
            (volumes_path(rig, name) / "link").symlink_to(outside)
            (volumes_path(rig, name) / "deep/er").mkdir(parents=True)
        await volumes.remove()
        assert os.listdir(rig.folder) == []
        assert await mount_points_below(tmp_path) == []
        assert (outside / "precious").read_text() == "x"
        assert rig.cluster.held == {}
        await volumes.remove()

    async def test_a_refresh_that_comes_late_makes_nothing_new(self, plain: Rig) -> None:
        plain.cluster.config_map("c", k="v")
        pod = pod_with({"configMap": {"name": "c"}})
        volumes = await plain.prepared(pod)
        await volumes.remove()
        await volumes.refresh(pod)
        assert os.listdir(plain.folder) == []
        assert plain.cluster.held == {}

    async def test_what_another_process_left_is_removed_by_uid(self, rig: Rig) -> None:
        pod = pod_with({"emptyDir": {"medium": "Memory"}})
        for uid in ("u-1", "u-2"):
            await rig.volumes(uid).prepare(pod)
        await remove_volumes_of_others(rig.folder, ["u-2"])
        assert os.listdir(rig.folder) == ["u-2"]

    @pytest.mark.parametrize("uid", ["..", "", "a/b", ".hidden", "a\n"])
    def test_uids_that_are_no_names_are_refused(self, plain: Rig, uid: str) -> None:
        with pytest.raises(ValueError, match="no name for a directory"):
            plain.volumes(uid)


@pytest.mark.parametrize("name", ["../../x", "/etc", ".."])
async def test_volume_names_that_are_no_names_touch_nothing(plain: Rig, name: str) -> None:
    pod = pod_with({"name": name, "emptyDir": {}}, mounts=[{"name": name, "mountPath": "/v"}])
    with pytest.raises(MountError, match="no name for a directory"):
        await plain.prepared(pod)
    assert not plain.folder.exists()


async def test_a_call_that_was_cancelled_does_not_run_into_the_next(
    plain: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread cannot be stopped: the next call waits until it has finished."""
    begun, go_on, order = asyncio.Event(), asyncio.Event(), list[str]()
    loop = asyncio.get_running_loop()
    remove: Callable[[Any], None] = type(plain.volumes()._directory).remove

    def slow(*args: Any) -> bool:
        loop.call_soon_threadsafe(begun.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(60)
        order.append("written")
        return True

    def removing(self: Any) -> None:
        order.append("removed")
        remove(self)

    monkeypatch.setattr("virtual_kubelet.volumes.pod_volumes.write_atomically", slow)
    monkeypatch.setattr("virtual_kubelet.volumes.directories.PodDirectory.remove", removing)
    plain.cluster.config_map("c", k="v")
    volumes = plain.volumes()
    preparing = asyncio.create_task(volumes.prepare(pod_with({"configMap": {"name": "c"}})))
    await begun.wait()
    preparing.cancel()
    await asyncio.gather(preparing, return_exceptions=True)
    ending = asyncio.create_task(volumes.remove())
    await asyncio.sleep(0.05)
    assert order == []
    go_on.set()
    await ending
    assert order == ["written", "removed"]


class TestLimits:
    async def test_an_empty_dir_beyond_its_limit_is_a_reason_to_evict_the_pod(self, plain: Rig) -> None:
        pod = pod_with({"emptyDir": {"sizeLimit": "1Mi"}}, {"emptyDir": {}}, {"emptyDir": {"sizeLimit": "0"}})
        volumes = await plain.prepared(pod)
        (volumes_path(plain, "v1") / "large").write_bytes(bytes(2**21))
        (volumes_path(plain, "v2") / "large").write_bytes(bytes(2**21))
        (volumes_path(plain, "v0") / "file").write_bytes(bytes(2**19))
        assert await volumes.over_limit() is None
        assert (await volumes.usage()).keys() == {"v0", "v1", "v2"}
        (volumes_path(plain, "v0") / "more").write_bytes(bytes(2**20))
        assert await volumes.over_limit() == 'Usage of EmptyDir volume "v0" exceeds the limit "1Mi". '

    async def test_without_a_limit_nothing_is_looked_at(self, plain: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        volumes = await plain.prepared(pod_with({"emptyDir": {}}))
        monkeypatch.setattr("virtual_kubelet.volumes.pod_volumes.disk_usage", lambda place: 1 / 0)
        assert await volumes.over_limit() is None
