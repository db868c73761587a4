"""Which names on the Node this node has written: what makes three-way patches possible after a restart. No I/O.

The Go framework keeps its whole last status and metadata in two annotations, which doubles the object. Names are enough:
a name that was ours and that we no longer want is removed; the values that count are always the newest.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from virtual_kubelet.objects.core_v1 import Node, Taint
from virtual_kubelet.objects.serialization import to_builtins

__all__ = [
    "LAST_APPLIED",
    "MERGED_STATUS_FIELDS",
    "OwnedNames",
    "names_of",
    "parse_owned_names",
    "taint_name",
]

#: The annotation on the Node that holds ``OwnedNames`` as JSON.
LAST_APPLIED: Final = "virtual-kubelet.io/last-applied"

#: Fields of the status whose parts have owners of their own; any other field has one owner as a whole.
MERGED_STATUS_FIELDS: Final = frozenset({"conditions", "addresses", "capacity", "allocatable"})

Names = tuple[str, ...]


class OwnedNames(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Names, each sorted.

    Attributes:
        labels, annotations: keys.
        taints: ``key:effect``.
        conditions, addresses: types.
        capacity, allocatable: resources.
        fields: other fields of the status, by their JSON names.
        unschedulable: the node was cordoned by us.
    """

    labels: Names = ()
    annotations: Names = ()
    taints: Names = ()
    conditions: Names = ()
    addresses: Names = ()
    capacity: Names = ()
    allocatable: Names = ()
    fields: Names = ()
    unschedulable: bool = False

    def format(self) -> str:
        """The annotation's value: the same names give the same text."""
        return msgspec.json.encode(self).decode()

    def union(self, other: OwnedNames) -> OwnedNames:
        """The names of both."""
        return OwnedNames(
            labels=_sorted((*self.labels, *other.labels)),
            annotations=_sorted((*self.annotations, *other.annotations)),
            taints=_sorted((*self.taints, *other.taints)),
            conditions=_sorted((*self.conditions, *other.conditions)),
            addresses=_sorted((*self.addresses, *other.addresses)),
            capacity=_sorted((*self.capacity, *other.capacity)),
            allocatable=_sorted((*self.allocatable, *other.allocatable)),
            fields=_sorted((*self.fields, *other.fields)),
            unschedulable=self.unschedulable or other.unschedulable,
        )

    def status_part(self) -> OwnedNames:
        """Those in the status only."""
        return OwnedNames(
            conditions=self.conditions,
            addresses=self.addresses,
            capacity=self.capacity,
            allocatable=self.allocatable,
            fields=self.fields,
        )


def parse_owned_names(annotation: str | None) -> OwnedNames | None:
    """Read the annotation's value; None if there is none, or it is not ours to understand."""
    if annotation is None:
        return None
    try:
        return msgspec.json.decode(annotation, type=OwnedNames)
    except msgspec.DecodeError:
        return None


def taint_name(taint: Taint) -> str:
    """Key and effect: what Kubernetes takes for the identity of a taint."""
    return f"{taint.key}:{taint.effect}"


def names_of(node: Node, *, unschedulable: bool = False) -> OwnedNames:
    """All names that writing ``node`` makes ours."""
    meta, status = node.metadata, node.status
    return OwnedNames(
        labels=_sorted(meta.labels or ()),
        annotations=_sorted(key for key in meta.annotations or () if key != LAST_APPLIED),
        taints=_sorted(map(taint_name, node.spec.taints or ())),
        conditions=_sorted(c.type for c in status.conditions or ()),
        addresses=_sorted(a.type for a in status.addresses or ()),
        capacity=_sorted(status.capacity or ()),
        allocatable=_sorted(status.allocatable or ()),
        fields=_sorted(k for k, v in to_builtins(status).items() if k not in MERGED_STATUS_FIELDS and v),
        unschedulable=unschedulable,
    )


def _sorted(names: Iterable[str]) -> Names:
    return tuple(sorted(set(names)))
