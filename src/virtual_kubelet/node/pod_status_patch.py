"""The status patch of a pod: what this node owns of it, and only what differs from what the API server has. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from types import NoneType
from typing import Any, Final

import msgspec

from virtual_kubelet.objects.core_v1 import ContainerState, ContainerStatus, PodCondition, PodIP, PodStatus

__all__ = [
    "TERMINAL_PHASES",
    "had_run",
    "is_terminal",
    "no_container_runs",
    "patched_status",
    "status_patch",
    "with_pending_resize",
]

#: Conditions that come and go: without them in the provider's status they are taken away, for nobody else writes them.
_PASSING: Final = frozenset({"PodResizePending", "PodResizeInProgress"})
TERMINAL_PHASES: Final = frozenset({"Succeeded", "Failed"})
_PHASES: Final = frozenset({"Pending", "Running", "Succeeded", "Failed", "Unknown"})
#: Fields that are replaced as a whole: (attribute, JSON name).
_PLAIN: Final = (
    ("phase", "phase"),
    ("reason", "reason"),
    ("message", "message"),
    ("host_ip", "hostIP"),
    ("host_ips", "hostIPs"),
    ("pod_ip", "podIP"),
    ("container_statuses", "containerStatuses"),
    ("init_container_statuses", "initContainerStatuses"),
    ("ephemeral_container_statuses", "ephemeralContainerStatuses"),
)
#: Lists that the node looks into: (attribute, what is in them).
_LISTS: Final = (
    ("conditions", PodCondition),
    ("container_statuses", ContainerStatus),
    ("init_container_statuses", ContainerStatus),
    ("ephemeral_container_statuses", ContainerStatus),
    ("pod_ips", PodIP),
)


def is_terminal(status: PodStatus) -> bool:
    """Whether the pod has ended for good."""
    return status.phase in TERMINAL_PHASES


def no_container_runs(status: PodStatus) -> bool:
    """Whether no container runs any more, or ever will: all have terminated, or the pod has ended."""
    if is_terminal(status):
        return True
    statuses = [*(status.container_statuses or ()), *(status.init_container_statuses or ())]
    return bool(statuses) and all(s.state is not None and s.state.terminated is not None for s in statuses)


def had_run(status: PodStatus) -> bool:
    """Whether the API's status says that a container of the pod was started by somebody."""
    if status.phase == "Running":
        return True
    return any(
        (s.state is not None and (s.state.running is not None or s.state.terminated is not None)) or s.restart_count > 0
        for s in (*(status.container_statuses or ()), *(status.init_container_statuses or ()))
    )


def check_status(status: object) -> PodStatus:
    """A provider's status, if it is one. Raises ``ValueError`` with a sentence.

    Whether the API server will take it is for the server to say; here only what would break this node is kept out.
    """
    if not isinstance(status, PodStatus):
        raise ValueError(f"the provider gave a {type(status).__name__} instead of a PodStatus")
    if not isinstance(status.phase, str) or status.phase not in _PHASES:
        raise ValueError(f"the provider gave the phase {status.phase!r}")
    for name, kind in _LISTS:
        entries = getattr(status, name)
        if entries is None:
            continue
        if not isinstance(entries, (list, tuple)):
            raise ValueError(f"the provider gave a {type(entries).__name__} as {name}")
        for entry in entries:
            if not isinstance(entry, kind):
                raise ValueError(f"the provider gave a {type(entry).__name__} among {name}")
            if isinstance(entry, ContainerStatus) and not isinstance(entry.state, (ContainerState, NoneType)):
                raise ValueError(f"the provider gave a {type(entry.state).__name__} as the state of {entry.name!r}")
    return status


def status_patch(
    uid: str, current: PodStatus, wanted: PodStatus, *, generation: int | None = None, now: str
) -> bytes | None:
    """A strategic-merge patch that turns ``current`` (the API's) into ``wanted`` (the provider's), or None.

    Conditions of others are kept; a terminal phase is never taken back (its container statuses may still be completed);
    a start time once written stays. Lists without a merge key are sent whole.

    Args:
        generation: metadata.generation, for observedGeneration where the API has one.
        now: RFC 3339, for conditions whose provider gave no transition time.
    """
    changes: dict[str, Any] = {}
    ended = is_terminal(current)
    for attribute, name in _PLAIN:
        new, old = getattr(wanted, attribute), getattr(current, attribute)
        if new != old and (new or old) and not _is_kept(attribute, new, ended=ended):
            changes[name] = new
    if wanted.pod_ips and wanted.pod_ips != current.pod_ips:
        changes["podIPs"] = [*([{"$patch": "replace"}] if current.pod_ips else ()), *wanted.pod_ips]
    elif wanted.pod_ip and not wanted.pod_ips and wanted.pod_ip != current.pod_ip:
        changes["podIPs"] = [*([{"$patch": "replace"}] if current.pod_ips else ()), {"ip": wanted.pod_ip}]
    if current.start_time is None and wanted.start_time is not None:
        changes["startTime"] = wanted.start_time
    conditions = _changed_conditions(current.conditions or (), wanted.conditions or (), now)
    if conditions:
        changes["conditions"] = conditions
    # What a server of before 1.33 drops is sent along with other changes only: it would never be there.
    observed = wanted.observed_generation or generation
    if observed and observed != current.observed_generation and (changes or current.observed_generation is not None):
        changes["observedGeneration"] = observed
    known = current.resources is not None or current.allocated_resources is not None
    if changes or known:
        changes |= _changed_resources(current, wanted)
    if not changes:
        return None
    return msgspec.json.encode({"metadata": {"uid": uid}, "status": changes})


def _changed_resources(current: PodStatus, wanted: PodStatus) -> dict[str, Any]:
    """Those of the pod as a whole; a provider that says nothing of them leaves them as they are."""
    changes: dict[str, Any] = {}
    if wanted.resources is not None and wanted.resources != current.resources:
        new = msgspec.to_builtins(wanted.resources)
        changes["resources"] = {**({"$patch": "replace"} if current.resources is not None else {}), **new}
    if wanted.allocated_resources is not None and wanted.allocated_resources != current.allocated_resources:
        replaced = {"$patch": "replace"} if current.allocated_resources is not None else {}
        changes["allocatedResources"] = {**replaced, **wanted.allocated_resources}
    return changes


def with_pending_resize(status: PodStatus, pending: PodCondition | None) -> PodStatus:
    """The provider's status with what the node has to say of a resize. Pure."""
    if pending is None or is_terminal(status):
        return status
    others = [condition for condition in status.conditions or () if condition.type != pending.type]
    return msgspec.structs.replace(status, conditions=[*others, pending])


def patched_status(current: PodStatus, wanted: PodStatus) -> PodStatus:
    """What the API server has when ``current`` has been patched into ``wanted``: its echo may be a while in coming."""
    ended = is_terminal(current)
    changes: dict[str, Any] = {}
    for attribute, _ in (*_PLAIN, ("pod_ips", "podIPs")):
        new = getattr(wanted, attribute)
        if not _is_kept(attribute, new, ended=ended):
            changes[attribute] = new
    conditions = {condition.type: condition for condition in current.conditions or ()}
    for condition in wanted.conditions or ():
        old = conditions.get(condition.type)
        if old is not None and old.status == condition.status:
            condition = msgspec.structs.replace(condition, last_transition_time=old.last_transition_time)
        conditions[condition.type] = condition
    if wanted.conditions is not None:
        for passing in _PASSING - {condition.type for condition in wanted.conditions}:
            conditions.pop(passing, None)
    changes["conditions"] = [*conditions.values()] or None
    if current.start_time is None:
        changes["start_time"] = wanted.start_time
    changes["resources"] = wanted.resources or current.resources
    changes["allocated_resources"] = wanted.allocated_resources or current.allocated_resources
    changes["observed_generation"] = wanted.observed_generation or current.observed_generation
    return msgspec.structs.replace(current, **changes)


def _is_kept(attribute: str, new: object, *, ended: bool) -> bool:
    """Whether the API's stays, whatever is wanted: what a pod ended with, and an address or a container that is not given,
    which is not the same as gone."""
    if ended and attribute in ("phase", "reason", "message"):
        return True
    return new is None and attribute.endswith(("_ip", "_ips", "_statuses"))


def _changed_conditions(
    current: Sequence[PodCondition], wanted: Sequence[PodCondition], now: str
) -> list[dict[str, Any]]:
    known = {condition.type: condition for condition in current}
    changed = []
    for condition in wanted:
        old = known.get(condition.type)
        if old is not None and _says_the_same(old, condition):
            continue
        moment = condition.last_transition_time
        if old is not None and old.status == condition.status:
            moment = old.last_transition_time
        patch: dict[str, Any] = {
            "type": condition.type,
            "status": condition.status,
            "lastTransitionTime": moment or now,
        }
        for name, new, present in (
            ("reason", condition.reason, old is not None and old.reason),
            ("message", condition.message, old is not None and old.message),
        ):
            if new or present:
                patch[name] = new or None  # a merge keeps what is not named: what is over must be removed
        if condition.observed_generation is not None:
            patch["observedGeneration"] = condition.observed_generation
        changed.append(patch)
    if wanted:
        there = {condition.type for condition in wanted}
        changed += [{"$patch": "delete", "type": kind} for kind in known if kind in _PASSING and kind not in there]
    return changed


def _says_the_same(old: PodCondition, new: PodCondition) -> bool:
    if (old.status, old.reason or None, old.message or None) != (new.status, new.reason or None, new.message or None):
        return False
    # Where the server or another writer knows of no generations there, that is nothing to write for.
    told = old.observed_generation is not None and new.observed_generation is not None
    return not told or old.observed_generation == new.observed_generation
