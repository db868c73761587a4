"""Objects as a client wants them: JSON, tables, metadata only (``Accept`` with ``as=``). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec

from virtual_kubelet.devcluster.registry.resource import Resource
from virtual_kubelet.devcluster.statuses import not_acceptable
from virtual_kubelet.devcluster.storage import StoredObject

__all__ = [
    "PLAIN",
    "Representation",
    "encode",
    "negotiate",
    "render_list",
    "render_object",
    "render_stored",
    "table_object",
]

_ACCEPTED: Final = ("application/json",)
_META: Final = "meta.k8s.io"

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()


def encode(value: Any) -> bytes:
    """``value`` as compact JSON."""
    return _encoder.encode(value)


class Representation(NamedTuple):
    """How an object is shown: ``kind`` is empty (as it is), ``Table``, ``PartialObjectMetadata`` or its list."""

    kind: str
    version: str = "v1"


PLAIN: Final = Representation("")


def negotiate(accept: str) -> Representation:
    """The first clause of an ``Accept`` header that can be answered. Raises 406."""
    if not accept or accept == "application/json":
        return PLAIN
    for clause in accept.split(","):
        media_type, *parameters = (part.strip() for part in clause.split(";"))
        if media_type not in ("application/json", "application/*", "*/*"):
            continue
        given = dict(p.partition("=")[::2] for p in parameters)
        kind = given.get("as", "")
        if not kind:
            return PLAIN
        version = given.get("v", "v1")
        if (
            given.get("g") == _META
            and version in ("v1", "v1beta1")
            and kind in ("Table", "PartialObjectMetadata", "PartialObjectMetadataList")
        ):
            return Representation(kind, version)
    raise not_acceptable(_ACCEPTED)


def head(resource: Resource) -> bytes:
    """What stands before an object's own fields."""
    return b'{"kind":"%s","apiVersion":"%s",' % (resource.kind.encode(), resource.api_version.encode())


def render_stored(resource: Resource, stored: StoredObject) -> bytes:
    """The whole object."""
    return head(resource) + stored.raw[1:]


def render_object(
    resource: Resource, obj: dict[str, Any], shown: Representation, now: datetime, include: str = ""
) -> bytes:
    """One object, decoded. Raises 406 for a list of one."""
    if shown.kind == "":
        return head(resource) + encode(obj)[1:]
    if shown.kind == "Table":
        revision = obj["metadata"].get("resourceVersion", "")
        return encode(table_object(resource, [obj], {"resourceVersion": revision}, now, include, shown.version))
    if shown.kind == "PartialObjectMetadataList":
        raise not_acceptable(_ACCEPTED)
    return encode(_partial(obj, shown.version))


def render_list(
    resource: Resource,
    objects: Iterable[StoredObject],
    metadata: Mapping[str, Any],
    shown: Representation,
    now: datetime,
    include: str = "",
) -> bytes:
    """A list of objects."""
    if shown.kind == "":
        start = b'{"kind":"%sList","apiVersion":"%s","metadata":%s,"items":[' % (
            resource.kind.encode(),
            resource.api_version.encode(),
            encode(metadata),
        )
        return start + b",".join([stored.raw for stored in objects]) + b"]}"
    decoded = [stored.decode() for stored in objects]
    if shown.kind == "Table":
        return encode(table_object(resource, decoded, metadata, now, include, shown.version))
    if shown.kind == "PartialObjectMetadata":
        raise not_acceptable(_ACCEPTED)
    return encode(
        {
            "kind": shown.kind,
            "apiVersion": f"{_META}/{shown.version}",
            "metadata": metadata,
            "items": [_partial(obj, shown.version) for obj in decoded],
        }
    )


def table_object(
    resource: Resource,
    objects: Iterable[dict[str, Any]],
    metadata: Mapping[str, Any],
    now: datetime,
    include: str,
    version: str = "v1",
    *,
    columns: bool = True,
) -> dict[str, Any]:
    """A ``Table``; ``include`` says what of each object a row carries (``includeObject``)."""
    rows = []
    for obj in objects:
        row: dict[str, Any] = {"cells": resource.cells(obj, now)}
        if include != "None":
            whole = {"kind": resource.kind, "apiVersion": resource.api_version, **obj}
            row["object"] = whole if include == "Object" else _partial(obj, version)
        rows.append(row)
    definitions = [{**c._asdict(), "description": ""} for c in resource.columns]
    return {
        "kind": "Table",
        "apiVersion": f"{_META}/{version}",
        "metadata": metadata,
        "columnDefinitions": definitions if columns else None,
        "rows": rows,
    }


def _partial(obj: dict[str, Any], version: str) -> dict[str, Any]:
    return {"kind": "PartialObjectMetadata", "apiVersion": f"{_META}/{version}", "metadata": obj["metadata"]}
