"""What typed Go clients send instead of JSON."""

from __future__ import annotations

import pytest

from virtual_kubelet.devcluster.decoding import check_media_type, decode_object
from virtual_kubelet.devcluster.protobuf import MEDIA_TYPE
from virtual_kubelet.devcluster.schema import Schemas, load_openapi
from virtual_kubelet.devcluster.statuses import StatusError


@pytest.fixture(scope="module")
def schemas() -> Schemas:
    return Schemas(load_openapi()["schemas"])


def field(number: int, content: bytes | str | int) -> bytes:
    """One field: a string, a message or a number."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content % (1 << 64))
    data = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def envelope(kind: str, raw: bytes, version: str = "v1") -> bytes:
    return b"k8s\0" + field(1, field(1, version) + field(2, kind)) + field(2, raw) + field(3, "") + field(4, "")


def read(schemas: Schemas, data: bytes, kind: str, version: str = "v1") -> object:
    return decode_object(data, schemas, kind, version, [], MEDIA_TYPE)


def refused(schemas: Schemas, data: bytes, kind: str = "Namespace") -> str:
    with pytest.raises(StatusError) as caught:
        read(schemas, data, kind)
    assert (caught.value.code, caught.value.reason) == (400, "BadRequest")
    return str(caught.value)


def test_the_body_of_kubectl_create_namespace(schemas: Schemas) -> None:
    data = bytes.fromhex(
        "6b3873000a0f0a02763112094e616d657370616365121c0a140a0464656d6f12001a0022002a0032003800420012001a020a001a002200"
    )
    assert read(schemas, data, "Namespace") == {"metadata": {"name": "demo"}, "spec": {}, "status": {}}


def test_maps_lists_bytes_and_times(schemas: Schemas) -> None:
    meta = field(1, "s") + field(8, field(1, 1_700_000_000)) + field(11, field(1, "a") + field(2, "b"))
    meta += field(11, field(1, "c") + field(2, "")) + field(14, "example.com/x") + field(14, "example.com/y")
    raw = field(1, meta) + field(2, field(1, "key") + field(2, b"\0\xff")) + field(3, "Opaque")
    assert read(schemas, envelope("Secret", raw), "Secret") == {
        "metadata": {
            "name": "s",
            "creationTimestamp": "2023-11-14T22:13:20Z",
            "labels": {"a": "b", "c": ""},
            "finalizers": ["example.com/x", "example.com/y"],
        },
        "data": {"key": "AP8="},
        "type": "Opaque",
    }


def test_structs_embedded_in_go_are_fields_of_the_outer_one(schemas: Schemas) -> None:
    volume = field(1, "v") + field(2, field(6, field(1, "name-of-secret")))
    key = field(1, field(1, "map")) + field(2, "key")
    variable = field(1, "E") + field(3, field(3, key))
    container = field(1, "c") + field(2, "i") + field(7, variable)
    container += field(8, field(1, field(1, "cpu") + field(2, field(1, "500m"))))
    container += field(10, field(1, field(2, field(2, field(1, 1) + field(2, 0) + field(3, "http")))) + field(2, 5))
    raw = field(1, field(1, "p")) + field(2, field(1, volume) + field(2, container) + field(3, "Never"))
    pod = read(schemas, envelope("Pod", raw), "Pod")
    assert isinstance(pod, dict)
    assert pod["spec"]["volumes"] == [{"name": "v", "secret": {"secretName": "name-of-secret"}}]
    (read_container,) = pod["spec"]["containers"]
    assert read_container["env"] == [{"name": "E", "valueFrom": {"configMapKeyRef": {"name": "map", "key": "key"}}}]
    assert read_container["resources"] == {"limits": {"cpu": "500m"}}
    assert read_container["livenessProbe"]["httpGet"] == {"port": "http"}
    assert read_container["livenessProbe"]["initialDelaySeconds"] == 5


def test_numbers_are_signed_and_lists_of_them_may_be_packed(schemas: Schemas) -> None:
    packed = varint(1) + varint(300)
    security = field(2, -1 % (1 << 64)) + field(4, packed)
    raw = field(1, field(1, "p")) + field(2, field(2, field(1, "c")) + field(14, security))
    pod = read(schemas, envelope("Pod", raw), "Pod")
    assert isinstance(pod, dict)
    assert pod["spec"]["securityContext"] == {"runAsUser": -1, "supplementalGroups": [1, 300]}


def test_a_message_that_comes_twice_is_merged_and_unknown_fields_are_skipped(schemas: Schemas) -> None:
    raw = (
        field(1, field(1, "n"))
        + field(1, field(3, "space"))
        + field(1, field(1, "m"))
        + field(900, "new")
        + field(901, 7)
    )
    raw += varint(902 << 3 | 1) + bytes(8) + varint(903 << 3 | 5) + bytes(4)
    read_map = read(schemas, envelope("ConfigMap", raw), "ConfigMap")
    assert read_map == {"metadata": {"name": "m", "namespace": "space"}}


def test_an_envelope_without_a_type_is_what_the_path_says(schemas: Schemas) -> None:
    assert read(schemas, envelope("", field(1, field(1, "m")), ""), "ConfigMap") == {"metadata": {"name": "m"}}


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "empty data (<empty>)"),
        (b"k8s\0", "empty body (6b387300)"),
        (b"k8s\0\x0a", "unexpected EOF (6b3873000a)"),
        (b"abc", "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0] (616263)"),
        (
            b'{"kind":"Namespace"}',
            'provided data does not appear to be a protobuf message, expected prefix [107 56 115 0] ({"kind":"Namespace"})',
        ),
    ],
)
def test_what_is_no_protobuf(schemas: Schemas, data: bytes, problem: str) -> None:
    message = refused(schemas, data)
    assert message == f"the object provided is unrecognized (must be of type Namespace): {problem}"


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"\x0a\x01\x02", "proto: ObjectMeta: illegal tag 0 (wire type 2)"),
        (b"\x0a\x05\x0a", "unexpected EOF"),
        (b"\x0a\x02\x0a\xff", "unexpected EOF"),
        (b"\x0b", "proto: illegal wireType 3"),
        (b"\xff" * 10 + b"\x01", "proto: integer overflow"),
        (field(1, field(1, 5)), "proto: wrong wireType for field name"),
        (field(1, 5), "proto: wrong wireType for field metadata"),
        (field(1, field(8, field(1, 1 << 62))), "Time: seconds out of range"),
    ],
)
def test_bytes_that_are_no_object(schemas: Schemas, raw: bytes, problem: str) -> None:
    message = refused(schemas, envelope("Namespace", raw))
    assert message == f'Namespace in version "v1" cannot be handled as a Namespace: {problem}'


def test_another_kind_is_refused_as_in_json(schemas: Schemas) -> None:
    assert refused(schemas, envelope("Pod", b"")).startswith('Pod in version "v1" cannot be handled as a Namespace')
    assert 'no kind "Namespace" is registered for version "v2"' in refused(schemas, envelope("Namespace", b"", "v2"))


def test_what_is_neither_json_nor_protobuf_is_refused() -> None:
    with pytest.raises(
        StatusError, match="accepted media types include: application/json, application/yaml, application/vnd"
    ) as caught:
        check_media_type("application/cbor")
    assert caught.value.code == 415
