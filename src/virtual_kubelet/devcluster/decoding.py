"""Request bodies to regular objects, with the API server's answers to what cannot be read. Pure."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import Any, Final

from virtual_kubelet.devcluster import protobuf
from virtual_kubelet.devcluster.go_json import NotJson, decode_go_json, repeated_fields
from virtual_kubelet.devcluster.go_yaml import decode_go_yaml
from virtual_kubelet.devcluster.schema import Schemas
from virtual_kubelet.devcluster.schema_values import WrongType
from virtual_kubelet.devcluster.statuses import StatusError, bad_request, unsupported_media_type

__all__ = [
    "check_media_type",
    "decode_delete_options",
    "decode_json",
    "decode_object",
    "regular_object",
    "report_unknown",
]

_JSON: Final = "application/json"
_YAML: Final = "application/yaml"
_SHOWN: Final = 30
_TYPE_META: Final = (
    'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }'
)
_META_SCHEME: Final = "pkg/apis/meta/internalversion/scheme/register.go:27"
#: Warnings beyond these are counted only: a header has its limits.
_MOST_WARNINGS: Final = 100


@lru_cache(maxsize=64)
def check_media_type(content_type: str) -> str:
    """The media type of a body. Raises 415 unless it is JSON (or nothing), YAML or Protobuf."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind in (protobuf.MEDIA_TYPE, _YAML):
        return kind
    if kind not in ("", _JSON, "text/json"):
        raise unsupported_media_type(
            "the body of the request was in an unknown format - accepted media types include: "
            f"{_JSON}, {_YAML}, {protobuf.MEDIA_TYPE}"
        )
    return _JSON


def decode_json(data: bytes, kind: str) -> Any:
    """The body as plain values; ``kind`` is what it should be. Raises 400."""
    try:
        return decode_go_json(data)
    except NotJson as problem:
        raise _no_version(kind, str(problem), data) from None


def _decode_yaml(data: bytes, kind: str, problems: list[str]) -> Any:
    try:
        return decode_go_yaml(data, problems)
    except NotJson as problem:
        raise bad_request(
            f"the object provided is unrecognized (must be of type {kind}): {problem} ({_summary(data)})"
        ) from None


def _no_version(kind: str, problem: str, data: bytes) -> StatusError:
    return bad_request(
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

    ``also``: other versions in which ``kind`` may be written; ``api_version`` empty: any will do. Names of unknown
    fields are added to ``unknown``. Raises ``StatusError`` 400.
    """
    if media_type == protobuf.MEDIA_TYPE:
        value = _decode_protobuf(data, schemas, kind, api_version, also)
    else:
        value = _decode_json_object(data, kind, media_type, unknown)
        _check_kind(value.get("kind") or "", value.get("apiVersion") or "", kind, api_version, also)
    return regular_object(value, schemas, kind, api_version, unknown)


def decode_delete_options(data: bytes, schemas: Schemas, media_type: str) -> dict[str, Any]:
    """Of any version: client-go writes that of what it deletes. Raises 400 with the decoder's own words."""
    if media_type != _JSON:
        return decode_object(data, schemas, "DeleteOptions", "", [], media_type)
    no_version = "couldn't get version/kind; json parse error: "
    try:
        value = decode_go_json(data)
    except NotJson as error:
        raise bad_request(f"{no_version}{error}") from None
    if problem := _type_meta_problem(value):
        raise bad_request(f"{no_version}{problem}")
    value = value or {}
    if (kind := value.get("kind") or "DeleteOptions") != "DeleteOptions":
        version = value.get("apiVersion") or "v1"
        raise bad_request(f'no kind "{kind}" is registered for version "{version}" in scheme "{_META_SCHEME}"')
    try:
        options: dict[str, Any] = schemas.regular(value, "DeleteOptions", [])
    except WrongType as error:
        raise bad_request(str(error)) from None
    return options


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


def _decode_json_object(data: bytes, kind: str, media_type: str, unknown: list[str]) -> dict[str, Any]:
    if media_type == _YAML:
        value = _decode_yaml(data, kind, unknown)
    else:
        value = decode_json(data, kind)
        unknown += repeated_fields(data, value)
    if problem := _type_meta_problem(value):
        raise _no_version(kind, problem, data)
    return value or {}


def _type_meta_problem(value: Any) -> str:
    """Why kind and version cannot be read from it, in the words of Go's decoder; null is an empty object."""
    if type(value) is not dict:
        return "" if value is None else f"json: cannot unmarshal {_go_kind(value)} into Go value of type {_TYPE_META}"
    for field in ("kind", "apiVersion"):
        if value.get(field) is not None and type(value[field]) is not str:
            return f"json: cannot unmarshal {_go_kind(value[field])} into Go struct field .{field} of type string"
    return ""


def _go_kind(value: Any) -> str:
    return {dict: "object", list: "array", str: "string", bool: "bool", type(None): "null"}.get(type(value), "number")


def _check_kind(given_kind: str, given_version: str, kind: str, api_version: str, also: Collection[str]) -> None:
    if (given_kind or kind) != kind or (api_version and given_version not in ("", api_version, *also)):
        given = given_version or api_version
        if given_kind in _KINDS.get(given, ()):
            short = given.rpartition("/")[2]
            raise bad_request(
                f'{given_kind} in version "{short}" cannot be handled as a {kind}: converting ({short}.{given_kind}) '
                f"to ({_internal(api_version)}.{kind}): unknown conversion"
            )
        raise bad_request(
            f'{given_kind or kind} in version "{given.rpartition("/")[2]}" cannot be handled as a {kind}: no kind '
            f'"{given_kind or kind}" is registered for version "{given_version or api_version}" in scheme '
            '"pkg/api/legacyscheme/scheme.go:30"'
        )


def _internal(api_version: str) -> str:
    group = api_version.rpartition("/")[0]
    return group.partition(".")[0] or "core"


#: What a real server knows: of these kinds it says that they are no others, of the rest that they are none.
_KINDS: Final = {
    "apps/v1": frozenset({"DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"}),
    "batch/v1": frozenset({"CronJob", "Job"}),
    "coordination.k8s.io/v1": frozenset({"Lease"}),
    "policy/v1": frozenset({"Eviction", "PodDisruptionBudget"}),
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
    ),
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


def report_unknown(sentences: list[str], validation: str, warnings: list[str], refuse: Any) -> None:
    """Act on unknown and repeated fields as ``fieldValidation`` says: ``refuse`` makes the error of the strict kind."""
    if not sentences or validation == "Ignore":
        return
    if validation == "Strict":
        error: StatusError = refuse(f"strict decoding error: {', '.join(sentences)}")
        raise error
    warnings += sentences[:_MOST_WARNINGS]
