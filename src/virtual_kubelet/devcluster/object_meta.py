"""The rules of ``metadata``: what the server fills in, what may be set, what may change. Pure but for the UID."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from typing import Any, Final

from virtual_kubelet.devcluster.names import qualified_name_problems, validate_annotations, validate_labels
from virtual_kubelet.devcluster.statuses import FieldError, field_forbidden, field_invalid, required

__all__ = ["fill_new", "generate_name", "inherit", "is_deleting", "validate_meta", "validate_meta_update"]

_SUFFIX: Final = "bcdfghjklmnpqrstvwxz2456789"
#: A generated name's base is cut so that the suffix fits.
_LONGEST_BASE: Final = 58
_IMMUTABLE: Final = "field is immutable"


def generate_name(base: str) -> str:
    """``base`` and five random characters."""
    return base[:_LONGEST_BASE] + "".join(random.choices(_SUFFIX, k=5))


def fill_new(metadata: dict[str, Any], now: str) -> None:
    """What the server decides when an object is created."""
    for field in ("deletionTimestamp", "deletionGracePeriodSeconds", "generation", "managedFields", "selfLink"):
        metadata.pop(field, None)
    metadata["uid"] = str(uuid.uuid4())
    metadata["creationTimestamp"] = now


def inherit(new: dict[str, Any], old: dict[str, Any]) -> None:
    """An update that leaves these out means what they were; nobody but the server changes deletion and generation."""
    new.pop("managedFields", None)
    new.pop("selfLink", None)
    for field in ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"):
        if not new.get(field) and field in old:
            new[field] = old[field]
    if "generation" in old:
        new["generation"] = old["generation"]
    else:
        new.pop("generation", None)


def is_deleting(obj: dict[str, Any]) -> bool:
    return "deletionTimestamp" in obj["metadata"]


def validate_meta(
    metadata: dict[str, Any], name_problems: Callable[[str], list[str]], *, namespaced: bool
) -> list[FieldError]:
    """Of a new object, its name chosen already."""
    errors: list[FieldError] = []
    name = metadata.get("name", "")
    if not name:
        errors.append(required("metadata.name", "name or generateName is required"))
    else:
        errors += [field_invalid("metadata.name", name, problem) for problem in path_segment_problems(name)]
        errors += [field_invalid("metadata.name", name, problem) for problem in name_problems(name)]
    if namespaced and not metadata.get("namespace"):
        errors.append(required("metadata.namespace"))
    errors += _validate_maps(metadata)
    errors += _validate_owners(metadata.get("ownerReferences") or [])
    errors += _validate_finalizers(metadata.get("finalizers") or [])
    return errors


def validate_meta_update(new: dict[str, Any], old: dict[str, Any]) -> list[FieldError]:
    """Of a new version of an object."""
    errors: list[FieldError] = []
    if "deletionTimestamp" in old:
        added = [f for f in new.get("finalizers") or [] if f not in (old.get("finalizers") or [])]
        if added:
            shown = ", ".join(f'"{f}"' for f in added)
            errors.append(
                field_forbidden(
                    "metadata.finalizers",
                    "no new finalizers can be added if the object is being deleted, found new finalizers "
                    f"[]string{{{shown}}}",
                )
            )
    fixed = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")
    errors += [field_invalid(f"metadata.{f}", new.get(f), _IMMUTABLE) for f in fixed if new.get(f) != old.get(f)]
    errors += _validate_maps(new)
    errors += _validate_owners(new.get("ownerReferences") or [])
    errors += _validate_finalizers(new.get("finalizers") or [])
    return errors


def path_segment_problems(name: str) -> list[str]:
    """Names that could not stand in a URL."""
    if name in (".", ".."):
        return [f"may not be '{name}'"]
    return [f"may not contain '{part}'" for part in ("/", "%") if part in name]


def _validate_maps(metadata: dict[str, Any]) -> list[FieldError]:
    errors = validate_labels(metadata.get("labels"), "metadata.labels")
    return errors + validate_annotations(metadata.get("annotations"), "metadata.annotations")


def _validate_owners(owners: list[dict[str, Any]]) -> list[FieldError]:
    errors: list[FieldError] = []
    controller = ""
    for index, owner in enumerate(owners):
        where = f"metadata.ownerReferences[{index}]"
        for field in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(field):
                detail = "version must not be empty" if field == "apiVersion" else f"{field} must not be empty"
                errors.append(field_invalid(f"{where}.{field}", owner.get(field, ""), detail))
        if owner.get("controller"):
            if controller:
                errors.append(
                    field_invalid(
                        "metadata.ownerReferences",
                        owners,
                        f'Only one reference can have Controller set to true. Found "true" in references for '
                        f"{controller} and {owner.get('kind')}/{owner.get('name')}",
                    )
                )
            controller = f"{owner.get('kind')}/{owner.get('name')}"
    return errors


def _validate_finalizers(finalizers: list[str]) -> list[FieldError]:
    errors: list[FieldError] = []
    for finalizer in finalizers:
        problems = qualified_name_problems(finalizer)
        errors += [field_invalid("metadata.finalizers", finalizer, problem) for problem in problems]
        if not problems and "/" not in finalizer and finalizer not in ("orphan", "foregroundDeletion", "kubernetes"):
            errors.append(
                field_invalid(
                    "metadata.finalizers",
                    finalizer,
                    "name is neither a standard finalizer name nor is it fully qualified",
                )
            )
    return errors
