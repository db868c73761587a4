"""Strategic merge patches: lists of objects joined by their merge key, as the types say. Pure.

``patch_schema`` (generated) has each type's merge keys and strategies; what it does not know is merged as plain JSON:
objects by key, lists replaced. The directives are apimachinery's (pkg/util/strategicpatch): ``$patch: delete | replace |
merge``, ``$retainKeys``, ``$deleteFromPrimitiveList/FIELD``, ``$setElementOrder/FIELD``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from virtual_kubelet.objects.patch_schema import PATCH_SCHEMA
from virtual_kubelet.objects.patches import PatchError

__all__ = ["UnknownDirective", "apply_strategic_merge_patch", "strategic_difference", "three_way_merge_patch"]

_PATCH: Final = "$patch"
_RETAIN: Final = "$retainKeys"
_DELETE: Final = "$deleteFromPrimitiveList/"
_ORDER: Final = "$setElementOrder/"
_UNKNOWN: Final[Mapping[str, Mapping[str, Any]]] = {}
_NAMES: Final = {str}
_NO_FIELD: Final[Mapping[str, Any]] = {}


class UnknownDirective(PatchError):
    """A ``$patch`` that is none; ``around`` is the object it stands in."""

    def __init__(self, directive: Any, around: Mapping[str, Any]) -> None:
        super().__init__(f"unknown patch type: {directive}")
        self.directive = directive
        self.around = around


def apply_strategic_merge_patch(target: Any, patch: Any, type_name: str) -> Any:
    """``patch`` merged into ``target``, an object of this type. Raises ``PatchError``; changes neither."""
    if not isinstance(patch, Mapping):
        raise PatchError("cannot restore struct from: a strategic merge patch must be an object")
    # Inside, objects are what JSON decoders make: asking for that costs a tenth of asking for any Mapping.
    return _object(target if isinstance(target, Mapping) else {}, patch, type_name)


def _fields(type_name: str) -> Mapping[str, Mapping[str, Any]]:
    return PATCH_SCHEMA.get(type_name, _UNKNOWN)


def _object(target: Mapping[str, Any], patch: Mapping[str, Any], type_name: str) -> dict[str, Any]:
    directive = patch.get(_PATCH)
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != _PATCH}
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise UnknownDirective(directive, patch)
    result = dict(target)
    retain = patch.get(_RETAIN)
    if retain is not None and not isinstance(retain, list):
        raise PatchError("invalid patch format of retainKeys")
    if retain is not None:
        result = {key: value for key, value in result.items() if key in retain}
    fields = _fields(type_name)
    directives = False
    for key, value in patch.items():
        if "$" in key and (key in (_PATCH, _RETAIN) or key.startswith((_ORDER, _DELETE))):
            directives = True
            name = key[len(_DELETE) :]
            if key.startswith(_DELETE) and isinstance(result.get(name), list) and isinstance(value, list):
                result[name] = [item for item in result[name] if item not in value]
        elif isinstance(value, dict):
            result[key] = _member(result.get(key), value, fields.get(key, _NO_FIELD))
        elif isinstance(value, list):
            order = patch.get(_ORDER + key)
            field = fields.get(key, _NO_FIELD)
            result[key] = _list(result.get(key), value, field, order if isinstance(order, list) else None)
        elif value is None:
            result.pop(key, None)
        else:
            result[key] = value
    if not directives:
        return result
    for key, order in patch.items():
        name = key[len(_ORDER) :]
        if (
            key.startswith(_ORDER)
            and name not in patch
            and isinstance(result.get(name), list)
            and isinstance(order, list)
        ):
            live = target.get(name)
            result[name] = _ordered(
                result[name], order, fields.get(name, {}).get("key"), live if isinstance(live, list) else []
            )
    return result


def _member(target: Any, value: Mapping[str, Any], field: Mapping[str, Any]) -> dict[str, Any]:
    known = target if isinstance(target, dict) else {}
    if field.get("shape") == "map" and "type" in field:
        result = dict(known)
        for name, item in value.items():
            if item is None:
                result.pop(name, None)
            elif isinstance(item, dict):
                result[name] = _member(result.get(name), item, {"type": field["type"]})
            else:
                result[name] = item
        return result
    if field.get("strategy") == "replace":
        return {key: item for key, item in value.items() if key != _PATCH}
    return _object(known, value, field.get("type", ""))


def _list(target: Any, patch: list[Any], field: Mapping[str, Any], order: list[Any] | None) -> list[Any]:
    current = target if isinstance(target, list) else []
    key = field.get("key")
    if order is None and key is not None and _paired(current, patch, key) and _merges(field):
        kind = field.get("type", "")
        return [_object(known, item, kind) for known, item in zip(current, patch, strict=True)]
    for item in patch:
        if isinstance(item, dict) and item.get(_PATCH) == "replace":
            return [item for item in patch if not (isinstance(item, dict) and _PATCH in item)]
    if not _merges(field):
        return patch
    if key is None:  # primitives
        merged = [*current, *(item for item in patch if item not in current)]
        return _ordered(merged, patch if order is None else order, None, current)
    result = list(current)
    for item in patch:
        if not isinstance(item, dict):
            raise PatchError("expected a list of objects")
        directive = item.get(_PATCH)
        if directive not in (None, "delete"):
            raise UnknownDirective(directive, item)
        if not isinstance(target, list):
            # Where there is no list yet the patch's is taken as it is, two items of one key too (seen on 1.20.2).
            if directive != "delete":
                result.append(_object({}, item, field.get("type", "")))
            continue
        if key not in item:
            raise PatchError(f"map of {sorted(item)} does not contain declared merge key: {key}")
        value = item[key]
        if directive == "delete":
            result = [known for known in result if not (isinstance(known, dict) and known.get(key) == value)]
            continue
        at = next((i for i, known in enumerate(result) if isinstance(known, dict) and known.get(key) == value), None)
        if at is None:
            result.append(_object({}, item, field.get("type", "")))
        else:
            result[at] = _object(result[at], item, field.get("type", ""))
    if not isinstance(target, list):
        return result
    return _ordered(result, [item for item in patch if _PATCH not in item] if order is None else order, key, current)


def _paired(current: list[Any], patch: list[Any], key: str) -> bool:
    """Whether each item of ``patch`` is for the one in its own place, and no two are for one: the usual case."""
    names = [item.get(key) if type(item) is dict and _PATCH not in item else None for item in patch]
    if set(map(type, names)) != _NAMES or len(set(names)) != len(names):
        return False
    return names == [known.get(key) if type(known) is dict else None for known in current]


def _merges(field: Mapping[str, Any]) -> bool:
    return "merge" in str(field.get("strategy", "")).split(",")


def _ordered(items: list[Any], order: list[Any], key: str | None, live: list[Any]) -> list[Any]:
    """Items named in ``order`` in that order, the others in the order of ``live``, in one (normalizeElementOrder).

    One that is not named comes first only if it stood before in ``live``: a new item is put before it.
    """

    def name(item: Any) -> Any:
        return item.get(key) if key is not None and isinstance(item, dict) else item

    def place(item: Any, names: list[Any]) -> int:
        return names.index(name(item)) if name(item) in names else -1

    wanted = [name(item) for item in order]
    if wanted == [name(item) for item in items]:
        return items
    before = [name(item) for item in live]
    named = sorted((item for item in items if name(item) in wanted), key=lambda item: place(item, wanted))
    rest = [item for item in items if name(item) not in wanted]
    result: list[Any] = []
    while named and rest:
        one, other = place(named[0], before), place(rest[0], before)
        result.append((rest if 0 <= other < one else named).pop(0))
    return [*result, *named, *rest]


def strategic_difference(old: Mapping[str, Any], new: Mapping[str, Any], type_name: str) -> dict[str, Any]:
    """The patch that turns ``old`` into ``new``; empty if they agree. The order of merged lists is not a difference."""
    fields = _fields(type_name)
    patch: dict[str, Any] = {}
    for key in old.keys() | new.keys():
        before, after = old.get(key), new.get(key)
        if before == after:
            continue
        if after is None:
            patch[key] = None
            continue
        field = fields.get(key, {})
        if isinstance(before, Mapping) and isinstance(after, Mapping) and field.get("strategy") != "replace":
            inner = strategic_difference(before, after, field.get("type", "") if field.get("shape") != "map" else "")
            if inner:
                patch[key] = inner
        elif isinstance(before, list) and isinstance(after, list) and _merges(field):
            patch.update(_list_difference(key, before, after, field))
        else:
            patch[key] = after
    return patch


def _list_difference(name: str, old: list[Any], new: list[Any], field: Mapping[str, Any]) -> dict[str, Any]:
    key = field.get("key")
    if key is None:
        patch: dict[str, Any] = {}
        added, removed = [i for i in new if i not in old], [i for i in old if i not in new]
        if added:
            patch[name] = added
        if removed:
            patch[_DELETE + name] = removed
        return patch
    before, after = _by_key(old, key), _by_key(new, key)
    if before is None or after is None:  # what the key does not tell apart (port 53 of TCP and UDP) is written whole
        return {name: [*new, {_PATCH: "replace"}]}
    items: list[Any] = []
    for value, item in after.items():
        if value not in before:
            items.append(item)
        elif inner := strategic_difference(before[value], item, field.get("type", "")):
            items.append({key: value, **inner})
    items += [{_PATCH: "delete", key: value} for value in before if value not in after]
    return {name: items} if items else {}


def _by_key(items: list[Any], key: str) -> dict[Any, Mapping[str, Any]] | None:
    """The items by their merge key; None if that does not name each of them."""
    named = {item[key]: item for item in items if isinstance(item, Mapping) and item.get(key) is not None}
    return named if len(named) == len(items) else None


def three_way_merge_patch(
    original: Mapping[str, Any], modified: Mapping[str, Any], current: Mapping[str, Any], type_name: str
) -> dict[str, Any]:
    """The patch to ``current`` that writes what ``modified`` says and removes what it has dropped since ``original``.

    What others wrote, being in neither, stays.
    """
    wanted = apply_strategic_merge_patch(current, strategic_difference({}, modified, type_name), type_name)
    dropped = strategic_difference(original, modified, type_name)
    wanted = apply_strategic_merge_patch(wanted, _deletions(dropped), type_name)
    return strategic_difference(current, wanted, type_name)


def _deletions(patch: Any) -> Any:
    if isinstance(patch, Mapping):
        kept: dict[str, Any] = {}
        for key, value in patch.items():
            if value is None or key.startswith(_DELETE):
                kept[key] = value
            elif isinstance(value, Mapping) and (inner := _deletions(value)):
                kept[key] = inner
            elif isinstance(value, list):
                items = [
                    item if item.get(_PATCH) == "delete" else {**_keys(item), **_deletions(item)}
                    for item in value
                    if isinstance(item, Mapping) and (item.get(_PATCH) == "delete" or _deletions(item))
                ]
                if items:
                    kept[key] = items
        return kept
    return {}


def _keys(item: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value
        for key, value in item.items()
        if key in ("name", "type", "key", "ip", "uid", "mountPath", "containerPort")
    }
