"""The rules of ``metadata``: what the server fills in, what may be set, what may change. Pure but for the UID."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from typing import Any, Final

from virtual_kubelet.devcluster.names import qualified_name_problems, validate_annotations, validate_labels
from virtual_kubelet.devcluster.statuses import FieldError, field_forbidden, field_invalid, required

__all__ = [
    "fill_new",
    "generate_name",
    "inherit",
    "is_deleting",
    "name_for_admission",
    "path_segment_problems",
    "validate_meta",
    "validate_meta_content",
    "validate_meta_update",
    "without_repeated_owners",
]

_SUFFIX: Final = "bcdfghjklmnpqrstvwxz2456789"
#: A generated name's base is cut so that the suffix fits.
_LONGEST_BASE: Final = 58
_IMMUTABLE: Final = "field is immutable"
#: Immutable fields, and how one that is not set is shown.
_FIXED: Final = {"name": "", "namespace": "", "uid": "", "deletionTimestamp": None, "deletionGracePeriodSeconds": None}
_NOT_STANDARD: Final = "name is neither a standard finalizer name nor is it fully qualified"
_STANDARD_FINALIZERS: Final = frozenset({"orphan", "foregroundDeletion", "kubernetes"})


def generate_name(base: str) -> str:
    """``base`` and five random characters."""
    return base[:_LONGEST_BASE] + "".join(random.choices(_SUFFIX, k=5))


def name_for_admission(metadata: dict[str, Any]) -> str:
    """What admission calls a new object: it may have no name yet."""
    return metadata.get("name") or metadata.get("generateName") or "Unknown"


def fill_new(metadata: dict[str, Any], now: str) -> None:
    """What the server decides when an object is created."""
    for field in ("deletionTimestamp", "deletionGracePeriodSeconds", "managedFields", "selfLink"):
        metadata.pop(field, None)
    metadata["uid"] = str(uuid.uuid4())
    metadata["creationTimestamp"] = now


def inherit(new: dict[str, Any], old: dict[str, Any]) -> None:
    """An update that leaves these out means what they were; nobody but the server changes deletion and generation.

    Another creation time is ignored, other values of the rest are for validation to refuse (``rest.BeforeUpdate``).
    """
    new.pop("managedFields", None)
    new.pop("selfLink", None)
    if not new.get("uid"):
        new["uid"] = old["uid"]
    new["creationTimestamp"] = old["creationTimestamp"]
    if "deletionTimestamp" in old:
        new["deletionTimestamp"] = old["deletionTimestamp"]
    if "deletionGracePeriodSeconds" in old:
        new.setdefault("deletionGracePeriodSeconds", old["deletionGracePeriodSeconds"])
    if "generation" in old:
        new["generation"] = old["generation"]
    else:
        new.pop("generation", None)


def without_repeated_owners(metadata: dict[str, Any]) -> list[str]:
    """Owner references that are there twice are kept once. Returns the UIDs of those, in order."""
    owners = metadata.get("ownerReferences") or []
    if len(owners) < 2:
        return []
    kept: list[dict[str, Any]] = []
    repeated: set[str] = set()
    for owner in owners:
        if owner in kept:
            repeated.add(owner.get("uid", ""))
        else:
            kept.append(owner)
    if repeated:
        metadata["ownerReferences"] = kept
    return sorted(repeated)


def is_deleting(obj: dict[str, Any]) -> bool:
    return "deletionTimestamp" in obj["metadata"]


def validate_meta(
    metadata: dict[str, Any], name_problems: Callable[[str], list[str]], *, namespaced: bool
) -> list[FieldError]:
    """Of a new object, its name chosen already."""
    errors: list[FieldError] = []
    base, name = metadata.get("generateName", ""), metadata.get("name", "")
    if base:
        # A dash at its end is fine: something follows.
        checked = base[:-2] + "a" if len(base) > 1 and base.endswith("-") else base
        errors += [field_invalid("metadata.generateName", base, problem) for problem in name_problems(checked)]
    if not name:
        errors.append(required("metadata.name", "name or generateName is required"))
    else:
        # Whether it could stand in a URL is asked only of names that are right otherwise.
        problems = name_problems(name) or path_segment_problems(name)
        errors += [field_invalid("metadata.name", name, problem) for problem in problems]
    if namespaced and not metadata.get("namespace"):
        errors.append(required("metadata.namespace"))
    return errors + validate_meta_content(metadata)


def validate_meta_content(metadata: dict[str, Any]) -> list[FieldError]:
    """Labels, annotations, owners, finalizers."""
    errors: list[FieldError] = []
    if (generation := metadata.get("generation", 0)) < 0:
        errors.append(field_invalid("metadata.generation", generation, "must be greater than or equal to 0"))
    errors += _validate_maps(metadata)
    errors += _validate_owners(metadata.get("ownerReferences") or [])
    return errors + _validate_finalizers(metadata.get("finalizers") or [])


def validate_meta_update(new: dict[str, Any], old: dict[str, Any]) -> list[FieldError]:
    """Of a new version of an object."""
    errors: list[FieldError] = []
    if "deletionTimestamp" in old:
        added = sorted(set(new.get("finalizers") or []) - set(old.get("finalizers") or []))
        if added:
            shown = ", ".join(f'"{f}"' for f in added)
            errors.append(
                field_forbidden(
                    "metadata.finalizers",
                    "no new finalizers can be added if the object is being deleted, found new finalizers "
                    f"[]string{{{shown}}}",
                )
            )
    for field, unset in _FIXED.items():
        if new.get(field) != old.get(field):
            errors.append(field_invalid(f"metadata.{field}", new.get(field, unset), _IMMUTABLE))
    errors += _validate_maps(new)
    return errors + _validate_owners(new.get("ownerReferences") or [])


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
    where = "metadata.ownerReferences"
    for owner in owners:
        for field in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(field):
                detail = "version must not be empty" if field == "apiVersion" else "must not be empty"
                errors.append(field_invalid(f"{where}.{field}", owner.get(field, ""), detail))
        if owner.get("apiVersion") == "v1" and owner.get("kind") == "Event":
            errors.append(field_invalid(where, owner, "/v1, Kind=Event is disallowed from being an owner"))
        if owner.get("controller"):
            current = f"{owner.get('kind', '')}/{owner.get('name', '')}"
            if controller:
                detail = (
                    'Only one reference can have Controller set to true. Found "true" in references for '
                    f"{controller} and {current}"
                )
                errors.append(field_invalid(where, owners, detail))
            else:
                controller = current
    return errors


def _validate_finalizers(finalizers: list[str]) -> list[FieldError]:
    errors: list[FieldError] = []
    for finalizer in finalizers:
        problems = qualified_name_problems(finalizer)
        errors += [field_invalid("metadata.finalizers", finalizer, problem) for problem in problems]
    if {"orphan", "foregroundDeletion"} <= set(finalizers):
        detail = "finalizer orphan and foregroundDeletion cannot be both set"
        errors.append(field_invalid("metadata.finalizers", finalizers, detail))
    return errors


def validate_finalizers(finalizers: list[str], field: str) -> list[FieldError]:
    """Finalizers that are no metadata (a namespace's own)."""
    errors: list[FieldError] = []
    for finalizer in finalizers:
        errors += [field_invalid(field, finalizer, problem) for problem in qualified_name_problems(finalizer)]
        if "/" not in finalizer and finalizer not in _STANDARD_FINALIZERS:
            errors.append(field_invalid(field, finalizer, _NOT_STANDARD))
    return errors


def validate_kube_finalizers(metadata: dict[str, Any]) -> list[FieldError]:
    """Names without a domain are Kubernetes' own."""
    return [
        field_invalid(f"metadata.finalizers[{index}]", finalizer, _NOT_STANDARD)
        for index, finalizer in enumerate(metadata.get("finalizers") or ())
        if "/" not in finalizer and finalizer not in _STANDARD_FINALIZERS
    ]
