"""What others have joined is removed all the same: targets of debug containers, and sandboxes. A real Podman and dockerd."""

from __future__ import annotations

import asyncio
import signal

import pytest

from providers.docker.tests.machine import PATIENCE, Machine, pod, runtime_at, shell
from virtual_kubelet import ContainerInstance, ContainerKind
from virtual_kubelet.objects.core_v1 import Pod
from virtual_kubelet_docker.removals import dependents

pytestmark = pytest.mark.may_block


async def debugged(machine: Machine, one: Pod) -> tuple[ContainerInstance, ContainerInstance]:
    """A container, and another that has joined its processes."""
    target = await machine.start(one, shell("trap 'exit 4' TERM; while :; do sleep 0.1; done", name="target"))
    looks = shell("echo looks; sleep 1000", name="debug")
    debug = await machine.start(one, looks, target=target.id, kind=ContainerKind.EPHEMERAL)
    await machine.logged(debug.id, b"looks\n")
    return target, debug


def at_the_engine(machine: Machine) -> str:
    return machine.engine.cli("ps", "-a", "--no-trunc", "--format", "{{.ID}}")


async def test_a_target_that_is_removed_takes_its_debug_containers_processes_with_it(machine: Machine) -> None:
    target, debug = await debugged(machine, pod())
    await machine.runtime.remove_container(target.id)
    # Its first process was theirs, too: the kernel ends them with it, as on a kubelet.
    assert (await machine.exit_of(debug.id)).exit_code == 137
    assert [one.id for one in await machine.runtime.list_containers()] == [debug.id]
    assert await machine.log(debug.id) == b"looks\n"
    await machine.runtime.remove_container(debug.id)
    assert await machine.runtime.list_containers() == []
    left = at_the_engine(machine)
    assert target.id not in left
    assert debug.id not in left


async def test_an_earlier_run_of_a_target_goes_with_its_debug_container_and_the_next_run_is_left_alone(
    machine: Machine,
) -> None:
    one = pod()
    target, debug = await debugged(machine, one)
    await machine.runtime.signal_container(target.id, signal.SIGTERM)
    assert (await machine.exit_of(target.id)).exit_code == 4
    await machine.exit_of(debug.id)
    again = await machine.start(one, shell("sleep 1000", name="target"), attempt=1)
    await machine.runtime.remove_container(target.id)
    await machine.runtime.remove_container(target.id)
    assert {found.id for found in await machine.runtime.list_containers()} == {debug.id, again.id}
    await machine.runtime.remove_container(debug.id)
    assert [found.id for found in await machine.runtime.list_containers() if found.exit is None] == [again.id]
    assert target.id not in at_the_engine(machine)


async def test_what_a_process_had_left_to_be_removed_the_next_one_removes(machine: Machine) -> None:
    one = pod()
    target, debug = await debugged(machine, one)
    async with runtime_at(machine.engine, machine.node_name) as other:
        await other.remove_container(target.id)
    found = {instance.id for instance in await machine.runtime.list_containers()}
    assert debug.id in found  # and, at Podman, the target, which has ended
    for some_id in sorted(found | {target.id}, key=lambda one: one == debug.id):  # the target first
        await machine.runtime.remove_container(some_id)
    sandbox = await machine.runtime.ensure_sandbox(one)
    await machine.runtime.remove_sandbox(sandbox.id)
    assert not {target.id, debug.id, sandbox.id} & set(at_the_engine(machine).split())


async def test_what_somebody_else_removes_makes_room_too(machine: Machine) -> None:
    target, debug = await debugged(machine, pod())
    await machine.runtime.remove_container(target.id)
    await machine.exit_of(debug.id)
    machine.engine.cli("rm", "-f", debug.id)
    async with asyncio.timeout(PATIENCE):
        while target.id in at_the_engine(machine):  # an engine may take its time
            assert await machine.runtime.list_containers() == []


def test_podman_names_those_that_have_joined() -> None:
    first, second = "1" * 64, "ab" * 32
    said = (
        f"cannot remove container {'c' * 64} as it is running: container {'c' * 64} has dependent containers which must be "
        f"removed before it: {first}, {second}: container already exists"
    )
    assert dependents(said) == frozenset({first, second})
    assert dependents("container has dependent containers which must be removed before it") == frozenset()
    assert dependents("no such container") is None
