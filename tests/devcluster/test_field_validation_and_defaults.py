"""What the server makes of an object before it stores it: unknown fields, defaults, regular forms."""

from __future__ import annotations

import pytest

from tests.devcluster.clients import MERGE, STRATEGIC, Api, config_map, pod

PODS = "/api/v1/namespaces/default/pods"
MAPS = "/api/v1/namespaces/default/configmaps"
UNKNOWN = 'unknown field "spec.containers[0].zzz"'


def _with_unknown_field() -> dict[str, object]:
    return pod(containers=[{"name": "main", "image": "b", "zzz": 1}])


class TestFieldValidation:
    async def test_strict_refuses_unknown_fields_and_names_them(self, api: Api) -> None:
        answer = await api.post(f"{PODS}?fieldValidation=Strict", _with_unknown_field())
        assert (answer.status, answer.reason) == (400, "BadRequest")
        assert answer.message == (f'Pod in version "v1" cannot be handled as a Pod: strict decoding error: {UNKNOWN}')
        assert (await api.get(f"{PODS}/p")).status == 404

    @pytest.mark.parametrize("query", ["", "?fieldValidation=Warn", "?fieldValidation="])
    async def test_by_default_unknown_fields_are_dropped_with_a_warning(self, api: Api, query: str) -> None:
        answer = await api.post(PODS + query, _with_unknown_field())
        assert answer.status == 201
        quoted = UNKNOWN.replace('"', '\\"')
        assert answer.warnings == [f'299 - "{quoted}"']
        assert "zzz" not in answer.body["spec"]["containers"][0]

    async def test_ignore_drops_them_in_silence(self, api: Api) -> None:
        answer = await api.post(f"{PODS}?fieldValidation=Ignore", _with_unknown_field())
        assert (answer.status, answer.warnings) == (201, [])

    async def test_another_value_is_invalid(self, api: Api) -> None:
        answer = await api.post(f"{PODS}?fieldValidation=Zz", pod())
        assert (answer.status, answer.causes) == (422, [("fieldValidation", "FieldValueNotSupported")])

    async def test_strict_holds_for_put(self, api: Api) -> None:
        await api.create(MAPS, config_map())
        answer = await api.put(f"{MAPS}/c?fieldValidation=Strict", {**config_map(), "zzz": 1})
        assert (answer.status, answer.message.endswith('strict decoding error: unknown field "zzz"')) == (400, True)

    @pytest.mark.parametrize("media_type", [MERGE, STRATEGIC])
    async def test_strict_refuses_a_patch_and_quotes_it_or_what_came_of_it(self, api: Api, media_type: str) -> None:
        await api.create(MAPS, config_map())
        answer = await api.patch(f"{MAPS}/c?fieldValidation=Strict", {"zzz": 1}, media_type)
        assert (answer.status, answer.causes) == (422, [("patch", "FieldValueInvalid")])
        assert answer.message.endswith('": strict decoding error: unknown field "zzz"')
        shown = '\\"zzz\\":1}' if media_type == MERGE else "map[zzz:1]"
        assert shown in answer.message

    @pytest.mark.parametrize("media_type", [MERGE, STRATEGIC])
    async def test_strict_refuses_the_patch_of_a_secret_without_quoting_anything(
        self, api: Api, media_type: str
    ) -> None:
        secrets = "/api/v1/namespaces/default/secrets"
        await api.create(secrets, {"metadata": {"name": "s"}, "stringData": {"password": "hunter2"}})
        answer = await api.patch(f"{secrets}/s?fieldValidation=Strict", {"zzz": "hunter3"}, media_type)
        assert answer.message.endswith('patch: Invalid value: "": strict decoding error: unknown field "zzz"')

    async def test_a_patch_with_unknown_fields_warns(self, api: Api) -> None:
        await api.create(MAPS, config_map())
        answer = await api.patch(f"{MAPS}/c", {"zzz": 1, "data": {"x": "y"}})
        assert (answer.status, answer.warnings) == (200, ['299 - "unknown field \\"zzz\\""'])
        assert answer.body["data"] == {"a": "b", "x": "y"}


class TestDefaults:
    async def test_a_pod_gets_what_it_does_not_say(self, api: Api) -> None:
        created = await api.create(PODS, pod(containers=[{"name": "main", "image": "busybox"}]))
        spec = created["spec"]
        assert spec["restartPolicy"] == "Always"
        assert spec["dnsPolicy"] == "ClusterFirst"
        assert spec["terminationGracePeriodSeconds"] == 30
        assert spec["schedulerName"] == "default-scheduler"
        assert spec["enableServiceLinks"] is True
        assert spec["securityContext"] == {}
        assert (spec["priority"], spec["preemptionPolicy"]) == (0, "PreemptLowerPriority")
        assert spec["containers"][0] == {
            "name": "main",
            "image": "busybox",
            "resources": {},
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
            "imagePullPolicy": "Always",
        }
        assert [(t["key"], t["tolerationSeconds"]) for t in spec["tolerations"]] == [
            ("node.kubernetes.io/not-ready", 300),
            ("node.kubernetes.io/unreachable", 300),
        ]

    @pytest.mark.parametrize(
        ("image", "policy"),
        [
            ("busybox", "Always"),
            ("busybox:latest", "Always"),
            ("busybox:1.36", "IfNotPresent"),
            ("host:5000/busybox", "Always"),
            ("host:5000/busybox:1", "IfNotPresent"),
            ("busybox@sha256:" + "0" * 64, "IfNotPresent"),
        ],
    )
    async def test_the_pull_policy_follows_from_the_tag(self, api: Api, image: str, policy: str) -> None:
        created = await api.create(PODS, pod(containers=[{"name": "main", "image": image}]))
        assert created["spec"]["containers"][0]["imagePullPolicy"] == policy

    async def test_probes_hooks_and_references_get_theirs(self, api: Api) -> None:
        container = {
            "name": "main",
            "image": "b:1",
            "livenessProbe": {"httpGet": {"port": 80}},
            "lifecycle": {"preStop": {"httpGet": {"port": 1}}},
            "ports": [{"containerPort": 80}],
            "env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        }
        created = (await api.create(PODS, pod(containers=[container])))["spec"]["containers"][0]
        probe = created["livenessProbe"]
        assert probe["httpGet"] == {"port": 80, "path": "/", "scheme": "HTTP"}
        fields = ("timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")
        assert [probe[field] for field in fields] == [1, 10, 1, 3]
        assert created["lifecycle"]["preStop"]["httpGet"] == {"port": 1, "path": "/", "scheme": "HTTP"}
        assert created["ports"][0]["protocol"] == "TCP"
        assert created["env"][0]["valueFrom"]["fieldRef"]["apiVersion"] == "v1"

    async def test_the_divisor_of_a_resource_is_always_written(self, api: Api) -> None:
        env = [{"name": "C", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}]
        created = await api.create(PODS, pod(containers=[{"name": "a", "image": "b", "env": env}]))
        reference = created["spec"]["containers"][0]["env"][0]["valueFrom"]["resourceFieldRef"]
        assert reference == {"resource": "limits.cpu", "divisor": "0"}

    async def test_limits_are_requests_where_nothing_else_is_said(self, api: Api) -> None:
        resources = {"limits": {"cpu": "1000m", "memory": "1024Mi"}, "requests": {"cpu": "500m"}}
        created = await api.create(PODS, pod(containers=[{"name": "a", "image": "b:1", "resources": resources}]))
        assert created["spec"]["containers"][0]["resources"] == {
            "limits": {"cpu": "1", "memory": "1Gi"},
            "requests": {"cpu": "500m", "memory": "1Gi"},
        }

    @pytest.mark.parametrize(
        ("resources", "quality"),
        [
            ({}, "BestEffort"),
            ({"requests": {"cpu": "1"}}, "Burstable"),
            ({"limits": {"cpu": "1"}}, "Burstable"),
            ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
            ({"limits": {"cpu": "0", "memory": "0"}}, "BestEffort"),
        ],
    )
    async def test_the_quality_of_service_follows_from_resources(
        self, api: Api, resources: dict[str, object], quality: str
    ) -> None:
        created = await api.create(PODS, pod(containers=[{"name": "a", "image": "b:1", "resources": resources}]))
        assert created["status"] == {"phase": "Pending", "qosClass": quality}

    async def test_volumes_get_theirs(self, api: Api) -> None:
        volumes = [
            {"name": "nothing"},
            {"name": "map", "configMap": {"name": "x"}},
            {"name": "host", "hostPath": {"path": "/x"}},
            {"name": "mix", "projected": {"sources": [{"secret": {"name": "s"}}]}},
        ]
        created = await api.create(PODS, pod(volumes=volumes))
        assert created["spec"]["volumes"] == [
            {"name": "nothing", "emptyDir": {}},
            {"name": "map", "configMap": {"name": "x", "defaultMode": 420}},
            {"name": "host", "hostPath": {"path": "/x", "type": ""}},
            {"name": "mix", "projected": {"sources": [{"secret": {"name": "s"}}], "defaultMode": 420}},
        ]

    async def test_a_nodes_capacity_is_allocatable_unless_it_says_otherwise(self, api: Api) -> None:
        await api.create("/api/v1/nodes", {"metadata": {"name": "n"}})
        answer = await api.patch("/api/v1/nodes/n/status", {"status": {"capacity": {"cpu": "2"}}})
        assert answer.body["status"]["allocatable"] == {"cpu": "2"}

    async def test_a_secrets_plain_strings_become_data(self, api: Api) -> None:
        secret = {"metadata": {"name": "s"}, "data": {"a": "eA==\n"}, "stringData": {"b": "y"}}
        created = await api.create("/api/v1/namespaces/default/secrets", secret)
        assert (created["type"], created["data"]) == ("Opaque", {"a": "eA==", "b": "eQ=="})
        assert "stringData" not in created


class TestRegularForm:
    async def test_quantities_and_times_are_stored_in_one_form(self, api: Api) -> None:
        lease = {
            "metadata": {"name": "l"},
            "spec": {"renewTime": "2026-01-02T03:04:05.000000+01:00", "holderIdentity": ""},
        }
        created = await api.create("/apis/coordination.k8s.io/v1/namespaces/default/leases", lease)
        assert created["spec"] == {"renewTime": "2026-01-02T02:04:05.000000Z", "holderIdentity": ""}

    async def test_what_is_a_pointer_in_go_may_be_empty_and_what_is_none_is_written(self, api: Api) -> None:
        volumes = [{"name": "v", "projected": {}}]
        created = await api.create(PODS, pod(volumes=volumes, securityContext={"runAsUser": 0}))
        assert created["spec"]["volumes"] == [{"name": "v", "projected": {"sources": None, "defaultMode": 420}}]

    @pytest.mark.parametrize(
        ("time", "problem"),
        [
            ("x", 'as "2006-01-02T15:04:05.000000Z07:00": cannot parse "x" as "2006"'),
            ("2026-1", 'as "2006-01-02T15:04:05.000000Z07:00": cannot parse "1" as "01"'),
            ("2026-13-01T00:00:00.000000Z", ": month out of range"),
            ("2026-02-30T00:00:00.000000Z", ": day out of range"),
            ("2026-02-03 00:00:00Z", 'as "2006-01-02T15:04:05.000000Z07:00": cannot parse " 00:00:00Z" as "T"'),
            ("2026-02-03T24:00:00.000000Z", ": hour out of range"),
            ("2026-02-03T00:00:00Z", 'as "2006-01-02T15:04:05.000000Z07:00": cannot parse "Z" as ".000000"'),
            ("2026-02-03T00:00:00.0000009Z", 'as "2006-01-02T15:04:05.000000Z07:00": cannot parse "9Z" as "Z07:00"'),
            ("2026-02-03T00:00:00.000000", 'as "2006-01-02T15:04:05.000000Z07:00": cannot parse "" as "Z07:00"'),
            ("2026-02-03T00:00:00.000000Zz", ': extra text: "z"'),
        ],
    )
    async def test_times_that_are_none(self, api: Api, time: str, problem: str) -> None:
        lease = {"metadata": {"name": "l"}, "spec": {"renewTime": time}}
        answer = await api.post("/apis/coordination.k8s.io/v1/namespaces/default/leases", lease)
        space = "" if problem.startswith(":") else " "
        why = f'parsing time "{time}"{space}{problem}'
        assert (answer.status, answer.message) == (400, f'Lease in version "v1" cannot be handled as a Lease: {why}')

    async def test_what_a_client_may_not_decide_is_ignored(self, api: Api) -> None:
        created = await api.create(
            PODS,
            {
                **pod(
                    metadata={
                        "uid": "mine",
                        "creationTimestamp": "2020-01-01T00:00:00Z",
                        "generation": 7,
                        "deletionTimestamp": "2020-01-01T00:00:00Z",
                        "managedFields": [],
                        "selfLink": "/x",
                    }
                ),
                "status": {"phase": "Running"},
            },
        )
        metadata = created["metadata"]
        assert metadata["uid"] != "mine"
        assert metadata["generation"] == 1
        assert not metadata["creationTimestamp"].startswith("2020")
        assert metadata.keys() == {"name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp"}
        assert created["status"]["phase"] == "Pending"

    async def test_bytes_that_are_no_base64_are_400(self, api: Api) -> None:
        answer = await api.post("/api/v1/namespaces/default/secrets", {"metadata": {"name": "s"}, "data": {"a": "e!"}})
        assert (answer.status, answer.message) == (
            400,
            'Secret in version "v1" cannot be handled as a Secret: illegal base64 data at input byte 1',
        )
