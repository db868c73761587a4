"""Applies the patch of a request to an object, with the API server's answers to patches that cannot be. Pure."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import msgspec

from virtual_kubelet.devcluster.go_json import NotJson, decode_go_json, decode_shallow, repeated_fields
from virtual_kubelet.devcluster.registry.resource import Resource
from virtual_kubelet.devcluster.schema import Schemas
from virtual_kubelet.devcluster.schema_values import WrongType, json_type
from virtual_kubelet.devcluster.statuses import (
    StatusError,
    bad_request,
    field_invalid,
    invalid,
    too_large,
    undeterminable_name,
    unsupported_media_type,
)
from virtual_kubelet.objects.patches import PatchError, apply_json_patch, apply_merge_patch
from virtual_kubelet.objects.strategic_merge import UnknownDirective, apply_strategic_merge_patch

__all__ = ["Patched", "apply_patch", "patch_type"]

_JSON: Final = "application/json-patch+json"
_MERGE: Final = "application/merge-patch+json"
_STRATEGIC: Final = "application/strategic-merge-patch+json"
_APPLY: Final = frozenset({"application/apply-patch+yaml", "application/apply-patch+cbor"})
_SCHEME: Final = "pkg/api/legacyscheme/scheme.go:30"
_MOST_OPERATIONS: Final = 10_000
_VALUED: Final = frozenset({"add", "replace", "test"})


class Patched:
    """An object (with ``kind`` and ``apiVersion``) after a patch, not looked at yet."""

    def __init__(self, obj: dict[str, Any], patch: Any, *, strategic: bool) -> None:
        self._obj = obj
        self._patch = patch
        self._strategic = strategic

    def regular(
        self, schemas: Schemas, resource: Resource, unknown: list[str], current: dict[str, Any]
    ) -> dict[str, Any]:
        """As a regular object without ``kind`` and ``apiVersion``; ``current`` is what it was made of.

        Sentences about unknown fields are added to ``unknown``. Raises ``StatusError`` 400 and 422.
        """
        for field, own in (("kind", resource.kind), ("apiVersion", resource.api_version)):
            given = self._obj.get(field)
            if given is not None and not isinstance(given, str) and not self._strategic:
                problem = f"json: cannot unmarshal {json_type(given)} into Go struct field .{field} of type string"
                raise self.unfitting(f"couldn't get version/kind; json parse error: {problem}")
            if not given and field == "apiVersion":
                # The decoder takes it for its internal version, in which the fields have other names.
                raise undeterminable_name(current["metadata"]["name"])
            if given and given != own and not self._strategic:
                kind, version = self._obj.get("kind"), self._obj.get("apiVersion")
                raise self.unfitting(f'no kind "{kind}" is registered for version "{version}" in scheme "{_SCHEME}"')
        try:
            obj = schemas.regular_again(self._obj, resource.kind, unknown, current)
        except WrongType as error:
            raise self.unfitting(error.converter if self._strategic else str(error)) from None
        obj.pop("kind", None)
        obj.pop("apiVersion", None)
        return obj

    def repeated(self, body: bytes) -> list[str]:
        """Sentences about keys that ``body``, the patch, has twice."""
        return repeated_fields(body, self._patch)

    def unfitting(self, problem: str) -> StatusError:
        """422: what came out of the patch is no object of the kind.

        As the API server it quotes the patch, or all that came of it, to whom may write this object. Not of a Secret.
        """
        if self._obj.get("kind") == "Secret":
            shown = ""
        elif self._strategic:
            shown = _go_value(self._patch)
        else:
            shown = _sorted_json.encode(self._obj).decode()
        return invalid("", "", [field_invalid("patch", shown, problem)])


_sorted_json: Final = msgspec.json.Encoder(order="sorted")


def _go_value(value: Any) -> str:
    """As Go's ``%v`` shows what was read from JSON."""
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{_go_value(value[key])}' for key in sorted(value))}]"
    if isinstance(value, list):
        return f"[{' '.join(map(_go_value, value))}]"
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)


@lru_cache(maxsize=64)
def patch_type(content_type: str) -> str:
    """The media type of a patch. Raises ``StatusError`` 415 for unknown ones and for server-side apply."""
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type in _APPLY:
        raise unsupported_media_type(
            "the embedded dev cluster does not serve server-side apply; use client-side apply (kubectl apply without "
            "--server-side) or a JSON, merge or strategic-merge patch",
            details={},
        )
    if media_type not in (_JSON, _MERGE, _STRATEGIC):
        raise unsupported_media_type("415: Unsupported Media Type", details={})
    return media_type


def apply_patch(body: bytes, media_type: str, obj: dict[str, Any], kind: str) -> Patched:
    """``obj`` (with ``kind`` and ``apiVersion``) after the patch, which is of a ``patch_type``.

    Raises ``StatusError``: 400 for what is no patch, 413 for one of too many operations, 422 for one that does not fit
    the object.
    """
    try:
        patch = decode_go_json(body)
    except NotJson as problem:
        raise _undecodable(media_type, str(problem)) from None
    try:
        result = _apply(media_type, patch, obj, kind)
    except RecursionError:
        patch = decode_shallow(body)
        result = _apply(media_type, patch, obj, kind)
    if not isinstance(result, dict):
        raise _rejected()
    return Patched(result, patch, strategic=media_type == _STRATEGIC)


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
    except UnknownDirective as error:
        shown = f"unknown patch type: {_go_value(error.directive)} in map: {_go_value(dict(error.around))}"
        raise StatusError(500, "", shown) from None
    except PatchError as error:
        raise bad_request(str(error)) from None
    # It is applied to a typed object, which stays of its type.
    for field in ("kind", "apiVersion"):
        if isinstance(result.get(field, ""), str):
            result[field] = obj[field]
    return result


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
