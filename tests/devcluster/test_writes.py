"""Creates, updates and patches: names, versions, conflicts, what may not change, dry runs."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from tests.devcluster.clients import JSON_PATCH, MERGE, STRATEGIC, Api, config_map, pod

MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
CHANGED = "the object has been modified; please apply your changes to the latest version and try again"


class TestCreate:
    async def test_generate_name_adds_a_suffix_and_is_kept(self, api: Api) -> None:
        names = {
            (await api.create(PODS, pod("", metadata={"generateName": "gen-"})))["metadata"]["name"] for _ in "abc"
        }
        assert len(names) == 3
        assert all(re.fullmatch("gen-[bcdfghjklmnpqrstvwxz2456789]{5}", name) for name in names)

    async def test_a_long_base_is_cut_so_that_the_suffix_fits(self, api: Api) -> None:
        created = await api.create(PODS, pod("", metadata={"generateName": "g" * 80}))
        assert len(created["metadata"]["name"]) == 63

    async def test_a_base_that_makes_no_name_is_invalid(self, api: Api) -> None:
        answer = await api.post(PODS, pod("", metadata={"generateName": "A_"}))
        fields = [field for field, _ in answer.causes]
        assert (answer.status, fields) == (422, ["metadata.generateName", "metadata.name"])

    async def test_a_name_wins_over_generate_name(self, api: Api) -> None:
        assert (await api.create(PODS, pod("mine", metadata={"generateName": "gen-"})))["metadata"]["name"] == "mine"

    async def test_without_a_name_it_is_invalid(self, api: Api) -> None:
        answer = await api.post(MAPS, {"data": {}})
        assert (answer.status, answer.causes) == (422, [("metadata.name", "FieldValueRequired")])

    async def test_admission_comes_before_a_name_is_made(self, api: Api) -> None:
        for metadata, name in (({"generateName": "gen-"}, "gen-"), ({}, "Unknown")):
            refused = {**pod(priorityClassName="nosuch"), "metadata": metadata}
            answer = await api.post(PODS, refused)
            assert answer.message == f'pods "{name}" is forbidden: no PriorityClass with name nosuch was found'

    async def test_a_generation_is_kept_where_no_rule_counts_it(self, api: Api) -> None:
        assert (await api.create(MAPS, config_map(generation=7)))["metadata"]["generation"] == 7
        assert (await api.create(PODS, pod(metadata={"generation": 7})))["metadata"]["generation"] == 1
        answer = await api.post(MAPS, config_map("d", generation=-1))
        assert answer.causes == [("metadata.generation", "FieldValueInvalid")]

    async def test_the_same_name_twice_is_already_there(self, api: Api) -> None:
        await api.create(MAPS, config_map())
        answer = await api.post(MAPS, config_map())
        assert (answer.status, answer.reason, answer.message) == (
            409,
            "AlreadyExists",
            'configmaps "c" already exists',
        )

    async def test_what_is_on_its_way_out_still_has_its_name(self, api: Api) -> None:
        await api.create(MAPS, config_map(finalizers=["x.y/hold"]))
        await api.delete(f"{MAPS}/c")
        answer = await api.post(MAPS, config_map())
        assert (answer.status, answer.reason) == (409, "AlreadyExists")
        assert answer.message == 'object is being deleted: configmaps "c" already exists'

    async def test_of_an_object_that_could_have_had_another_name(self, api: Api) -> None:
        await api.create(MAPS, config_map())
        answer = await api.post(MAPS, config_map(generateName="c-"))
        why = "already exists, the server was not able to generate a unique name for the object"
        assert (answer.status, answer.message) == (409, f'configmaps "c" {why}')
        assert answer.body["details"]["retryAfterSeconds"] == 1

    async def test_invalid_comes_before_already_there(self, api: Api) -> None:
        await api.create(MAPS, config_map())
        assert (await api.post(MAPS, config_map(data={"a b": "c"}))).status == 422

    async def test_a_new_object_has_no_version_yet(self, api: Api) -> None:
        answer = await api.post(MAPS, config_map(resourceVersion="5"))
        assert (answer.status, answer.message) == (500, "resourceVersion should not be set on objects to be created")
        assert (await api.post(MAPS, config_map(resourceVersion="5", labels={"a b": ""}))).status == 422
        tried = await api.post(f"{MAPS}?dryRun=All", config_map(resourceVersion="5"))
        assert (tried.status, tried.body["metadata"]["resourceVersion"]) == (201, "5")
        assert (await api.post(MAPS, config_map(resourceVersion="abc"))).status == 201

    async def test_a_namespace_that_is_not_there_is_404(self, api: Api) -> None:
        answer = await api.post("/api/v1/namespaces/nope/configmaps", config_map())
        assert (answer.status, answer.message) == (404, 'namespaces "nope" not found')

    async def test_the_namespace_of_the_path_counts(self, api: Api) -> None:
        answer = await api.post(MAPS, config_map(namespace="other"))
        assert (answer.status, answer.message) == (
            400,
            "the namespace of the provided object does not match the namespace sent on the request",
        )

    async def test_of_many_that_create_at_once_one_wins(self, api: Api) -> None:
        answers = await asyncio.gather(*(api.post(MAPS, config_map(data={"n": str(n)})) for n in range(20)))
        assert sorted(answer.status for answer in answers) == [201] + [409] * 19
        won = next(answer for answer in answers if answer.status == 201)
        assert (await api.get(f"{MAPS}/c")).body["data"] == won.body["data"]


class TestVersions:
    async def test_each_write_has_a_higher_one(self, api: Api) -> None:
        versions = [int((await api.create(MAPS, config_map()))["metadata"]["resourceVersion"])]
        for value in "xyz":
            answer = await api.patch(f"{MAPS}/c", {"data": {"a": value}})
            versions.append(int(answer.body["metadata"]["resourceVersion"]))
        assert versions == sorted(set(versions))

    async def test_a_write_that_changes_nothing_is_none(self, api: Api) -> None:
        created = await api.create(MAPS, config_map())
        for answer in (
            await api.patch(f"{MAPS}/c", {"data": {"a": "b"}}),
            await api.put(f"{MAPS}/c", created),
            await api.patch(f"{MAPS}/c", [], JSON_PATCH),
        ):
            assert (answer.status, answer.body) == (200, created)

    async def test_a_put_from_an_old_version_conflicts(self, api: Api) -> None:
        created = await api.create(MAPS, config_map())
        await api.patch(f"{MAPS}/c", {"data": {"a": "x"}})
        answer = await api.put(f"{MAPS}/c", {**created, "data": {"a": "y"}})
        assert (answer.status, answer.reason) == (409, "Conflict")
        assert answer.message == f'Operation cannot be fulfilled on configmaps "c": {CHANGED}'
        assert (await api.get(f"{MAPS}/c")).body["data"] == {"a": "x"}

    @pytest.mark.parametrize("media_type", [MERGE, STRATEGIC])
    async def test_a_patch_that_names_an_old_version_conflicts(self, api: Api, media_type: str) -> None:
        created = await api.create(MAPS, config_map())
        await api.patch(f"{MAPS}/c", {"data": {"a": "x"}})
        version = created["metadata"]["resourceVersion"]
        body = {"metadata": {"resourceVersion": version}, "data": {"a": "y"}}
        assert (await api.patch(f"{MAPS}/c", body, media_type)).reason == "Conflict"

    async def test_a_put_without_one_replaces_what_there_is(self, api: Api) -> None:
        await api.create(MAPS, config_map())
        answer = await api.put(f"{MAPS}/c", config_map(data={"z": "y"}))
        assert (answer.status, answer.body["data"]) == (200, {"z": "y"})

    async def test_a_lease_wants_one(self, api: Api) -> None:
        await api.create(LEASES, {"metadata": {"name": "l"}, "spec": {}})
        for given in ({}, {"resourceVersion": "0"}):
            answer = await api.put(f"{LEASES}/l", {"metadata": {"name": "l", **given}, "spec": {"holderIdentity": "x"}})
            assert (answer.status, answer.message) == (
                422,
                'leases.coordination.k8s.io "l" is invalid: metadata.resourceVersion: Invalid value: 0: must be '
                "specified for an update",
            )
        answer = await api.put(f"{LEASES}/l", {"metadata": {"name": "l", "uid": "zz"}, "spec": {}})
        assert (answer.status, "UID in precondition: zz" in answer.message) == (409, True)

    async def test_a_put_creates_a_lease_and_an_event_but_no_config_map(self, api: Api) -> None:
        finalizers = ["any"]  # a rule of the core group does not hold for Leases
        lease: dict[str, Any] = {
            "metadata": {"name": "l", "resourceVersion": "5", "finalizers": finalizers},
            "spec": {},
        }
        assert (await api.put(f"{LEASES}/l", lease)).status == 201
        lease = {"metadata": {"name": "m", "uid": "zz"}, "spec": {}}
        answer = await api.put(f"{LEASES}/m", lease)
        assert (answer.status, answer.message.endswith("UID in precondition: zz, UID in object meta: ")) == (409, True)
        assert (await api.put(f"{MAPS}/c", config_map())).status == 404
        service = {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}
        assert (await api.put("/api/v1/namespaces/default/services/s", service)).status == 201

    async def test_one_that_is_no_number_is_an_error_of_the_servers(self, api: Api) -> None:
        await api.create(MAPS, config_map())
        answer = await api.put(f"{MAPS}/c", config_map(resourceVersion="abc"))
        assert (answer.status, answer.message) == (500, 'strconv.ParseUint: parsing "abc": invalid syntax')

    async def test_of_many_that_count_up_none_is_lost(self, api: Api) -> None:
        await api.create(MAPS, config_map(data={"n": "0"}))

        async def count() -> None:
            while True:
                current = (await api.get(f"{MAPS}/c")).body
                current["data"]["n"] = str(int(current["data"]["n"]) + 1)
                if (await api.put(f"{MAPS}/c", current)).status == 200:
                    return

        await asyncio.gather(*(count() for _ in range(8)))
        assert (await api.get(f"{MAPS}/c")).body["data"] == {"n": "8"}


class TestIdentity:
    async def test_a_put_of_an_object_that_was_deleted_since_conflicts(self, api: Api) -> None:
        created = await api.create(MAPS, config_map())
        await api.delete(f"{MAPS}/c")
        await api.create(MAPS, config_map())
        del created["metadata"]["resourceVersion"]
        answer = await api.put(f"{MAPS}/c", created)
        assert (answer.status, "Precondition failed: UID in precondition" in answer.message) == (409, True)

    async def test_a_patch_with_another_uid_is_invalid(self, api: Api) -> None:
        await api.create(MAPS, config_map())
        answer = await api.patch(f"{MAPS}/c", {"metadata": {"uid": "zz"}})
        assert (answer.status, set(answer.causes)) == (422, {("metadata.uid", "FieldValueInvalid")})

    @pytest.mark.parametrize("media_type", [MERGE, STRATEGIC])
    async def test_a_patch_cannot_rename(self, api: Api, media_type: str) -> None:
        await api.create(MAPS, config_map())
        answer = await api.patch(f"{MAPS}/c", {"metadata": {"name": "d"}}, media_type)
        assert (answer.status, answer.message) == (
            400,
            "the name of the object (d) does not match the name on the URL (c)",
        )

    async def test_a_put_must_name_what_it_replaces(self, api: Api) -> None:
        await api.create(MAPS, config_map())
        answer = await api.put(f"{MAPS}/c", {"data": {}})
        assert (answer.status, answer.message) == (
            400,
            "the name of the object (c based on URL) was undeterminable: name must be provided",
        )

    async def test_another_creation_time_is_ignored_and_a_deletion_time_invalid(self, api: Api) -> None:
        created = await api.create(MAPS, config_map())
        moment = "2020-01-01T00:00:00Z"
        answer = await api.patch(f"{MAPS}/c", {"metadata": {"creationTimestamp": moment}})
        assert (answer.status, answer.body) == (200, created)
        answer = await api.patch(f"{MAPS}/c", {"metadata": {"deletionTimestamp": moment}})
        assert (answer.status, {field for field, _ in answer.causes}) == (422, {"metadata.deletionTimestamp"})


class TestImmutable:
    async def test_an_immutable_config_map_keeps_its_data_but_may_get_labels(self, api: Api) -> None:
        await api.create(MAPS, {**config_map(), "immutable": True})
        answer = await api.patch(f"{MAPS}/c", {"immutable": False, "data": {"a": "x"}, "binaryData": {"b": "eA=="}})
        assert answer.causes == [
            ("immutable", "FieldValueForbidden"),
            ("data", "FieldValueForbidden"),
            ("binaryData", "FieldValueForbidden"),
        ]
        assert (await api.patch(f"{MAPS}/c", {"metadata": {"labels": {"a": "b"}}})).status == 200

    async def test_a_secret_keeps_its_type(self, api: Api) -> None:
        secrets = "/api/v1/namespaces/default/secrets"
        await api.create(secrets, {"metadata": {"name": "s"}})
        answer = await api.patch(f"{secrets}/s", {"type": "other"})
        assert (answer.status, answer.causes) == (422, [("type", "FieldValueInvalid")])

    async def test_a_service_keeps_its_address_and_gets_it_back_if_left_out(self, api: Api) -> None:
        services = "/api/v1/namespaces/default/services"
        created = await api.create(services, {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}})
        answer = await api.patch(f"{services}/s", {"spec": {"clusterIP": "10.96.99.99"}})
        assert (answer.status, answer.causes) == (422, [("spec.clusterIPs[0]", "FieldValueInvalid")])
        answer = await api.patch(f"{services}/s", {"spec": {"clusterIP": None, "clusterIPs": None}})
        assert answer.body["spec"]["clusterIP"] == created["spec"]["clusterIP"]

    async def test_a_service_gets_no_address_that_is_not_to_be_had(self, api: Api) -> None:
        services = "/api/v1/namespaces/default/services"
        for address, why in (
            ("9.9.9.9", "the provided network does not match the current range"),
            ("10.96.0.1", "provided IP is already allocated"),
        ):
            answer = await api.post(
                services, {"metadata": {"name": "s"}, "spec": {"clusterIP": address, "ports": [{"port": 80}]}}
            )
            where = f'spec.clusterIPs: Invalid value: ["{address}"]: failed to allocate IP {address}: {why}'
            assert (answer.status, answer.message) == (422, f'Service "s" is invalid: {where}')

    async def test_a_nodes_networks_are_networks_one_of_each_family(self, api: Api) -> None:
        await api.create("/api/v1/nodes", {"metadata": {"name": "n"}})
        answer = await api.patch("/api/v1/nodes/n", {"spec": {"podCIDR": "10.1.2.3"}})
        where = 'spec.podCIDRs[0]: Invalid value: "10.1.2.3": must be a valid CIDR value, '
        assert (answer.status, answer.message) == (
            422,
            f'Node "n" is invalid: {where}(e.g. 10.9.8.0/24 or 2001:db8::/64)',
        )
        answer = await api.patch("/api/v1/nodes/n", {"spec": {"podCIDRs": ["10.1.0.0/24", "10.2.0.0/24"]}})
        assert (answer.status, answer.causes) == (422, [("spec.podCIDRs", "FieldValueInvalid")])
        answer = await api.patch("/api/v1/nodes/n", {"spec": {"podCIDRs": ["10.1.0.0/24", "fd00::/64"]}})
        assert answer.status == 200

    async def test_of_a_pod_only_images_deadlines_and_tolerations_change(self, api: Api) -> None:
        await api.create(PODS, pod())
        image = [{"op": "replace", "path": "/spec/containers/0/image", "value": "b:2"}]
        answer = await api.patch(f"{PODS}/p", image, JSON_PATCH)
        assert (answer.status, answer.body["metadata"]["generation"]) == (200, 2)
        assert (await api.patch(f"{PODS}/p", {"spec": {"activeDeadlineSeconds": 50}})).status == 200
        for change in ({"nodeName": "x"}, {"hostNetwork": True}, {"restartPolicy": "Never"}, {"hostname": "x"}):
            answer = await api.patch(f"{PODS}/p", {"spec": change})
            assert (answer.status, answer.causes) == (422, [("spec", "FieldValueForbidden")]), change
        for deadline, said in ((60, "must be less than or equal to previous value"), (None, "to nil value")):
            answer = await api.patch(f"{PODS}/p", {"spec": {"activeDeadlineSeconds": deadline}})
            assert (answer.status, said in answer.message) == (422, True)

    async def test_what_is_wrong_with_an_updates_tolerations_is_said_twice(self, api: Api) -> None:
        await api.create(PODS, pod())
        answer = await api.patch(f"{PODS}/p", {"spec": {"tolerations": [{"key": "a b", "operator": "Exists"}]}})
        assert answer.causes == [("spec.tolerations[0].key", "FieldValueInvalid")] * 2

    async def test_a_toleration_without_a_key_stands_for_the_default_ones(self, api: Api) -> None:
        await api.create(PODS, pod())
        answer = await api.patch(f"{PODS}/p", {"spec": {"tolerations": [{"operator": "Equal"}]}})
        assert answer.causes == [
            ("spec.tolerations[0].operator", "FieldValueInvalid"),
            ("spec.tolerations", "FieldValueForbidden"),
        ]

    async def test_a_status_says_nothing_of_deletion(self, api: Api) -> None:
        created = await api.create(PODS, pod())
        created["metadata"]["deletionTimestamp"] = "2020-01-01T00:00:00Z"
        answer = await api.put(f"{PODS}/p/status", created)
        assert (answer.status, answer.body["metadata"].get("deletionTimestamp")) == (200, None)

    async def test_a_pods_containers_stay_as_many(self, api: Api) -> None:
        await api.create(PODS, pod())
        added = [{"op": "add", "path": "/spec/containers/-", "value": {"name": "x", "image": "y"}}]
        answer = await api.patch(f"{PODS}/p", added, JSON_PATCH)
        assert answer.message.endswith("spec.containers: Forbidden: pod updates may not add or remove containers")

    async def test_tolerations_are_only_added_and_the_default_ones_come_back(self, api: Api) -> None:
        await api.create(PODS, pod(tolerations=[{"key": "mine", "operator": "Exists"}]))
        removed = [{"op": "remove", "path": "/spec/tolerations/0"}]
        answer = await api.patch(f"{PODS}/p", removed, JSON_PATCH)
        assert (answer.status, answer.causes) == (422, [("spec.tolerations", "FieldValueForbidden")])
        default = [{"op": "remove", "path": "/spec/tolerations/1"}]
        answer = await api.patch(f"{PODS}/p", default, JSON_PATCH)
        keys = [toleration["key"] for toleration in answer.body["spec"]["tolerations"]]
        assert keys == ["mine", "node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready"]


class TestDryRun:
    async def test_it_answers_as_if_and_stores_nothing(self, api: Api) -> None:
        assert (await api.post(f"{MAPS}?dryRun=All", config_map())).status == 201
        assert (await api.get(f"{MAPS}/c")).status == 404
        created = await api.create(MAPS, config_map())
        answer = await api.patch(f"{MAPS}/c?dryRun=All", {"data": {"x": "y"}})
        assert answer.body["data"] == {"a": "b", "x": "y"}
        assert (await api.put(f"{MAPS}/c?dryRun=All", config_map(data={}))).status == 200
        assert (await api.send("DELETE", f"{MAPS}/c?dryRun=All")).status == 200
        assert (await api.get(f"{MAPS}/c")).body == created

    async def test_it_refuses_what_would_be_refused(self, api: Api) -> None:
        assert (await api.post(f"{MAPS}?dryRun=All", config_map(data={"a b": "c"}))).status == 422

    @pytest.mark.parametrize(
        ("method", "path", "kind"),
        [
            ("POST", MAPS, "CreateOptions"),
            ("PUT", f"{MAPS}/c", "UpdateOptions"),
            ("PATCH", f"{MAPS}/c", "PatchOptions"),
        ],
    )
    async def test_any_other_value_is_invalid(self, api: Api, method: str, path: str, kind: str) -> None:
        answer = await api.send(
            method, f"{path}?dryRun=Zz", config_map(), content_type=MERGE if method == "PATCH" else "application/json"
        )
        assert (answer.status, answer.body["details"]["kind"]) == (422, kind)
        assert answer.message.endswith('dryRun: Unsupported value: ["Zz"]: supported values: "All"')


class TestPatches:
    async def test_one_that_fails_half_way_changes_nothing(self, api: Api) -> None:
        created = await api.create(MAPS, config_map())
        operations = [{"op": "add", "path": "/data/q", "value": "1"}, {"op": "remove", "path": "/nope/x"}]
        answer = await api.patch(f"{MAPS}/c", operations, JSON_PATCH)
        assert (answer.status, answer.reason) == (422, "Invalid")
        assert (await api.get(f"{MAPS}/c")).body == created

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            ({"data": {"a": 1}}, 422),
            ({"data": "x"}, 422),
            ({"kind": "Pod"}, 422),
            ({"apiVersion": "v2"}, 422),
            ({"metadata": None}, 400),
            ({"metadata": {"labels": {"a b": "c"}}}, 422),
        ],
        ids=str,
    )
    async def test_what_comes_out_must_fit_the_kind(self, api: Api, body: dict[str, Any], status: int) -> None:
        created = await api.create(MAPS, config_map())
        assert (await api.patch(f"{MAPS}/c", body, MERGE)).status == status
        assert (await api.get(f"{MAPS}/c")).body == created

    async def test_a_strategic_patch_leaves_kind_and_version_as_they_are(self, api: Api) -> None:
        created = await api.create(MAPS, config_map())
        answer = await api.patch(f"{MAPS}/c", {"kind": "Pod", "apiVersion": "v2"}, STRATEGIC)
        assert (answer.status, answer.body) == (200, created)

    async def test_the_three_kinds_do_to_lists_what_they_are_for(self, api: Api) -> None:
        await api.create(
            "/api/v1/nodes", {"metadata": {"name": "n"}, "spec": {"taints": [{"key": "a", "effect": "NoExecute"}]}}
        )
        status = "/api/v1/nodes/n/status"
        ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
        disk = {"status": {"conditions": [{"type": "Disk", "status": "False"}]}}
        await api.patch(status, ready, STRATEGIC)
        answer = await api.patch(status, disk, STRATEGIC)
        assert [c["type"] for c in answer.body["status"]["conditions"]] == ["Disk", "Ready"]
        answer = await api.patch(status, disk, MERGE)
        assert [c["type"] for c in answer.body["status"]["conditions"]] == ["Disk"]
        answer = await api.patch(status, [{"op": "remove", "path": "/status/conditions/0"}], JSON_PATCH)
        assert "conditions" not in answer.body["status"]

    async def test_more_operations_than_a_server_takes_are_413(self, api: Api) -> None:
        await api.create(MAPS, config_map())
        operations = [{"op": "test", "path": "/data/a", "value": "b"}] * 10_001
        answer = await api.patch(f"{MAPS}/c", operations, JSON_PATCH)
        assert (answer.status, answer.reason) == (413, "RequestEntityTooLarge")

    async def test_server_side_apply_says_what_to_use_instead(self, api: Api) -> None:
        await api.create(MAPS, config_map())
        answer = await api.patch(f"{MAPS}/c?fieldManager=x", config_map(), "application/apply-patch+yaml")
        assert (answer.status, answer.reason) == (415, "UnsupportedMediaType")
        assert "does not serve server-side apply; use client-side apply" in answer.message


async def test_an_event_is_looked_at_before_its_metadata_and_may_have_any_name(api: Api) -> None:
    events = "/api/v1/namespaces/default/events"
    event: dict[str, Any] = {"metadata": {"name": "Upper_1", "namespace": "default", "finalizers": ["short"]}}
    assert (await api.post(events, {**event, "involvedObject": {"namespace": "default"}})).status == 201
    event["metadata"] = {"name": "a%b", "labels": {"a b": ""}}
    answer = await api.post(events, {**event, "involvedObject": {"namespace": "other"}})
    assert answer.causes == [("involvedObject.namespace", "FieldValueInvalid")]
    answer = await api.post(events, {**event, "involvedObject": {"namespace": "default"}})
    assert [field for field, _ in answer.causes] == ["metadata.name", "metadata.labels"]
