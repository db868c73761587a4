"""Binding, eviction, status, ephemeral containers, resize; init containers that go on running."""

from __future__ import annotations

from typing import Any

import pytest

from tests.devcluster.clients import JSON_PATCH, MERGE, STRATEGIC, Api, pod

PODS = "/api/v1/namespaces/default/pods"
CPU = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "200m", "memory": "128Mi"}}


def _binding(name: str = "p", **target: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "target": {"kind": "Node", "name": "n", **target}}


def _status(name: str = "main", **state: Any) -> dict[str, Any]:
    return {"name": name, "image": "b", "imageID": "", "ready": True, "restartCount": 0, "state": state}


class TestBinding:
    async def test_it_puts_the_pod_on_the_node_and_says_so_in_a_condition(self, api: Api) -> None:
        await api.create(PODS, pod())
        answer = await api.post(f"{PODS}/p/binding", _binding())
        assert (answer.status, answer.body["status"]) == (201, "Success")
        bound = (await api.get(f"{PODS}/p")).body
        assert bound["spec"]["nodeName"] == "n"
        (condition,) = bound["status"]["conditions"]
        assert (condition["type"], condition["status"]) == ("PodScheduled", "True")

    async def test_only_once(self, api: Api) -> None:
        await api.create(PODS, pod())
        await api.post(f"{PODS}/p/binding", _binding())
        answer = await api.post(f"{PODS}/p/binding", _binding(name="p"))
        assert (answer.status, answer.message) == (
            409,
            'Operation cannot be fulfilled on pods/binding "p": pod p is already assigned to node "n"',
        )

        assert (await api.post(f"{PODS}/p/binding?dryRun=All", _binding(name="p"))).status == 409

    async def test_the_pod_gets_its_annotations_and_waits_for_its_gates(self, api: Api) -> None:
        await api.create(PODS, pod(schedulingGates=[{"name": "x.y/z"}]))
        binding = {**_binding(), "metadata": {"name": "p", "annotations": {"a": "b"}}}
        answer = await api.post(f"{PODS}/p/binding", binding)
        assert (answer.status, answer.message.endswith("pod p has non-empty .spec.schedulingGates")) == (409, True)
        await api.patch(f"{PODS}/p", {"spec": {"schedulingGates": None}})
        assert (await api.post(f"{PODS}/p/binding", binding)).status == 201
        assert (await api.get(f"{PODS}/p")).body["metadata"]["annotations"] == {"a": "b"}

    async def test_not_a_pod_that_is_being_deleted(self, api: Api) -> None:
        await api.create(PODS, pod(metadata={"finalizers": ["example.com/hold"]}))
        await api.delete(f"{PODS}/p")
        answer = await api.post(f"{PODS}/p/binding", _binding())
        assert (answer.status, answer.message.endswith("pod p is being deleted, cannot be assigned to a host")) == (
            409,
            True,
        )

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            (_binding(kind="Zz"), 500),  # so does a real one
            ({"metadata": {"name": "p"}, "target": {"kind": "Node"}}, 500),
            (_binding("other"), 400),
            ({"target": {"name": "n"}}, 400),
            ({**_binding(), "kind": "Pod"}, 400),
        ],
        ids=str,
    )
    async def test_bindings_that_cannot_be(self, api: Api, body: dict[str, Any], status: int) -> None:
        await api.create(PODS, pod())
        assert (await api.post(f"{PODS}/p/binding", body)).status == status
        assert "nodeName" not in (await api.get(f"{PODS}/p")).body["spec"]

    async def test_of_no_pod_is_404(self, api: Api) -> None:
        assert (await api.post(f"{PODS}/p/binding", _binding())).status == 404


class TestEviction:
    EVICTION = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}

    async def test_it_deletes_with_grace_and_says_why(self, api: Api) -> None:
        await api.create(PODS, pod(nodeName="n"))
        assert (await api.post(f"{PODS}/p/eviction", self.EVICTION)).status == 201
        evicted = (await api.get(f"{PODS}/p")).body
        assert evicted["metadata"]["deletionGracePeriodSeconds"] == 30
        (condition,) = evicted["status"]["conditions"]
        assert (condition["type"], condition["reason"]) == ("DisruptionTarget", "EvictionByEvictionAPI")

    async def test_its_delete_options_count(self, api: Api) -> None:
        created = await api.create(PODS, pod(nodeName="n"))
        wrong = {**self.EVICTION, "deleteOptions": {"preconditions": {"uid": "zz"}}}
        assert (await api.post(f"{PODS}/p/eviction", wrong)).status == 409
        right = {"preconditions": {"uid": created["metadata"]["uid"]}, "gracePeriodSeconds": 0}
        await api.post(f"{PODS}/p/eviction", {**self.EVICTION, "deleteOptions": right})
        assert (await api.get(f"{PODS}/p")).status == 404

    async def test_a_dry_run_does_nothing(self, api: Api) -> None:
        created = await api.create(PODS, pod(nodeName="n"))
        assert (await api.post(f"{PODS}/p/eviction?dryRun=All", self.EVICTION)).status == 201
        assert (await api.get(f"{PODS}/p")).body == created

    async def test_of_another_name_is_400_and_of_no_pod_404(self, api: Api) -> None:
        assert (await api.post(f"{PODS}/q/eviction", self.EVICTION)).status == 400
        assert (await api.post(f"{PODS}/p/eviction", self.EVICTION)).status == 404


class TestStatus:
    async def test_only_the_status_and_labels_count(self, api: Api) -> None:
        created = await api.create(PODS, pod())
        body = {
            "status": {"phase": "Running"},
            "spec": {"nodeName": "elsewhere"},
            "metadata": {"labels": {"a": "b"}, "ownerReferences": [{"uid": "x"}]},
        }
        patched = (await api.patch(f"{PODS}/p/status", body)).body
        assert patched["status"]["phase"] == "Running"
        assert patched["spec"] == created["spec"]
        assert patched["metadata"]["labels"] == {"a": "b"}
        assert "ownerReferences" not in patched["metadata"]
        assert patched["metadata"]["generation"] == created["metadata"]["generation"]

    async def test_an_update_of_the_pod_leaves_its_status(self, api: Api) -> None:
        created = await api.create(PODS, pod())
        answer = await api.patch(f"{PODS}/p", {"status": {"phase": "Running"}})
        assert (answer.status, answer.body) == (200, created)

    async def test_what_it_must_not_say(self, api: Api) -> None:
        await api.create(PODS, pod())
        for body, field in (
            ({"qosClass": "Guaranteed"}, "status.qosClass"),
            ({"podIP": "zz"}, "status.podIPs[0]"),
            ({"hostIP": "10.0.0.1", "hostIPs": [{"ip": "10.0.0.2"}]}, "status.hostIPs[0].ip"),
            ({"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]}, "status.podIPs"),
            ({"nominatedNodeName": "A_"}, "status.nominatedNodeName"),
            ({"conditions": [{"type": "a b", "status": "True"}]}, "metadata.conditions[0].Type"),
        ):
            answer = await api.patch(f"{PODS}/p/status", {"status": body})
            assert (answer.status, answer.causes[0][0]) == (422, field), answer.body

    @pytest.mark.parametrize(("action", "status"), [("Restart", 422), ("RestartAllContainers", 200)])
    async def test_what_has_ended_for_good_comes_back_only_with_a_rule_that_restarts_all(
        self, api: Api, action: str, status: int
    ) -> None:
        rule = {"action": action, "exitCodes": {"operator": "In", "values": [42]}}
        ruled = {"name": "ruled", "image": "b", "restartPolicy": "Never", "restartPolicyRules": [rule]}
        await api.create(PODS, pod(restartPolicy="Never", containers=[{"name": "main", "image": "b"}, ruled]))
        ended = {"containerStatuses": [_status(terminated={"exitCode": 0})]}
        assert (await api.patch(f"{PODS}/p/status", {"status": ended})).status == 200
        again = {"containerStatuses": [_status(running={})]}
        assert (await api.patch(f"{PODS}/p/status", {"status": again})).status == status

    async def test_the_single_address_and_the_list_agree(self, api: Api) -> None:
        await api.create(PODS, pod())
        answer = await api.patch(f"{PODS}/p/status", {"status": {"podIP": "10.0.0.1"}})
        assert answer.body["status"]["podIPs"] == [{"ip": "10.0.0.1"}]

    async def test_an_observed_generation_is_not_taken_away_by_who_does_not_know_it(self, api: Api) -> None:
        await api.create(PODS, pod())
        known = {"type": "Ready", "status": "True", "observedGeneration": 1}
        await api.patch(f"{PODS}/p/status", {"status": {"observedGeneration": 1, "conditions": [known]}})
        old = {"status": {"observedGeneration": None, "conditions": [{"type": "Ready", "status": "False"}]}}
        status = (await api.patch(f"{PODS}/p/status", old, MERGE)).body["status"]
        assert status["observedGeneration"] == 1
        assert status["conditions"][0]["observedGeneration"] == 1

    @pytest.mark.parametrize(
        ("policy", "code", "allowed"),
        [("Always", 0, True), ("OnFailure", 1, True), ("OnFailure", 0, False), ("Never", 1, False)],
    )
    async def test_a_container_that_will_not_run_again_stays_terminated(
        self, api: Api, policy: str, code: int, allowed: bool
    ) -> None:
        await api.create(PODS, pod(restartPolicy=policy))
        ended = {"status": {"containerStatuses": [_status(terminated={"exitCode": code})]}}
        await api.patch(f"{PODS}/p/status", ended)
        answer = await api.patch(f"{PODS}/p/status", {"status": {"containerStatuses": [_status(running={})]}})
        assert answer.status == (200 if allowed else 422)
        if not allowed:
            assert answer.causes == [("status.containerStatuses[0].state", "FieldValueForbidden")]


class TestSidecars:
    """Init containers with ``restartPolicy: Always``."""

    SIDECAR = {"name": "side", "image": "b:1", "restartPolicy": "Always"}

    async def test_they_may_have_probes_and_hooks_and_others_may_not(self, api: Api) -> None:
        more = {
            "livenessProbe": {"exec": {"command": ["a"]}},
            "startupProbe": {"exec": {"command": ["a"]}},
            "lifecycle": {"preStop": {"exec": {"command": ["a"]}}},
        }
        plain = {"name": "init", "image": "b:1"}
        created = await api.create(PODS, pod(initContainers=[{**self.SIDECAR, **more}, plain]))
        assert created["spec"]["initContainers"][0]["restartPolicy"] == "Always"
        answer = await api.post(PODS, pod("q", initContainers=[{**plain, **more}]))
        assert answer.causes == [
            (f"spec.initContainers[0].{field}", "FieldValueForbidden")
            for field in ("lifecycle", "livenessProbe", "startupProbe")
        ]

    async def test_they_come_back_to_life_whatever_the_pods_policy(self, api: Api) -> None:
        plain = {"name": "init", "image": "b:1"}
        await api.create(PODS, pod(restartPolicy="Never", initContainers=[self.SIDECAR, plain]))
        ended = [_status("side", terminated={"exitCode": 1}), _status("init", terminated={"exitCode": 0})]
        await api.patch(f"{PODS}/p/status", {"status": {"initContainerStatuses": ended}})
        back = [_status("side", running={}), ended[1]]
        assert (await api.patch(f"{PODS}/p/status", {"status": {"initContainerStatuses": back}})).status == 200
        back = [back[0], _status("init", running={})]
        answer = await api.patch(f"{PODS}/p/status", {"status": {"initContainerStatuses": back}})
        assert (answer.status, answer.causes[0][0]) == (422, "status.initContainerStatuses[1].state")

    async def test_another_policy_than_the_known_ones_is_invalid(self, api: Api) -> None:
        answer = await api.post(PODS, pod(initContainers=[{**self.SIDECAR, "restartPolicy": "Zz"}]))
        assert answer.causes == [("spec.initContainers[0].restartPolicy", "FieldValueNotSupported")]


class TestEphemeralContainers:
    DEBUG = {"name": "debug", "image": "b:1", "targetContainerName": "main", "stdin": True}

    async def test_they_are_added_through_their_subresource_only(self, api: Api) -> None:
        answer = await api.post(PODS, pod(ephemeralContainers=[self.DEBUG]))
        assert (answer.status, answer.causes) == (422, [("spec.ephemeralContainers", "FieldValueForbidden")])
        created = await api.create(PODS, pod())
        body = {"spec": {"ephemeralContainers": [self.DEBUG]}, "metadata": {"labels": {"a": "b"}}}
        added = (await api.patch(f"{PODS}/p/ephemeralcontainers", body, STRATEGIC)).body
        (container,) = added["spec"]["ephemeralContainers"]
        assert (container["name"], container["imagePullPolicy"]) == ("debug", "IfNotPresent")
        assert added["metadata"]["generation"] == created["metadata"]["generation"] + 1
        assert "labels" not in added["metadata"]
        # A client that does not know them does not take them away.
        answer = await api.put(f"{PODS}/p", {**created, "metadata": {"name": "p"}})
        assert (answer.status, answer.body["spec"]["ephemeralContainers"]) == (200, [container])

    async def test_those_that_are_there_stay_as_they_are(self, api: Api) -> None:
        await api.create(PODS, pod())
        path = f"{PODS}/p/ephemeralcontainers"
        await api.patch(path, {"spec": {"ephemeralContainers": [self.DEBUG]}}, STRATEGIC)
        changed = {"spec": {"ephemeralContainers": [{**self.DEBUG, "image": "other"}]}}
        answer = await api.patch(path, changed, MERGE)
        assert (answer.status, "may not be changed" in answer.message) == (422, True)
        answer = await api.patch(path, {"spec": {"ephemeralContainers": None}}, MERGE)
        assert (answer.status, "may not be removed" in answer.message) == (422, True)

    @pytest.mark.parametrize(
        ("more", "field", "reason"),
        [
            ({"targetContainerName": "nope"}, "targetContainerName", "FieldValueNotFound"),
            ({"name": "main"}, "name", "FieldValueDuplicate"),
            ({"ports": [{"containerPort": 80}]}, "ports", "FieldValueForbidden"),
            ({"resources": {"limits": {"cpu": "1"}}}, "resources", "FieldValueForbidden"),
            ({"livenessProbe": {"exec": {"command": ["a"]}}}, "livenessProbe", "FieldValueForbidden"),
        ],
    )
    async def test_what_they_may_not_have(self, api: Api, more: dict[str, Any], field: str, reason: str) -> None:
        await api.create(PODS, pod())
        body = {"spec": {"ephemeralContainers": [{**self.DEBUG, **more}]}}
        answer = await api.patch(f"{PODS}/p/ephemeralcontainers", body, MERGE)
        assert (answer.status, answer.causes) == (422, [(f"spec.ephemeralContainers[0].{field}", reason)])


class TestResize:
    async def _pod(self, api: Api, resources: dict[str, Any] = CPU, **spec: Any) -> None:
        await api.create(PODS, pod(containers=[{"name": "main", "image": "b:1", "resources": resources}], **spec))

    async def _resize(self, api: Api, resources: dict[str, Any], **container: Any) -> Any:
        body = {"spec": {"containers": [{"name": "main", "resources": resources, **container}]}}
        return await api.patch(f"{PODS}/p/resize", body, STRATEGIC)

    async def test_it_changes_resources_and_nothing_else(self, api: Api) -> None:
        await self._pod(api)
        answer = await self._resize(api, {"requests": {"cpu": "150m"}}, image="other:1")
        assert answer.status == 200
        container = answer.body["spec"]["containers"][0]
        assert container["resources"]["requests"] == {"cpu": "150m", "memory": "64Mi"}
        assert container["image"] == "b:1"
        assert answer.body["metadata"]["generation"] == 2
        assert (await api.get(f"{PODS}/p/resize")).body == answer.body

    async def test_the_pod_itself_refuses_it(self, api: Api) -> None:
        await self._pod(api)
        body = {"spec": {"containers": [{"name": "main", "resources": {"requests": {"cpu": "150m"}}}]}}
        assert (await api.patch(f"{PODS}/p", body, STRATEGIC)).causes == [("spec", "FieldValueForbidden")]

    async def test_the_quality_of_service_stays(self, api: Api) -> None:
        await self._pod(api, {})
        answer = await self._resize(api, {"requests": {"cpu": "10m"}})
        assert answer.message == (
            'Pod "p" is invalid: spec: Invalid value: "BestEffort": Pod QOS Class may not change as a result of resizing'
        )

    @pytest.mark.parametrize(
        ("resources", "said"),
        [
            ({"limits": {"cpu": None}}, "spec.containers[0].resources.limits: Forbidden: resource limits cannot"),
            ({"requests": {"cpu": "300m"}}, "must be less than or equal to cpu limit of 200m"),
            (
                {"limits": {"ephemeral-storage": "1Gi"}},
                "spec: Forbidden: only cpu and memory resources are mutable",
            ),
        ],
        ids=str,
    )
    async def test_what_it_may_not(self, api: Api, resources: dict[str, Any], said: str) -> None:
        await self._pod(api)
        answer = await self._resize(api, resources)
        assert (answer.status, said in answer.message) == (422, True), answer.message

    async def test_requests_are_not_taken_away(self, api: Api) -> None:
        await self._pod(api, {"requests": CPU["requests"]})
        answer = await self._resize(api, {"requests": {"memory": None}})
        assert answer.causes == [("spec.containers[0].resources.requests", "FieldValueForbidden")]

    @pytest.mark.parametrize("policy", ["NotRequired", "RestartContainer"])
    async def test_memory_may_shrink_since_1_34_also_while_the_container_runs(self, api: Api, policy: str) -> None:
        await self._pod(api)
        policies = [{"resourceName": "memory", "restartPolicy": policy}]
        assert (await self._resize(api, {"limits": {"memory": "100Mi"}}, resizePolicy=policies)).status == 200

    async def test_no_container_comes_or_goes(self, api: Api) -> None:
        await self._pod(api)
        added = [{"op": "add", "path": "/spec/containers/-", "value": {"name": "x", "image": "y"}}]
        answer = await api.patch(f"{PODS}/p/resize", added, JSON_PATCH)
        assert (answer.status, answer.causes) == (422, [("spec", "FieldValueForbidden")])

    async def test_a_node_that_cannot_says_so_by_its_statuses(self, api: Api) -> None:
        await self._pod(api, nodeName="n")
        running = {"status": {"containerStatuses": [_status(running={})]}}
        await api.patch(f"{PODS}/p/status", running, STRATEGIC)
        answer = await self._resize(api, {"requests": {"cpu": "150m"}})
        assert answer.message.endswith("spec: Forbidden: Pod running on node without support for resize")
        able = {"status": {"containerStatuses": [{**_status(running={}), "resources": CPU}]}}
        await api.patch(f"{PODS}/p/status", able, STRATEGIC)
        assert (await self._resize(api, {"requests": {"cpu": "150m"}})).status == 200
