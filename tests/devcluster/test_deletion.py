"""Deletion: grace periods, finalizers, preconditions, collections, namespaces."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import pytest

from tests.devcluster.clients import PATIENCE, Api, config_map, pod

MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
HOLD = "example.com/hold"


def _bound(name: str = "p", **spec: Any) -> dict[str, Any]:
    return pod(name, nodeName="n", **spec)


def _until(metadata: dict[str, Any]) -> float:
    """Seconds between creation and the end of the grace period."""
    moments = [datetime.fromisoformat(metadata[f]) for f in ("creationTimestamp", "deletionTimestamp")]
    return (moments[1] - moments[0]).total_seconds()


class TestAnswers:
    async def test_most_kinds_answer_with_a_status_that_names_what_is_gone(self, api: Api) -> None:
        created = await api.create(MAPS, config_map())
        answer = await api.delete(f"{MAPS}/c")
        assert answer.body == {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "details": {"name": "c", "kind": "configmaps", "uid": created["metadata"]["uid"]},
        }
        assert (await api.delete(f"{MAPS}/c")).status == 404

    async def test_a_pod_that_is_on_no_node_goes_at_once(self, api: Api) -> None:
        await api.create(PODS, pod())
        answer = await api.delete(f"{PODS}/p")
        assert (answer.status, answer.body["metadata"]["deletionGracePeriodSeconds"]) == (200, 0)
        assert (await api.get(f"{PODS}/p")).status == 404

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"kind": "DeleteOptions", "apiVersion": "v1"},
            {"kind": "DeleteOptions", "apiVersion": "apps/v1"},
            {"apiVersion": "meta.k8s.io/v1"},
        ],
        ids=str,
    )
    async def test_options_may_be_of_any_version(self, api: Api, options: dict[str, Any]) -> None:
        await api.create(MAPS, config_map())
        assert (await api.delete(f"{MAPS}/c", options)).status == 200

    @pytest.mark.parametrize(
        ("options", "status"),
        [
            ({"propagationPolicy": "Zz"}, 422),
            ({"propagationPolicy": "Orphan", "orphanDependents": True}, 422),
            ({"dryRun": ["zz"]}, 422),
            ({"kind": "Pod", "apiVersion": "v1"}, 400),
            ({"gracePeriodSeconds": "x"}, 400),
            ([], 400),
        ],
        ids=str,
    )
    async def test_options_that_are_none_delete_nothing(self, api: Api, options: Any, status: int) -> None:
        await api.create(MAPS, config_map())
        assert (await api.delete(f"{MAPS}/c", options)).status == status
        assert (await api.get(f"{MAPS}/c")).status == 200

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            (b"{", "couldn't get version/kind; json parse error: unexpected end of JSON input"),
            (b'{"gracePeriodSeconds": "x"}', "json: cannot unmarshal string into Go struct field "),
            (b'{"kind": "Pod"}', 'no kind "Pod" is registered for version "v1" in scheme "pkg/apis/meta/internal'),
        ],
    )
    async def test_options_that_cannot_be_read_are_400_in_the_decoders_words(
        self, api: Api, body: bytes, message: str
    ) -> None:
        answer = await api.delete(f"{MAPS}/c", body)
        assert (answer.status, answer.message.startswith(message)) == (400, True), answer

    async def test_what_is_wrong_is_said_in_the_servers_order(self, api: Api) -> None:
        answer = await api.delete(f"{MAPS}?fieldSelector=zz%3D1&propagationPolicy=Zz")
        assert (answer.status, '"zz" is not a known field selector' in answer.message) == (400, True)
        answer = await api.delete(f"{MAPS}/c?propagationPolicy=Zz&dryRun=zz")
        assert [field for field, _ in answer.causes] == ["propagationPolicy", "dryRun"]
        answer = await api.post(f"{MAPS}?dryRun=zz&fieldManager={'x' * 129}&fieldValidation=zz", config_map())
        assert [field for field, _ in answer.causes] == ["fieldManager", "dryRun", "fieldValidation"]
        answer = await api.patch(f"{MAPS}/c?force=true&fieldManager=a%0Ab", {})
        assert answer.message == (
            'PatchOptions.meta.k8s.io "" is invalid: [force: Forbidden: may not be specified for non-apply patch, '
            'fieldManager: Invalid value: "a\\nb": invalid character U+000A (at position 1)]'
        )

    async def test_it_is_only_accepted_if_dependents_are_to_go_and_it_stays(self, api: Api) -> None:
        await api.create(MAPS, config_map(finalizers=["x.y/hold"]))
        assert (await api.delete(f"{MAPS}/c?orphanDependents=false")).status == 202
        await api.create(MAPS, config_map("d"))
        assert (await api.delete(f"{MAPS}/d?orphanDependents=false")).status == 200


class TestPreconditions:
    async def test_another_uid_conflicts(self, api: Api) -> None:
        created = await api.create(MAPS, config_map())
        answer = await api.delete(f"{MAPS}/c", {"preconditions": {"uid": "zz"}})
        uid = created["metadata"]["uid"]
        assert (answer.status, answer.reason) == (409, "Conflict")
        assert answer.message == (
            f'Operation cannot be fulfilled on ConfigMap "c": the UID in the precondition (zz) does not match the UID in '
            f"record ({uid}). The object might have been deleted and then recreated"
        )
        assert (await api.delete(f"{MAPS}/c", {"preconditions": {"uid": uid}})).status == 200

    async def test_of_a_namespace_in_words_of_its_own(self, api: Api) -> None:
        created = await api.create("/api/v1/namespaces", {"metadata": {"name": "n"}})
        answer = await api.delete("/api/v1/namespaces/n", {"preconditions": {"uid": "zz"}})
        why = f"Precondition failed: UID in precondition: zz, UID in object meta: {created['metadata']['uid']}"
        assert (answer.status, answer.message) == (409, f'Operation cannot be fulfilled on namespaces "n": {why}')

    async def test_another_resource_version_conflicts(self, api: Api) -> None:
        created = await api.create(MAPS, config_map())
        await api.patch(f"{MAPS}/c", {"data": {"x": "y"}})
        version = created["metadata"]["resourceVersion"]
        answer = await api.delete(f"{MAPS}/c", {"preconditions": {"resourceVersion": version}})
        assert (answer.status, f"({version}) does not match the ResourceVersion" in answer.message) == (409, True)


class TestGracePeriods:
    async def test_a_bound_pod_stays_for_its_grace_period(self, api: Api) -> None:
        created = await api.create(PODS, _bound(terminationGracePeriodSeconds=20))
        deleted = (await api.delete(f"{PODS}/p")).body["metadata"]
        assert deleted["deletionGracePeriodSeconds"] == 20
        assert deleted["generation"] == created["metadata"]["generation"] + 1
        assert 20 <= _until(deleted) < 20 + PATIENCE
        assert (await api.get(f"{PODS}/p")).body["metadata"] == deleted

    async def test_the_request_may_say_another_one(self, api: Api) -> None:
        await api.create(PODS, _bound())
        answer = await api.delete(f"{PODS}/p?gracePeriodSeconds=7")
        assert answer.body["metadata"]["deletionGracePeriodSeconds"] == 7

    async def test_a_second_deletion_only_makes_it_shorter(self, api: Api) -> None:
        await api.create(PODS, _bound())
        first = (await api.delete(f"{PODS}/p", {"gracePeriodSeconds": 20})).body["metadata"]
        longer = (await api.delete(f"{PODS}/p", {"gracePeriodSeconds": 60})).body["metadata"]
        same = (await api.delete(f"{PODS}/p")).body["metadata"]
        assert first == longer == same
        shorter = (await api.delete(f"{PODS}/p", {"gracePeriodSeconds": 5})).body["metadata"]
        assert shorter["deletionGracePeriodSeconds"] == 5
        assert _until(first) - _until(shorter) == 15
        assert shorter["generation"] == first["generation"]

    async def test_zero_takes_it_at_once(self, api: Api) -> None:
        await api.create(PODS, _bound())
        await api.delete(f"{PODS}/p")
        answer = await api.delete(f"{PODS}/p", {"gracePeriodSeconds": 0})
        assert answer.body["metadata"]["deletionGracePeriodSeconds"] == 0
        assert (await api.get(f"{PODS}/p")).status == 404

    async def test_a_negative_one_means_one_second(self, api: Api) -> None:
        await api.create(PODS, _bound(terminationGracePeriodSeconds=-5))
        assert (await api.delete(f"{PODS}/p")).body["metadata"]["deletionGracePeriodSeconds"] == 1

    @pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
    async def test_a_pod_that_has_ended_goes_at_once(self, api: Api, phase: str) -> None:
        await api.create(PODS, _bound())
        await api.patch(f"{PODS}/p/status", {"status": {"phase": phase}})
        await api.delete(f"{PODS}/p")
        assert (await api.get(f"{PODS}/p")).status == 404


class TestFinalizers:
    async def test_they_keep_an_object_until_the_last_is_taken_away(self, api: Api) -> None:
        await api.create(MAPS, config_map(finalizers=[HOLD, "example.com/other"]))
        deleted = (await api.delete(f"{MAPS}/c")).body
        assert deleted["metadata"]["deletionGracePeriodSeconds"] == 0
        moment = deleted["metadata"]["deletionTimestamp"]
        again = (await api.delete(f"{MAPS}/c")).body
        assert again["metadata"]["deletionTimestamp"] == moment
        left = await api.patch(f"{MAPS}/c", {"metadata": {"finalizers": [HOLD]}, "data": {"x": "y"}})
        assert (left.status, left.body["data"]) == (200, {"a": "b", "x": "y"})
        assert (await api.patch(f"{MAPS}/c", {"metadata": {"finalizers": None}})).status == 200
        assert (await api.get(f"{MAPS}/c")).status == 404

    async def test_none_is_added_to_what_is_being_deleted(self, api: Api) -> None:
        await api.create(MAPS, config_map(finalizers=[HOLD]))
        await api.delete(f"{MAPS}/c")
        answer = await api.patch(f"{MAPS}/c", {"metadata": {"finalizers": [HOLD, "example.com/new"]}})
        assert (answer.status, set(answer.causes)) == (422, {("metadata.finalizers", "FieldValueForbidden")})
        assert 'found new finalizers []string{"example.com/new"}' in answer.message

    async def test_a_bound_pod_waits_for_both_its_node_and_its_finalizers(self, api: Api) -> None:
        await api.create(PODS, _bound(metadata={"finalizers": [HOLD]}))
        await api.delete(f"{PODS}/p")
        await api.patch(f"{PODS}/p", {"metadata": {"finalizers": None}})
        assert (await api.get(f"{PODS}/p")).status == 200
        await api.delete(f"{PODS}/p", {"gracePeriodSeconds": 0})
        assert (await api.get(f"{PODS}/p")).status == 404

    async def test_the_deletion_time_cannot_be_taken_back(self, api: Api) -> None:
        await api.create(MAPS, config_map(finalizers=[HOLD]))
        moment = (await api.delete(f"{MAPS}/c")).body["metadata"]["deletionTimestamp"]
        answer = await api.patch(f"{MAPS}/c", {"metadata": {"deletionTimestamp": None}})
        assert answer.body["metadata"]["deletionTimestamp"] == moment


class TestCollections:
    async def test_what_a_selector_takes_is_deleted_and_shown(self, api: Api) -> None:
        for name in "abc":
            await api.create(MAPS, config_map(name, labels={"in": "yes" if name != "b" else "no"}))
        answer = await api.delete(f"{MAPS}?labelSelector=in%3Dyes")
        assert (answer.status, answer.body["kind"], answer.names) == (200, "ConfigMapList", ["a", "c"])
        left = (await api.get(f"{MAPS}?labelSelector=in")).names
        assert left == ["b"]

    async def test_a_selector_that_cannot_be_read_deletes_nothing(self, api: Api) -> None:
        await api.create(MAPS, config_map())
        assert (await api.delete(f"{MAPS}?labelSelector=a+b")).status == 400
        assert (await api.get(f"{MAPS}/c")).status == 200

    async def test_not_of_all_namespaces_and_not_of_namespaces(self, api: Api) -> None:
        for path in ("/api/v1/configmaps", "/api/v1/namespaces"):
            answer = await api.delete(path)
            assert (answer.status, answer.reason) == (405, "MethodNotAllowed")


async def _waits_for(api: Api, namespace: str) -> dict[str, str]:
    """What a namespace that is being deleted says of it, by condition."""
    status = (await api.get(f"/api/v1/namespaces/{namespace}")).body["status"]
    assert status["phase"] == "Terminating"
    return {c["type"]: c["message"] for c in status.get("conditions", ()) if c["status"] == "True"}


class TestNamespaces:
    async def test_what_is_in_one_goes_with_it(self, api: Api) -> None:
        await api.create("/api/v1/namespaces", {"metadata": {"name": "gone"}})
        await api.create("/api/v1/namespaces/gone/configmaps", config_map())
        await api.create("/api/v1/namespaces/gone/pods", pod())
        answer = await api.delete("/api/v1/namespaces/gone")
        assert (answer.status, answer.body["status"]["phase"]) == (200, "Terminating")
        assert "deletionGracePeriodSeconds" not in answer.body["metadata"]
        await api.until_gone("/api/v1/namespaces/gone")
        assert (await api.get("/api/v1/namespaces/gone/configmaps")).names == []

    async def test_it_waits_for_pods_on_nodes_and_for_finalizers(self, api: Api) -> None:
        await api.create("/api/v1/namespaces", {"metadata": {"name": "gone"}})
        pods, maps = "/api/v1/namespaces/gone/pods", "/api/v1/namespaces/gone/configmaps"
        await api.create(pods, _bound())
        await api.create(maps, config_map(finalizers=[HOLD]))
        await api.delete("/api/v1/namespaces/gone")
        async with asyncio.timeout(PATIENCE):
            while "deletionTimestamp" not in (await api.get(f"{pods}/p")).body["metadata"]:
                await asyncio.sleep(0.01)
        assert await _waits_for(api, "gone") == {
            "NamespaceContentRemaining": "Some resources are remaining: pods. has 1 resource instances"
        }
        assert "deletionTimestamp" not in (await api.get(f"{maps}/c")).body["metadata"]
        await api.delete(f"{pods}/p", {"gracePeriodSeconds": 0})
        async with asyncio.timeout(PATIENCE):
            while await _waits_for(api, "gone") != {
                "NamespaceContentRemaining": "Some resources are remaining: configmaps. has 1 resource instances",
                "NamespaceFinalizersRemaining": f"Some content in the namespace has finalizers remaining: {HOLD} in 1 "
                "resource instances",
            }:
                await asyncio.sleep(0.01)
        await api.patch(f"{maps}/c", {"metadata": {"finalizers": None}})
        await api.until_gone("/api/v1/namespaces/gone")

    async def test_nothing_new_is_created_in_one_that_is_going(self, api: Api) -> None:
        await api.create("/api/v1/namespaces", {"metadata": {"name": "gone", "finalizers": [HOLD]}})
        await api.delete("/api/v1/namespaces/gone")
        answer = await api.post("/api/v1/namespaces/gone/configmaps", config_map())
        assert (answer.status, answer.causes) == (403, [("metadata.namespace", "NamespaceTerminating")])

    @pytest.mark.parametrize("name", ["default", "kube-system", "kube-public"])
    async def test_some_may_not_be_deleted(self, api: Api, name: str) -> None:
        answer = await api.delete(f"/api/v1/namespaces/{name}")
        assert (answer.status, answer.message) == (
            403,
            f'namespaces "{name}" is forbidden: this namespace may not be deleted',
        )

    async def test_its_phase_is_active_unless_it_is_given(self, api: Api) -> None:
        await api.create("/api/v1/namespaces", {"metadata": {"name": "phase"}})
        answer = await api.put("/api/v1/namespaces/phase/status", {"metadata": {"name": "phase"}})
        assert (answer.status, answer.body["status"]) == (200, {"phase": "Active"})

    async def test_its_phase_says_whether_it_is_going(self, api: Api) -> None:
        answer = await api.patch("/api/v1/namespaces/default/status", {"status": {"phase": "Terminating"}})
        assert (answer.status, answer.causes) == (422, [("status.Phase", "FieldValueInvalid")])
