"""Containers of a pod at a real Podman and a real dockerd: start, end, and what they get of their pod."""

from __future__ import annotations

import asyncio
import re
import signal
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from providers.docker.tests.machine import BUSYBOX, PATIENCE, Machine, container, pod, runtime_at, shell
from virtual_kubelet import ContainerKind, ContainerStartError, Mount
from virtual_kubelet.objects.core_v1 import (
    Capabilities,
    ContainerPort,
    EnvVar,
    Lifecycle,
    PodDNSConfig,
    PodDNSConfigOption,
    PodSecurityContext,
    ResourceRequirements,
    SecurityContext,
    Sysctl,
)

pytestmark = pytest.mark.may_block


async def test_the_exit_code_and_both_outputs(machine: Machine) -> None:
    before = datetime.now(UTC)
    ended, log = await machine.run(pod(), shell("echo out; echo err >&2; exit 3"))
    assert (ended.exit_code, ended.reason, ended.signal) == (3, None, None)
    assert ended.finished_at >= before
    assert sorted(log.splitlines()) == [b"err", b"out"]


async def test_a_start_is_done_once_however_often_it_is_asked_for(machine: Machine) -> None:
    config = await machine.config(pod(), shell("sleep 1000"))
    first = await machine.runtime.start_container(config)
    again = await machine.runtime.start_container(config)
    assert first == again
    assert first.labels == config.labels
    assert await machine.runtime.list_containers() == [replace(first, user=None)]  # which is known of the start alone


async def test_containers_of_a_pod_share_address_ipc_and_host_name(machine: Machine) -> None:
    one = pod(hostname="me", subdomain="sub")
    sandbox = await machine.runtime.ensure_sandbox(one)
    assert await machine.runtime.ensure_sandbox(one) == sandbox
    assert sandbox.labels == {"namespace": "default", "pod": "web", "uid": one.metadata.uid}
    script = (
        "ip -4 -o addr show eth0; for n in net ipc pid; do readlink /proc/self/ns/$n; done; hostname; echo $HOSTNAME"
    )
    results = []
    for name in ("a", "b"):  # both live: the kernel uses numbers of namespaces again
        started = await machine.start(one, shell(f"{script}; echo end; sleep 1000", name=name))
        results.append((await machine.logged(started.id, b"end\n")).decode().split("\n"))
    assert sandbox.ips[0] in results[0][0]
    assert results[0][1:3] == results[1][1:3]
    assert results[0][3] != results[1][3]
    assert results[0][4:6] == ["me", "me"]


async def test_processes_are_shared_if_the_pod_wants_and_orphans_leave_no_zombie(machine: Machine) -> None:
    one = pod(share_process_namespace=True)
    await machine.start(one, container("sleep", "12345", name="a"))
    wait = "until ! grep -q '^State:.Z' /proc/[0-9]*/status 2>/dev/null; do sleep 0.05; done"
    _, log = await machine.run(one, shell(f"(sleep 0 &); {wait}; cat /proc/[0-9]*/cmdline | tr '\\0' ' '", name="b"))
    assert b"/pause" in log
    assert b"sleep 12345" in log


async def test_a_debug_container_sees_the_processes_of_its_target(machine: Machine) -> None:
    one = pod()
    target = await machine.start(one, container("sleep", "12346", name="a"))
    _, log = await machine.run(
        one, shell("cat /proc/1/cmdline", name="debug"), target=target.id, kind=ContainerKind.EPHEMERAL
    )
    assert log == b"sleep\x0012346\x00"


async def test_the_end_of_the_infra_container_is_told_and_the_next_sandbox_is_another(machine: Machine) -> None:
    one = pod()
    first = await machine.runtime.ensure_sandbox(one)
    machine.engine.cli("kill", first.id)
    assert (await machine.exit_of(first.id)).exit_code == 137
    second = await machine.runtime.ensure_sandbox(one)
    assert second.id != first.id
    assert await machine.runtime.list_sandboxes() == [second]


async def test_a_sandbox_ends_before_its_containers_are_removed_and_may_be_made_again(machine: Machine) -> None:
    one = pod()
    sandbox = await machine.runtime.ensure_sandbox(one)
    ended = await machine.start(one, shell("echo kept"))
    await machine.exit_of(ended.id)
    await machine.runtime.remove_sandbox(sandbox.id)
    assert await machine.runtime.list_sandboxes() == []
    assert await machine.log(ended.id) == b"kept\n"
    again = await machine.runtime.ensure_sandbox(one)
    assert again.id != sandbox.id
    await machine.runtime.remove_container(ended.id)
    await machine.runtime.remove_sandbox(again.id)
    assert (one.metadata.uid or "") not in machine.engine.cli("ps", "-a", "--format", "{{.Names}}")


async def test_environment_arguments_and_directory(machine: Machine) -> None:
    env = [EnvVar(name="A", value="b c\nd"), EnvVar(name="EMPTY")]
    _, log = await machine.run(pod(), shell('pwd; echo "$A|${EMPTY-unset}|$PATH"', env=env, working_dir="/made/here"))
    assert log.startswith(b"/made/here\nb c\nd||/")
    _, log = await machine.run(pod(), container(args=["echo", "instead of the image's"]))
    assert log == b"instead of the image's\n"
    _, log = await machine.run(pod(), container("echo"))  # and not the image's arguments behind it
    assert log == b"\n"


@pytest.mark.parametrize(
    ("of_pod", "own", "expected"),
    [
        (PodSecurityContext(), SecurityContext(), "uid=0 gid=0"),
        (PodSecurityContext(run_as_user=1234), SecurityContext(), "uid=1234 gid=0"),
        (PodSecurityContext(run_as_user=1, run_as_group=2), SecurityContext(run_as_user=1234), "uid=1234 gid=2"),
        (
            PodSecurityContext(supplemental_groups=[7, 8], fs_group=9),
            SecurityContext(run_as_user=5, run_as_group=6),
            "uid=5 gid=6 groups=6,7,8,9",
        ),
        (PodSecurityContext(run_as_group=6), SecurityContext(), "uid=0 gid=6"),
    ],
)
async def test_user_and_groups(
    machine: Machine, of_pod: PodSecurityContext, own: SecurityContext, expected: str
) -> None:
    _, log = await machine.run(pod(security_context=of_pod), shell("id", security_context=own))
    assert re.sub(r"\([^)]*\)", "", log.decode()).startswith(expected)


async def test_capabilities_privileges_and_file_systems_are_restrained(machine: Machine) -> None:
    script = "grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status; touch /file 2>&1"
    restrained = SecurityContext(
        capabilities=Capabilities(drop=["ALL"], add=["NET_BIND_SERVICE"]),
        allow_privilege_escalation=False,
        read_only_root_filesystem=True,
    )
    _, log = await machine.run(pod(), shell(script, security_context=restrained))
    assert [line.split()[-1] for line in log.decode().splitlines()[:3]] == ["0000000000000400", "1", "2"]
    assert b"Read-only file system" in log
    _, log = await machine.run(pod(), shell(script))
    assert log.split()[3] == b"0"
    assert b"Read-only" not in log


async def test_limits_are_the_containers_and_change_while_it_runs(machine: Machine) -> None:
    resources = ResourceRequirements(limits={"cpu": "250m", "memory": "64Mi"}, requests={"cpu": "100m"})
    one, what = pod(), shell("sleep 1000", resources=resources)
    started = await machine.start(one, what)
    host = (await machine.runtime.daemon.get(f"containers/{started.id}/json"))["HostConfig"]
    assert (host["CpuQuota"], host["CpuPeriod"], host["CpuShares"]) == (25_000, 100_000, 102)
    assert await _cgroup_limits(machine, started.id) == ("25000", str(64 * 1024 * 1024))
    what.resources = ResourceRequirements(limits={"cpu": "500m", "memory": "96Mi"})
    await machine.runtime.resize_container(started.id, await machine.config(one, what))
    assert await _cgroup_limits(machine, started.id) == ("50000", str(96 * 1024 * 1024))


async def _cgroup_limits(machine: Machine, container_id: str) -> tuple[str, str]:
    pid = (await machine.runtime.daemon.get(f"containers/{container_id}/json"))["State"]["Pid"]
    groups = dict(line.split(":")[1:] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines())
    cpu = next(path for names, path in groups.items() if "cpu" in names.split(","))
    quota = Path("/sys/fs/cgroup/cpu", cpu.lstrip("/"), "cpu.cfs_quota_us").read_text().strip()
    memory = Path("/sys/fs/cgroup/memory", groups["memory"].lstrip("/"), "memory.limit_in_bytes").read_text().strip()
    return quota, memory


async def test_out_of_memory_is_said(machine: Machine) -> None:
    resources = ResourceRequirements(limits={"memory": "32Mi"})
    ended, _ = await machine.run(pod(), container("tail", "/dev/zero", resources=resources))
    assert (ended.exit_code, ended.reason) == (137, "OOMKilled")


async def test_a_kill_is_no_lack_of_memory(machine: Machine) -> None:
    resources = ResourceRequirements(limits={"memory": "64Mi"})
    started = await machine.start(pod(), shell("sleep 1000", resources=resources))
    await machine.runtime.signal_container(started.id, signal.SIGKILL)
    ended = await machine.exit_of(started.id)
    assert (ended.exit_code, ended.reason) == (137, None)


async def test_a_kill_by_somebody_else_is_no_lack_of_memory(machine: Machine) -> None:
    resources = ResourceRequirements(limits={"memory": "64Mi"})
    started = await machine.start(pod(), shell("sleep 1000", resources=resources))
    machine.engine.cli("kill", started.id)
    ended = await machine.exit_of(started.id)
    assert (ended.exit_code, ended.reason) == (137, None)


async def test_sigterm_reaches_the_process_and_a_signal_after_the_end_is_no_error(machine: Machine) -> None:
    started = await machine.start(pod(), shell("trap 'exit 5' TERM; echo ready; while :; do sleep 0.1; done"))
    await machine.logged(started.id, b"ready")
    await machine.runtime.signal_container(started.id, signal.SIGTERM)
    assert (await machine.exit_of(started.id)).exit_code == 5
    await machine.runtime.signal_container(started.id, signal.SIGTERM)
    await machine.runtime.remove_container(started.id)
    await machine.runtime.signal_container(started.id, signal.SIGKILL)
    await machine.runtime.remove_container(started.id)


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("/no/such/binary", 'exec: "/no/such/binary": stat /no/such/binary: no such file or directory'),
        ("nosuch", 'exec: "nosuch": executable file not found in $PATH'),
        ("/etc/passwd", 'exec: "/etc/passwd": permission denied'),
    ],
)
async def test_a_command_that_cannot_be_run_is_a_start_error_as_recorded(
    machine: Machine, command: str, why: str
) -> None:
    """``command-not-found.jsonl``."""
    with pytest.raises(ContainerStartError) as raised:
        await machine.start(pod(), container(command))
    assert (raised.value.reason, raised.value.exit_code) == ("StartError", 128)
    assert str(raised.value) == (
        "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: "
        f"unable to start container process: {why}"
    )
    assert await machine.runtime.list_containers() == []


async def test_what_the_engine_refuses_is_tried_again_and_leaves_nothing(machine: Machine) -> None:
    with pytest.raises(ContainerStartError) as raised:
        await machine.start(pod(), shell("true", working_dir="/etc/passwd"))
    assert raised.value.exit_code is None
    assert "/etc/passwd" in str(raised.value)
    assert await machine.runtime.list_containers() == []


async def test_mounts(machine: Machine, tmp_path: Path) -> None:
    for name in ("data", "only-read"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n10.1.2.3 friend\n")
    mounts = [
        Mount(tmp_path / "data", "/data"),
        Mount(tmp_path / "only-read", "/only-read", read_only=True),
        Mount(hosts, "/etc/hosts"),
    ]
    script = "cat /data/file /only-read/file; echo new >/data/new; touch /only-read/new 2>&1; grep friend /etc/hosts"
    _, log = await machine.run(pod(), shell(script), mounts=mounts)
    assert log.startswith(b"dataonly-read")
    assert b"Read-only" in log
    assert b"10.1.2.3 friend\n" in log
    assert (tmp_path / "data" / "new").read_text() == "new\n"


async def test_name_servers_and_sysctls(machine: Machine) -> None:
    one = pod(
        dns_policy="None",
        dns_config=PodDNSConfig(
            nameservers=["10.9.9.9"],
            searches=["a.example", "b.example"],
            options=[PodDNSConfigOption(name="ndots", value="2")],
        ),
        security_context=PodSecurityContext(
            run_as_user=1000,
            sysctls=[
                Sysctl(name="net.ipv4.ip_local_port_range", value="20000 21000"),
                Sysctl(name="kernel/shm_rmid_forced", value="1"),
            ],
        ),
    )
    files = "/etc/resolv.conf /proc/sys/net/ipv4/ip_local_port_range"
    _, log = await machine.run(one, shell(f"httpd -p 80 -h /tmp && sysctl kernel.shm_rmid_forced && cat {files}"))
    assert log.startswith(b"kernel.shm_rmid_forced = 1\n")
    assert b"nameserver 10.9.9.9\n" in log
    assert b"search a.example b.example\n" in log
    assert b"options ndots:2\n" in log
    assert log.split()[-2:] == [b"20000", b"21000"]


async def test_a_host_port_is_the_nodes(machine: Machine, free_port: int) -> None:
    port = ContainerPort(container_port=80, host_port=free_port, host_ip="127.0.0.1")
    one = pod()
    one.spec.containers = [shell("echo served >/tmp/index.html; exec httpd -f -p 80 -h /tmp", ports=[port])]
    await machine.start(one, one.spec.containers[0])
    async with asyncio.timeout(PATIENCE):
        while b"served" not in await _page(free_port):
            await asyncio.sleep(0.05)


async def _page(port: int) -> bytes:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return b""
    try:
        writer.write(b"GET /index.html HTTP/1.0\r\n\r\n")
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_the_hosts_network(machine: Machine) -> None:
    one = pod(host_network=True)
    sandbox = await machine.runtime.ensure_sandbox(one)
    assert list(sandbox.ips) == ["10.9.8.7"]
    assert list(machine.runtime.pod_ips(one)) == ["10.9.8.7"]
    _, log = await machine.run(one, shell("readlink /proc/self/ns/net"))
    assert log.decode().strip() == str(Path("/proc/self/ns/net").readlink())


async def test_stop_signals_of_image_and_pod(machine: Machine) -> None:
    started = await machine.start(pod(), shell("sleep 1000"))
    assert started.stop_signal == signal.SIGTERM
    asked = await machine.start(pod(), shell("sleep 1000", lifecycle=Lifecycle(stop_signal="SIGUSR1")))
    assert asked.stop_signal == signal.SIGUSR1
    if machine.engine.kind == "podman":
        machine.engine.cli("commit", "--change", "STOPSIGNAL SIGINT", started.id, "localhost/interrupted:1")
    else:
        changed = {"container": started.id, "repo": "localhost/interrupted", "tag": "1"}
        await machine.runtime.daemon.request("POST", "commit", params=changed, body={"StopSignal": "SIGINT"})
    what = shell("sleep 1000")
    what.image = "localhost/interrupted:1"
    assert (await machine.start(pod(), what)).stop_signal == signal.SIGINT


async def test_the_next_process_finds_what_this_one_left(machine: Machine) -> None:
    one = pod()
    running = await machine.start(one, shell("sleep 1000", name="a"))
    ended = await machine.start(one, shell("exit 4", name="b"), attempt=2)
    await machine.exit_of(ended.id)
    async with runtime_at(machine.engine, machine.node_name) as other:
        found = {instance.labels["container"]: instance for instance in await other.list_containers()}
        assert found["a"] == replace(running, user=None)  # which is known of the start alone
        assert found["b"].labels["attempt"] == "2"
        assert found["b"].exit is not None
        assert found["b"].exit.exit_code == 4
        assert await other.list_sandboxes() == [await machine.runtime.ensure_sandbox(one)]
    async with runtime_at(machine.engine, "another-node") as other:
        assert await other.list_containers() == []


async def test_a_container_that_was_made_and_never_started_is_not_left(machine: Machine) -> None:
    one = pod()
    sandbox = await machine.runtime.ensure_sandbox(one)
    labels = (await machine.runtime.daemon.get(f"containers/{sandbox.id}/json"))["Config"]["Labels"]
    labels["virtual-kubelet.io/kind"] = "main"
    machine.engine.cli(
        "create",
        "--name",
        f"made-{machine.node_name}",
        *(f"--label={k}={v}" for k, v in labels.items()),
        BUSYBOX,
        "true",
    )
    assert await machine.runtime.list_containers() == []
    assert f"made-{machine.node_name}" not in machine.engine.cli("ps", "-a", "--format", "{{.Names}}")


async def test_a_container_that_somebody_removed_has_ended(machine: Machine) -> None:
    started = await machine.start(pod(), shell("sleep 1000"))
    machine.engine.cli("rm", "-f", started.id)
    assert (await machine.exit_of(started.id)).exit_code == 137


async def test_statistics(machine: Machine) -> None:
    one = pod()
    limits = ResourceRequirements(limits={"memory": "64Mi"})
    busy = await machine.start(one, shell("while :; do :; done", name="a", resources=limits))
    idle = await machine.start(one, shell("sleep 1000", name="b"))
    ended = await machine.start(one, shell("true", name="c"))
    await machine.exit_of(ended.id)
    async with asyncio.timeout(PATIENCE):
        while True:
            found = await machine.runtime.container_statistics([busy.id, idle.id, ended.id, "0" * 64])
            cpu = found[busy.id].cpu
            if cpu is not None and (cpu.usage_core_nano_seconds or 0) > 200_000_000:
                break
    assert found.keys() == {busy.id, idle.id}
    memory, unlimited = found[busy.id].memory, found[idle.id].memory
    assert memory is not None
    assert 0 < (memory.working_set_bytes or 0) < 64 * 1024 * 1024
    assert memory.available_bytes is not None
    assert unlimited is not None
    assert unlimited.available_bytes is None


async def test_images_are_found_by_every_name_of_theirs(machine: Machine) -> None:
    found = await machine.runtime.find_image(BUSYBOX)
    assert found is not None
    assert found.user == ""
    assert (found.size or 0) > 100_000
    assert found.name == BUSYBOX
    assert await machine.runtime.find_image("busybox:1.35") == found
    assert await machine.runtime.find_image("docker.io/library/none:1") is None
