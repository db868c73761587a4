"""What to change in the Node's status: from what we own, what we want and what is there. Pure.

The status has many writers: conditions of node-problem-detector and of the network plug-in, addresses of the cloud
controller, extended resources of operators, attached volumes of the attach-detach controller. Each part here is changed
only where it is ours.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from virtual_kubelet.node.owned_names import MERGED_STATUS_FIELDS, OwnedNames
from virtual_kubelet.objects.core_v1 import Node, NodeAddress, NodeCondition
from virtual_kubelet.objects.quantity import Quantity
from virtual_kubelet.objects.serialization import to_builtins
from virtual_kubelet.objects.times import format_time, parse_time

__all__ = ["IMAGE_LIMIT", "complete_status", "stamped_conditions", "status_patch"]

#: A kubelet names at most so many images (nodeStatusMaxImages).
IMAGE_LIMIT: Final = 50

Json = dict[str, Any]


def complete_status(node: Node, ready: NodeCondition, *, image_limit: int = IMAGE_LIMIT) -> None:
    """Put ``ready`` first among the conditions, allocatable beside capacity, and cap the images; changes ``node``."""
    status = node.status
    status.conditions = [ready, *(c for c in status.conditions or () if c.type != ready.type)]
    if status.allocatable is None and status.capacity is not None:
        status.allocatable = dict(status.capacity)
    if status.images is not None and len(status.images) > image_limit:
        status.images = status.images[:image_limit]


def status_patch(owned: OwnedNames, desired: Node, current: Node, *, now: str, heartbeat: bool) -> Json:
    """The strategic merge patch of the Node's status; empty if there is nothing to say.

    Args:
        owned: the names that are ours on ``current``.
        now: RFC 3339 time for heartbeats and transitions.
        heartbeat: say that we are alive even if nothing changed.
    """
    want: Json = to_builtins(desired.status)
    have: Json = to_builtins(current.status)
    status: Json = {}
    metadata: Json = {}

    for name, ours in (("capacity", owned.capacity), ("allocatable", owned.allocatable)):
        change = _map_change(ours, want.get(name) or {}, have.get(name) or {})
        if change:
            status[name] = change
    addresses = _address_change(owned.addresses, desired.status.addresses or (), current.status.addresses or ())
    if addresses is not None:
        status["addresses"] = addresses
        # The list is written as a whole, so it must be the list that was read.
        metadata["resourceVersion"] = current.metadata.resource_version or ""
    for name in sorted({*want, *owned.fields} - MERGED_STATUS_FIELDS):
        if name in want:
            if _differs(have.get(name), want[name]):
                status[name] = _difference(have.get(name), want[name])
        elif have.get(name):
            status[name] = None

    conditions = _condition_change(
        owned.conditions, desired.status.conditions or (), current.status.conditions or (), now
    )
    if status or conditions.changed or heartbeat:
        entries = [*conditions.entries, *conditions.removals]
        if entries:
            status["conditions"] = entries
    if not status:
        return {}
    return {"metadata": metadata, "status": status} if metadata else {"status": status}


def stamped_conditions(
    desired: Collection[NodeCondition], current: Collection[NodeCondition], now: str
) -> list[NodeCondition]:
    """Our conditions with their times: the transition time moves only when the status does.

    A provider may say when a status changed. What is no time is not passed on: the server would refuse the whole write.
    """
    there = {condition.type: condition for condition in current}
    result = []
    for condition in {c.type: c for c in desired}.values():
        found = there.get(condition.type)
        if found is not None and found.status == condition.status and found.last_transition_time:
            transition = found.last_transition_time
        else:
            transition = _time_or(condition.last_transition_time, now)
        result.append(
            NodeCondition(
                type=condition.type,
                status=condition.status,
                reason=condition.reason,
                message=condition.message,
                last_heartbeat_time=now,
                last_transition_time=transition,
            )
        )
    return result


def _time_or(text: str | None, default: str) -> str:
    try:
        return format_time(parse_time(text or ""))
    except ValueError:
        return default


class _Conditions:
    def __init__(self, entries: list[Json], removals: list[Json], changed: bool) -> None:
        self.entries, self.removals, self.changed = entries, removals, changed


def _condition_change(
    owned: Collection[str], desired: Collection[NodeCondition], current: Collection[NodeCondition], now: str
) -> _Conditions:
    there = {condition.type: condition for condition in current}
    wanted = stamped_conditions(desired, current, now)
    changed = False
    entries: list[Json] = []
    for condition in wanted:
        entry = to_builtins(condition)
        found = there.get(condition.type)
        if found is None:
            changed = True
        else:
            changed = changed or _meaning(found) != _meaning(condition)
            # A merge leaves what it does not name.
            entry.update({k: None for k in ("reason", "message") if k not in entry and getattr(found, k)})
        entries.append(entry)
    kept = {condition.type for condition in wanted}
    removals: list[Json] = [{"$patch": "delete", "type": t} for t in owned if t in there and t not in kept]
    return _Conditions(entries, removals, changed or bool(removals))


def _meaning(condition: NodeCondition) -> tuple[str, str, str]:
    return condition.status, condition.reason or "", condition.message or ""


def _address_change(
    owned: Collection[str], desired: Sequence[NodeAddress], current: Sequence[NodeAddress]
) -> list[Json] | None:
    """The whole new list, ours first; None if ours are there already.

    In a strategic merge patch addresses merge by type, which breaks two addresses of one type (two families): like the
    kubelet, replace the list. A server takes the directive in a list for an element where there is no list to replace.
    """
    types = {*owned, *(address.type for address in desired)}
    if [a for a in current if a.type in types] == list(desired):
        return None
    result: list[Json] = [to_builtins(a) for a in (*desired, *(a for a in current if a.type not in types))]
    if current:
        result.append({"$patch": "replace"})
    return result


def _map_change(owned: Collection[str], desired: Mapping[str, str], current: Mapping[str, str]) -> Json:
    change: Json = {k: v for k, v in desired.items() if not _same_quantity(current.get(k), v)}
    change.update({k: None for k in owned if k in current and k not in desired})
    return change


def _same_quantity(one: str | None, other: str) -> bool:
    """The server writes quantities in their canonical form: ``1000m`` comes back as ``1``."""
    if one is None or one == other:
        return one == other
    try:
        return Quantity(one) == Quantity(other)
    except ValueError:  # what a provider wrote is none; the server will say so
        return False


def _differs(have: Any, want: Any) -> bool:
    """Whether a merge has something to do; empty and absent are the same."""
    if isinstance(want, dict):
        have = have if isinstance(have, dict) else {}
        return any(_differs(have.get(k), want.get(k)) for k in {*have, *want})
    return bool(have or want) and have != want


def _difference(have: Any, want: Any) -> Any:
    """A merge patch: nested objects by field, None for what goes; anything else as a whole."""
    if not isinstance(want, dict) or not isinstance(have, dict):
        return want
    patch = {k: _difference(have.get(k), v) for k, v in want.items() if _differs(have.get(k), v)}
    patch.update({k: None for k in have if k not in want})
    return patch
