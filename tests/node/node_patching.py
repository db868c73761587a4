"""Patches applied as an API server does, as little of it as a Node needs: what our patches come to."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from virtual_kubelet.objects.patch_schema import PATCH_SCHEMA


def merge(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def strategic_merge(target: Any, patch: Any, type_name: str) -> Any:
    """Objects by field, lists by their merge key or as a whole, with the directives ``delete`` and ``replace``."""
    result = deepcopy(target) if isinstance(target, dict) else {}
    schema = PATCH_SCHEMA.get(type_name, {})
    for key, value in patch.items():
        rule = schema.get(key, {})
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            result[key] = strategic_merge(result.get(key), value, rule.get("type", ""))
        elif isinstance(value, list) and rule.get("strategy") == "merge" and "key" in rule:
            result[key] = _merge_list(result.get(key), value, rule["key"], rule["type"])
        else:
            result[key] = value
    return result


def _merge_list(target: list[Any] | None, patch: list[Any], key: str, type_name: str) -> list[Any]:
    if target is None:
        # Like Kubernetes 1.20: without a list there, directives are taken for elements. A patch must not rely on them.
        assert not any("$patch" in element for element in patch), "a directive without a list to apply it to"
        return patch
    if any(element.get("$patch") == "replace" for element in patch):
        return [element for element in patch if "$patch" not in element]
    result = list(target)
    for element in patch:
        at = next((i for i, found in enumerate(result) if found.get(key) == element[key]), None)
        if element.get("$patch") == "delete":
            assert at is not None, "a delete directive for an element that is not there"
            del result[at]
        elif at is None:
            result.append({k: v for k, v in element.items() if v is not None})
        else:
            result[at] = strategic_merge(result[at], element, type_name)
    return _in_order(result, [element[key] for element in patch if "$patch" not in element], target, key)


def _in_order(items: list[Any], wanted: list[Any], before: list[Any], key: str) -> list[Any]:
    """As recorded of 1.36: in the patch's order; what it does not name comes ahead only of what it stood ahead of."""
    places: dict[Any, int] = {}
    for place, element in enumerate(before):
        places.setdefault(element.get(key), place)
    rest = [element for element in items if element.get(key) not in wanted]
    result: list[Any] = []
    for element in sorted((e for e in items if e.get(key) in wanted), key=lambda e: wanted.index(e[key])):
        while rest and places[rest[0].get(key)] < places.get(element[key], -1):
            result.append(rest.pop(0))
        result.append(element)
    return [*result, *rest]
