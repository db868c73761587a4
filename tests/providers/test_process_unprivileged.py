"""Volumes without root: mounts in a user namespace where there are any, else links at free places; the rest is refused.

The first two tests run a whole node as another user, in a process of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.providers.test_process_volumes import EMPTY, Rig, clear, pod, rig_in
from tests.volumes.cluster_stand_in import ClusterStandIn
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.errors import InvalidInputError
from virtual_kubelet.objects.core_v1 import Pod

pytestmark = pytest.mark.may_block

REPOSITORY = Path(__file__).resolve().parents[2]
NOBODY = 65534

#: Python may be where only root looks.
AS_NOBODY = (
    "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
    "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search",
)  # fmt: skip

#: A node whose pods are in a file; says how each ended, what it wrote, or why it was refused.
NODE = """
import asyncio, json, sys
from pathlib import Path
import msgspec
from tests.providers.test_process_volumes import clear, rig_in
from tests.volumes.cluster_stand_in import ClusterStandIn
from virtual_kubelet.errors import InvalidInputError
from virtual_kubelet.objects.core_v1 import Pod

async def main():
    folder, config = Path(sys.argv[1]), sys.argv[2] or None
    cluster = ClusterStandIn()
    cluster.config_map("settings", colour="blue")
    async with rig_in(folder, cluster, config) as rig:
        for one in msgspec.json.decode((folder / "pods.json").read_bytes(), type=list[Pod]):
            try:
                await rig.provider.create_pod(one)
            except InvalidInputError as error:
                print(json.dumps({"refused": str(error)}), flush=True)
                continue
            ended = await rig.ended(one)
            lines = [line.decode().rstrip() for line in await rig.logs(one)]
            print(json.dumps({"code": ended.exit_code, "message": ended.message, "lines": lines}), flush=True)
        await clear(rig)

asyncio.run(main())
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder of the other user's, whom pytest's own lets not in."""
    folder = Path(tempfile.mkdtemp(prefix="vk-nobody-"))
    os.chown(folder, NOBODY, NOBODY)
    yield folder
    shutil.rmtree(folder)


def as_nobody(folder: Path, *pods: Pod, config: str = "") -> list[dict[str, Any]]:
    path = folder / "pods.json"
    path.write_bytes(msgspec.json.encode(pods))
    path.chmod(0o644)
    done = subprocess.run(
        [*AS_NOBODY, sys.executable, "-c", NODE, str(folder), config],
        cwd=REPOSITORY,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


def user_namespaces() -> bool:
    """Whether another user may have them here."""
    run = subprocess.run(
        ["unshare", "--user", "--mount", "true"], user=NOBODY, group=NOBODY, capture_output=True, check=False
    )
    return run.returncode == 0


@needs_root
@pytest.mark.skipif(not user_namespaces(), reason="users may have no user namespaces here")
def test_a_user_has_volumes_in_a_user_namespace_and_is_still_who_he_was(home: Path) -> None:
    place = f"vk-{uuid.uuid4().hex[:8]}"
    script = f"""
        id -u; cat /{place}/settings/colour; echo
        echo kept > /{place}/data/file; cat /{place}/data/file
        (echo no > /{place}/settings/colour) 2>&1 | grep -o 'Read-only file system'
        grep CapEff /proc/self/status | cut -f2; echo done > /dev/termination-log
        until [ -s /{place}/data/hook ]; do sleep 0.02; done; cat /{place}/data/hook
    """
    hook = {"exec": {"command": ["sh", "-c", f"id -u > /{place}/data/hook"]}}
    mounts = {f"/{place}/settings": "settings", f"/{place}/data": "data"}
    volumes = {"settings": {"configMap": {"name": "settings"}}, "data": EMPTY}
    context = {"readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    locked = pod("(echo no > x) 2>&1 | grep -o 'Read-only file system'", workingDir=str(home), securityContext=context)
    answers = as_nobody(home, pod(script, mounts, volumes, lifecycle={"postStart": hook}), locked)
    assert answers == [
        {
            "code": 0,
            "message": "done\n",
            "lines": [str(NOBODY), "blue", "kept", "Read-only file system", "0000000000000000", str(NOBODY)],
        },
        {"code": 0, "message": None, "lines": ["Read-only file system"]},
    ]
    assert not os.path.lexists(f"/{place}")


@needs_root
def test_without_mounts_a_user_has_links_and_what_cannot_be_linked_is_refused(home: Path) -> None:
    place = home / "config"
    script = f"cat {place}/colour; echo; cat {home}/message; echo 'not lost' > {home}/message; exit 3"
    source = {"settings": {"configMap": {"name": "settings"}}}
    answers = as_nobody(
        home,
        pod(script, {str(place): "settings"}, source, terminationMessagePath=f"{home}/message"),
        pod("true", {"/etc/vk-config": "settings"}, source),
        pod("true", {f"{home}/data": {"name": "data", "readOnly": True}}, {"data": EMPTY}),
        pod(f"ls {home}/pods.json", {str(home): "host"}, {"host": {"hostPath": {"path": str(home)}}}),
        config="mountNamespaces: false",
    )
    why = "this program may not mount"
    assert answers[0] == {"code": 3, "message": "not lost\n", "lines": ["blue"]}
    assert answers[1]["refused"].startswith(f"spec.containers[main].volumeMounts[settings].mountPath: {why}")
    assert answers[2]["refused"].startswith(f"spec.containers[main].volumeMounts[data].readOnly: {why}")
    assert answers[3] == {"code": 0, "message": None, "lines": [f"{home}/pods.json"]}, "it is there already"
    assert not os.path.lexists(place)
    assert not os.path.lexists(home / "message")


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig_in(tmp_path, ClusterStandIn(), "mountNamespaces: false\ncgroupRoot: null\n") as made:
        yield made
        await clear(made)


async def test_a_link_shows_edits_is_shared_by_its_pod_and_goes_with_the_last_container(
    rig: Rig, tmp_path: Path
) -> None:
    rig.cluster.config_map("settings", colour="blue")
    place = tmp_path / "linked"
    other = {
        "name": "other",
        "command": ["sh", "-c", f"until [ -e {tmp_path}/first-ended ]; do sleep 0.02; done; cat {place}/colour"],
        "volumeMounts": [{"name": "settings", "mountPath": str(place)}],
    }
    script = f"until grep -q green {place}/colour; do sleep 0.02; done"
    one = await rig.starts(
        pod(script, {str(place): "settings"}, {"settings": {"configMap": {"name": "settings"}}}, beside=(other,))
    )
    await rig.runs(one)
    assert place.is_symlink()
    rig.cluster.config_map("settings", colour="green")
    await rig.until(one, lambda s: any(c.state and c.state.terminated for c in s.container_statuses or ()))
    (tmp_path / "first-ended").touch()
    assert (await rig.ended(one)).exit_code == 0
    assert await rig.logs(one, "other") == [b"green"]
    assert not os.path.lexists(place)


async def test_a_place_that_is_taken_is_left_as_it_is(rig: Rig, tmp_path: Path) -> None:
    place = tmp_path / "taken"
    place.write_text("mine")
    with pytest.raises(InvalidInputError, match=r"spec\.containers\[main\]\.volumeMounts\[data\]\.mountPath"):
        await rig.provider.create_pod(pod("true", {str(place): "data"}, {"data": EMPTY}))
    late = tmp_path / "late"
    one = pod(
        "true",
        {str(late): "data"},
        {"data": EMPTY},
        spec={"initContainers": [{"name": "first", "command": ["sh", "-c", f"echo mine > {late}"]}]},
    )
    await rig.starts(one)
    await rig.until(one, lambda s: "there is something else already" in str(s.container_statuses))
    await rig.delete(one)
    assert place.read_text() == "mine"
    assert late.read_text() == "mine\n"


async def test_the_service_accounts_volume_is_left_out_where_it_cannot_be(rig: Rig) -> None:
    path = "/var/run/secrets/kubernetes.io/serviceaccount"
    token = {"projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
    one = pod(f"ls {path} || echo none", {path: "kube-api-access-x"}, {"kube-api-access-x": token})
    await rig.starts(one)
    assert (await rig.said(one))[-1:] == ["none"]
    assert PodKey.of(one) in rig.statuses
