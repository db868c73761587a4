"""ApiClient against an API server: verbs, patches, preconditions, typed errors, pages and watches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import msgspec
import pytest

from tests.contract.api_servers import ApiServer
from tests.contract.scenarios import pod_on
from virtual_kubelet.errors import (
    AlreadyExistsError,
    ApiNotFoundError,
    BadRequestError,
    ConflictError,
    ForbiddenError,
    GoneError,
    InvalidObjectError,
    ServerError,
)
from virtual_kubelet.kube.client import ApiClient, PatchType
from virtual_kubelet.kube.resources import CONFIG_MAPS, EVENTS, NODES, PODS, SECRETS
from virtual_kubelet.kube.watch import WatchEvent
from virtual_kubelet.objects.core_v1 import ConfigMap, Container, Event, Node, ObjectReference
from virtual_kubelet.objects.meta_v1 import ObjectMeta

SOMEBODY_ELSE = "00000000-0000-0000-0000-000000000000"


def config_map(name: str, *, labels: dict[str, str] | None = None, **data: str) -> ConfigMap:
    return ConfigMap(metadata=ObjectMeta(name=name, labels=labels), data=data or None)


@pytest.fixture
async def pod_uid(admin: ApiClient, registered_node: Node, namespace: str) -> str:
    """The UID of a pod ``p`` bound to this test's node."""
    pod = await admin.create(PODS, pod_on(registered_node.metadata.name or "", "p"), namespace)
    assert pod.metadata.uid
    return pod.metadata.uid


# Verbs


async def test_an_object_is_created_read_listed_and_deleted(admin: ApiClient, namespace: str) -> None:
    made = await admin.create(CONFIG_MAPS, config_map("c", k="v"), namespace)
    assert made.metadata.uid
    found = await admin.get(CONFIG_MAPS, "c", namespace)
    assert (found.data, found.metadata.uid, found.metadata.namespace) == ({"k": "v"}, made.metadata.uid, namespace)
    assert found.metadata.resource_version == made.metadata.resource_version
    listed = await admin.list(CONFIG_MAPS, namespace, field_selector="metadata.name=c")
    assert [(m.metadata.name, m.data) for m in listed.items] == [("c", {"k": "v"})]
    assert int(listed.resource_version) >= int(made.metadata.resource_version or "")
    await admin.delete(CONFIG_MAPS, "c", namespace)
    with pytest.raises(ApiNotFoundError):
        await admin.get(CONFIG_MAPS, "c", namespace)


async def test_labels_and_fields_select(admin: ApiClient, namespace: str) -> None:
    for name, labels in (("a", {"app": "x"}), ("b", {"app": "y"}), ("c", {"app": "x", "old": "1"})):
        await admin.create(CONFIG_MAPS, config_map(name, labels=labels), namespace)

    async def names(**selectors: str) -> Sequence[str | None]:
        return [m.metadata.name for m in (await admin.list(CONFIG_MAPS, namespace, **selectors)).items]  # type: ignore[arg-type]

    assert await names(label_selector="app in (x, z),!old") == ["a"]
    assert await names(label_selector="app=x") == ["a", "c"]
    assert await names(label_selector="app=x", field_selector="metadata.name!=a") == ["c"]


async def test_a_patch_leaves_everything_that_it_does_not_name(
    admin: ApiClient, registered_node: Node, namespace: str, pod_uid: str
) -> None:
    """Whatever the object has, known to this package's types or not."""

    async def raw() -> dict[str, Any]:
        body = (await admin.request("GET", f"/api/v1/namespaces/{namespace}/pods/p")).body
        found: dict[str, Any] = msgspec.json.decode(body)
        for key in ("resourceVersion", "managedFields"):
            found["metadata"].pop(key, None)
        return found

    before = await raw()
    await admin.send_patch(PODS, "p", {"status": {"message": "m"}}, namespace, subresource="status")
    assert await raw() == {**before, "status": {**before["status"], "message": "m"}}


# Patches


async def test_a_merge_patch_sets_and_removes_keys(admin: ApiClient, namespace: str) -> None:
    await admin.create(CONFIG_MAPS, config_map("c", keep="1", drop="2"), namespace)
    patch = {"data": {"drop": None, "new": "3"}}
    changed = await admin.patch(CONFIG_MAPS, "c", patch, namespace, patch_type=PatchType.MERGE)
    assert changed.data == {"keep": "1", "new": "3"}
    assert (await admin.get(CONFIG_MAPS, "c", namespace)).data == {"keep": "1", "new": "3"}


async def test_a_json_patch_tests_and_changes_or_does_nothing(admin: ApiClient, namespace: str) -> None:
    await admin.create(CONFIG_MAPS, config_map("c", a="1"), namespace)
    operations = [
        {"op": "test", "path": "/data/a", "value": "1"},
        {"op": "add", "path": "/data/b", "value": "2"},
        {"op": "move", "from": "/data/a", "path": "/data/c"},
    ]
    changed = await admin.patch(CONFIG_MAPS, "c", operations, namespace, patch_type=PatchType.JSON)
    assert changed.data == {"b": "2", "c": "1"}
    with pytest.raises(InvalidObjectError):
        await admin.patch(CONFIG_MAPS, "c", operations, namespace, patch_type=PatchType.JSON)
    assert (await admin.get(CONFIG_MAPS, "c", namespace)).data == {"b": "2", "c": "1"}


async def test_a_strategic_merge_patch_merges_lists_by_their_key(admin: ApiClient, registered_node: Node) -> None:
    name = registered_node.metadata.name or ""

    async def patch(*conditions: dict[str, str], **status: object) -> dict[str, str]:
        await admin.send_patch(NODES, name, {"status": {"conditions": conditions, **status}}, subresource="status")
        return {c.type: c.status for c in (await admin.get(NODES, name)).status.conditions or ()}

    assert (await patch({"type": "A", "status": "True"}, {"type": "B", "status": "True"})).items() >= {
        ("A", "True"), ("B", "True"),
    }  # fmt: skip
    assert (await patch({"type": "B", "status": "False"})).items() >= {("A", "True"), ("B", "False")}
    left = await patch({"type": "A", "$patch": "delete"})
    assert "A" not in left
    assert left["B"] == "False"


async def test_a_patch_that_is_no_json_is_refused(admin: ApiClient, namespace: str) -> None:
    await admin.create(CONFIG_MAPS, config_map("c", a="1"), namespace)
    with pytest.raises(BadRequestError):
        await admin.patch(CONFIG_MAPS, "c", b"{not json", namespace)
    assert (await admin.get(CONFIG_MAPS, "c", namespace)).data == {"a": "1"}


# Status, identity and preconditions, as the node itself


async def test_a_node_patches_the_status_of_its_pod_and_nothing_but_the_status(
    admin: ApiClient, node_client: ApiClient, namespace: str, pod_uid: str
) -> None:
    patch = {
        "metadata": {"uid": pod_uid},
        "spec": {"activeDeadlineSeconds": 5},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }
    answer = await node_client.patch(PODS, "p", patch, namespace, subresource="status")
    assert answer.status.phase == "Running"
    found = await admin.get(PODS, "p", namespace)
    assert found.status.phase == "Running"
    assert [c.status for c in found.status.conditions or () if c.type == "Ready"] == ["True"]
    assert found.spec.active_deadline_seconds is None


async def test_a_status_patch_for_another_incarnation_is_refused(
    admin: ApiClient, node_client: ApiClient, namespace: str, pod_uid: str
) -> None:
    """422 on 1.36 (tape: pods); 409 on old servers. Either way nothing is written."""
    patch = {"metadata": {"uid": SOMEBODY_ELSE}, "status": {"phase": "Failed"}}
    with pytest.raises((ConflictError, InvalidObjectError)) as caught:
        await node_client.send_patch(PODS, "p", patch, namespace, subresource="status")
    assert caught.value.code in (409, 422)
    assert (await admin.get(PODS, "p", namespace)).status.phase == "Pending"


async def test_a_deletion_of_another_incarnation_is_a_conflict(
    admin: ApiClient, node_client: ApiClient, namespace: str, pod_uid: str
) -> None:
    with pytest.raises(ConflictError) as caught:
        await node_client.delete(PODS, "p", namespace, grace_period_seconds=0, uid=SOMEBODY_ELSE)
    assert (caught.value.code, caught.value.reason) == (409, "Conflict")
    assert (await admin.get(PODS, "p", namespace)).metadata.deletion_timestamp is None


async def test_a_pod_is_deleted_with_grace_and_ends_with_grace_0(
    admin: ApiClient, node_client: ApiClient, namespace: str, pod_uid: str
) -> None:
    await admin.delete(PODS, "p", namespace, grace_period_seconds=30)
    dying = await admin.get(PODS, "p", namespace)
    assert (dying.metadata.deletion_grace_period_seconds, bool(dying.metadata.deletion_timestamp)) == (30, True)
    await node_client.delete(PODS, "p", namespace, grace_period_seconds=0, uid=pod_uid)
    with pytest.raises(ApiNotFoundError):
        await node_client.delete(PODS, "p", namespace, grace_period_seconds=0, uid=pod_uid)


async def test_a_node_may_not_touch_another_nodes_pods(
    admin: ApiClient, node_client: ApiClient, node_name: str, namespace: str
) -> None:
    other = f"{node_name}-other"
    await admin.create(NODES, Node(metadata=ObjectMeta(name=other)))
    try:
        await admin.create(PODS, pod_on(other, "p"), namespace)
        with pytest.raises(ForbiddenError):
            await node_client.send_patch(PODS, "p", {"status": {"phase": "Failed"}}, namespace, subresource="status")
        with pytest.raises(ForbiddenError):
            await node_client.delete(PODS, "p", namespace, grace_period_seconds=0)
        with pytest.raises(ForbiddenError, match=f'User "system:node:{node_name}" cannot list resource "secrets"'):
            await node_client.list(SECRETS, namespace)
    finally:
        await admin.delete(NODES, other)


# Errors


async def test_a_status_body_is_a_typed_error_with_its_reason_and_causes(admin: ApiClient, namespace: str) -> None:
    with pytest.raises(ApiNotFoundError) as missing:
        await admin.get(PODS, "nope", namespace)
    assert (missing.value.code, missing.value.reason) == (404, "NotFound")
    assert str(missing.value) == 'pods "nope" not found'
    await admin.create(CONFIG_MAPS, config_map("c"), namespace)
    with pytest.raises(AlreadyExistsError) as twice:
        await admin.create(CONFIG_MAPS, config_map("c"), namespace)
    assert str(twice.value) == 'configmaps "c" already exists'
    bad = pod_on("", "bad", containers=[Container(name="Bad_Name", image="busybox")])
    bad.spec.node_name = None
    with pytest.raises(InvalidObjectError) as invalid:
        await admin.create(PODS, bad, namespace)
    assert [field for field, reason, _ in invalid.value.causes if reason == "FieldValueInvalid"] == [
        "spec.containers[0].name"
    ]
    with pytest.raises(BadRequestError):
        await admin.list(PODS, namespace, field_selector="spec.zzz=1")
    with pytest.raises(ConflictError):
        await admin.patch(
            CONFIG_MAPS, "c", {"metadata": {"resourceVersion": "1"}, "data": {"k": "v"}}, namespace,
            patch_type=PatchType.MERGE,
        )  # fmt: skip


async def test_a_resource_that_is_not_served_is_not_found(admin: ApiClient) -> None:
    with pytest.raises(ApiNotFoundError):
        await admin.request("GET", "/apis/no.such.group/v1/things")


async def test_the_servers_version_is_known(admin: ApiClient) -> None:
    version = await admin.server_version()
    assert version.major == 1
    assert version.minor >= 20
    assert version.git_version.startswith("v1.")


# Pages


async def test_a_list_comes_in_pages_of_one_moment(admin: ApiClient, namespace: str) -> None:
    for i in range(5):
        await admin.create(CONFIG_MAPS, config_map(f"c{i}", labels={"of": "us"}), namespace)
    names, versions, continue_ = [], set(), ""
    while True:
        # No label selector: with one, servers do not say how many remain.
        page = await admin.list(CONFIG_MAPS, namespace, limit=2, continue_=continue_)
        names += [m.metadata.name for m in page.items if (m.metadata.labels or {}).get("of")]
        versions.add(page.resource_version)
        assert len(page.items) <= 2
        continue_ = page.continue_
        if not continue_:
            break
        assert page.remaining
        await admin.create(CONFIG_MAPS, config_map(f"d{len(names)}", labels={"of": "us"}), namespace)
    assert names == [f"c{i}" for i in range(5)]
    assert len(versions) == 1


async def test_a_page_after_the_history_was_forgotten_is_gone(
    api_server: ApiServer, admin: ApiClient, namespace: str
) -> None:
    for i in range(3):
        await admin.create(CONFIG_MAPS, config_map(f"c{i}"), namespace)
    page = await admin.list(CONFIG_MAPS, namespace, limit=1)
    await admin.create(CONFIG_MAPS, config_map("c3"), namespace)
    await api_server.forget_history()
    with pytest.raises(GoneError) as caught:
        await admin.list(CONFIG_MAPS, namespace, limit=1, continue_=page.continue_)
    assert (caught.value.code, caught.value.reason) == (410, "Expired")


# Watches


def watch_maps(client: ApiClient, namespace: str, **options: Any) -> AsyncGenerator[WatchEvent[ConfigMap], None]:
    options = {"allow_bookmarks": False, **options}  # on a slow machine one would come between any two events
    return client.watch(CONFIG_MAPS, namespace, field_selector="metadata.name!=kube-root-ca.crt", **options)


def said(event: WatchEvent[ConfigMap]) -> tuple[str, str | None]:
    return event.type, event.object.metadata.name if event.object is not None else None


async def test_a_watch_tells_of_additions_changes_and_deletions_in_order(admin: ApiClient, namespace: str) -> None:
    version = (await admin.list(CONFIG_MAPS, namespace)).resource_version
    async with aclosing(watch_maps(admin, namespace, resource_version=version)) as events:
        await admin.create(CONFIG_MAPS, config_map("c", k="1"), namespace)
        await admin.patch(CONFIG_MAPS, "c", {"data": {"k": "2"}}, namespace, patch_type=PatchType.MERGE)
        await admin.delete(CONFIG_MAPS, "c", namespace)
        got = [await anext(events) for _ in range(3)]
    assert [said(event) for event in got] == [("ADDED", "c"), ("MODIFIED", "c"), ("DELETED", "c")]
    last = got[2].object
    assert last is not None
    assert last.data == {"k": "2"}, "a tombstone carries the last known object"
    versions = [int(event.object.metadata.resource_version or "") for event in got if event.object is not None]
    assert versions == sorted(set(versions))


async def test_a_watch_goes_on_from_the_version_last_seen(admin: ApiClient, namespace: str) -> None:
    version = (await admin.list(CONFIG_MAPS, namespace)).resource_version
    for name in "abc":
        await admin.create(CONFIG_MAPS, config_map(name), namespace)
    async with aclosing(watch_maps(admin, namespace, resource_version=version)) as events:
        first = await anext(events)
    assert first.object is not None
    assert said(first) == ("ADDED", "a")
    resumed = watch_maps(admin, namespace, resource_version=first.object.metadata.resource_version)
    async with aclosing(resumed) as events:
        assert [said(await anext(events)) for _ in range(2)] == [("ADDED", "b"), ("ADDED", "c")]


async def test_a_watch_without_a_version_begins_with_what_is_there(admin: ApiClient, namespace: str) -> None:
    await admin.create(CONFIG_MAPS, config_map("a"), namespace)
    async with aclosing(watch_maps(admin, namespace)) as events:
        assert said(await anext(events)) == ("ADDED", "a")


async def test_a_watch_ends_when_its_time_is_over_and_a_bookmark_says_where(admin: ApiClient, namespace: str) -> None:
    """A real server's watch cache sends one some two seconds before the end."""
    version = (await admin.list(CONFIG_MAPS, namespace)).resource_version
    await admin.create(CONFIG_MAPS, config_map("elsewhere"), "default")
    asked = watch_maps(admin, namespace, resource_version=version, timeout_seconds=4, allow_bookmarks=True)
    try:
        got = [event async for event in asked]
    finally:
        await admin.delete(CONFIG_MAPS, "elsewhere", "default")
    assert got
    assert {event.type for event in got} == {"BOOKMARK"}
    assert got[-1].object is None
    assert int(got[-1].resource_version) > int(version), "what happened elsewhere need not be looked through again"


async def test_a_large_object_comes_through_a_list_and_a_watch(admin: ApiClient, namespace: str) -> None:
    """Nearly a megabyte in one line; readers of lines give up at half of that (aiohttp)."""
    version = (await admin.list(CONFIG_MAPS, namespace)).resource_version
    async with aclosing(watch_maps(admin, namespace, resource_version=version)) as events:
        await admin.create(CONFIG_MAPS, config_map("large", k="ü" * 450_000), namespace)
        told = (await anext(events)).object
    listed = await admin.list(CONFIG_MAPS, namespace, field_selector="metadata.name=large")
    for found in (told, *listed.items):
        assert found is not None
        assert found.data == {"k": "ü" * 450_000}


async def test_pods_of_one_node_enter_the_watch_when_they_are_bound(
    admin: ApiClient, node_client: ApiClient, registered_node: Node, namespace: str
) -> None:
    name = registered_node.metadata.name or ""
    selector = f"spec.nodeName={name}"
    version = (await node_client.list(PODS, field_selector=selector)).resource_version
    unbound = pod_on("", "late")
    unbound.spec.node_name = None
    unbound.spec.scheduler_name = "nobody"
    watch = node_client.watch(PODS, field_selector=selector, resource_version=version, allow_bookmarks=False)
    async with aclosing(watch) as events:
        await admin.create(PODS, unbound, namespace)
        await admin.create(PODS, pod_on(name, "bound"), namespace)
        first = await anext(events)
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "late"},
                   "target": {"apiVersion": "v1", "kind": "Node", "name": name}}  # fmt: skip
        await admin.request(
            "POST", f"/api/v1/namespaces/{namespace}/pods/late/binding", body=msgspec.json.encode(binding),
            headers={"Content-Type": "application/json"},
        )  # fmt: skip
        second = await anext(events)
    assert [(e.type, e.object.metadata.name) for e in (first, second) if e.object is not None] == [
        ("ADDED", "bound"), ("ADDED", "late"),
    ]  # fmt: skip


async def test_a_watch_from_before_the_history_ends_with_gone(
    api_server: ApiServer, admin: ApiClient, namespace: str
) -> None:
    """Events: a real server holds no watch cache of them, so that etcd's compaction is what it says."""

    async def happens(name: str) -> str:
        involved = ObjectReference(kind="Pod", name="p", namespace=namespace)
        event = Event(metadata=ObjectMeta(name=name), involved_object=involved, reason="R", message=name, type="Normal")
        return (await admin.create(EVENTS, event, namespace)).metadata.resource_version or ""

    versions = [await happens(f"e{i}") for i in range(4)]
    await api_server.forget_history()
    with pytest.raises(GoneError) as caught:
        async with asyncio.timeout(20):
            async for _ in admin.watch(EVENTS, namespace, resource_version=versions[0]):
                pass
    assert (caught.value.code, caught.value.reason) == (410, "Expired")
    with pytest.raises(GoneError) as refused:
        await admin.list(EVENTS, namespace, resource_version=versions[0], resource_version_match="Exact")
    assert refused.value.code == 410


async def test_a_version_that_no_server_knows_yet_is_an_error_that_ends(admin: ApiClient, namespace: str) -> None:
    """After a failover: "Too large resource version" must not be waited for without an end."""
    with pytest.raises(ServerError, match="Too large resource version"):
        async with asyncio.timeout(30):
            await admin.list(CONFIG_MAPS, namespace, resource_version="99999999")


async def test_closing_a_watch_leaves_the_client_usable(admin: ApiClient, namespace: str) -> None:
    for _ in range(3):
        async with aclosing(watch_maps(admin, namespace, resource_version="0", timeout_seconds=600)) as events:
            await admin.create(CONFIG_MAPS, config_map("c"), namespace)
            assert said(await anext(events)) == ("ADDED", "c")
        await admin.delete(CONFIG_MAPS, "c", namespace)
