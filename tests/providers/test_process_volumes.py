"""Volumes of the process provider: real processes in mount namespaces of their own, and links where there are none."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.contract.scenarios import eventually
from tests.providers.contexts import context
from tests.providers.test_process_provider import Node
from tests.stream_clients import Client, streams
from tests.volumes.cluster_stand_in import ClusterStandIn
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.errors import InvalidInputError
from virtual_kubelet.objects.core_v1 import HostAlias, Pod, PodDNSConfig, PodStatus
from virtual_kubelet.providers.process import ProcessProvider

pytestmark = [
    pytest.mark.may_block,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root"),
]

REPOSITORY = Path(__file__).resolve().parents[2]


class Rig(Node):
    """A node with ConfigMaps and Secrets."""

    cluster: ClusterStandIn

    async def until(self, one: Pod, condition: Callable[[PodStatus], object], seconds: float = 60) -> PodStatus:
        return await super().until(one, condition, seconds)

    async def starts(self, one: Pod) -> Pod:
        await self.provider.create_pod(one)
        return one

    async def runs(self, one: Pod) -> None:
        await self.until(one, lambda status: status.phase == "Running")

    async def said(self, one: Pod) -> list[str]:
        """All that it has written when it has ended with 0."""
        ended = await self.ended(one)
        lines = [line.decode().rstrip("\n") for line in await self.logs(one)]
        assert ended.exit_code == 0, (ended, lines)
        return lines

    async def run(self, one: Pod, *command: str) -> str:
        shown = Client()
        code = await self.provider.run_in_container(PodKey.of(one), "main", list(command), streams(None, shown))
        assert code == 0, shown.data
        return shown.data.decode()

    async def delete(self, one: Pod) -> None:
        one.metadata.deletion_grace_period_seconds = 0
        await self.provider.delete_pod(one)
        await self.gone(one)


@contextlib.asynccontextmanager
async def rig_in(folder: Path, cluster: ClusterStandIn, config: str | None = None) -> AsyncIterator[Rig]:
    sources = cluster.sources()
    path = None
    if config is not None:
        path = folder / "provider.yaml"
        path.write_text(config)
    given = replace(
        context(folder, config_path=path),
        config_maps=sources.config_maps,
        secrets=sources.secrets,
        references=cluster,
        tokens=cluster,
    )
    async with ProcessProvider(given, allow_host_processes=True) as provider:
        rig = Rig(provider, folder)
        rig.cluster = cluster
        yield rig


async def clear(rig: Rig) -> None:
    for one in await rig.provider.get_pods():
        await rig.delete(one)
    assert mounts_below(rig.folder) == []
    assert list((rig.folder / "process" / "containers").iterdir()) == []
    assert list((rig.folder / "process" / "pods").glob("files/*")) == []


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig_in(tmp_path, ClusterStandIn()) as made:
        yield made
        await clear(made)


@pytest.fixture
def place() -> Iterator[str]:
    """A name that the machine has nowhere; and has not after the test."""
    name = f"vk-{uuid.uuid4().hex[:8]}"
    yield name
    for folder in ("/", "/etc", "/run", "/var/tmp", "/dev"):
        assert not os.path.lexists(f"{folder}/{name}"), "nothing is left on the machine"


def mounts_below(folder: Path) -> list[str]:
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {folder}" in line]


def pod(
    script: str,
    mounts: dict[str, Any] | None = None,
    volumes: dict[str, Any] | None = None,
    *,
    beside: tuple[dict[str, Any], ...] = (),
    spec: dict[str, Any] | None = None,
    **container: Any,
) -> Pod:
    """``mounts``: path -> volume's name, or all of the mount; ``volumes``: name -> source; ``beside``: more containers."""
    given = [
        {"mountPath": path, **({"name": what} if isinstance(what, str) else what)}
        for path, what in (mounts or {}).items()
    ]
    main = {"name": "main", "image": "none", "command": ["sh", "-c", script], "volumeMounts": given, **container}
    return msgspec.convert(
        {
            "metadata": {"name": f"p-{uuid.uuid4().hex[:6]}", "namespace": "default", "uid": str(uuid.uuid4())},
            "spec": {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 1,
                "containers": [main, *beside],
                "volumes": [{"name": name, **source} for name, source in (volumes or {}).items()],
                **(spec or {}),
            },
        },
        Pod,
    )


EMPTY: dict[str, Any] = {"emptyDir": {}}


async def test_volumes_are_where_the_container_wants_them_and_the_machine_has_nothing_of_it(
    rig: Rig, place: str
) -> None:
    rig.cluster.config_map("settings", colour="blue")
    rig.cluster.secret("keys", key="hush")
    script = f"""
        cat /{place}/settings/colour /run/{place}/key
        echo kept > /{place}/data/file; cat /{place}/data/file
        ls /etc/hostname /proc/self/status /dev/null
        (echo no > /{place}/settings/colour) 2>&1 | grep -o 'Read-only file system'
        stat -c %n /etc/{place}/deep/below
    """
    one = await rig.starts(
        pod(
            script,
            {
                f"/{place}/settings": "settings",
                f"/run/{place}": "keys",
                f"/{place}/data": "data",
                f"/etc/{place}/deep/below": "data",
            },
            {
                "settings": {"configMap": {"name": "settings"}},
                "keys": {"secret": {"secretName": "keys"}},
                "data": EMPTY,
            },
        )
    )
    assert await rig.said(one) == [
        "bluehushkept",
        "/dev/null",
        "/etc/hostname",
        "/proc/self/status",
        "Read-only file system",
        f"/etc/{place}/deep/below",
    ]


async def test_an_edit_is_seen_inside_a_running_container(rig: Rig, place: str) -> None:
    rig.cluster.config_map("settings", colour="blue")
    script = f"cd /{place}; until grep -q green colour; do sleep 0.05; done; echo seen"
    one = await rig.starts(pod(script, {f"/{place}": "settings"}, {"settings": {"configMap": {"name": "settings"}}}))
    await rig.runs(one)
    assert await rig.run(one, "cat", f"/{place}/colour") == "blue"
    rig.cluster.config_map("settings", colour="green")
    assert await rig.said(one) == ["seen"]


async def test_read_only_sub_paths_and_mounts_in_mounts(rig: Rig, place: str, tmp_path: Path) -> None:
    rig.cluster.config_map("settings", colour="blue", size="big")
    (tmp_path / "host").mkdir()
    script = f"""
        cat /{place}/one/colour; echo; ls /{place}/one
        cat /{place}/host/size; echo
        echo here > /{place}/host/mine
        (echo no > /{place}/locked/file) 2>&1 | grep -o 'Read-only file system'
        ls -A /{place}/locked
    """
    settings = {"configMap": {"name": "settings"}}
    one = await rig.starts(
        pod(
            script,
            {
                f"/{place}/host/size": {"name": "settings", "subPath": "size"},  # a file, below a volume
                f"/{place}/one/colour": {"name": "settings", "subPath": "colour"},
                f"/{place}/host": "host",
                f"/{place}/locked": {"name": "data", "readOnly": True},
                f"/{place}/locked-not": {"name": "data", "subPath": "a/b"},
            },
            {"settings": settings, "host": {"hostPath": {"path": str(tmp_path / "host")}}, "data": EMPTY},
        )
    )
    assert await rig.said(one) == ["blue", "colour", "big", "Read-only file system", "a"]
    assert (tmp_path / "host" / "mine").read_text() == "here\n"


async def test_what_a_volumes_user_plants_leads_nobody_out_of_it(rig: Rig, place: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    first = {
        "name": "plants",
        "command": ["sh", "-c", f"ln -s {outside} /{place}/inner"],
        "volumeMounts": [{"name": "data", "mountPath": f"/{place}"}],
    }
    one = await rig.starts(
        pod(
            "true",
            {f"/{place}": "data", f"/{place}/inner/new": "other"},
            {"data": EMPTY, "other": EMPTY},
            spec={"initContainers": [first]},
        )
    )
    await rig.ended(one)
    assert list(outside.iterdir()) == [], "nothing is made on the machine"


@pytest.mark.parametrize("path", ["/dev/termination-log", "/{place}/deep/message"])
async def test_a_termination_message_is_read_from_its_file(rig: Rig, place: str, path: str) -> None:
    path = path.format(place=place)
    before = Path(path).read_bytes() if os.path.lexists(path) else None
    one = await rig.starts(pod(f"echo 'so be it' > {path}; exit 3", terminationMessagePath=path))
    ended = await rig.ended(one)
    assert (ended.exit_code, ended.message) == (3, "so be it\n")
    assert (Path(path).read_bytes() if os.path.lexists(path) else None) == before, "the machine's is another one"


async def test_containers_share_what_they_mount_and_probes_see_it(rig: Rig, place: str) -> None:
    other = {
        "name": "other",
        "command": ["sh", "-c", f"sleep 0.2; touch /var/tmp/{place}/ready; exec sleep 1000013"],
        "volumeMounts": [{"name": "data", "mountPath": f"/var/tmp/{place}"}],
    }
    probe = {"exec": {"command": ["ls", f"/{place}/ready"]}, "periodSeconds": 1}
    one = await rig.starts(
        pod(
            "exec sleep 1000013",
            {f"/{place}": "data"},
            {"data": EMPTY},
            beside=(other,),
            readinessProbe=probe,
        )
    )
    await rig.until(one, lambda s: any(c.type == "Ready" and c.status == "True" for c in s.conditions or ()))


async def test_groups_of_the_pod_may_write_in_its_volumes(rig: Rig, place: str) -> None:
    context = {"runAsUser": 65534, "runAsGroup": 65534, "fsGroup": 4711, "supplementalGroups": [4712]}
    script = f"id -G; touch /{place}/mine; stat -c %g /{place}/mine"
    one = await rig.starts(pod(script, {f"/{place}": "data"}, {"data": EMPTY}, spec={"securityContext": context}))
    assert await rig.said(one) == ["65534 4711 4712", "4711"]


async def test_a_read_only_root_leaves_volumes_devices_and_the_machine_writable(
    rig: Rig, place: str, tmp_path: Path
) -> None:
    script = f"""
        for path in {tmp_path}/x /{place}/x /etc/x /x; do
            (echo no > $path) 2>&1 | grep -o 'Read-only file system'
        done
        echo yes > /{place}/data/x; cat /{place}/data/x; echo null > /dev/null; echo message > /dev/termination-log
    """
    one = await rig.starts(
        pod(
            script,
            {f"/{place}/data": "data"},
            {"data": EMPTY},
            securityContext={"readOnlyRootFilesystem": True},
        )
    )
    assert await rig.said(one) == ["Read-only file system"] * 4 + ["yes"]
    assert (await rig.ended(one)).message == "message\n"
    (tmp_path / "still").touch()


async def test_capabilities_that_are_dropped_are_gone_in_commands_too(rig: Rig) -> None:
    held = int(
        next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line[:6] == "CapEff"), 16
    )
    drops = {"drop": ["ALL"], "add": ["NET_BIND_SERVICE", "CAP_CHOWN"]}
    show = "grep -E 'Cap(Eff|Bnd)' /proc/self/status"
    one = await rig.starts(pod(f"{show}; exec sleep 1000013", securityContext={"capabilities": drops}))
    await eventually(lambda: rig.wrote(one))
    kept = f"{(1 << 10 | 1) & held:016x}"
    assert [line.split()[1].decode() for line in await rig.logs(one)] == [kept, kept]
    assert [line.split()[1] for line in (await rig.run(one, "sh", "-c", show)).splitlines()] == [kept, kept]
    other = await rig.starts(pod(show, securityContext={"capabilities": {"drop": ["NET_RAW"]}}))
    assert (await rig.said(other))[0].split()[1] == f"{held & ~(1 << 13):016x}"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"securityContext": {"capabilities": {"add": ["NONSENSE"]}}}, r"spec\.containers\[main\]\.securityContext"),
        ({"securityContext": {"seLinuxOptions": {"level": "s0"}}}, "seLinuxOptions"),
        ({"volumeDevices": [{"name": "v", "devicePath": "/dev/v"}]}, "volumeDevices"),
    ],
)
async def test_what_a_process_cannot_have_is_refused_by_its_field(rig: Rig, change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInputError, match=field):
        await rig.provider.create_pod(pod("true", **change))
    assert await rig.provider.get_pods() == []


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"host_aliases": [HostAlias(ip="10.0.0.1", hostnames=["db"])]}, r"^spec\.hostAliases: "),
        ({"dns_policy": "None", "dns_config": PodDNSConfig(nameservers=["10.0.0.10"])}, r"^spec\.dnsConfig: "),
    ],
)
async def test_a_pod_with_names_of_its_own_is_refused_by_its_field_where_nothing_can_be_mounted(
    tmp_path: Path, spec: dict[str, Any], field: str
) -> None:
    one = pod("true")
    one.spec = msgspec.structs.replace(one.spec, **spec)
    async with rig_in(tmp_path, ClusterStandIn(), "mountNamespaces: false\n") as rig:
        with pytest.raises(InvalidInputError, match=field):
            await rig.provider.create_pod(one)
        assert await rig.provider.get_pods() == []


async def test_a_pod_has_names_of_its_own_and_the_machine_keeps_its(rig: Rig) -> None:
    machine = [Path(path).read_bytes() for path in ("/etc/hosts", "/etc/resolv.conf") if os.path.exists(path)]
    config = {"nameservers": ["192.0.2.53"], "searches": ["example.com"], "options": [{"name": "ndots", "value": "2"}]}
    own = {
        "hostAliases": [{"ip": "192.0.2.7", "hostnames": ["db.example.com", "db"]}],
        "dnsPolicy": "None",
        "dnsConfig": config,
    }
    one = await rig.starts(pod("getent hosts db; cat /etc/resolv.conf; exec sleep 1000017", spec=own))
    wanted = ["search example.com", "nameserver 192.0.2.53", "options ndots:2"]

    await rig.runs(one)

    async def said() -> list[str]:
        lines = [line.decode().rstrip("\n") for line in await rig.logs(one)]
        return lines if len(lines) == 4 else []

    await eventually(said)
    first, *rest = await said()
    assert (first.split(), rest) == (["192.0.2.7", "db.example.com", "db"], wanted)
    assert "192.0.2.7" in await rig.run(one, "/usr/bin/getent", "hosts", "db")
    other = await rig.starts(pod("getent hosts db.example.com || echo none"))
    assert await rig.said(other) == ["none"]
    assert machine == [Path(path).read_bytes() for path in ("/etc/hosts", "/etc/resolv.conf") if os.path.exists(path)]


async def test_a_place_that_cannot_be_made_is_said(rig: Rig) -> None:
    one = await rig.starts(pod("true", {"/etc/passwd/below": "data"}, {"data": EMPTY}))
    await rig.until(one, lambda s: "volumeMounts: Not a directory: /etc/passwd" in str(s.container_statuses))


async def test_a_sidecar_outlives_the_main_container_and_shares_its_volume(rig: Rig, place: str) -> None:
    sidecar = {
        "name": "sidecar",
        "image": "none",
        "restartPolicy": "Always",
        "command": ["sh", "-c", f"trap 'echo end; exit 0' TERM; touch /{place}/up; while :; do sleep 0.05; done"],
        "volumeMounts": [{"name": "data", "mountPath": f"/{place}"}],
    }
    script = f"until [ -e /{place}/up ]; do sleep 0.02; done; echo main"
    one = await rig.starts(pod(script, {f"/{place}": "data"}, {"data": EMPTY}, spec={"initContainers": [sidecar]}))
    status = await rig.until(one, lambda s: s.phase == "Succeeded")
    assert status.init_container_statuses is not None
    state = status.init_container_statuses[0].state
    assert state is not None
    assert state.terminated is not None
    assert state.terminated.exit_code == 0
    assert b"end\n" in await rig.logs(one, "sidecar")  # beside what the shell says of its own child


async def test_an_ephemeral_container_comes_to_the_files_of_its_target(rig: Rig, place: str) -> None:
    one = await rig.starts(pod(f"echo there > /{place}/x; exec sleep 1000013", {f"/{place}": "data"}, {"data": EMPTY}))
    await rig.runs(one)
    built = msgspec.to_builtins(one)
    debug = {"image": "none", "command": ["sh", "-c", f"cat /{place}/x 2> /dev/null || echo none"]}
    built["spec"]["ephemeralContainers"] = [
        {"name": "near", "targetContainerName": "main", **debug},
        {"name": "far", **debug},
        {"name": "bad", **debug, "securityContext": {"seLinuxOptions": {"level": "s0"}}},
    ]
    await rig.provider.update_pod(msgspec.convert(built, Pod))

    def ended(name: str) -> Any:
        statuses = rig.statuses[PodKey.of(one)].ephemeral_container_statuses or ()
        return next((s.state.terminated for s in statuses if s.name == name and s.state), None)

    await eventually(lambda: ended("near") and ended("far"))
    assert await rig.logs(one, "near") == [b"there\n"]
    assert await rig.logs(one, "far") == [b"none\n"]
    await rig.until(one, lambda status: "ephemeralContainers[bad].securityContext" in str(status))


#: A node of its own process, with a pod of volumes.
NODE = """
import asyncio, sys
from pathlib import Path
import msgspec
from tests.providers.test_process_volumes import rig_in
from tests.volumes.cluster_stand_in import ClusterStandIn
from virtual_kubelet.objects.core_v1 import Pod

async def main():
    (one,) = msgspec.json.decode(Path(sys.argv[2]).read_bytes(), type=list[Pod])
    cluster = ClusterStandIn()
    cluster.secret("keys", key="hush")
    async with rig_in(Path(sys.argv[1]), cluster) as rig:
        await rig.provider.create_pod(one)
        await rig.runs(one)
        print("runs", flush=True)
        await asyncio.sleep(1000)

asyncio.run(main())
"""


async def test_a_killed_node_and_supervisor_cost_no_mount_and_nothing_is_left(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "node"
    folder.mkdir()
    script = f"trap 'exit 0' TERM; while :; do cat /{place}/keys/key >> /{place}/data/seen; sleep 0.05; done"
    one = pod(
        script,
        {f"/{place}/keys": "keys", f"/{place}/data": "data"},
        {"keys": {"secret": {"secretName": "keys"}}, "data": {"emptyDir": {"medium": "Memory"}}},
    )
    (tmp_path / "pods.json").write_bytes(msgspec.json.encode([one]))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", NODE, str(folder), str(tmp_path / "pods.json"), cwd=REPOSITORY, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"runs\n"
    process.kill()
    await process.wait()
    cluster = ClusterStandIn()
    cluster.secret("keys", key="hush")
    async with rig_in(folder, cluster) as rig:
        try:
            await goes_on(rig, one, place)
        finally:
            await clear(rig)


async def goes_on(rig: Rig, one: Pod, place: str) -> None:
    """In a new node whose supervisor is killed too."""
    os.kill(rig.supervisor, signal.SIGKILL)
    await rig.runs(one)
    assert await rig.run(one, "cat", f"/{place}/keys/key") == "hush"
    rig.cluster.secret("keys", key="loud")

    async def seen() -> bool:
        return await rig.run(one, "tail", "-c", "4", f"/{place}/data/seen") == "loud"

    await eventually(seen)
    status = rig.statuses[PodKey.of(one)]
    assert status.container_statuses is not None
    assert status.container_statuses[0].restart_count == 0
