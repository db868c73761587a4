"""Create, update and delete of one kind's objects, as apiserver's ``registry.Store`` does them.

Synchronous: each method is one transaction. Objects are regular (``schema``) and defaulted when they get here.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

from virtual_kubelet.clock import Clock
from virtual_kubelet.devcluster.object_meta import (
    fill_new,
    generate_name,
    inherit,
    is_deleting,
    path_segment_problems,
    validate_kube_finalizers,
    validate_meta,
    validate_meta_content,
    validate_meta_update,
)
from virtual_kubelet.devcluster.registry.resource import Resource
from virtual_kubelet.devcluster.request_options import DeleteOptions
from virtual_kubelet.devcluster.statuses import (
    FieldError,
    StatusError,
    already_exists,
    conflict,
    field_invalid,
    invalid,
    name_not_generated,
    not_found,
    qualified,
)
from virtual_kubelet.devcluster.storage import Change, Collection, StoredObject, TooLarge
from virtual_kubelet.objects.times import format_time, parse_time

__all__ = ["GenericRegistry", "Preparation"]

#: A generated name that is taken is tried again so often.
_NAME_TRIES: Final = 8
_MODIFIED: Final = "the object has been modified; please apply your changes to the latest version and try again"

#: (new, old): what a subresource may not touch is put back, the rest is checked; raises ``StatusError``.
Preparation = Callable[[dict[str, Any], dict[str, Any]], None]
#: (new, old): what is wrong with the new version.
Validation = Callable[[dict[str, Any], dict[str, Any]], list[FieldError]]


class GenericRegistry:
    """The objects of one resource and the rules of their life."""

    def __init__(self, resource: Resource, collection: Collection, clock: Clock) -> None:
        self.resource = resource
        self.objects = collection
        self._clock = clock

    def now(self) -> datetime:
        return self._clock.now()

    def get(self, namespace: str, name: str) -> StoredObject:
        """Raises 404."""
        stored = self.objects.get(namespace, name)
        if stored is None:
            raise self.missing(name)
        return stored

    def missing(self, name: str) -> StatusError:
        return not_found(self.resource.plural, name, self.resource.group)

    # Create

    def create(self, obj: dict[str, Any], *, dry_run: bool = False) -> StoredObject | dict[str, Any]:
        """Store a new object; the object itself is returned when nothing is to be stored. Raises 409 and 422."""
        resource, metadata = self.resource, obj["metadata"]
        resource.admit(obj)
        namespace = metadata.get("namespace", "")
        generated = not metadata.get("name") and bool(metadata.get("generateName"))
        for _ in range(_NAME_TRIES if generated else 1):
            if generated:
                metadata["name"] = generate_name(metadata["generateName"])
            taken = self.objects.get(namespace, metadata.get("name", ""))
            if taken is None:
                break
        fill_new(metadata, format_time(self.now()))
        resource.prepare_create(obj)
        if resource.validates_metadata_last:
            errors = resource.validate_create(obj) or self._meta_problems(metadata, path_segment_problems)
        else:
            errors = self._meta_problems(metadata, resource.name_problems) + resource.validate_create(obj)
        if errors:
            raise invalid(resource.kind, metadata.get("name", ""), errors, resource.group)
        given = "" if dry_run else metadata.pop("resourceVersion", "")
        # One that is no number at all is none.
        if given.isascii() and given.isdigit() and int(given):
            raise StatusError(500, "", "resourceVersion should not be set on objects to be created")
        if taken is not None:
            raise self._taken(metadata, taken)
        if dry_run:
            # What it would get, is shown; nothing is kept.
            resource.allocate(obj)
            resource.release(obj)
            return obj
        resource.allocate(obj)
        try:
            return self.objects.insert(obj)
        except TooLarge:
            resource.release(obj)
            raise

    def _meta_problems(self, metadata: dict[str, Any], name_problems: Callable[[str], list[str]]) -> list[FieldError]:
        errors = validate_meta(metadata, name_problems, namespaced=self.resource.namespaced)
        return errors + validate_kube_finalizers(metadata) if self.resource.checks_finalizer_names else errors

    def _taken(self, metadata: dict[str, Any], stored: StoredObject) -> StatusError:
        """409: the name is that of ``stored``."""
        named = name_not_generated if metadata.get("generateName") else already_exists
        error = named(self.resource.plural, metadata["name"], self.resource.group)
        if is_deleting(stored.decode()):
            error.message = f"object is being deleted: {error.message}"
        return error

    # Update

    def check_revision(self, stored: StoredObject, new: dict[str, Any]) -> None:
        """Raises 409 if ``new`` was made from another version than the stored one."""
        given = new["metadata"].get("resourceVersion", "")
        if given and not (given.isascii() and given.isdigit()):
            raise StatusError(500, "", f'strconv.ParseUint: parsing "{given}": invalid syntax')
        if given not in ("", "0") and given != str(stored.revision):
            raise conflict(self.resource.plural, stored.key[1], _MODIFIED, self.resource.group)

    def update(
        self,
        stored: StoredObject,
        new: dict[str, Any],
        old: dict[str, Any],
        prepare: Preparation,
        *,
        dry_run: bool = False,
    ) -> StoredObject | dict[str, Any]:
        """Replace ``stored`` (decoded: ``old``) by ``new``; the same object if nothing changed.

        The last finalizer of an object that is being deleted takes the object with it. Raises 422.
        """
        inherit(new["metadata"], old["metadata"])
        new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
        prepare(new, old)
        if new == old:
            return stored
        if dry_run:
            return new
        metadata = new["metadata"]
        if (
            "deletionTimestamp" in metadata
            and not metadata.get("deletionGracePeriodSeconds")
            and self.resource.held(old)
            and not self.resource.held(new)
        ):
            revision = stored.revision
            self._remove(stored, new)
            # Answered as it would have been stored; the deletion's own revision is for watchers.
            metadata["resourceVersion"] = str(revision)
            return new
        return self.objects.replace(stored, new)

    def prepare_update(self, new: dict[str, Any], old: dict[str, Any]) -> None:
        """Of the whole object, from a client. Raises 422."""
        resource = self.resource
        resource.prepare_update(new, old)
        self._check_update(new, old, resource.validate_update, whole=True)
        resource.allocate(new)

    def prepare_status_update(self, new: dict[str, Any], old: dict[str, Any]) -> None:
        """Of the status, from a client. Raises 422."""
        self.resource.prepare_status_update(new, old)
        self._check_update(new, old, self.resource.validate_status_update, whole=False)

    def _check_update(self, new: dict[str, Any], old: dict[str, Any], validate: Validation, *, whole: bool) -> None:
        metadata = new["metadata"]
        if metadata == old["metadata"]:
            # It has been found good when it was stored.
            errors = validate(new, old)
            if errors:
                raise invalid(self.resource.kind, metadata["name"], errors, self.resource.group)
            return
        changes = validate_meta_update(metadata, old["metadata"])
        # The API server looks several times at metadata, and says so.
        content = validate_meta_content(metadata)
        names = validate_kube_finalizers(metadata) if self.resource.checks_finalizer_names else []
        errors = content + changes + changes + names
        if whole and self.resource.validates_new_metadata:
            errors += content + names
        errors += validate(new, old)
        if errors:
            raise invalid(self.resource.kind, old["metadata"]["name"], errors, self.resource.group)

    def change(self, stored: StoredObject, mutate: Callable[[dict[str, Any]], None]) -> StoredObject:
        """A write of the cluster's own controllers: no validation. Returns ``stored`` if nothing changed."""
        old, new = stored.decode(), stored.decode()
        mutate(new)
        return stored if new == old else self.objects.replace(stored, new)

    def undo(self, change: Change) -> None:
        """Take back the newest change: it could not be made durable."""
        resource = self.resource
        if change.after is not None:
            resource.release(change.after.decode())
        if change.before is not None:
            resource.allocate(change.before.decode())
        self.objects.undo(change)

    # Delete

    def delete(self, stored: StoredObject, options: DeleteOptions) -> tuple[dict[str, Any], bool]:
        """Delete, or begin to. Returns the object as it now is (or was), and whether it is gone. Raises 409.

        As ``rest.BeforeDelete`` and ``Store.Delete``: a deletion under way may only be made shorter, and while its grace
        period runs nothing else of it changes.
        """
        self._check_preconditions(stored, options)
        obj = stored.decode()
        metadata = obj["metadata"]
        period: int | None = None
        if "deletionTimestamp" not in metadata:
            period = self.resource.grace_period(obj, options.grace)
            if period is not None:
                self._mark(obj, period)
        elif before := metadata.get("deletionGracePeriodSeconds"):
            if options.grace is None or options.grace >= before:
                return obj, False
            period = 1 if options.grace < 0 else options.grace
            moment = parse_time(metadata["deletionTimestamp"]) - timedelta(seconds=before - period)
            if moment < self.now():
                # What is over cannot be made shorter; who acts on it still has its moment, unless none is wanted.
                moment, period = self.now(), min(period, 1)
            metadata["deletionTimestamp"] = format_time(moment)
            metadata["deletionGracePeriodSeconds"] = period
        finalizers = options.finalizers(metadata.get("finalizers") or [])
        if finalizers:
            metadata["finalizers"] = finalizers
        else:
            metadata.pop("finalizers", None)
        held = self.resource.held(obj)
        if held and "deletionTimestamp" not in metadata:
            self._mark(obj, 0)
        stays = held or bool(period)
        if options.dry_run:
            return obj, not stays
        if obj != stored.decode():
            stored = self.objects.replace(stored, obj)
        if stays:
            return stored.decode(), False
        return self._remove(stored, obj).decode(), True

    def _mark(self, obj: dict[str, Any], period: int) -> None:
        metadata = obj["metadata"]
        metadata["deletionTimestamp"] = format_time(self.now() + timedelta(seconds=period))
        metadata["deletionGracePeriodSeconds"] = period
        if metadata.get("generation"):
            metadata["generation"] += 1
        self.resource.begin_deletion(obj)

    def _remove(self, stored: StoredObject, obj: dict[str, Any]) -> StoredObject:
        self.resource.release(obj)
        return self.objects.remove(stored, obj)

    def _check_preconditions(self, stored: StoredObject, options: DeleteOptions) -> None:
        name = stored.key[1]
        if self.resource.plural == "namespaces":  # whose storage looks by itself
            for what, given, own in (
                ("UID", options.uid, stored.uid),
                ("ResourceVersion", options.revision, str(stored.revision)),
            ):
                if given is not None and given != own:
                    why = f"Precondition failed: {what} in precondition: {given}, {what} in object meta: {own}"
                    raise conflict("namespaces", name, why)
        # The kind stands where others have the resource: the API server's own slip.
        if options.uid is not None and options.uid != stored.uid:
            raise conflict(
                self.resource.kind,
                name,
                f"the UID in the precondition ({options.uid}) does not match the UID in record ({stored.uid}). The "
                "object might have been deleted and then recreated",
                self.resource.group,
            )
        if options.revision is not None and options.revision != str(stored.revision):
            raise conflict(
                self.resource.kind,
                name,
                f"the ResourceVersion in the precondition ({options.revision}) does not match the ResourceVersion in "
                f"record ({stored.revision}). The object might have been modified",
                self.resource.group,
            )

    def unconditional(self, name: str) -> StatusError:
        """422: this kind wants a resourceVersion with every PUT."""
        error = field_invalid("metadata.resourceVersion", 0, "must be specified for an update")
        # The resource stands where others have the kind: the API server's own slip.
        return invalid(self.resource.plural, name, [error], self.resource.group)

    def other_uid(self, namespace: str, name: str, given: str, uid: str) -> StatusError:
        """409: the object of a PUT, with the UID ``given``, is another one."""
        key = "/".join(part for part in ("/registry", self.resource.storage_prefix, namespace, name) if part)
        why = (
            f"StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: "
            f"Precondition failed: UID in precondition: {given}, UID in object meta: {uid}"
        )
        return conflict(self.resource.plural, name, why, self.resource.group)

    @property
    def qualified(self) -> str:
        return qualified(self.resource.plural, self.resource.group)
