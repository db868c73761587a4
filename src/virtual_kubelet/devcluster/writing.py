"""create, update, patch, delete and deletecollection of what clients send."""

from __future__ import annotations

from typing import Any

from virtual_kubelet.devcluster.call import Call
from virtual_kubelet.devcluster.cluster_state import ClusterState
from virtual_kubelet.devcluster.decoding import (
    check_media_type,
    decode_delete_options,
    decode_object,
    report_unknown,
)
from virtual_kubelet.devcluster.generic_registry import GenericRegistry, Preparation
from virtual_kubelet.devcluster.namespace_lifecycle import check_namespace
from virtual_kubelet.devcluster.node_restriction import NodeRestriction
from virtual_kubelet.devcluster.object_meta import without_repeated_owners
from virtual_kubelet.devcluster.patching import apply_patch, patch_type
from virtual_kubelet.devcluster.reading import Reader
from virtual_kubelet.devcluster.registry.namespaces import IMMORTAL_NAMESPACES
from virtual_kubelet.devcluster.registry.resource import Resource
from virtual_kubelet.devcluster.rendering import (
    PLAIN,
    encode,
    negotiate,
    render_list,
    render_object,
    render_stored,
)
from virtual_kubelet.devcluster.request_options import DeleteOptions, ListOptions, WriteOptions
from virtual_kubelet.devcluster.statuses import (
    StatusError,
    bad_request,
    forbidden,
    success,
    undeterminable_name,
)
from virtual_kubelet.devcluster.storage import StoredObject
from virtual_kubelet.server.connection import Response

__all__ = ["Writer"]


class Writer:
    """Answers writes of everything that is stored."""

    def __init__(self, state: ClusterState, restriction: NodeRestriction, reader: Reader) -> None:
        self._state = state
        self._restriction = restriction
        self._reader = reader

    # Create

    async def create(self, call: Call) -> Response:
        """Raises 400, 403, 404, 409, 415, 422."""
        registry, resource = self._state.registry(call.info.resource), call.info.resource
        options = WriteOptions.parse(call.request.query, "CreateOptions")
        media_type = check_media_type(call.request.headers.get("content-type"))
        body = await call.request.body()
        unknown: list[str] = []
        obj = decode_object(body, self._state.schemas, resource.kind, resource.api_version, unknown, media_type)
        self._report(call, registry, unknown, options)
        return self.create_object(call, registry, obj, options)

    def create_object(
        self, call: Call, registry: GenericRegistry, obj: dict[str, Any], options: WriteOptions
    ) -> Response:
        """A regular object, not defaulted yet."""
        self._place(call, obj)
        _warn_of_repeated_owners(call, obj)
        registry.resource.default(obj)
        registry.resource.created_by(obj, call.user.to_object())
        self._restriction.check(call.user, call.info, obj)
        check_namespace(self._state, call.info, obj["metadata"])
        created = registry.create(obj, dry_run=options.dry_run)
        call.warnings += registry.resource.create_warnings(obj)
        return self._show(call, registry, created, 201)

    @staticmethod
    def _place(call: Call, obj: dict[str, Any]) -> None:
        """The namespace is that of the path."""
        if call.info.resource.namespaced:
            given = obj["metadata"].get("namespace", "")
            if given not in ("", call.info.namespace):
                raise bad_request(
                    "the namespace of the provided object does not match the namespace sent on the request"
                )
            obj["metadata"]["namespace"] = call.info.namespace
        else:
            obj["metadata"].pop("namespace", None)

    # Update

    def whole(self, call: Call) -> Preparation:
        """Of an update of the object itself."""
        return self._state.registry(call.info.resource).prepare_update

    def status(self, call: Call) -> Preparation:
        """Of an update of the status."""
        return self._state.registry(call.info.resource).prepare_status_update

    async def update(self, call: Call, prepare: Preparation) -> Response:
        """PUT of the object or of a subresource; ``prepare`` says which part counts. Raises 400, 404, 409, 415, 422."""
        registry, resource = self._state.registry(call.info.resource), call.info.resource
        options = WriteOptions.parse(call.request.query, "UpdateOptions")
        media_type = check_media_type(call.request.headers.get("content-type"))
        body = await call.request.body()
        unknown: list[str] = []
        new = decode_object(body, self._state.schemas, resource.kind, resource.api_version, unknown, media_type)
        self._report(call, registry, unknown, options)
        self._place(call, new)
        self._check_name(call, new)
        stored = registry.objects.get(call.info.namespace, call.info.name)
        given = new["metadata"].get("uid")
        if stored is None and (not resource.create_on_update or call.info.subresource):
            raise registry.missing(call.info.name)
        uid = stored.uid if stored is not None else ""
        if given and given != uid:
            raise registry.other_uid(call.info.namespace, call.info.name, given, uid)
        if stored is None:
            new["metadata"].pop("resourceVersion", None)
            return self.create_object(call, registry, new, options)
        _warn_of_repeated_owners(call, new)
        resource.default(new)
        if new["metadata"].get("resourceVersion") in (None, "", "0") and not resource.unconditional_update:
            raise registry.unconditional(call.info.name)
        return self._store(call, registry, stored, new, stored.decode(), prepare, options)

    async def patch(self, call: Call, prepare: Preparation) -> Response:
        """Raises 400, 404, 409, 415, 422."""
        registry, resource = self._state.registry(call.info.resource), call.info.resource
        media_type = patch_type(call.request.headers.get("content-type"))
        options = WriteOptions.parse(call.request.query, "PatchOptions")
        body = await call.request.body()
        stored = registry.get(call.info.namespace, call.info.name)
        decoded = stored.decode()
        current = {"kind": resource.kind, "apiVersion": resource.api_version, **decoded}
        patched = apply_patch(body, media_type, current, resource.kind)
        unknown = [] if options.validation == "Ignore" else patched.repeated(body)
        new = patched.regular(self._state.schemas, resource, unknown, current)
        report_unknown(unknown, options.validation, call.warnings, patched.unfitting)
        self._check_name(call, new)
        given = new["metadata"].get("namespace", "")
        if resource.namespaced and given not in ("", call.info.namespace):
            where = f"does not match the namespace on the request ({call.info.namespace})"
            raise bad_request(f"the namespace of the object ({given}) {where}")
        self._place(call, new)
        old = self._default_patched(resource, new, decoded, stored, status=call.info.subresource == "status")
        _warn_of_repeated_owners(call, new, " after mutating admission happens")
        return self._store(call, registry, stored, new, old, prepare, options)

    @staticmethod
    def _default_patched(
        resource: Resource, new: dict[str, Any], decoded: dict[str, Any], stored: StoredObject, *, status: bool
    ) -> dict[str, Any]:
        """Defaults in ``new``, which shares with ``decoded`` what the patch did not touch. Returns the old object."""
        if not status:
            resource.default(new)
            return stored.decode()  # what they share may have been changed
        for field in ("metadata", "status"):
            if field in new and new[field] is decoded.get(field):
                new[field] = dict(new[field])
        resource.default_status(new)
        return decoded

    @staticmethod
    def _check_name(call: Call, new: dict[str, Any]) -> None:
        """The name is that of the path."""
        name, wanted = new["metadata"].get("name", ""), call.info.name
        if not name:
            raise undeterminable_name(wanted)
        if name != wanted:
            raise bad_request(f"the name of the object ({name}) does not match the name on the URL ({wanted})")

    def _store(
        self,
        call: Call,
        registry: GenericRegistry,
        stored: StoredObject,
        new: dict[str, Any],
        old: dict[str, Any],
        prepare: Preparation,
        options: WriteOptions,
    ) -> Response:
        registry.check_revision(stored, new)
        if call.user.node:
            self._restriction.check(call.user, call.info, new, old)
        updated = registry.update(stored, new, old, prepare, dry_run=options.dry_run)
        return self._show(call, registry, updated, 200)

    # Delete

    async def delete(self, call: Call) -> Response:
        """Raises 400, 403, 404, 409."""
        registry, resource = self._state.registry(call.info.resource), call.info.resource
        options = await self.delete_options(call)
        stored = registry.get(call.info.namespace, call.info.name)
        if resource.plural == "namespaces" and call.info.name in IMMORTAL_NAMESPACES:
            raise forbidden("namespaces", call.info.name, "this namespace may not be deleted")
        self._restriction.check_deletion(call.user, call.info, stored)
        obj, gone = registry.delete(stored, options)
        if resource.returns_deleted or not gone:
            return self._show(call, registry, obj, 202 if options.orphan is False and not gone else 200)
        details = {"name": call.info.name, "kind": resource.plural, "uid": stored.uid}
        if resource.group:
            details = {"name": call.info.name, "group": resource.group, "kind": resource.plural, "uid": stored.uid}
        return call.respond(encode(success(details=details)))

    async def delete_collection(self, call: Call) -> Response:
        """Answers with what there was. Raises 400."""
        registry, resource = self._state.registry(call.info.resource), call.info.resource
        selection = ListOptions.parse(call.request.query, resource, watch=False)
        options = await self.delete_options(call)
        objects, metadata = self._reader.select(call, selection)
        for stored in objects:
            current = registry.objects.get(*stored.key)
            if current is not None and current.uid == stored.uid:
                registry.delete(current, options)
        shown = negotiate(call.request.headers.get("accept"))
        return call.respond(render_list(resource, objects, metadata, shown, registry.now()))

    async def delete_options(self, call: Call) -> DeleteOptions:
        """From the body, or from the query if there is none. Raises 400, 415, 422."""
        body = await call.request.body()
        if not body:
            return DeleteOptions.parse(None, call.request.query)
        media_type = check_media_type(call.request.headers.get("content-type"))
        content = decode_delete_options(body, self._state.schemas, media_type)
        return DeleteOptions.parse(content, call.request.query)

    # Answers

    def _show(
        self, call: Call, registry: GenericRegistry, result: StoredObject | dict[str, Any], status: int
    ) -> Response:
        shown = negotiate(call.request.headers.get("accept"))
        if isinstance(result, StoredObject):
            if shown is PLAIN:
                return call.respond(render_stored(registry.resource, result), status)
            result = result.decode()
        include = call.request.query.get("includeObject")
        return call.respond(render_object(registry.resource, result, shown, registry.now(), include), status)

    @staticmethod
    def _report(call: Call, registry: GenericRegistry, unknown: list[str], options: WriteOptions) -> None:
        kind, version = registry.resource.kind, registry.resource.version

        def refuse(problem: str) -> StatusError:
            return bad_request(f'{kind} in version "{version}" cannot be handled as a {kind}: {problem}')

        report_unknown(unknown, options.validation, call.warnings, refuse)


def _warn_of_repeated_owners(call: Call, obj: dict[str, Any], when: str = "") -> None:
    repeated = without_repeated_owners(obj["metadata"])
    if repeated:
        call.warnings.append(
            f".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in 1.20+, and "
            f"may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: "
            f"{', '.join(repeated)}"
        )
