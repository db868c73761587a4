"""Pods that a real kubelet ran, run by real processes on the dev cluster, all side by side: each comes to the same states.

What is compared is what does not depend on the moment: the pod's phases, and for each container its states in order, with
reasons, exit codes and restart counts. That a container ran is seen from its end; statuses in between may be told together.
Times, conditions and events are compared in virtual time (``tests/runtime/test_kubelet_recordings.py``).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from virtual_kubelet.contracts.context import ProviderContext
from virtual_kubelet.objects.core_v1 import EmptyDirVolumeSource, Pod, Volume, VolumeMount
from virtual_kubelet.providers.process import ProcessProvider
from virtual_kubelet.testing.cluster_user import ClusterUser, NotSeenError
from virtual_kubelet.testing.dev_node import running_node

pytestmark = [
    pytest.mark.recording,
    pytest.mark.may_block,
    pytest.mark.timeout(240),
    pytest.mark.skipif(os.geteuid() != 0, reason="the pods need /tmp of their own"),
]

#: Those of less than 20 s that need no image, no address of their own and no luck with deadlines.
NAMES = (
    "command-not-found",
    "delete-during-init",
    "delete-exits-at-once",
    "delete-ignores-term",
    "init-fails-never",
    "init-ok",
    "never-fails",
    "never-succeeds",
    "on-failure-completes",
    "out-of-memory",
    "pre-stop-and-term",
    "pre-stop-sleep",
    "readiness-late",
    "readiness-lost",
    "restart-rules",
    "sidecar",
    "sidecar-startup-gates-main",
    "sidecars-stop-in-reverse",
    "startup-then-liveness",
    "termination-message",
    "termination-message-fallback",
    "two-containers-one-completes",
)

#: What is said after the recording's end.
LATER = {"never-fails": ["Failed"]}

#: (state, reason, exit code, message if it ended, restarts)
State = tuple[str, str | None, int | None, str | None, int]


@dataclass
class Course:
    """What became of a pod."""

    phases: list[str] = field(default_factory=list)
    states: dict[str, list[State]] = field(default_factory=dict)

    @classmethod
    def of(cls, statuses: Iterable[Any]) -> Course:
        found = cls()
        for status in statuses:
            _append(found.phases, status.get("phase", "Pending"))
            for kind in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"):
                for container in status.get(kind) or ():
                    (name, state) = next(iter(container["state"].items()))
                    exit_code = state.get("exitCode")
                    message = state.get("message") if state.get("reason") != "StartError" else None
                    told = (name, state.get("reason"), exit_code, message if name == "terminated" else None)
                    restarts = container.get("restartCount", 0)
                    _append(found.states.setdefault(container["name"], []), (*told, restarts))
        for states in found.states.values():
            # Of those that are not the last, only ends and back-offs are surely told apart.
            states[:-1] = [one for one in states[:-1] if one[0] == "terminated" or one[1] == "CrashLoopBackOff"]
        return found

    def reached(self, other: Course) -> bool:
        """Whether ``other`` is as far, or farther."""
        return {*self.phases} <= {*other.phases} and all(
            states[-1] in other.states.get(name, ()) for name, states in self.states.items()
        )


def _append(to: list[Any], one: Any) -> None:
    if not to or to[-1] != one:
        to.append(one)


def pod_of(rows: list[Any], node: str) -> Pod:
    pod: Pod = msgspec.convert(rows[0]["pod"], Pod)
    pod.spec.node_name = node
    # /tmp is the machine's: each has one of its own.
    pod.spec.volumes = [*(pod.spec.volumes or ()), Volume(name="tmp", empty_dir=EmptyDirVolumeSource())]
    for container in [*(pod.spec.init_containers or ()), *pod.spec.containers]:
        container.volume_mounts = [*(container.volume_mounts or ()), VolumeMount(name="tmp", mount_path="/tmp")]
    return pod


async def replay(user: ClusterUser, rows: list[Any], node: str) -> Course:
    pod = await user.create(pod_of(rows, node))
    history = user.history(pod)
    known: list[Any] = []

    def now() -> Course:
        return Course.of(msgspec.to_builtins(seen.pod.status) for seen in history.seen)

    async def comes_to(wanted: Course) -> None:
        with contextlib.suppress(NotSeenError):  # what came instead is compared in the end
            await user.until(pod, lambda _: wanted.reached(now()), f"{pod.metadata.name} comes to {wanted}")

    for row in rows[1:]:
        if row.get("status"):
            known.append(row["status"])
        elif "action" in row:
            await comes_to(Course.of(known))
            assert row["action"] == "DELETE grace=None"
            await user.delete(pod)
    deleted = any(row.get("action", "").startswith("DELETE") for row in rows)
    if not deleted:
        await comes_to(Course.of(known))
    course = now()
    if not deleted:
        await user.delete(pod, 0)
    await user.gone(pod)
    return now() if deleted else course


async def test_the_recorded_pods_come_to_the_same_states(shared: Path) -> None:
    def provider(context: ProviderContext) -> ProcessProvider:
        return ProcessProvider(context, allow_host_processes=True)

    recorded = {}
    for name in NAMES:
        lines = (shared / "kubelet-1.36" / "lifecycles" / f"{name}.jsonl").read_text().splitlines()
        recorded[name] = [json.loads(line) for line in lines]
    async with running_node(provider, patience=60) as node, asyncio.TaskGroup() as tasks:
        replays = {
            name: tasks.create_task(replay(node.user, rows, node.name), name=name) for name, rows in recorded.items()
        }
        await asyncio.wait(replays.values())
    wanted = {
        name: Course.of(row["status"] for row in rows[1:] if row.get("status")) for name, rows in recorded.items()
    }
    for name, phases in LATER.items():
        wanted[name].phases += phases
    differing = {
        name: (replays[name].result(), wanted[name]) for name in NAMES if replays[name].result() != wanted[name]
    }
    assert not differing, "\n".join(f"{name}\n  {ours}\n  {theirs}" for name, (ours, theirs) in differing.items())
