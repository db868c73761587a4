"""Request bodies to regular objects, with the API server's answers to what cannot be read. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import msgspec

from virtual_kubelet.devcluster import protobuf
from virtual_kubelet.devcluster.go_json import json_problem
from virtual_kubelet.devcluster.schema import Schemas, WrongType
from virtual_kubelet.devcluster.statuses import StatusError, bad_request, unsupported_media_type

__all__ = ["check_media_type", "decode_json", "decode_object", "regular_object", "report_unknown"]

#: Read as Go would, not with Python's limits.
_decoder = msgspec.json.Decoder()
_JSON: Final = "application/json"
_SHOWN: Final = 30
#: Warnings beyond these are counted only: a header has its limits.
_MOST_WARNINGS: Final = 100


def check_media_type(content_type: str) -> str:
    """The media type of a body. Raises 415 unless it is JSON (or nothing) or Protobuf. YAML is not spoken here."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == protobuf.MEDIA_TYPE:
        return kind
    if kind not in ("", _JSON, "text/json"):
        raise unsupported_media_type(
            "the body of the request was in an unknown format - accepted media types include: "
            f"{_JSON}, {protobuf.MEDIA_TYPE}"
        )
    return _JSON


def decode_json(data: bytes, kind: str) -> Any:
    """The body as plain values; ``kind`` is what it should be. Raises 400."""
    try:
        return _decoder.decode(data)
    except RecursionError:
        problem = json_problem(data) or "exceeded max depth"
    except (msgspec.DecodeError, ValueError, UnicodeDecodeError) as error:
        problem = json_problem(data) or str(error)
    raise bad_request(
        f"the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse error: "
        f"{problem} ({_summary(data)})"
    )


def _summary(data: bytes) -> str:
    if not data:
        return "<empty>"
    shown = data[:_SHOWN]
    text = shown.decode(errors="replace") if data[:1] == b"{" else shown.hex()
    return text + (" ..." if len(data) > _SHOWN else "")


def decode_object(
    data: bytes,
    schemas: Schemas,
    kind: str,
    api_version: str,
    unknown: list[str],
    media_type: str = _JSON,
    *,
    also: Collection[str] = (),
) -> dict[str, Any]:
    """A regular object of ``kind``, without ``kind`` and ``apiVersion``, which may be left out of ``data``, too.

    ``also``: other versions in which ``kind`` may be written. Names of unknown fields are added to ``unknown``. Raises
    ``StatusError`` 400.
    """
    if media_type == protobuf.MEDIA_TYPE:
        value = _decode_protobuf(data, schemas, kind, api_version, also)
    else:
        value = _decode_json_object(data, kind)
        _check_kind(value.get("kind", ""), value.get("apiVersion", ""), kind, api_version, also)
    return regular_object(value, schemas, kind, api_version, unknown)


def _decode_protobuf(
    data: bytes, schemas: Schemas, kind: str, api_version: str, also: Collection[str]
) -> dict[str, Any]:
    try:
        envelope = protobuf.open_envelope(data)
    except protobuf.BadProtobuf as error:
        raise bad_request(
            f"the object provided is unrecognized (must be of type {kind}): {error} ({_summary(data)})"
        ) from None
    _check_kind(envelope.kind, envelope.api_version, kind, api_version, also)
    try:
        return schemas.protobuf.decode(envelope.raw, kind)
    except protobuf.BadProtobuf as error:
        version = api_version.rpartition("/")[2]
        raise bad_request(f'{kind} in version "{version}" cannot be handled as a {kind}: {error}') from None


def _decode_json_object(data: bytes, kind: str) -> dict[str, Any]:
    value = decode_json(data, kind)
    if type(value) is not dict:
        got = {list: "array", str: "string", bool: "bool", type(None): "null"}.get(type(value), "number")
        if value is not None:
            raise bad_request(
                f"the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse "
                f"error: json: cannot unmarshal {got} into Go value of type struct {{ APIVersion string "
                f'"json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }} ({_summary(data)})'
            )
        value = {}
    return value


def _check_kind(given_kind: str, given_version: str, kind: str, api_version: str, also: Collection[str]) -> None:
    if (given_kind or kind) != kind or (given_version not in ("", api_version) and given_version not in also):
        version = api_version.rpartition("/")[2]
        if given_version in ("", api_version) and given_kind in _KINDS.get(api_version, ()):
            raise bad_request(
                f'{given_kind} in version "{version}" cannot be handled as a {kind}: converting ({version}.{given_kind}) '
                f"to ({_internal(api_version)}.{kind}): unknown conversion"
            )
        raise bad_request(
            f'{given_kind or kind} in version "{given_version or api_version}" cannot be handled as a {kind}: no kind '
            f'"{given_kind or kind}" is registered for version "{given_version or api_version}" in scheme '
            '"pkg/api/legacyscheme/scheme.go:30"'
        )


def _internal(api_version: str) -> str:
    group = api_version.rpartition("/")[0]
    return group.partition(".")[0] or "core"


_KINDS: Final = {
    "v1": frozenset(
        [
            "Binding",
            "ConfigMap",
            "Event",
            "Namespace",
            "Node",
            "Pod",
            "Secret",
            "Service",
            "ServiceAccount",
            "Endpoints",
            "LimitRange",
            "PersistentVolume",
            "PersistentVolumeClaim",
            "PodTemplate",
            "ReplicationController",
            "ResourceQuota",
        ]
    )
}


def regular_object(
    value: dict[str, Any], schemas: Schemas, kind: str, api_version: str, unknown: list[str]
) -> dict[str, Any]:
    """``value`` made regular, without ``kind`` and ``apiVersion``. Raises ``StatusError`` 400."""
    try:
        obj: dict[str, Any] = schemas.regular(value, kind, unknown)
    except WrongType as error:
        version = api_version.rpartition("/")[2]
        raise bad_request(f'{kind} in version "{version}" cannot be handled as a {kind}: {error}') from None
    obj.pop("kind", None)
    obj.pop("apiVersion", None)
    return obj


def report_unknown(unknown: list[str], validation: str, warnings: list[str], refuse: Any) -> None:
    """Act on unknown fields as ``fieldValidation`` says: ``refuse`` makes the error of the strict kind."""
    if not unknown or validation == "Ignore":
        return
    sentences = [f'unknown field "{name}"' for name in unknown]
    if validation == "Strict":
        error: StatusError = refuse(f"strict decoding error: {', '.join(sentences)}")
        raise error
    warnings += sentences[:_MOST_WARNINGS]
