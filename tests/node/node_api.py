"""An API server in memory, as far as a NodeController sees one: Nodes, Leases, NodeRestriction, and faults."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import msgspec

from tests.node.node_patching import merge, strategic_merge
from virtual_kubelet.errors import (
    AlreadyExistsError,
    ApiError,
    ApiNotFoundError,
    ConflictError,
    ForbiddenError,
    GoneError,
    InvalidObjectError,
)
from virtual_kubelet.kube.client import ApiClient, PatchType
from virtual_kubelet.kube.resources import LEASES, NODES, Resource
from virtual_kubelet.kube.watch import WatchEvent
from virtual_kubelet.node.node_restriction import node_may_set_label
from virtual_kubelet.objects.coordination_v1 import Lease
from virtual_kubelet.objects.core_v1 import Node, NodeCondition, ObjectReference
from virtual_kubelet.objects.serialization import to_builtins

Json = dict[str, Any]


class LoopClock:
    """Wall time that follows the loop's (virtual) time; ``skew`` seconds can be added to it."""

    def __init__(self) -> None:
        self.skew = 0.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.monotonic() + self.skew)

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


@dataclass
class Request:
    """One request that the server saw."""

    at: float
    verb: str
    resource: str
    name: str
    subresource: str | None = None
    body: Json = field(default_factory=dict)


Fault = Callable[[Request], "ApiError | Exception | float | None"]


class NodeApi:
    """The server. ``client`` is what the code under test is given.

    Attributes:
        restricted: refuse what NodeRestriction refuses a node's own identity.
        fault: asked for every request: an exception to raise, seconds to take, or None.
        namespaces: of Leases.
    """

    def __init__(self, *, restricted: bool = False) -> None:
        self.restricted = restricted
        self.fault: Fault = lambda request: None
        self.namespaces = {"kube-node-lease"}
        self.requests: list[Request] = []
        self.objects: dict[tuple[str, str], Json] = {}
        self.latency = 0.001
        self._versions = itertools.count(1)
        self._uids = itertools.count(1)
        self._watchers: list[asyncio.Queue[tuple[str, Json] | Exception]] = []

    @property
    def client(self) -> ApiClient:
        return cast("ApiClient", self)

    # What a test looks at and does behind the controller's back

    def node(self, name: str = "vk") -> Node:
        return msgspec.convert(self.objects["nodes", name], Node)

    def exists(self, name: str = "vk") -> bool:
        return ("nodes", name) in self.objects

    def lease(self, name: str = "vk") -> Lease:
        return msgspec.convert(self.objects["leases", name], Lease)

    def condition(self, kind: str = "Ready", name: str = "vk") -> NodeCondition | None:
        return next((c for c in self.node(name).status.conditions or [] if c.type == kind), None)

    def seen(self, verb: str, resource: str = "nodes", subresource: str | None = None) -> list[Request]:
        return [r for r in self.requests if (r.verb, r.resource, r.subresource) == (verb, resource, subresource)]

    def put(self, kind: str, obj: Node | Lease) -> None:
        self._store("ADDED", kind, {**to_builtins(obj)})

    def edit(self, patch: Json, name: str = "vk") -> None:
        """What somebody else does: a strategic merge patch that also reaches the status."""
        stored = self.objects["nodes", name]
        self._store("MODIFIED", "nodes", strategic_merge(stored, patch, "Node"))

    def remove(self, kind: str, name: str = "vk") -> None:
        gone = self.objects.pop((kind, name))
        self._tell("DELETED", kind, gone)

    def break_watches(self, error: Exception) -> None:
        for queue in self._watchers:
            queue.put_nowait(error)

    @property
    def watches(self) -> int:
        return len(self._watchers)

    # The methods of ApiClient in use

    async def get(self, resource: Resource[Any], name: str, namespace: str | None = None, **_: object) -> Any:
        await self._request(Request(0, "get", resource.plural, name))
        return self._answer(resource, self._find(resource, name))

    async def create(self, resource: Resource[Any], obj: msgspec.Struct, namespace: str | None = None) -> Any:
        body = _plain(obj)
        name = body["metadata"]["name"]
        await self._request(Request(0, "create", resource.plural, name, body=body))
        if namespace is not None and namespace not in self.namespaces:
            raise ApiNotFoundError(404, "NotFound", f'namespaces "{namespace}" not found')
        if (resource.plural, name) in self.objects:
            raise AlreadyExistsError(409, "AlreadyExists", f'{resource.plural} "{name}" already exists')
        if resource is NODES:
            self._admit({}, body)
        return self._answer(resource, self._store("ADDED", resource.plural, body))

    async def patch(
        self,
        resource: Resource[Any],
        name: str,
        patch: Mapping[str, Any],
        namespace: str | None = None,
        *,
        patch_type: PatchType = PatchType.STRATEGIC_MERGE,
        subresource: str | None = None,
        **_: object,
    ) -> Any:
        body = json.loads(json.dumps(patch))
        await self._request(Request(0, "patch", resource.plural, name, subresource, body))
        old = self._find(resource, name)
        version = body.get("metadata", {}).get("resourceVersion")
        if version is not None and version != old["metadata"]["resourceVersion"]:
            raise ConflictError(409, "Conflict", "the object has been modified")
        new: Json
        if patch_type is PatchType.MERGE:
            new = merge(deepcopy(old), body)
        else:
            new = strategic_merge(deepcopy(old), body, resource.kind)
        if subresource == "status":
            new["spec"] = deepcopy(old.get("spec", {}))
        elif resource is NODES:
            new["status"] = deepcopy(old.get("status", {}))
        if resource is NODES:
            self._admit(old, new)
        if new == old:
            return self._answer(resource, old)
        return self._answer(resource, self._store("MODIFIED", resource.plural, new))

    async def delete(self, resource: Resource[Any], name: str, namespace: str | None = None, *, uid: str = "") -> None:
        await self._request(Request(0, "delete", resource.plural, name))
        found = self._find(resource, name)
        if uid and found["metadata"]["uid"] != uid:
            raise ConflictError(409, "Conflict", "the UID in the precondition does not match")
        self.remove(resource.plural, name)

    async def watch(
        self, resource: Resource[Any], *, field_selector: str, resource_version: str, **_: object
    ) -> AsyncIterator[WatchEvent[Any]]:
        name = field_selector.removeprefix("metadata.name=")
        await self._request(Request(0, "watch", resource.plural, name))
        queue: asyncio.Queue[tuple[str, Json] | Exception] = asyncio.Queue()
        self._watchers.append(queue)
        try:
            current = self.objects.get((resource.plural, name))
            if current is None or current["metadata"]["resourceVersion"] != resource_version:
                # This server keeps no history; a real one would replay it.
                raise GoneError(410, "Expired", "too old resource version")
            while True:
                item = await queue.get()
                if isinstance(item, Exception):
                    raise item
                kind, obj = item
                if obj["metadata"]["name"] == name:
                    yield WatchEvent(kind, msgspec.convert(obj, resource.object_type))
        finally:
            self._watchers.remove(queue)

    # Inside

    async def _request(self, request: Request) -> None:
        request.at = asyncio.get_running_loop().time()
        self.requests.append(request)
        fault = self.fault(request)
        if isinstance(fault, Exception):
            await asyncio.sleep(self.latency)
            raise fault
        await asyncio.sleep(self.latency if fault is None else fault)

    def _find(self, resource: Resource[Any], name: str) -> Json:
        found = self.objects.get((resource.plural, name))
        if found is None:
            raise ApiNotFoundError(404, "NotFound", f'{resource.plural} "{name}" not found')
        return found

    def _store(self, event: str, kind: str, obj: Json) -> Json:
        stored = deepcopy(obj)
        meta = stored["metadata"]
        meta["resourceVersion"] = str(next(self._versions))
        if event == "ADDED":
            meta["uid"] = f"uid-{next(self._uids)}"
        self.objects[kind, meta["name"]] = stored
        self._tell(event, kind, stored)
        return stored

    def _tell(self, event: str, kind: str, obj: Json) -> None:
        if kind == "nodes":
            for queue in self._watchers:
                queue.put_nowait((event, deepcopy(obj)))

    def _answer(self, resource: Resource[Any], obj: Json) -> Any:
        return msgspec.convert(deepcopy(obj), resource.object_type)

    def _admit(self, old: Json, new: Json) -> None:
        labels, before = new["metadata"].get("labels") or {}, old.get("metadata", {}).get("labels") or {}
        if any(" " in value for value in labels.values()):
            raise InvalidObjectError(422, "Invalid", "a label's value is invalid")
        if any(v == "nonsense" for v in (new.get("status", {}).get("capacity") or {}).values()):
            raise InvalidObjectError(422, "Invalid", "status.capacity: not a quantity")
        if not self.restricted:
            return
        changed = [k for k in {*labels, *before} if labels.get(k) != before.get(k) and not node_may_set_label(k)]
        if changed:
            raise ForbiddenError(403, "Forbidden", f"not allowed to modify labels: {', '.join(sorted(changed))}")
        if old and (old.get("spec", {}).get("taints") or []) != (new.get("spec", {}).get("taints") or []):
            raise ForbiddenError(403, "Forbidden", "not allowed to modify taints")


def _plain(obj: msgspec.Struct) -> Json:
    return cast("Json", json.loads(msgspec.json.encode(to_builtins(obj))))


class Events:
    """Takes the events of a node."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str]] = []

    def event(self, involved: ObjectReference, event_type: str, reason: str, message: str) -> None:
        assert (involved.kind, bool(involved.uid)) == ("Node", True)
        self.rows.append((event_type, reason, message))

    def reasons(self) -> list[str]:
        return [reason for _, reason, _ in self.rows]


__all__ = ["LEASES", "NODES", "Events", "LoopClock", "NodeApi", "Request"]
