"""How far a container is kept apart from its machine, and how far it is spared. A real Podman and dockerd."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from providers.docker.tests.machine import Machine, container, machine_at, pod, shell
from virtual_kubelet import ContainerStartError, InvalidInputError
from virtual_kubelet.objects.core_v1 import (
    AppArmorProfile,
    ContainerUser,
    LinuxContainerUser,
    Pod,
    PodSecurityContext,
    ResourceRequirements,
    SeccompProfile,
    SecurityContext,
)
from virtual_kubelet_docker.process_rights import container_user, lowest_oom_score

pytestmark = pytest.mark.may_block

CAP_SYS_ADMIN = 1 << 21


async def test_the_hosts_processes_and_ipc_are_a_pods_that_asks_for_them(machine: Machine) -> None:
    hosts = [str(Path(f"/proc/self/ns/{kind}").readlink()) for kind in ("pid", "ipc")]

    async def of(one: Pod) -> list[bool]:
        _, log = await machine.run(one, shell("readlink /proc/self/ns/pid; readlink /proc/self/ns/ipc"))
        return [mine == theirs for mine, theirs in zip(log.decode().split(), hosts, strict=True)]

    assert await of(pod()) == [False, False]
    assert await of(pod(host_pid=True)) == [True, False]
    assert await of(pod(host_ipc=True)) == [False, True]


async def test_a_profile_of_system_calls_of_the_node(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "of").mkdir()
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}
    (tmp_path / "of" / "mine.json").write_text(json.dumps(profile))
    script = "mkdir /tmp/a 2>&1; touch /tmp/b && echo touched; grep Seccomp: /proc/self/status"

    def with_profile(name: str) -> SecurityContext:
        return SecurityContext(seccomp_profile=SeccompProfile(type="Localhost", localhost_profile=name))

    async with machine_at(machine.engine, seccomp_profile_root=tmp_path) as own:
        _, log = await own.run(pod(), shell(script, security_context=with_profile("of/mine.json")))
        assert b"Operation not permitted" in log
        assert log.endswith(b"touched\nSeccomp:\t2\n")
        of_pod = PodSecurityContext(seccomp_profile=SeccompProfile(type="Localhost", localhost_profile="of/mine.json"))
        _, log = await own.run(pod(security_context=of_pod), shell(script))
        assert b"Operation not permitted" in log
        with pytest.raises(ContainerStartError, match=f"{tmp_path}/none.json: No such file") as refused:
            await own.start(pod(), shell("true", security_context=with_profile("none.json")))
        assert refused.value.reason == "CreateContainerError"
        assert len(await own.runtime.list_containers()) == 2  # those that ran


async def test_a_profile_of_app_armor_is_honoured_or_refused(machine: Machine) -> None:
    one = pod()
    profile = AppArmorProfile(type="Localhost", localhost_profile="docker-default")
    what = shell("cat /proc/self/attr/current", security_context=SecurityContext(app_armor_profile=profile))
    one.spec.containers = [what]
    if Path("/sys/module/apparmor/parameters/enabled").exists():
        machine.runtime.check_pod(one)
        _, log = await machine.run(one, what)
        assert log.startswith(b"docker-default")
    else:
        with pytest.raises(InvalidInputError, match=r"^spec\.containers\[main\]\.securityContext\.appArmorProfile: "):
            machine.runtime.check_pod(one)


async def test_what_of_proc_is_hidden(machine: Machine) -> None:
    script = "grep -c ' /proc/' /proc/self/mountinfo"
    _, log = await machine.run(pod(), shell(script))
    assert int(log) > 3
    _, log = await machine.run(pod(), shell(script, security_context=SecurityContext(proc_mount="Unmasked")))
    assert int(log) == 0


async def test_a_privileged_container_has_all_rights_and_devices_that_this_machine_gives(machine: Machine) -> None:
    """The machine may itself be a container that lacks some."""
    script = "grep -e CapEff -e Seccomp: /proc/self/status; ls /dev; mount -t tmpfs none /tmp 2>&1 && echo mounted"

    async def of(privileged: bool | None = None) -> tuple[int, str, set[str], bool]:
        _, log = await machine.run(pod(), shell(script, security_context=SecurityContext(privileged=privileged)))
        rights, seccomp, *devices = log.decode().splitlines()
        return int(rights.split()[1], 16), seccomp.split()[1], {*devices}, devices[-1] == "mounted"

    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    ours = int(status["CapBnd"], 16)
    rights, seccomp, devices, mounted = await of()
    assert rights & CAP_SYS_ADMIN == 0
    assert (seccomp, mounted) == ("2", False)
    special = {
        path.name for path in map(Path, ("/dev/kmsg", "/dev/fuse", "/dev/loop-control")) if path.is_char_device()
    }
    assert special.isdisjoint(devices)
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    if machine.engine.kind == "dockerd" and ours != (1 << last + 1) - 1:
        with pytest.raises(ContainerStartError, match="unable to apply caps"):  # it gives all, or nothing
            await of(privileged=True)
        return
    rights, seccomp, devices, mounted = await of(privileged=True)
    assert rights == ours
    assert (seccomp, mounted) == (status["Seccomp"], bool(ours & CAP_SYS_ADMIN))
    assert special <= devices


async def test_as_whom_a_container_runs_is_known(machine: Machine) -> None:
    of_pod = PodSecurityContext(run_as_user=5, run_as_group=6, supplemental_groups=[8, 7])
    started = await machine.start(pod(security_context=of_pod), shell("sleep 1000"))
    assert started.user == ContainerUser(linux=LinuxContainerUser(uid=5, gid=6, supplemental_groups=[6, 7, 8]))
    root = (await machine.start(pod(), shell("sleep 1000"))).user
    assert root is not None
    assert root.linux is not None
    assert (root.linux.uid, root.linux.gid) == (0, 0)
    inspected = await machine.runtime.daemon.get(f"containers/{started.id}/json")
    assert container_user(inspected["State"]["Pid"], "f" * 64) is None  # the number is another's by now
    assert container_user(2**22 + 1, started.id) is None


async def test_how_far_a_container_is_spared_when_memory_is_short(machine: Machine) -> None:
    lowest = lowest_oom_score()
    all_of_it = {"cpu": "100m", "memory": "32Mi"}
    for resources, wanted in (
        (None, 1000),
        (ResourceRequirements(requests={"memory": "1Mi"}), 999),
        (ResourceRequirements(limits=all_of_it, requests=all_of_it), max(-997, lowest)),
    ):
        one = pod()
        one.spec.containers = [container("cat", "/proc/self/oom_score_adj", resources=resources)]
        _, log = await machine.run(one, one.spec.containers[0])
        assert int(log) == wanted
    sandbox = await machine.runtime.ensure_sandbox(pod())
    pid = (await machine.runtime.daemon.get(f"containers/{sandbox.id}/json"))["State"]["Pid"]
    assert int(Path(f"/proc/{pid}/oom_score_adj").read_text()) == max(-998, lowest)
