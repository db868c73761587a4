"""What to change in the Node's labels, annotations and spec: from what we own, what we want and what is there. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from virtual_kubelet.node.owned_names import LAST_APPLIED, OwnedNames, taint_name
from virtual_kubelet.objects.core_v1 import Node, Taint
from virtual_kubelet.objects.serialization import to_builtins

__all__ = ["MetadataChange", "label_change", "metadata_change", "taint_change"]


@dataclass(frozen=True, slots=True)
class MetadataChange:
    """Parts of a patch of the Node, each of which a server may forbid on its own.

    Attributes:
        labels, annotations: new values; None removes the key.
        taints: the whole new list (it is atomic in a patch), or None for no change.
        spec: other fields of the spec; None removes one.
        resource_version: the Node that ``taints`` was computed from: the patch must not meet a newer one.
    """

    labels: Mapping[str, str | None] = field(default_factory=dict)
    annotations: Mapping[str, str | None] = field(default_factory=dict)
    taints: tuple[Taint, ...] | None = None
    spec: Mapping[str, Any] = field(default_factory=dict)
    resource_version: str = ""

    def __bool__(self) -> bool:
        return bool(self.labels or self.annotations or self.spec) or self.taints is not None

    def patch(self) -> dict[str, Any]:
        """As a strategic merge patch."""
        metadata: dict[str, Any] = {}
        spec: dict[str, Any] = dict(self.spec)
        if self.labels:
            metadata["labels"] = dict(self.labels)
        if self.annotations:
            metadata["annotations"] = dict(self.annotations)
        if self.taints is not None:
            metadata["resourceVersion"] = self.resource_version
            spec["taints"] = [to_builtins(taint) for taint in self.taints]
        return {key: value for key, value in (("metadata", metadata), ("spec", spec)) if value}


def metadata_change(
    owned: OwnedNames, desired: Node, current: Node, *, record: OwnedNames, cordoned: bool = False
) -> MetadataChange:
    """What makes ``current`` carry all that ``desired`` has, and nothing that was ours and is no longer wanted.

    What others wrote stays; where both wrote a value, ours wins.

    Args:
        owned: the names that are ours on ``current``.
        record: the names to leave in the annotation.
        cordoned: the node shall be unschedulable, and is by our doing. A cordon of ours that is no longer wanted is
            taken back; one of somebody else's is not touched.
    """
    wanted = {k: v for k, v in (desired.metadata.annotations or {}).items() if k != LAST_APPLIED}
    wanted[LAST_APPLIED] = record.format()
    spec: dict[str, Any] = {}
    if cordoned and not current.spec.unschedulable:
        spec["unschedulable"] = True
    elif owned.unschedulable and not cordoned and current.spec.unschedulable:
        spec["unschedulable"] = None
    # The API server lets the provider ID be set once, from nothing.
    if desired.spec.provider_id and not current.spec.provider_id:
        spec["providerID"] = desired.spec.provider_id
    return MetadataChange(
        labels=label_change(owned.labels, desired.metadata.labels or {}, current.metadata.labels or {}),
        annotations=label_change(owned.annotations, wanted, current.metadata.annotations or {}),
        taints=taint_change(owned.taints, desired.spec.taints or (), current.spec.taints or ()),
        spec=spec,
        resource_version=current.metadata.resource_version or "",
    )


def label_change(
    owned: Collection[str], desired: Mapping[str, str], current: Mapping[str, str]
) -> dict[str, str | None]:
    """New values, and None for each key of ours that is no longer wanted."""
    change: dict[str, str | None] = {k: v for k, v in desired.items() if current.get(k) != v}
    change.update({k: None for k in owned if k in current and k not in desired})
    return change


def taint_change(
    owned: Collection[str], desired: Collection[Taint], current: Collection[Taint]
) -> tuple[Taint, ...] | None:
    """The new list, in the order of the old one; None if nothing changes.

    A taint that is there already keeps the time at which it was added.
    """
    wanted = {taint_name(taint): taint for taint in desired}
    result: list[Taint] = []
    for taint in current:
        name = taint_name(taint)
        ours = wanted.pop(name, None)
        if ours is not None:
            same = (ours.value or "") == (taint.value or "")
            result.append(taint if same else ours)
        elif name not in owned:
            result.append(taint)
    result.extend(wanted.values())
    return None if result == list(current) else tuple(result)
