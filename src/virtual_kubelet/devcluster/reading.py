"""get, list and watch."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from virtual_kubelet.devcluster.call import JSON_HEADERS, Call
from virtual_kubelet.devcluster.cluster_state import ClusterState
from virtual_kubelet.devcluster.generic_registry import GenericRegistry
from virtual_kubelet.devcluster.rendering import (
    PLAIN,
    Representation,
    encode,
    head,
    negotiate,
    render_list,
    render_object,
    render_stored,
    table_object,
)
from virtual_kubelet.devcluster.request_options import Continue, ListOptions, parse_revision
from virtual_kubelet.devcluster.statuses import StatusError, bad_request, expired
from virtual_kubelet.devcluster.storage import Expired, StoredObject
from virtual_kubelet.devcluster.watch import EventEncoder, Watcher, WatchHub, error_line
from virtual_kubelet.server.connection import Response

__all__ = ["Reader"]

_OLD_CONTINUE: Final = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results. "
    "Continuing with the provided token results in an inconsistent list - objects that were created, modified, or "
    "deleted between the time the first chunk was returned and now may show up in the list."
)
_OLD_LIST: Final = "The resourceVersion for the provided list is too old."
#: As the API server's --min-request-timeout: a watch without timeoutSeconds lasts this long, up to twice.
_LEAST_WATCH_SECONDS: Final = 1800.0


class Reader:
    """Answers reads of everything that is stored."""

    def __init__(self, state: ClusterState, *, bookmark_interval: float, watch_buffer_bytes: int) -> None:
        """Times in seconds; ``watch_buffer_bytes``: held for a watcher that reads too slowly, then its watch ends."""
        self._state = state
        self._bookmark_interval = bookmark_interval
        self._buffer_bytes = watch_buffer_bytes
        self.hubs: dict[tuple[str, str], WatchHub] = {
            registry.resource.key: WatchHub(
                registry.objects, head(registry.resource), namespaced=registry.resource.namespaced
            )
            for registry in state.registries
        }

    def get(self, call: Call) -> Response:
        """One object. Raises 404, 406, 504 for a revision of the future (and 500 for one that is no number)."""
        registry = self._state.registry(call.info.resource)
        shown = negotiate(call.request.headers.get("accept"))
        at_least = parse_revision(call.request.query.get("resourceVersion")) or 0
        if at_least > self._state.store.revision:
            raise _too_large(at_least, self._state.store.revision)
        stored = registry.get(call.info.namespace, call.info.name)
        if shown is PLAIN:
            return call.respond(render_stored(registry.resource, stored))
        include = call.request.query.get("includeObject")
        body = render_object(registry.resource, stored.decode(), shown, registry.now(), include)
        return call.respond(body)

    def select(self, call: Call, options: ListOptions) -> tuple[list[StoredObject], dict[str, Any]]:
        """What a list shows, and its metadata. Raises 410, and 504 for a revision of the future."""
        registry = self._state.registry(call.info.resource)
        namespace, fields, labels = call.info.namespace, options.fields, options.labels
        name: str | None = None
        if not options.continue_ and fields:
            namespace = namespace or fields.exactly("metadata.namespace") or ""
            if namespace or not registry.resource.namespaced:
                name = fields.exactly("metadata.name")
        found, revision = self._snapshot(registry, namespace, options, paged=name is None)
        if name is not None:
            found = [o for o in found if o.key[1] == name]
        metadata: dict[str, Any] = {"resourceVersion": str(revision)}
        # A list "at any revision" comes from the API server's cache, which does not page.
        limit = 0 if options.revision == "0" and registry.resource.cached else max(options.limit, 0)
        if not fields and not labels:
            objects = found[:limit] if limit else found
            at = len(objects)
            if at < len(found):
                metadata["remainingItemCount"] = len(found) - at
        else:
            objects, at = [], 0
            for at, stored in enumerate(found, 1):  # noqa: B007 (where the page ends, is used below)
                if fields.matches(stored.key, stored.fields) and labels.matches(stored.labels):
                    objects.append(stored)
                    if len(objects) == limit:
                        break
        # There may be more: whether any of the rest is selected, is not looked at.
        if at < len(found):
            metadata = {"continue": Continue(revision, *objects[-1].key).encode(), **metadata}
        return objects, metadata

    def _snapshot(
        self, registry: GenericRegistry, namespace: str, options: ListOptions, *, paged: bool
    ) -> tuple[list[StoredObject], int]:
        collection, current = registry.objects, self._state.store.revision
        if options.continue_:
            after = Continue.decode(options.continue_)
            if options.revision not in ("", "0"):
                raise bad_request("specifying resource version is not allowed when using continue")
            try:
                objects = collection.at(after.revision, namespace)
            except Expired:
                token = Continue(current, after.namespace, after.name).encode()
                raise StatusError(410, "Expired", _OLD_CONTINUE, metadata={"continue": token}) from None
            key = (after.namespace, after.name)
            return [o for o in objects if o.key > key], after.revision
        try:
            revision = parse_revision(options.revision) or 0
        except StatusError as error:
            raise bad_request(f"invalid resource version: {error.message}") from None
        if revision > current:
            raise _too_large(revision, current)
        # A page of a list at a revision is of that very revision.
        if revision and (options.match == "Exact" or (not options.match and options.limit > 0 and paged)):
            try:
                return collection.at(revision, namespace), revision
            except Expired:
                raise expired(_OLD_LIST) from None
        return list(collection.values(namespace)), current

    def list_objects(self, call: Call) -> Response:
        """Raises 400, 406, 410."""
        request, resource = call.request, call.info.resource
        shown = negotiate(request.headers.get("accept"))
        options = ListOptions.parse(request.query, resource, watch=False)
        objects, metadata = self.select(call, options)
        include = request.query.get("includeObject")
        now = self._state.clock.now()
        return call.respond(render_list(resource, objects, metadata, shown, now, include))

    def watch(self, call: Call) -> tuple[Response, Watcher | None]:
        """A stream of events; None: it ends at once with an error event. Raises 400, 406."""
        request, resource = call.request, call.info.resource
        registry = self._state.registry(resource)
        shown = negotiate(request.headers.get("accept"))
        if shown.kind == "PartialObjectMetadataList":
            shown = shown._replace(kind="PartialObjectMetadata")
        options = ListOptions.parse(request.query, resource, watch=True)
        revision = parse_revision(options.revision) or 0
        encoder = None if shown.kind == "" else self._encoder(registry, shown, request.query.get("includeObject"))
        # What is not durable yet, its watchers hear of when it is.
        current = self._state.store.durable_revision
        replay = bool(revision) and not options.initial_events
        after = revision if replay else max(current, revision)
        try:
            changes = registry.objects.since(after, current) if replay else []
        except Expired as error:
            status = expired(f"too old resource version: {after} ({error.oldest - 1})")
            return Response(200, JSON_HEADERS, error_line(status.to_object())), None
        hub = self.hubs[resource.key]
        loop = asyncio.get_running_loop()
        seconds = options.timeout or random.uniform(_LEAST_WATCH_SECONDS, 2 * _LEAST_WATCH_SECONDS)
        watcher = Watcher(
            hub,
            namespace=call.info.namespace,
            name=call.info.name,
            labels=options.labels,
            fields=options.fields,
            after=after,
            encode_event=encoder,
            deadline=loop.time() + seconds,
            bookmark=(lambda: self._bookmark(registry, encoder)) if options.bookmarks else None,
            bookmark_interval=self._bookmark_interval,
            buffer_bytes=self._buffer_bytes,
        )
        if replay:
            for change in changes:
                watcher.offer(change, {})
        elif options.initial_events is not False:
            objects = [o for o in registry.objects.at(current, call.info.namespace) if watcher.matches(o)]
            end = self._bookmark(registry, encoder, end=True) if options.initial_events else None
            watcher.begin_with(self._initial(hub, objects, encoder, end))
        hub.add(watcher)
        return Response(200, JSON_HEADERS, watcher), watcher

    @staticmethod
    def _initial(
        hub: WatchHub, objects: list[StoredObject], encoder: EventEncoder | None, end: bytes | None
    ) -> Iterator[bytes]:
        for stored in objects:
            yield (encoder or hub.line)("ADDED", stored)
        if end is not None:
            yield end

    def _bookmark(self, registry: GenericRegistry, encoder: EventEncoder | None, *, end: bool = False) -> bytes:
        """Where a watch has come to; ``end``: that all there was has been sent."""
        metadata: dict[str, Any] = {"resourceVersion": str(self._state.store.durable_revision)}
        if end:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        whole: dict[str, Any]
        if encoder is None:
            resource = registry.resource
            empty = self._state.schemas.regular({}, resource.kind, [])
            whole = {"kind": resource.kind, "apiVersion": resource.api_version, **empty, "metadata": metadata}
        else:
            whole = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}
        return encode({"type": "BOOKMARK", "object": whole}) + b"\n"

    def _encoder(self, registry: GenericRegistry, shown: Representation, include: str) -> EventEncoder:
        resource = registry.resource
        first = True

        def encode_event(kind: str, stored: StoredObject) -> bytes:
            nonlocal first
            obj = stored.decode()
            now: datetime = registry.now()
            if shown.kind == "Table":
                metadata = {"resourceVersion": str(stored.revision)}
                value = table_object(resource, [obj], metadata, now, include, shown.version, columns=first)
                first = False
                return encode({"type": kind, "object": value}) + b"\n"
            body = render_object(resource, obj, shown, now)
            return b'{"type":"%s","object":' % kind.encode() + body + b"}\n"

        return encode_event


def _too_large(revision: int, current: int) -> StatusError:
    details = {
        "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
        "retryAfterSeconds": 1,
    }
    message = f"Timeout: Too large resource version: {revision}, current: {current}"
    return StatusError(504, "Timeout", message, details, [("Retry-After", "1")])
