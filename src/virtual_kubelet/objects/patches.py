"""JSON merge patches (RFC 7386) and JSON patches (RFC 6902), with the API server's error texts. Pure.

Nothing here changes its arguments; results share what did not change with them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Final

__all__ = ["PatchError", "apply_json_patch", "apply_merge_patch"]

#: More operations than this are refused, as by the API server (maxJSONPatchOperations).
_MOST_OPERATIONS: Final = 10_000


class PatchError(ValueError):
    """The patch cannot be applied to this object; the text is the API server's."""


def apply_merge_patch(target: Any, patch: Any) -> Any:
    """``patch`` merged into ``target``: objects by key, null removes, anything else replaces."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = apply_merge_patch(result.get(key), value)
    return result


def apply_json_patch(target: Any, operations: Sequence[Mapping[str, Any]]) -> Any:
    """``target`` after all ``operations``; the first that fails raises ``PatchError``."""
    if len(operations) > _MOST_OPERATIONS:
        raise PatchError(f"the allowed maximum operations in a JSON patch is {_MOST_OPERATIONS}, got {len(operations)}")
    document = copy.deepcopy(target)
    for operation in operations:
        if not isinstance(operation, Mapping):
            raise PatchError("a JSON patch is a list of operations")
        document = _apply(document, operation)
    return document


def _apply(document: Any, operation: Mapping[str, Any]) -> Any:
    kind, path = operation.get("op"), operation.get("path")
    if not isinstance(path, str):
        raise PatchError("error in operation: missing path")
    if kind == "add":
        return _add(document, path, copy.deepcopy(_value(operation)))
    if kind == "remove":
        _remove(document, path, "remove")
        return document
    if kind == "replace":
        if path == "":
            return copy.deepcopy(_value(operation))
        _get(document, path, "replace")
        return _set(document, path, copy.deepcopy(_value(operation)))
    if kind == "test":
        if not _same(_get(document, path, "test", missing=None), _value(operation)):
            raise PatchError(f"testing value {path} failed: test failed")
        return document
    if kind in ("move", "copy"):
        source = operation.get("from")
        if not isinstance(source, str):
            raise PatchError(f"error in {kind}: missing from")
        if kind == "move":
            if path.startswith(source + "/"):
                raise PatchError(f"error in move for path: '{path}': a value cannot move into itself")
            value = _remove(document, source, "move")
        else:
            value = copy.deepcopy(_get(document, source, "copy"))
        return _add(document, path, value)
    raise PatchError(f"unexpected kind: {kind}")


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON: 1 is 1.0, but not true (in Python it is)."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


_MISSING: Final = object()


def _value(operation: Mapping[str, Any]) -> Any:
    if "value" not in operation:
        raise PatchError(f"error in {operation.get('op')} for path: '{operation.get('path')}': missing value")
    return operation["value"]


def _tokens(path: str, verb: str) -> list[str]:
    if path == "":
        return []
    if not path.startswith("/"):
        raise PatchError(f'{verb} operation does not apply: doc is missing path: "{path}": missing value')
    return [token.replace("~1", "/").replace("~0", "~") for token in path[1:].split("/")]


def _missing(path: str, verb: str) -> PatchError:
    return PatchError(f'{verb} operation does not apply: doc is missing path: "{path}": missing value')


def _index(token: str, length: int, path: str, verb: str) -> int:
    valid = token.isascii() and token.isdigit() and len(token) <= 9 and (token == "0" or token[0] != "0")
    if not valid or int(token) >= length:
        raise PatchError(
            f"error in {verb} for path: '{path}': Unable to access invalid index: {token}: invalid index referenced"
        )
    return int(token)


def _parent(document: Any, path: str, verb: str) -> tuple[Any, str]:
    *above, last = _tokens(path, verb)
    for token in above:
        if isinstance(document, dict) and token in document:
            document = document[token]
        elif isinstance(document, list):
            document = document[_index(token, len(document), path, verb)]
        else:
            raise _missing(path, verb)
    return document, last


def _get(document: Any, path: str, verb: str, *, missing: Any = _MISSING) -> Any:
    if path == "":
        return document
    parent, last = _parent(document, path, verb)
    if isinstance(parent, list):
        return parent[_index(last, len(parent), path, verb)]
    if isinstance(parent, dict) and last in parent:
        return parent[last]
    if missing is not _MISSING:
        return missing
    raise _missing(path, verb)


def _add(document: Any, path: str, value: Any) -> Any:
    if path == "":
        return value
    parent, last = _parent(document, path, "add")
    if isinstance(parent, list):
        at = len(parent) if last == "-" else _index(last, len(parent) + 1, path, "add")
        parent.insert(at, value)
    elif isinstance(parent, dict):
        parent[last] = value
    else:
        raise _missing(path, "add")
    return document


def _set(document: Any, path: str, value: Any) -> Any:
    parent, last = _parent(document, path, "replace")
    if isinstance(parent, list):
        parent[int(last)] = value
    else:
        parent[last] = value
    return document


def _remove(document: Any, path: str, verb: str) -> Any:
    if path == "":
        raise PatchError(f"error in {verb} for path: '': the whole document cannot be removed")
    parent, last = _parent(document, path, verb)
    if isinstance(parent, list):
        return parent.pop(_index(last, len(parent), path, verb))
    if not isinstance(parent, dict) or last not in parent:
        raise PatchError(f"{verb} operation does not apply: doc is missing path: {path}: missing value") from None
    return parent.pop(last)
