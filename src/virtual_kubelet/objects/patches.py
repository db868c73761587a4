"""JSON merge patches (RFC 7386) and JSON patches (RFC 6902) as the API server's library applies them. Pure.

Its JSON patches are no stricter than they are (json-patch 4, in 1.20 as in 1.36): what is not there is null to ``test``
and ``copy``, ``replace`` puts it there, indexes may count from the end, and ``add`` does not take the whole document.

Nothing here changes its arguments; results share what did not change with them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Final

__all__ = ["PatchError", "apply_json_patch", "apply_merge_patch"]

#: More operations than this are refused, as by the API server (maxJSONPatchOperations).
_MOST_OPERATIONS: Final = 10_000
#: Digits of an index that may be one.
_LONGEST_INDEX: Final = 9


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
        return _replace(document, path, copy.deepcopy(_value(operation)))
    if kind == "test":
        found = document if path == "" else _get(document, path, "test")
        if not _same(found, _value(operation)):
            raise PatchError(f"testing value {path} failed: test failed")
        return document
    if kind in ("move", "copy"):
        source = operation.get("from")
        if not isinstance(source, str):
            raise PatchError(f"error in {kind}: missing from")
        value = _remove(document, source, "move") if kind == "move" else copy.deepcopy(_get(document, source, "copy"))
        return _add(document, path, value)
    raise PatchError(f"unexpected kind: {kind}")


def _same(one: Any, other: Any) -> bool:
    """Equal as written: 1 is neither true nor 1.0 (in Python it is)."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and bool(one == other)


def _value(operation: Mapping[str, Any]) -> Any:
    if "value" not in operation:
        raise PatchError(f"error in {operation.get('op')} for path: '{operation.get('path')}': missing value")
    return operation["value"]


def _missing(path: str, verb: str) -> PatchError:
    return PatchError(f'{verb} operation does not apply: doc is missing path: "{path}": missing value')


def _index(token: str, length: int, path: str, verb: str) -> int:
    """Read as Go's ``Atoi`` does; from the end if it is negative."""
    digits = token[1:] if token[:1] in ("+", "-") else token
    if digits.isascii() and digits.isdigit() and len(digits) <= _LONGEST_INDEX:
        index = int(token)
        if -length <= index < length:
            return index % length
    raise PatchError(
        f"error in {verb} for path: '{path}': Unable to access invalid index: {token}: invalid index referenced"
    )


def _parent(document: Any, path: str, verb: str) -> tuple[Any, str]:
    """Object or list in which ``path`` ends, and the last token. What stands before the first slash does not count."""
    tokens = [token.replace("~1", "/").replace("~0", "~") for token in path.split("/")[1:]]
    if not tokens:
        raise _missing(path, verb)
    for token in tokens[:-1]:
        document = _item(document, token, path, verb)
    if not isinstance(document, (dict, list)):
        raise _missing(path, verb)
    return document, tokens[-1]


def _item(parent: Any, token: str, path: str, verb: str) -> Any:
    if isinstance(parent, list):
        return parent[_index(token, len(parent), path, verb)]
    if isinstance(parent, dict):
        return parent.get(token)
    raise _missing(path, verb)


def _get(document: Any, path: str, verb: str) -> Any:
    """What is at ``path``; None if the object around it has no such key."""
    return _item(*_parent(document, path, verb), path, verb)


def _add(document: Any, path: str, value: Any) -> Any:
    parent, last = _parent(document, path, "add")
    if isinstance(parent, list):
        parent.insert(len(parent) if last == "-" else _index(last, len(parent) + 1, path, "add"), value)
    else:
        parent[last] = value
    return document


def _replace(document: Any, path: str, value: Any) -> Any:
    if path == "":
        if not isinstance(value, (dict, list)):
            raise PatchError("replace operation value must be object or array")
        return value
    parent, last = _parent(document, path, "replace")
    parent[_index(last, len(parent), path, "replace") if isinstance(parent, list) else last] = value
    return document


def _remove(document: Any, path: str, verb: str) -> Any:
    parent, last = _parent(document, path, verb)
    if isinstance(parent, list):
        return parent.pop(_index(last, len(parent), path, verb))
    if last not in parent:
        raise PatchError(f"error in {verb} for path: '{path}': Unable to remove nonexistent key: {last}: missing value")
    return parent.pop(last)
