"""A pod API in memory, and providers that do as they are told: for PodController tests in virtual time."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from typing import Any

import msgspec

from virtual_kubelet.contracts.pods import PodKey, PodStatusCallback
from virtual_kubelet.errors import ApiNotFoundError, ConflictError, InvalidObjectError, NotFoundError
from virtual_kubelet.kube.client import ObjectList
from virtual_kubelet.kube.resources import Resource
from virtual_kubelet.kube.watch import WatchEvent
from virtual_kubelet.objects.core_v1 import (
    ConfigMap,
    Container,
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStatus,
    Event,
    Pod,
    PodCondition,
    PodSpec,
    PodStatus,
    Secret,
)
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.objects.strategic_merge import apply_strategic_merge_patch

NODE = "node-a"
STARTED = "2026-01-01T00:00:00Z"


def pod(name: str, uid: str | None = None, **spec: Any) -> Pod:
    """A pod of one container, bound to the node."""
    containers = spec.pop("containers", None) or [Container(name="main", image="busybox")]
    return Pod(
        metadata=ObjectMeta(name=name, namespace="default", uid=uid or f"uid-{name}", creation_timestamp=STARTED),
        spec=PodSpec(node_name=NODE, containers=containers, **{"restart_policy": "Always", **spec}),
        status=PodStatus(phase="Pending"),
    )


def running(of: Pod, **changes: Any) -> PodStatus:
    """What a provider says of a running pod."""
    conditions = changes.pop("conditions", [PodCondition(type="Ready", status="True", last_transition_time=STARTED)])
    return PodStatus(
        phase="Running",
        pod_ip="10.0.0.1",
        start_time=STARTED,
        conditions=conditions,
        container_statuses=[
            ContainerStatus(
                name=c.name, image=c.image or "", image_id="", ready=True, restart_count=0, started=True,
                state=ContainerState(running=ContainerStateRunning(started_at=STARTED)),
            )
            for c in of.spec.containers
        ],
        **changes,
    )  # fmt: skip


def ended(of: Pod, code: int = 0, phase: str = "Succeeded") -> PodStatus:
    """What a provider says of a pod whose containers have all ended."""
    return PodStatus(
        phase=phase,
        start_time=STARTED,
        container_statuses=[
            ContainerStatus(
                name=c.name, image=c.image or "", image_id="", ready=False, restart_count=0,
                state=ContainerState(terminated=ContainerStateTerminated(exit_code=code, reason="Completed")),
            )
            for c in of.spec.containers
        ],
    )  # fmt: skip


class PodApi:
    """The methods of ``ApiClient`` that the PodController uses, over dicts. ``writes`` tells what came in, in order."""

    def __init__(self, *pods: Pod) -> None:
        self.revision = 1
        self.objects: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.watchers: list[tuple[str, asyncio.Queue[tuple[str, dict[str, Any]]]]] = []
        self.writes: list[tuple[str, str, Any]] = []
        self.events: list[Event] = []
        self.refuse: Callable[[str, str], Exception | None] = lambda verb, name: None
        self.lacking: set[str] = set()  # features of a server: this one has all
        for one in pods:
            self.put_pod(one)

    # What a user, or the control plane, does

    def put_pod(self, one: Pod) -> None:
        self._store("pods", msgspec.to_builtins(one))

    def put_config_map(self, name: str, data: dict[str, str]) -> None:
        self._store(
            "configmaps", msgspec.to_builtins(ConfigMap(metadata=ObjectMeta(name=name, namespace="default"), data=data))
        )

    def put_secret(self, name: str, data: dict[str, str]) -> None:
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
        self._store(
            "secrets", msgspec.to_builtins(Secret(metadata=ObjectMeta(name=name, namespace="default"), data=encoded))
        )

    def remove_config_map(self, name: str) -> None:
        self._remove("configmaps", "default", name)

    def change(self, name: str, change: Callable[[dict[str, Any]], None]) -> None:
        obj = msgspec.json.decode(msgspec.json.encode(self.objects["pods", "default", name]))
        change(obj)
        self._store("pods", obj)

    def user_deletes(self, name: str, grace: int = 30, now: str = "2026-01-01T00:00:30Z") -> None:
        if grace == 0:
            self._remove("pods", "default", name)
            return

        def deleting(obj: dict[str, Any]) -> None:
            obj["metadata"].update(deletionTimestamp=now, deletionGracePeriodSeconds=grace)

        self.change(name, deleting)

    def status(self, name: str) -> PodStatus:
        return msgspec.convert(self.objects["pods", "default", name]["status"], PodStatus)

    def has(self, name: str) -> bool:
        return ("pods", "default", name) in self.objects

    def reasons(self) -> list[str]:
        """The reasons of the events that were written, in order."""
        return [event.reason or "" for event in self.events]

    # ApiClient

    async def get(self, resource: Resource[Any], name: str, namespace: str | None = None, **_: Any) -> Any:
        obj = self.objects.get((resource.plural, namespace or "", name))
        if obj is None:
            raise ApiNotFoundError(404, "NotFound", f'{resource.plural} "{name}" not found')
        return msgspec.json.decode(msgspec.json.encode(obj), type=resource.object_type)

    async def list(self, resource: Resource[Any], namespace: str | None = None, **options: Any) -> ObjectList[Any]:
        self._raise("find" if "metadata.name=" in (options.get("field_selector") or "") else "list", resource.plural)
        items = [
            msgspec.json.decode(msgspec.json.encode(obj), type=resource.object_type)
            for (plural, space, name), obj in self.objects.items()
            if plural == resource.plural and _selected(space, name, namespace, options)
        ]
        return ObjectList(items, str(self.revision), "", None)

    async def watch(
        self, resource: Resource[Any], namespace: str | None = None, **options: Any
    ) -> AsyncGenerator[WatchEvent[Any], None]:
        queue: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()
        entry = (resource.plural, queue)
        self.watchers.append(entry)
        try:
            if options.get("send_initial_events"):
                for obj in (await self.list(resource, namespace, **options)).items:
                    yield WatchEvent("ADDED", obj)
                yield WatchEvent("BOOKMARK", None, str(self.revision), True)
            while True:
                kind, data = await queue.get()
                meta = data["metadata"]
                if _selected(meta.get("namespace", ""), meta["name"], namespace, options):
                    yield WatchEvent(kind, msgspec.json.decode(msgspec.json.encode(data), type=resource.object_type))
        finally:
            self.watchers.remove(entry)

    async def send_patch(
        self, resource: Resource[Any], name: str, patch: Any, namespace: str | None = None, **options: Any
    ) -> None:
        await asyncio.sleep(0)
        if resource.plural != "pods":
            return
        body = msgspec.json.decode(patch)
        self.writes.append(("patch", name, body))
        self._raise("patch", name)
        obj = self.objects.get(("pods", namespace or "", name))
        if obj is None:
            raise ApiNotFoundError(404, "NotFound", f'pods "{name}" not found')
        if body["metadata"]["uid"] != obj["metadata"]["uid"]:
            raise InvalidObjectError(422, "Invalid", "uid", causes=[("metadata.uid", "FieldValueInvalid", "immutable")])
        assert set(body) == {"metadata", "status"}, "a status patch touches nothing but the status"
        assert options["subresource"] == "status"
        self._store("pods", {**obj, "status": apply_strategic_merge_patch(obj["status"], body["status"], "PodStatus")})

    async def send_create(self, resource: Resource[Any], obj: Event, namespace: str | None = None) -> None:
        self.events.append(obj)

    async def delete(self, resource: Resource[Any], name: str, namespace: str | None = None, **options: Any) -> None:
        await asyncio.sleep(0)
        self.writes.append(("delete", name, options))
        self._raise("delete", name)
        obj = self.objects.get(("pods", namespace or "", name))
        if obj is None:
            raise ApiNotFoundError(404, "NotFound", f'pods "{name}" not found')
        if options.get("uid") not in (None, obj["metadata"]["uid"]):
            raise ConflictError(409, "Conflict", "Precondition failed: UID in precondition")
        if options.get("grace_period_seconds") == 0 and not obj["metadata"].get("finalizers"):
            self._remove("pods", namespace or "", name)
        else:
            self.user_deletes(name, options.get("grace_period_seconds") or 30)

    def _raise(self, verb: str, name: str) -> None:
        error = self.refuse(verb, name)
        if error is not None:
            raise error

    def _store(self, plural: str, obj: dict[str, Any]) -> None:
        meta = obj["metadata"]
        key = (plural, meta.get("namespace", ""), meta["name"])
        self.revision += 1
        obj = {**obj, "metadata": {**meta, "resourceVersion": str(self.revision)}}
        kind = "MODIFIED" if key in self.objects else "ADDED"
        self.objects[key] = obj
        self._tell(plural, kind, obj)

    def _remove(self, plural: str, namespace: str, name: str) -> None:
        obj = self.objects.pop((plural, namespace, name))
        self.revision += 1
        self._tell(plural, "DELETED", {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self.revision)}})

    def _tell(self, plural: str, kind: str, obj: dict[str, Any]) -> None:
        for watched, queue in self.watchers:
            if watched == plural:
                queue.put_nowait((kind, obj))


def _selected(space: str, name: str, namespace: str | None, options: dict[str, Any]) -> bool:
    wanted = dict(part.split("=") for part in filter(None, (options.get("field_selector") or "").split(",")))
    return namespace in (None, space) and wanted.get("metadata.name", name) == name


class Provider:
    """Holds pods; records calls; fails as told. Notifies by itself unless ``polled``."""

    rerun_is_safe = False

    def __init__(self, *pods: Pod) -> None:
        self.pods = {PodKey.of(one): one for one in pods}
        self.statuses: dict[PodKey, PodStatus] = {key: running(one) for key, one in self.pods.items()}
        self.calls: list[tuple[str, str]] = []
        self.errors: dict[tuple[str, str], list[Exception]] = {}
        self.gates: dict[tuple[str, str], asyncio.Event] = {}
        self.given: list[Pod] = []
        self.under_way: set[str] = set()
        self.ends_on_delete = True
        self.notify: PodStatusCallback = lambda key, status, *, deleting=False: None

    def fail(self, call: str, name: str, *errors: Exception) -> None:
        self.errors.setdefault((call, name), []).extend(errors)

    def count(self, call: str, name: str) -> int:
        return self.calls.count((call, name))

    async def _called(self, call: str, name: str, uid: str = "") -> None:
        self.calls.append((call, name))
        assert uid not in self.under_way or not uid, "two calls for one pod at once"
        self.under_way.add(uid)
        try:
            gate = self.gates.get((call, name))
            if gate is not None:
                await gate.wait()
            waiting = self.errors.get((call, name))
            if waiting:
                raise waiting.pop(0)
        finally:
            self.under_way.discard(uid)

    def report(self, key: PodKey, status: PodStatus) -> None:
        self.statuses[key] = status
        self.notify(key, status)

    async def create_pod(self, one: Pod) -> None:
        key = PodKey.of(one)
        self.given.append(one)
        await self._called("create", key.name, key.uid)
        assert all(other[:2] != key[:2] for other in self.pods), "an older pod of this name is still here"
        self.pods[key] = one
        self.report(key, running(one))

    async def update_pod(self, one: Pod) -> None:
        key = PodKey.of(one)
        self.given.append(one)
        await self._called("update", key.name, key.uid)
        if key not in self.pods:
            raise NotFoundError("no such pod")
        self.pods[key] = one

    async def delete_pod(self, one: Pod) -> None:
        key = PodKey.of(one)
        self.given.append(one)
        await self._called("delete", key.name, key.uid)
        if key not in self.pods:
            raise NotFoundError("no such pod")
        if self.ends_on_delete:
            gone = self.pods.pop(key)
            del self.statuses[key]
            self.notify(key, ended(gone))

    async def get_pod(self, key: PodKey) -> Pod | None:
        await self._called("get", key.name)
        return self.pods.get(key)

    async def get_pod_status(self, key: PodKey) -> PodStatus | None:
        await self._called("status", key.name)
        return self.statuses.get(key)

    async def get_pods(self) -> Sequence[Pod]:
        await self._called("list", "")
        return list(self.pods.values())


class NotifyingProvider(Provider):
    """A provider with ``notify_pods``."""

    def notify_pods(self, callback: PodStatusCallback) -> None:
        self.notify = callback


def names(pods: Iterable[Pod]) -> list[str]:
    return [one.metadata.name or "" for one in pods]
