"""Input that no well-behaved client sends: the answer is a real server's, and everybody else is served meanwhile."""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import Any

import pytest

from tests.devcluster.clients import JSON_PATCH, MERGE, PATIENCE, STRATEGIC, Api, config_map, pod, ssl_context
from virtual_kubelet.devcluster import DevCluster
from virtual_kubelet.devcluster.go_json import NotJson, decode_go_json

MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
PROTOBUF = "application/vnd.kubernetes.protobuf"


def _unread(problem: str, shown: str) -> str:
    return (
        f"the object provided is unrecognized (must be of type Pod): couldn't get version/kind; json parse error: "
        f"{problem} ({shown})"
    )


class TestBodies:
    @pytest.mark.parametrize(
        ("body", "message"),
        [
            (b"", _unread("unexpected end of JSON input", "<empty>")),
            (b"{not json", _unread("invalid character 'n' looking for beginning of object key string", "{not json")),
            (b'{"a":', _unread("unexpected end of JSON input", '{"a":')),
            (b"{} x", _unread("invalid character 'x' after top-level value", "{} x")),
            (
                b'{"kind":1}',
                _unread("json: cannot unmarshal number into Go struct field .kind of type string", '{"kind":1}'),
            ),
            (
                b'{"a":' * 10_001 + b"1" + b"}" * 10_001,
                _unread("invalid character '{' exceeded max depth", '{"a":{"a":{"a":{"a":{"a":{"a": ...'),
            ),
        ],
        ids=["empty", "words", "cut", "trailing", "kind", "10,001 deep"],
    )
    async def test_what_is_no_json_is_400_in_gos_words(self, api: Api, body: bytes, message: str) -> None:
        answer = await api.post(PODS, body)
        assert (answer.status, answer.reason, answer.message) == (400, "BadRequest", message)

    @pytest.mark.parametrize("body", [b"[]", b'"x"', b"1", b"true"])
    async def test_json_that_is_no_object_is_400(self, api: Api, body: bytes) -> None:
        answer = await api.post(PODS, body)
        assert (answer.status, "cannot unmarshal" in answer.message) == (400, True)

    @pytest.mark.parametrize(
        ("body", "why"),
        [
            ({"metadata": []}, "cannot unmarshal array into Go struct field Pod.metadata of type v1.ObjectMeta"),
            (
                {"metadata": {"name": 1}},
                "cannot unmarshal number into Go struct field ObjectMeta.metadata.name of type string",
            ),
            (
                pod(containers=["x"]),
                "cannot unmarshal string into Go struct field Container.spec.containers of type v1.Container",
            ),
            (
                pod(containers=[{"name": "a", "image": "b", "ports": [{"containerPort": "80"}]}]),
                "Go struct field ContainerPort.spec.containers.ports.containerPort of type int32",
            ),
            (
                pod(containers=[{"name": "a", "image": "b", "ports": [{"containerPort": 8_000_000_000}]}]),
                "cannot unmarshal number 8000000000 into Go struct field",
            ),
            (
                pod(hostNetwork="yes"),
                "cannot unmarshal string into Go struct field PodSpec.spec.hostNetwork of type bool",
            ),
            (
                pod(containers=[{"name": "a", "image": "b", "resources": {"limits": {"cpu": "zz"}}}]),
                "quantities must match the regular expression",
            ),
            (
                {"metadata": {"name": "x", "creationTimestamp": "zz"}},
                'parsing time "zz" as "2006-01-02T15:04:05Z07:00"',
            ),
        ],
    )
    async def test_values_of_the_wrong_type_are_400_and_named(self, api: Api, body: dict[str, Any], why: str) -> None:
        answer = await api.post(PODS, body)
        assert (answer.status, answer.reason) == (400, "BadRequest")
        assert why in answer.message

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            (
                {"kind": "Zzz", "apiVersion": "v1"},
                'Zzz in version "v1" cannot be handled as a Pod: no kind "Zzz" is registered for version "v1" in scheme '
                '"pkg/api/legacyscheme/scheme.go:30"',
            ),
            (
                {"kind": "Pod", "apiVersion": "v9"},
                'Pod in version "v9" cannot be handled as a Pod: no kind "Pod" is registered for version "v9" in scheme '
                '"pkg/api/legacyscheme/scheme.go:30"',
            ),
            (
                {"kind": "Service", "apiVersion": "v1"},
                'Service in version "v1" cannot be handled as a Pod: converting (v1.Service) to (core.Pod): unknown '
                "conversion",
            ),
            (
                {"kind": "Deployment", "apiVersion": "apps/v1"},
                'Deployment in version "v1" cannot be handled as a Pod: converting (v1.Deployment) to (core.Pod): unknown '
                "conversion",
            ),
        ],
    )
    async def test_other_kinds_are_400(self, api: Api, body: dict[str, Any], message: str) -> None:
        answer = await api.post(PODS, {**body, "metadata": {"name": "x"}})
        assert (answer.status, answer.message) == (400, message)

    @pytest.mark.parametrize("media_type", ["application/zzz", "text/plain", "application/cbor"])
    async def test_media_types_that_are_not_spoken_are_415(self, api: Api, media_type: str) -> None:
        await api.create(MAPS, config_map())
        for answer in (
            await api.post(MAPS, b"{}", content_type=media_type),
            await api.put(f"{MAPS}/c", b"{}", content_type=media_type),
            await api.patch(f"{MAPS}/c", b"{}", media_type),
            await api.send("DELETE", f"{MAPS}/c", b"{}", content_type=media_type),
        ):
            assert (answer.status, answer.reason) == (415, "UnsupportedMediaType")

    @pytest.mark.parametrize(
        "body", [b"", b"{}", b"k8s\0", b"k8s\0\xff\xff\xff\xff", b"k8s\0" + bytes(range(256)) * 50]
    )
    async def test_what_is_no_protobuf_is_400(self, api: Api, body: bytes) -> None:
        answer = await api.post(PODS, body, content_type=PROTOBUF)
        assert (answer.status, answer.reason) == (400, "BadRequest")

    async def test_json_that_says_it_is_protobuf_is_400(self, api: Api) -> None:
        answer = await api.post(PODS, json.dumps(pod()).encode(), content_type=PROTOBUF)
        assert answer.status == 400

    async def test_bytes_that_are_no_text_become_the_replacement_character(self, api: Api) -> None:
        body = b'{"metadata":{"name":"c"},"data":{"a":"\xff","b":"\\ud800","c":"\\\\ud800","d":"\\ud83d\\ude00"}}'
        created = await api.create(MAPS, body)
        assert created["data"] == {"a": "�", "b": "�", "c": "\\ud800", "d": "😀"}


class TestSizes:
    @pytest.mark.parametrize(
        ("method", "path", "media_type"),
        [
            ("POST", MAPS, "application/json"),
            ("PUT", f"{MAPS}/c", "application/json"),
            ("PATCH", f"{MAPS}/c", MERGE),
            ("DELETE", f"{MAPS}/c", "application/json"),
        ],
    )
    async def test_ten_megabytes_are_413(self, api: Api, method: str, path: str, media_type: str) -> None:
        await api.create(MAPS, config_map())
        body = b'{"data":{"a":"' + b"x" * 10_000_000 + b'"}}'
        answer = await api.send(method, path, body, content_type=media_type)
        assert (answer.status, answer.reason) == (413, "RequestEntityTooLarge")
        assert answer.message == "Request entity too large: limit is 3145728"
        assert (await api.get(f"{MAPS}/c")).body["data"] == {"a": "b"}

    async def test_more_than_etcd_takes_is_an_error_of_the_servers(self, api: Api) -> None:
        large = pod(containers=[{"name": "a", "image": "b", "env": [{"name": "A", "value": "x" * 1_600_000}]}])
        answer = await api.post(PODS, large)
        assert (answer.status, answer.message) == (500, "etcdserver: request is too large")
        assert (await api.get(f"{PODS}/p")).status == 404
        await api.create(PODS, pod())
        annotations = {"metadata": {"annotations": {"a": "x" * 300_000}}}
        assert (await api.patch(f"{PODS}/p", annotations)).causes[0] == ("metadata.annotations", "FieldValueTooLong")

    async def test_config_maps_and_secrets_hold_a_megabyte(self, api: Api) -> None:
        answer = await api.post(MAPS, config_map(data={"a": "x" * 1_048_577}))
        assert (answer.status, answer.causes) == (422, [("[]", "FieldValueTooLong")])
        assert (await api.post(MAPS, config_map(data={"a": "x" * 1_048_576}))).status == 201


class TestNames:
    @pytest.mark.parametrize("name", ["A", "a_b", "-a", "a-", "a..b", "a/b", "a%b", ".", "..", "a" * 254, "ä", "a b"])
    async def test_names_against_the_rules_are_422(self, api: Api, name: str) -> None:
        answer = await api.post(PODS, pod(name))
        assert (answer.status, answer.causes[0]) == (422, ("metadata.name", "FieldValueInvalid"))

    @pytest.mark.parametrize(
        "labels",
        [
            {"a b": "c"},
            {"a/b/c": "d"},
            {"/a": "b"},
            {"a/": "b"},
            {"": "b"},
            {"a": "b c"},
            {"a": "b" * 64},
            {"a" * 64: "b"},
        ],
        ids=str,
    )
    async def test_labels_against_the_rules_are_422(self, api: Api, labels: dict[str, str]) -> None:
        answer = await api.post(MAPS, config_map(labels=labels))
        assert (answer.status, set(answer.causes)) == (422, {("metadata.labels", "FieldValueInvalid")})

    async def test_a_label_is_not_a_number(self, api: Api) -> None:
        assert (await api.post(MAPS, config_map(labels={"a": 1}))).status == 400

    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ("/nope", 404),
            ("/nope/", 404),
            ("/api/v1/nopes", 404),
            ("/apis/nope/v1/pods", 404),
            ("/api/v1/namespaces/default/nodes", 404),
            ("/api/v1/pods/x", 404),
            (f"{PODS}/x/y/z", 404),
            (f"{PODS}/x/nope", 404),
            ("/api/v1/namespaces/default/pods/%00", 400),
            ("/api/v1/namespaces/default/pods/%2e%2e", 400),
        ],
    )
    async def test_paths_that_lead_nowhere(self, api: Api, path: str, status: int) -> None:
        assert (await api.get(path)).status == status

    async def test_the_root_tells_what_there_is(self, api: Api) -> None:
        paths = (await api.get("/")).body["paths"]
        assert paths == sorted(paths)
        assert {"/api/v1", "/apis/coordination.k8s.io/v1", "/healthz", "/openapi/v3", "/version"} <= set(paths)
        for path in paths:
            assert (await api.get(path)).status == 200, path

    @pytest.mark.parametrize("path", ["/api/v1/namespaces/default", "/api/v1/namespaces", PODS, "/api/v1", "/apis"])
    async def test_a_slash_at_the_end_is_nothing(self, api: Api, path: str) -> None:
        assert (await api.get(f"{path}/")).body == (await api.get(path)).body

    @pytest.mark.parametrize(
        ("method", "path"),
        [("POST", f"{PODS}/x"), ("PUT", PODS), ("PATCH", PODS), ("POST", "/api/v1/pods"), ("DELETE", "/api/v1/pods")],
    )
    async def test_methods_that_are_not_for_a_path_are_405(self, api: Api, method: str, path: str) -> None:
        answer = await api.send(method, path, {})
        assert (answer.status, answer.reason) == (405, "MethodNotAllowed")


class TestPatches:
    @pytest.mark.parametrize(
        ("media_type", "body", "status"),
        [
            (MERGE, b"{", 400),
            (MERGE, b"", 400),
            (MERGE, b"[]", 400),
            (MERGE, b"null", 400),
            (MERGE, b'{"a":' * 10_001 + b"1" + b"}" * 10_001, 400),
            (STRATEGIC, b"{", 400),
            (STRATEGIC, b'"x"', 400),
            (STRATEGIC, b"null", 200),
            (STRATEGIC, b'{"$patch":"zz"}', 500),
            (JSON_PATCH, b"{}", 400),
            (JSON_PATCH, b"[1]", 400),
            (JSON_PATCH, b"null", 200),
            (JSON_PATCH, b'[{"op":"zz","path":"/a"}]', 422),
            (JSON_PATCH, b'[{"op":"remove","path":"/nope"}]', 422),
            (JSON_PATCH, b'[{"op":"test","path":"/data/a","value":"z"}]', 422),
            (JSON_PATCH, b'[{"op":"replace","path":"","value":"x"}]', 422),
            (JSON_PATCH, b'[{"op":"remove","path":"/metadata/name"}]', 400),
        ],
        ids=lambda value: str(value)[:30],
    )
    async def test_those_that_are_none(self, api: Api, media_type: str, body: bytes, status: int) -> None:
        created = await api.create(MAPS, config_map())
        assert (await api.patch(f"{MAPS}/c", body, media_type)).status == status
        assert (await api.get(f"{MAPS}/c")).body == created


class TestEverybodyElse:
    """Is served while one client misbehaves."""

    async def test_while_large_and_deep_bodies_come(self, api: Api, cluster: DevCluster) -> None:
        bodies = [b'{"a":"' + b"x" * 10_000_000 + b'"}', b'{"a":' * 10_001 + b"1" + b"}" * 10_001, b"[" * 200_000] * 3
        async with await Api.of(cluster) as other:
            async with asyncio.TaskGroup() as group:
                bad = [group.create_task(api.post(MAPS, body)) for body in bodies]
                for number in range(30):
                    await other.create(MAPS, config_map(f"m{number}"))
        assert {task.result().status for task in bad} == {400, 413}

    async def test_while_a_request_never_ends(self, api: Api, cluster: DevCluster) -> None:
        host, port = cluster.url.removeprefix("https://").split(":")
        context: ssl.SSLContext = await asyncio.to_thread(ssl_context, cluster)
        reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
        head = f"POST {MAPS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{{"
        writer.write(head.encode())
        await writer.drain()
        await api.create(MAPS, config_map())
        assert (await api.delete(f"{MAPS}/c")).status == 200
        writer.close()
        async with asyncio.timeout(PATIENCE):
            await reader.read()
            await writer.wait_closed()

    async def test_while_many_watches_are_open_and_not_read(self, api: Api, cluster: DevCluster) -> None:
        async with await Api.of(cluster) as lazy:
            opened = asyncio.Semaphore(0)

            async def hold() -> None:
                async with lazy.watch(f"{MAPS}?watch=1"):
                    opened.release()
                    await asyncio.get_running_loop().create_future()

            watchers = [asyncio.create_task(hold()) for _ in range(50)]
            for _ in watchers:
                await opened.acquire()
            for number in range(50):
                await api.create(MAPS, config_map(f"m{number}", {"big": "x" * 20_000}))
            assert len((await api.get(MAPS)).names) >= 50
            for watcher in watchers:
                watcher.cancel()
            await asyncio.wait(watchers)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"", "unexpected end of JSON input"),
        (b"{'a':1}", "invalid character '\\'' looking for beginning of object key string"),
        (b'{"a" 1}', "invalid character '1' after object key"),
        (b'{"a":1 "b":2}', "invalid character '\"' after object key:value pair"),
        (b"[1 2]", "invalid character '2' after array element"),
        (b"[1,]", "invalid character ']' looking for beginning of value"),
        (b"tru", "unexpected end of JSON input"),
        (b"trux", "invalid character 'x' in literal true (expecting 'e')"),
        (b"01", "invalid character '1' after top-level value"),
        (b"1.x", "invalid character 'x' after decimal point in numeric literal"),
        (b'"\\x"', "invalid character 'x' in string escape code"),
        (b'"\n"', "invalid character '\\n' in string literal"),
        (b"[" * 10_001, "invalid character '[' exceeded max depth"),
    ],
)
def test_problems_of_json_are_said_in_gos_words(text: bytes, problem: str) -> None:
    with pytest.raises(NotJson) as caught:
        decode_go_json(text)
    assert str(caught.value) == problem
