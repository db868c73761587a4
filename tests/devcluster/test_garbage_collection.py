"""Owner references: what goes with its owner, before it, or stays."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.devcluster.clients import PATIENCE, Api, config_map, pod

MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
HOLD = "example.com/hold"


def _owner(obj: dict[str, Any], *, block: bool = False) -> dict[str, Any]:
    reference = {"apiVersion": obj["apiVersion"], "kind": obj["kind"]}
    reference |= {"name": obj["metadata"]["name"], "uid": obj["metadata"]["uid"]}
    return {**reference, "blockOwnerDeletion": True} if block else reference


async def _owned(api: Api, name: str, *owners: dict[str, Any], block: bool = False, **metadata: Any) -> dict[str, Any]:
    references = [_owner(owner, block=block) for owner in owners]
    return await api.create(MAPS, config_map(name, ownerReferences=references, **metadata))


async def _until_deleting(api: Api, path: str) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE):
        while "deletionTimestamp" not in (found := (await api.get(path)).body["metadata"]):
            await asyncio.sleep(0.01)
    assert isinstance(found, dict)
    return found


class TestInTheBackground:
    async def test_dependents_and_theirs_go_after_the_owner(self, api: Api) -> None:
        owner = await api.create(MAPS, config_map("owner"))
        child = await _owned(api, "child", owner)
        await _owned(api, "grandchild", child)
        assert (await api.delete(f"{MAPS}/owner")).status == 200
        assert (await api.get(f"{MAPS}/owner")).status == 404
        for name in ("child", "grandchild"):
            await api.until_gone(f"{MAPS}/{name}")

    async def test_pods_go_with_their_grace_period(self, api: Api) -> None:
        owner = await api.create(MAPS, config_map("owner"))
        await api.create(PODS, pod(nodeName="n", metadata={"ownerReferences": [_owner(owner)]}))
        await api.delete(f"{MAPS}/owner")
        assert (await _until_deleting(api, f"{PODS}/p"))["deletionGracePeriodSeconds"] == 30

    async def test_one_owner_that_is_left_keeps_them_and_the_other_reference_goes(self, api: Api) -> None:
        one = await api.create(MAPS, config_map("one"))
        two = await api.create(MAPS, config_map("two"))
        await _owned(api, "child", one, two)
        await api.delete(f"{MAPS}/one")
        async with asyncio.timeout(PATIENCE):
            while len((await api.get(f"{MAPS}/child")).body["metadata"]["ownerReferences"]) > 1:
                await asyncio.sleep(0.01)
        assert (await api.get(f"{MAPS}/child")).body["metadata"]["ownerReferences"] == [_owner(two)]

    async def test_an_owner_of_another_uid_is_none(self, api: Api) -> None:
        owner = await api.create(MAPS, config_map("owner"))
        await api.delete(f"{MAPS}/owner")
        await api.create(MAPS, config_map("owner"))
        await _owned(api, "child", owner)
        await api.until_gone(f"{MAPS}/child")

    async def test_an_owner_is_looked_for_in_the_dependents_own_namespace(self, api: Api) -> None:
        await api.create("/api/v1/namespaces", {"metadata": {"name": "other"}})
        owner = await api.create("/api/v1/namespaces/other/configmaps", config_map("owner"))
        await _owned(api, "child", owner)
        await api.until_gone(f"{MAPS}/child")

    async def test_a_nodes_lease_goes_with_the_node(self, api: Api) -> None:
        leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        node = await api.create("/api/v1/nodes", {"metadata": {"name": "n"}})
        await api.create(leases, {"metadata": {"name": "n", "ownerReferences": [_owner(node)]}, "spec": {}})
        await api.delete("/api/v1/nodes/n")
        await api.until_gone(f"{leases}/n")

    async def test_owners_of_kinds_that_are_not_served_are_taken_to_be_there(self, api: Api) -> None:
        references = [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u"}]
        await api.create(MAPS, config_map("child", ownerReferences=references))
        owner = await api.create(MAPS, config_map("owner"))
        await _owned(api, "other", owner)
        await api.delete(f"{MAPS}/owner")
        # When this one is gone the collector has looked at all that came before.
        await api.until_gone(f"{MAPS}/other")
        assert (await api.get(f"{MAPS}/child")).status == 200

    async def test_a_reference_that_comes_later_counts(self, api: Api) -> None:
        owner = await api.create(MAPS, config_map("owner"))
        await api.create(MAPS, config_map("child"))
        await api.patch(f"{MAPS}/child", {"metadata": {"ownerReferences": [_owner(owner)]}})
        await api.delete(f"{MAPS}/owner", {"propagationPolicy": "Background"})
        await api.until_gone(f"{MAPS}/child")


class TestInTheForeground:
    async def test_the_owner_waits_for_those_that_block_it(self, api: Api) -> None:
        owner = await api.create(MAPS, config_map("owner"))
        await _owned(api, "child", owner, block=True, finalizers=[HOLD])
        answer = await api.delete(f"{MAPS}/owner", {"propagationPolicy": "Foreground"})
        assert answer.body["metadata"]["finalizers"] == ["foregroundDeletion"]
        await _until_deleting(api, f"{MAPS}/child")
        assert (await api.get(f"{MAPS}/owner")).status == 200
        await api.patch(f"{MAPS}/child", {"metadata": {"finalizers": None}})
        await api.until_gone(f"{MAPS}/owner")
        assert (await api.get(f"{MAPS}/child")).status == 404

    async def test_it_does_not_wait_for_the_others_which_go_too(self, api: Api) -> None:
        owner = await api.create(MAPS, config_map("owner"))
        await _owned(api, "child", owner, finalizers=[HOLD])
        await api.delete(f"{MAPS}/owner", {"propagationPolicy": "Foreground"})
        await api.until_gone(f"{MAPS}/owner")
        await _until_deleting(api, f"{MAPS}/child")

    async def test_whole_trees_go_from_their_leaves(self, api: Api) -> None:
        owner = await api.create(MAPS, config_map("owner"))
        child = await _owned(api, "child", owner, block=True)
        await _owned(api, "grandchild", child, block=True, finalizers=[HOLD])
        await api.delete(f"{MAPS}/owner?propagationPolicy=Foreground")
        await _until_deleting(api, f"{MAPS}/grandchild")
        assert "foregroundDeletion" in (await api.get(f"{MAPS}/child")).body["metadata"]["finalizers"]
        await api.patch(f"{MAPS}/grandchild", {"metadata": {"finalizers": None}})
        for name in ("child", "owner"):
            await api.until_gone(f"{MAPS}/{name}")

    async def test_a_dependent_that_stops_blocking_frees_the_owner(self, api: Api) -> None:
        owner = await api.create(MAPS, config_map("owner"))
        await _owned(api, "child", owner, block=True, finalizers=[HOLD])
        await api.delete(f"{MAPS}/owner", {"propagationPolicy": "Foreground"})
        await _until_deleting(api, f"{MAPS}/child")
        await api.patch(f"{MAPS}/child", {"metadata": {"ownerReferences": None}})
        await api.until_gone(f"{MAPS}/owner")

    async def test_without_dependents_the_owner_goes_at_once(self, api: Api) -> None:
        await api.create(MAPS, config_map("owner"))
        await api.delete(f"{MAPS}/owner", {"propagationPolicy": "Foreground"})
        await api.until_gone(f"{MAPS}/owner")


class TestOrphans:
    @pytest.mark.parametrize("options", [{"propagationPolicy": "Orphan"}, {"orphanDependents": True}], ids=str)
    async def test_dependents_stay_without_a_reference(self, api: Api, options: dict[str, Any]) -> None:
        owner = await api.create(MAPS, config_map("owner"))
        other = await api.create(MAPS, config_map("other"))
        await _owned(api, "child", owner)
        await _owned(api, "shared", owner, other)
        answer = await api.delete(f"{MAPS}/owner", options)
        assert answer.body["metadata"]["finalizers"] == ["orphan"]
        await api.until_gone(f"{MAPS}/owner")
        assert "ownerReferences" not in (await api.get(f"{MAPS}/child")).body["metadata"]
        assert (await api.get(f"{MAPS}/shared")).body["metadata"]["ownerReferences"] == [_owner(other)]

    async def test_the_owners_finalizer_says_what_the_request_does_not(self, api: Api) -> None:
        owner = await api.create(MAPS, config_map("owner", finalizers=["orphan"]))
        await _owned(api, "child", owner)
        await api.delete(f"{MAPS}/owner")
        await api.until_gone(f"{MAPS}/owner")
        assert (await api.get(f"{MAPS}/child")).status == 200

    async def test_the_request_wins_over_the_finalizer(self, api: Api) -> None:
        owner = await api.create(MAPS, config_map("owner", finalizers=["orphan"]))
        await _owned(api, "child", owner)
        await api.delete(f"{MAPS}/owner", {"propagationPolicy": "Background"})
        await api.until_gone(f"{MAPS}/owner")
        await api.until_gone(f"{MAPS}/child")


class TestReferences:
    @pytest.mark.parametrize(
        ("references", "fields"),
        [
            (
                [{"apiVersion": "", "kind": "", "name": "", "uid": ""}],
                ["apiVersion", "kind", "name", "uid"],
            ),
            ([{"apiVersion": "v1", "kind": "Event", "name": "e", "uid": "u"}], [""]),
            (
                [
                    {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": name, "controller": True}
                    for name in ("a", "b")
                ],
                [""],
            ),
        ],
    )
    async def test_those_that_cannot_be_are_invalid(
        self, api: Api, references: list[dict[str, Any]], fields: list[str]
    ) -> None:
        answer = await api.post(MAPS, config_map(ownerReferences=references))
        wanted = [f"metadata.ownerReferences.{field}".rstrip(".") for field in fields]
        assert (answer.status, [field for field, _ in answer.causes]) == (422, wanted)
