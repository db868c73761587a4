"""Applies the patch of a request to an object, with the API server's answers to patches that cannot be. Pure."""

from __future__ import annotations

from typing import Any, Final

from virtual_kubelet.devcluster.go_json import NotJson, decode_go_json
from virtual_kubelet.devcluster.registry.resource import Resource
from virtual_kubelet.devcluster.schema import Schemas, WrongType, json_type
from virtual_kubelet.devcluster.statuses import (
    StatusError,
    bad_request,
    field_invalid,
    invalid,
    too_large,
    unsupported_media_type,
)
from virtual_kubelet.objects.patches import PatchError, apply_json_patch, apply_merge_patch
from virtual_kubelet.objects.strategic_merge import apply_strategic_merge_patch

__all__ = ["apply_patch", "regular_patched", "unfitting_patch"]

_JSON: Final = "application/json-patch+json"
_MERGE: Final = "application/merge-patch+json"
_STRATEGIC: Final = "application/strategic-merge-patch+json"
_APPLY: Final = frozenset({"application/apply-patch+yaml", "application/apply-patch+cbor"})
_SCHEME: Final = "pkg/api/legacyscheme/scheme.go:30"
_MOST_OPERATIONS: Final = 10_000
_VALUED: Final = frozenset({"add", "replace", "test"})


def apply_patch(body: bytes, content_type: str, obj: dict[str, Any], kind: str) -> dict[str, Any]:
    """``obj`` (with ``kind`` and ``apiVersion``) after the patch.

    Raises ``StatusError``: 415 for unknown media types and for server-side apply, 400 for what is no patch, 413 for one
    of too many operations, 422 for one that does not fit the object.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type in _APPLY:
        raise unsupported_media_type(
            "the embedded dev cluster does not serve server-side apply; use client-side apply (kubectl apply without "
            "--server-side) or a JSON, merge or strategic-merge patch",
            details={},
        )
    if media_type not in (_JSON, _MERGE, _STRATEGIC):
        raise unsupported_media_type("415: Unsupported Media Type", details={})
    try:
        patch = decode_go_json(body)
    except NotJson as problem:
        raise _undecodable(media_type, str(problem)) from None
    try:
        result = _apply(media_type, patch, obj, kind)
    except RecursionError:
        raise bad_request("the patch is nested too deep") from None
    if not isinstance(result, dict):
        raise _rejected()
    return result


def _apply(media_type: str, patch: Any, obj: dict[str, Any], kind: str) -> Any:
    if media_type == _JSON:
        operations = _operations(patch)
        try:
            return apply_json_patch(obj, operations)
        except PatchError:
            raise _rejected() from None
    if patch is None:
        # Go reads null into a map as no map at all.
        if media_type == _MERGE:
            raise bad_request("Invalid JSON Patch")
        return obj
    if not isinstance(patch, dict):
        raise _undecodable(media_type, _mismatch(patch, "map[string]interface {}"))
    if media_type == _MERGE:
        return apply_merge_patch(obj, patch)
    try:
        result = apply_strategic_merge_patch(obj, patch, kind)
    except PatchError as error:
        raise bad_request(str(error)) from None
    # It is applied to a typed object, which stays of its type.
    return {**result, "kind": obj["kind"], "apiVersion": obj["apiVersion"]}


def _operations(patch: Any) -> list[dict[str, Any]]:
    if patch is None:
        return []
    if not isinstance(patch, list):
        raise _undecodable(_JSON, _mismatch(patch, "[]handlers.jsonPatchOp"))
    for operation in patch:
        if not isinstance(operation, dict):
            raise _undecodable(_JSON, _mismatch(operation, "handlers.jsonPatchOp"))
    if len(patch) > _MOST_OPERATIONS:
        raise too_large(f"The allowed maximum operations in a JSON patch is {_MOST_OPERATIONS}, got {len(patch)}")
    # The API server's library takes a missing value for null.
    return [{"value": None, **op} if op.get("op") in _VALUED else op for op in patch]


def _undecodable(media_type: str, problem: str) -> StatusError:
    return bad_request(problem if media_type == _STRATEGIC else f"error decoding patch: {problem}")


def _mismatch(value: Any, go_type: str) -> str:
    return f"json: cannot unmarshal {json_type(value)} into Go value of type {go_type}"


def _rejected() -> StatusError:
    return StatusError(422, "Invalid", "the server rejected our request due to an error in our request", {})


def unfitting_patch(problem: str) -> StatusError:
    """422: what came out of the patch is no object of the kind.

    The API server quotes the whole of it here; it may hold secrets, which this one does not repeat.
    """
    return invalid("", "", [field_invalid("patch", "", problem)])


def regular_patched(
    patched: dict[str, Any], schemas: Schemas, resource: Resource, unknown: list[str], current: dict[str, Any]
) -> dict[str, Any]:
    """What a patch made of ``current``, as a regular object without ``kind`` and ``apiVersion``.

    Names of unknown fields are added to ``unknown``. Raises ``StatusError`` 422.
    """
    for field, own in (("kind", resource.kind), ("apiVersion", resource.api_version)):
        given = patched.get(field)
        if not given or not isinstance(given, str):
            # Without it the decoder does not know what it reads.
            raise unfitting_patch(f"Object '{'Kind' if field == 'kind' else field}' is missing")
        if given != own:
            kind, version = patched.get("kind"), patched.get("apiVersion")
            raise unfitting_patch(f'no kind "{kind}" is registered for version "{version}" in scheme "{_SCHEME}"')
    try:
        obj = schemas.regular_again(patched, resource.kind, unknown, current)
    except WrongType as error:
        raise unfitting_patch(str(error)) from None
    del obj["kind"], obj["apiVersion"]
    return obj
