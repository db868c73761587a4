"""The Node object: created or adopted, and written part by part. What to write is decided in ``node_metadata`` and
``node_status``; what was refused before is left out."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple

import msgspec

from virtual_kubelet.clock import Clock
from virtual_kubelet.errors import (
    ApiError,
    ApiNotFoundError,
    BadRequestError,
    ConflictError,
    ForbiddenError,
    InvalidObjectError,
)
from virtual_kubelet.kube.client import ApiClient
from virtual_kubelet.kube.events import node_reference
from virtual_kubelet.kube.resources import NODES
from virtual_kubelet.node.node_metadata import MetadataChange, metadata_change
from virtual_kubelet.node.node_restriction import node_may_set_label
from virtual_kubelet.node.node_status import stamped_conditions, status_patch
from virtual_kubelet.node.owned_names import LAST_APPLIED, OwnedNames, names_of, parse_owned_names, taint_name
from virtual_kubelet.node.refusals import NodeEventRecorder, Refusals
from virtual_kubelet.objects.core_v1 import Node, Taint
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.objects.serialization import decode, encode
from virtual_kubelet.objects.times import format_time
from virtual_kubelet.telemetry.logs import get_logger

__all__ = ["NodeRegistration", "Written", "copy_node"]

log = get_logger(__name__)

#: After a 409 the Node is read and the patch computed again, so often (the kubelet's nodeStatusUpdateRetry).
CONFLICT_TRIES: Final = 5
#: What the server answers when a part of a write is at fault, rather than the whole.
_PART_ERRORS: Final = (ForbiddenError, InvalidObjectError, BadRequestError)


class Written(NamedTuple):
    """What a write came to: the Node's UID, whether it had to be created, whether anything was sent."""

    uid: str
    created: bool
    changed: bool


def copy_node(node: Node) -> Node:
    """A private copy. Raises ``TypeError`` if it is no Node."""
    if not isinstance(node, Node):
        raise TypeError(f"a Node is needed, not {type(node).__name__}")
    return decode(encode(node), Node)


class NodeRegistration:
    """One Node in the API, and which names on it are ours. Calls must not overlap.

    Attributes:
        uid: of the Node last seen; empty before.
        seen: the Node as last read or written.
        cordoned: keep it unschedulable, by our doing.
    """

    def __init__(
        self, client: ApiClient, name: str, *, clock: Clock, recorder: NodeEventRecorder | None = None
    ) -> None:
        self.name = name
        self.uid = ""
        self.seen: Node | None = None
        self.cordoned = False
        self._client = client
        self._clock = clock
        self._recorder = recorder
        self._owned = OwnedNames()
        self._refusals = Refusals(self.event)

    def event(self, event_type: str, reason: str, message: str) -> None:
        """Record an event on the Node."""
        if self._recorder is not None:
            self._recorder.event(node_reference(self.name, self.uid), event_type, reason, message)

    def misses_taints(self, taints: Collection[Taint]) -> bool:
        """Whether a taint that we have written is not among these."""
        return not {taint_name(taint) for taint in taints}.issuperset(self._owned.taints)

    async def write(self, desired: Node, *, heartbeat: bool, create: bool = True, keep_ready: bool = False) -> Written:
        """Bring the Node in line with ``desired``: metadata and spec first, then status.

        Args:
            heartbeat: write the conditions even if nothing changed.
            create: create the Node if there is none; else that is ``ApiNotFoundError``.
            keep_ready: a Node that is Ready stays so, whatever ``desired`` says.

        Raises ``ApiError`` and ``ApiConnectionError``; what was written until then stays. A refusal of a part of the
        metadata or status is not raised: it is said once, and the rest is written.
        """
        for _ in range(CONFLICT_TRIES - 1):
            try:
                return await self._write_once(desired, heartbeat, create, keep_ready)
            except ConflictError:  # another wrote meanwhile: read again what there is now; the last try's is raised
                continue
        return await self._write_once(desired, heartbeat, create, keep_ready)

    async def delete(self) -> None:
        """Delete the Node, if it is the one we know. One that is gone, or another's, is no error."""
        if not self.uid:
            return
        try:
            await self._client.delete(NODES, self.name, uid=self.uid)
        except ApiNotFoundError:
            log.debug("the Node is gone already")
        except ConflictError:
            log.warning("the Node is another one by now, and was not deleted")

    async def _write_once(self, desired: Node, heartbeat: bool, create: bool, keep_ready: bool) -> Written:
        created = False
        try:
            current = await self._client.get(NODES, self.name)
            self._meet(current)
        except ApiNotFoundError:
            if not create:
                raise
            current = await self._create(desired)
            created = True
        if keep_ready:
            desired = _with_ready_of(current, desired)
        changed, current = await self._write_metadata(desired, current)
        # Creation has just said that we are alive.
        changed = await self._write_status(desired, current, heartbeat and not created) or changed
        return Written(self.uid, created, changed or created)

    def _meet(self, node: Node) -> None:
        """Note which Node this is; of another than before we own what its annotation says."""
        uid = node.metadata.uid or ""
        if uid != self.uid:
            annotation = (node.metadata.annotations or {}).get(LAST_APPLIED)
            owned = parse_owned_names(annotation)
            if owned is None and annotation is not None:
                log.warning("the annotation %s makes no sense: what this node dropped before stays", LAST_APPLIED)
            self._owned = owned or OwnedNames()
            self._refusals.forget()
            self.uid = uid
        self.seen = node

    @property
    def resource_version(self) -> str:
        """Of the Node last seen; empty before."""
        return "" if self.seen is None else self.seen.metadata.resource_version or ""

    async def _create(self, desired: Node) -> Node:
        node = copy_node(desired)
        meta = node.metadata
        labels = dict(meta.labels or {})
        now = format_time(self._clock.now())
        node.status.conditions = stamped_conditions(desired.status.conditions or (), (), now)
        node.spec.unschedulable = True if self.cordoned else node.spec.unschedulable
        barred = {key: value for key, value in labels.items() if not node_may_set_label(key)}
        refusal: ForbiddenError | None = None
        try:
            created = await self._client.create(NODES, self._with_record(node, meta, labels))
        except ForbiddenError as error:
            # Maybe for labels that a node's own identity may not set (NodeRestriction); never without its taints.
            if not barred:
                raise
            refusal = error
            allowed = {key: value for key, value in labels.items() if key not in barred}
            created = await self._client.create(NODES, self._with_record(node, meta, allowed))
        self._meet(created)
        if refusal is not None:
            self._refusals.add("labels", barred, refusal)
        log.info("node registered", extra={"uid": self.uid})
        return created

    def _with_record(self, node: Node, meta: ObjectMeta, labels: dict[str, str]) -> Node:
        node.metadata = ObjectMeta(name=self.name, labels=labels, annotations=dict(meta.annotations or {}))
        record = names_of(node, unschedulable=self.cordoned)
        assert node.metadata.annotations is not None
        node.metadata.annotations[LAST_APPLIED] = record.format()
        return node

    # Metadata and spec

    async def _write_metadata(self, desired: Node, current: Node) -> tuple[bool, Node]:
        """Whether anything was sent, and the Node as it is now."""
        # What goes from the status stays on record until it has gone.
        record = self._names(desired).union(self._owned.status_part())
        change = self._change(desired, current, record)
        if not change:
            self._owned = record
            return False, current
        try:
            current = await self._patch(change.patch())
        except _PART_ERRORS as error:
            current = await self._write_parts(desired, current, change, error)
        self._owned = self._names(desired).union(self._owned.status_part())
        return True, current

    def _names(self, desired: Node) -> OwnedNames:
        """The names that are ours once ``desired`` is written; what was refused never was."""
        names = names_of(desired, unschedulable=self.cordoned)
        labels, annotations = desired.metadata.labels or {}, desired.metadata.annotations or {}
        taints_refused = self._refusals.refuses("taints", "", _taints(desired))
        return msgspec.structs.replace(
            names,
            labels=tuple(k for k in names.labels if not self._refusals.refuses("labels", k, labels[k])),
            annotations=tuple(
                k for k in names.annotations if not self._refusals.refuses("annotations", k, annotations[k])
            ),
            taints=self._owned.taints if taints_refused else names.taints,
        )

    def _change(self, desired: Node, current: Node, record: OwnedNames) -> MetadataChange:
        change = metadata_change(self._owned, desired, current, record=record, cordoned=self.cordoned)
        return replace(
            change,
            labels=self._unrefused("labels", change.labels),
            annotations=self._unrefused("annotations", change.annotations),
            spec=self._unrefused("spec", change.spec),
            taints=None if self._refusals.refuses("taints", "", _taints(desired)) else change.taints,
        )

    def _unrefused(self, part: str, values: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in values.items() if not self._refusals.refuses(part, key, value)}

    async def _write_parts(self, desired: Node, current: Node, change: MetadataChange, error: ApiError) -> Node:
        """The whole was refused: write each part on its own, so that none is held up by another."""
        log.debug("the Node's metadata was refused as a whole: %s", error)
        parts: list[tuple[str, dict[str, Any], MetadataChange]] = []
        if change.taints is not None:
            taints = MetadataChange(taints=change.taints, resource_version=change.resource_version)
            parts.append(("taints", {"": _taints(desired)}, taints))
        parts += [("spec", {k: v}, MetadataChange(spec={k: v})) for k, v in change.spec.items()]
        ordinary = {key: value for key, value in change.labels.items() if node_may_set_label(key)}
        groups = [ordinary, *({k: v} for k, v in change.labels.items() if k not in ordinary)]
        parts += [("labels", labels, MetadataChange(labels=labels)) for labels in groups if labels]
        for part in parts:
            current = await self._try_part(*part) or current
        # Last, because it tells which of the names became ours.
        record = self._names(desired).union(self._owned.status_part())
        annotations = dict(self._change(desired, current, record).annotations)
        if annotations:
            current = (
                await self._try_part("annotations", annotations, MetadataChange(annotations=annotations)) or current
            )
        return current

    async def _try_part(self, part: str, values: Mapping[str, object], change: MetadataChange) -> Node | None:
        """The Node after it; None if it was refused."""
        try:
            return await self._patch(change.patch())
        except _PART_ERRORS as error:
            self._refusals.add(part, values, error)
            return None

    # Status

    async def _write_status(self, desired: Node, current: Node, heartbeat: bool) -> bool:
        now = format_time(self._clock.now())
        patch = status_patch(self._owned, desired, current, now=now, heartbeat=heartbeat)
        status = self._unrefused("status", patch.get("status", {}))
        if status:
            try:
                await self._patch({**patch, "status": status}, "status")
            except (InvalidObjectError, BadRequestError) as error:
                await self._write_status_parts(patch, status, error)
        final = self._names(desired)
        if self._owned != final:
            self._owned = final
            value = {LAST_APPLIED: final.format()}
            if self._unrefused("annotations", value):
                await self._try_part("annotations", value, MetadataChange(annotations=value))
        return bool(status)

    async def _write_status_parts(self, patch: Mapping[str, Any], status: Mapping[str, Any], error: ApiError) -> None:
        """One field is wrong (a quantity, say): whether the node is Ready must be told all the same."""
        log.debug("the Node's status was refused as a whole: %s", error)
        # Addresses first: the version they were computed from still holds. Conditions next, they must not fail.
        for name in sorted(status, key=lambda name: (name != "addresses", name != "conditions")):
            part: dict[str, Any] = {"status": {name: status[name]}}
            if name == "addresses":
                part["metadata"] = patch["metadata"]
            try:
                await self._patch(part, "status")
            except (InvalidObjectError, BadRequestError) as refusal:
                if name == "conditions":
                    raise
                self._refusals.add("status", {name: status[name]}, refusal)

    async def _patch(self, patch: Mapping[str, Any], subresource: str | None = None) -> Node:
        node = await self._client.patch(NODES, self.name, patch, subresource=subresource)
        self.seen = node
        return node


def _with_ready_of(current: Node, desired: Node) -> Node:
    """``desired`` with the Ready condition that is there, if it is True."""
    ready = next((c for c in current.status.conditions or () if c.type == "Ready" and c.status == "True"), None)
    if ready is None:
        return desired
    kept = copy_node(desired)
    kept.status.conditions = [ready if c.type == "Ready" else c for c in desired.status.conditions or ()]
    return kept


def _taints(desired: Node) -> tuple[tuple[str, str], ...]:
    """What a refusal of taints is about: ours, whatever others have put beside them."""
    return tuple((taint_name(taint), taint.value or "") for taint in desired.spec.taints or ())
