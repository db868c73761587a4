"""Applies the patch of a request to an object, with the API server's answers to patches that cannot be. Pure."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from virtual_kubelet.devcluster.go_json import json_problem
from virtual_kubelet.devcluster.schema import json_type
from virtual_kubelet.devcluster.statuses import StatusError, bad_request, unsupported_media_type
from virtual_kubelet.objects.patches import PatchError, apply_json_patch, apply_merge_patch
from virtual_kubelet.objects.strategic_merge import apply_strategic_merge_patch

__all__ = ["apply_patch"]

_JSON: Final = "application/json-patch+json"
_MERGE: Final = "application/merge-patch+json"
_STRATEGIC: Final = "application/strategic-merge-patch+json"
_APPLY: Final = frozenset({"application/apply-patch+yaml", "application/apply-patch+cbor"})

_decoder = msgspec.json.Decoder()


def apply_patch(body: bytes, content_type: str, obj: dict[str, Any], kind: str) -> dict[str, Any]:
    """``obj`` (with ``kind`` and ``apiVersion``) after the patch.

    Raises ``StatusError``: 415 for unknown media types and for server-side apply, 400 for what is no patch, 422 for one
    that does not fit the object.
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
        patch = _decoder.decode(body)
    except (msgspec.DecodeError, ValueError, UnicodeDecodeError) as error:
        raise _undecodable(media_type, json_problem(body) or str(error)) from None
    except RecursionError:
        raise _undecodable(media_type, "exceeded max depth") from None
    try:
        result = _apply(media_type, patch, obj, kind)
    except PatchError as error:
        if media_type == _JSON:
            raise _rejected(422, "Invalid") from error
        raise bad_request(str(error)) from None
    except RecursionError:
        raise bad_request("the patch is nested too deep") from None
    if not isinstance(result, dict):
        raise bad_request(f"unable to convert the patched value to {kind}: it is no object")
    return result


def _apply(media_type: str, patch: Any, obj: dict[str, Any], kind: str) -> Any:
    if media_type == _JSON:
        if not isinstance(patch, list):
            raise _undecodable(media_type, _mismatch(patch, "[]handlers.jsonPatchOp"))
        return apply_json_patch(obj, patch)
    if not isinstance(patch, dict):
        raise _undecodable(media_type, _mismatch(patch, "map[string]interface {}"))
    if media_type == _MERGE:
        return apply_merge_patch(obj, patch)
    return apply_strategic_merge_patch(obj, patch, kind)


def _undecodable(media_type: str, problem: str) -> StatusError:
    return bad_request(problem if media_type == _STRATEGIC else f"error decoding patch: {problem}")


def _mismatch(value: Any, go_type: str) -> str:
    return f"json: cannot unmarshal {json_type(value)} into Go value of type {go_type}"


def _rejected(code: int, reason: str) -> StatusError:
    return StatusError(code, reason, "the server rejected our request due to an error in our request", {})
