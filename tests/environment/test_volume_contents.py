"""Files of configMap, secret, downwardAPI and projected volumes, with the kubelet's modes and messages."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.environment.pod_specs import config_map, pod_of, secret
from virtual_kubelet.contracts.configuration import VolumeContents, VolumeFile
from virtual_kubelet.environment.resolution import ReadFailure
from virtual_kubelet.environment.volume_contents import (
    TokenSpec,
    VolumeContentsError,
    VolumeObjects,
    has_contents,
    volume_contents,
)
from virtual_kubelet.environment.volume_ownership import file_owner
from virtual_kubelet.environment.volume_paths import PathError, check_conflicts, clean_path
from virtual_kubelet.environment.volume_references import used_volumes, volume_references
from virtual_kubelet.objects.core_v1 import ConfigMap, Pod, Secret, Volume
from virtual_kubelet.objects.serialization import decode

OBJECTS = VolumeObjects(
    config_maps={"c": config_map(a="1", b="2"), "gone": None, "refused": ReadFailure("configmaps is forbidden")},
    secrets={"s": secret(k="hush", bin=b"\x00\xff"), "gone": None},
    tokens={TokenSpec("", 3607): "tok", TokenSpec("vault", 600): ReadFailure("no such account")},
    allocatable={"cpu": "4", "memory": "8Gi"},
)


def volume(**source: Any) -> Volume:
    return decode(json.dumps({"name": "v", **source}).encode(), Volume)


def contents(
    pod: Pod | None = None, objects: VolumeObjects = OBJECTS, owned: bool = True, **source: Any
) -> VolumeContents:
    return volume_contents(pod or pod_of({}), volume(**source), objects, owned=owned)


def texts(made: VolumeContents) -> dict[str, str]:
    return {path: file.data.decode() for path, file in made.files.items()}


def modes(made: VolumeContents) -> dict[str, int]:
    return {path: file.mode for path, file in made.files.items()}


def fails(message: str, **source: Any) -> None:
    with pytest.raises(VolumeContentsError) as caught:
        contents(**source)
    assert str(caught.value) == message
    assert "hush" not in repr(caught.value)
    assert caught.value.__context__ is None or "hush" not in repr(caught.value.__context__)


def test_every_key_of_a_config_map_is_a_file_with_the_default_mode() -> None:
    made = contents(configMap={"name": "c"})
    assert texts(made) == {"a": "1", "b": "2"}
    assert modes(made) == {"a": 0o644, "b": 0o644}
    assert modes(contents(configMap={"name": "c", "defaultMode": 0o400})) == {"a": 0o400, "b": 0o400}


def test_items_choose_keys_paths_and_modes() -> None:
    items = [{"key": "b", "path": "deep/./er//b", "mode": 0o600}, {"key": "a", "path": "x"}]
    made = contents(configMap={"name": "c", "items": items, "defaultMode": 0o440})
    assert texts(made) == {"deep/er/b": "2", "x": "1"}
    assert modes(made) == {"deep/er/b": 0o600, "x": 0o440}


def test_binary_data_of_a_config_map() -> None:
    binary = ConfigMap(binary_data={"b": base64.b64encode(b"\x00\x01\xff").decode()}, data={"t": "text"})
    made = contents(objects=VolumeObjects(config_maps={"c": binary}), configMap={"name": "c"})
    assert {path: file.data for path, file in made.files.items()} == {"b": b"\x00\x01\xff", "t": b"text"}


def test_a_secret_s_values_are_decoded() -> None:
    made = contents(secret={"secretName": "s", "items": [{"key": "bin", "path": "b"}]})
    assert made.files == {"b": VolumeFile(b"\x00\xff", 0o644)}


def test_a_missing_object_is_an_error_in_the_kubelet_s_words() -> None:
    fails('configmap "gone" not found', configMap={"name": "gone"})
    fails('secret "gone" not found', secret={"secretName": "gone"})
    fails("configmaps is forbidden", configMap={"name": "refused"})


def test_a_missing_key_is_an_error_in_the_kubelet_s_words() -> None:
    items = [{"key": "none", "path": "p"}]
    fails("configmap references non-existent config key: none", configMap={"name": "c", "items": items})
    fails("references non-existent secret key: none", secret={"secretName": "s", "items": items})


def test_what_is_optional_may_be_missing() -> None:
    items = [{"key": "none", "path": "p"}, {"key": "a", "path": "a"}]
    assert contents(configMap={"name": "gone", "optional": True}).files == {}
    assert contents(secret={"secretName": "gone", "optional": True}).files == {}
    assert texts(contents(configMap={"name": "c", "optional": True, "items": items})) == {"a": "1"}


def test_optional_does_not_hide_that_it_cannot_be_read() -> None:
    fails("configmaps is forbidden", configMap={"name": "refused", "optional": True})


def test_data_that_is_no_base64_is_an_error_that_does_not_quote_it() -> None:
    bad = VolumeObjects(secrets={"s": Secret(data={"k": "hush!"})})
    with pytest.raises(VolumeContentsError) as caught:
        contents(objects=bad, secret={"secretName": "s"})
    assert str(caught.value) == "data[k] is not base64"
    assert caught.value.__context__ is None


POD = pod_of(
    {"resources": {"limits": {"cpu": "1500m"}, "requests": {"memory": "64Mi"}}},
    metadata={"labels": {"b": "2", "a": "1"}, "annotations": {"note": 'say "hi"\nnow'}},
)


def field(path: str, of: str) -> dict[str, Any]:
    return {"path": path, "fieldRef": {"fieldPath": of}}


def resource(path: str, of: str, divisor: str | None = None, container: str = "main-0") -> dict[str, Any]:
    selector = {"resource": of, "containerName": container} | ({"divisor": divisor} if divisor else {})
    return {"path": path, "resourceFieldRef": selector}


def test_the_downward_api_s_fields_as_files() -> None:
    items = [
        field("labels", "metadata.labels"),
        field("annotations", "metadata.annotations"),
        field("one", "metadata.labels['a']"),
        field("names/pod", "metadata.name"),
        field("names/namespace", "metadata.namespace"),
        field("uid", "metadata.uid"),
    ]
    assert texts(contents(POD, downwardAPI={"items": items})) == {
        "labels": 'a="1"\nb="2"',
        "annotations": r'note="say \"hi\"\nnow"',
        "one": "1",
        "names/pod": "web-0",
        "names/namespace": "shop",
        "uid": "u-1",
    }


def test_the_downward_api_s_resources_as_files() -> None:
    items = [
        resource("cpu", "limits.cpu"),
        resource("millicpu", "limits.cpu", "1m"),
        resource("memory", "limits.memory", "1Gi"),
        resource("asked", "requests.memory", "1Mi"),
    ]
    made = contents(POD, downwardAPI={"items": items, "defaultMode": 0o400})
    assert texts(made) == {"cpu": "2", "millicpu": "1500", "memory": "8", "asked": "64"}
    assert set(modes(made).values()) == {0o400}


def test_several_errors_are_said_as_go_does() -> None:
    items = [
        field("a", "status.podIP"),
        field("b", "metadata.generation"),
        field("c", "status.podIP"),
        resource("d", "limits.cpu", container="x"),
    ]
    message = "[unsupported fieldPath: status.podIP, unsupported fieldPath: metadata.generation, container x not found]"
    fails(message, downwardAPI={"items": items})


TOKEN = {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}}


def test_the_default_service_account_volume() -> None:
    """As the API server's ServiceAccount plugin adds it to every pod."""
    objects = VolumeObjects(
        config_maps={"kube-root-ca.crt": config_map(**{"ca.crt": "PEM"})}, tokens={TokenSpec("", 3607): "tok"}
    )
    source = {
        "defaultMode": 420,
        "sources": [
            TOKEN,
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [field("namespace", "metadata.namespace")]}},
        ],
    }
    made = contents(objects=objects, projected=source)
    assert texts(made) == {"token": "tok", "ca.crt": "PEM", "namespace": "shop"}
    assert set(modes(made).values()) == {0o644}
    made_of = volume_references([volume(projected=source)])
    assert made_of == (frozenset({"kube-root-ca.crt"}), frozenset(), frozenset({TokenSpec("", 3607)}))


def test_a_later_source_of_a_projected_volume_wins() -> None:
    sources = [
        {"configMap": {"name": "c"}},
        {"secret": {"name": "s", "items": [{"key": "k", "path": "a", "mode": 0o600}]}},
    ]
    made = contents(projected={"sources": sources})
    assert texts(made) == {"a": "hush", "b": "2"}
    assert modes(made) == {"a": 0o600, "b": 0o644}


def test_a_file_below_a_file_is_refused() -> None:
    sources = [
        {"configMap": {"name": "c"}},
        {"configMap": {"name": "c", "items": [{"key": "a", "path": "b/c"}]}},
    ]
    fails("conflicting paths: b is a file, so b/c cannot be one", projected={"sources": sources})


def test_all_that_is_wrong_with_a_projected_volume_is_said() -> None:
    sources = [
        {"configMap": {"name": "gone"}},
        {"secret": {"name": "gone", "optional": True}},
        {"serviceAccountToken": {"path": "t", "audience": "vault", "expirationSeconds": 600}},
        {"clusterTrustBundle": {"name": "b", "path": "b"}},
    ]
    fails(
        '[configmap "gone" not found, failed to fetch token: no such account, '
        "this node has no clusterTrustBundle volume sources]",
        projected={"sources": sources},
    )


class TestOwnership:
    def test_fs_group_owns_the_files_and_may_read_them(self) -> None:
        pod = pod_of({}, securityContext={"fsGroup": 2000})
        made = contents(pod, configMap={"name": "c", "defaultMode": 0o400})
        assert made.group == 2000
        assert modes(made) == {"a": 0o440, "b": 0o440}

    def test_a_token_is_for_the_user_alone_or_for_the_group(self) -> None:
        plain, user = pod_of({}), pod_of({}, securityContext={"runAsUser": 1000})
        group = pod_of({}, securityContext={"fsGroup": 2000})
        both = pod_of({}, securityContext={"fsGroup": 2000, "runAsUser": 1000})
        source: dict[str, Any] = {"projected": {"sources": [TOKEN]}}
        assert contents(plain, **source).files["token"] == VolumeFile(b"tok", 0o644)
        assert contents(user, **source).files["token"] == VolumeFile(b"tok", 0o600, 1000)
        assert contents(group, **source).files["token"] == VolumeFile(b"tok", 0o640)
        assert contents(both, **source).files["token"] == VolumeFile(b"tok", 0o640, 1000)

    def test_where_nothing_can_be_given_away_a_token_stays_readable(self) -> None:
        pod = pod_of({}, securityContext={"fsGroup": 2000, "runAsUser": 1000})
        made = contents(pod, owned=False, projected={"sources": [TOKEN]})
        assert made.files["token"] == VolumeFile(b"tok", 0o644)
        assert made.group is None

    @pytest.mark.parametrize(
        ("users", "expected"),
        [
            ([None], None),
            ([7], 7),
            ([7, 7], 7),
            ([7, 8], None),
            ([7, None], None),
            ([0], 0),
        ],
    )
    def test_the_one_user_of_all_containers(self, users: list[int | None], expected: int | None) -> None:
        containers = [{"securityContext": {"runAsUser": user}} if user is not None else {} for user in users]
        assert file_owner(pod_of(*containers)) == expected

    def test_a_container_s_user_wins_over_the_pod_s(self) -> None:
        own = {"securityContext": {"runAsUser": 5}}
        assert file_owner(pod_of(own, securityContext={"runAsUser": 1})) == 5
        assert file_owner(pod_of({}, own, securityContext={"runAsUser": 1})) is None


class TestPaths:
    @pytest.mark.parametrize(
        ("path", "message"),
        [
            ("", 'invalid path: must not be empty: ""'),
            ("/etc/passwd", "invalid path: must be relative path: /etc/passwd"),
            ("a/../../b", "invalid path: must not contain '..': a/../../b"),
            ("..", "invalid path: must not contain '..': .."),
            ("..data", "invalid path: must not start with '..': ..data"),
            ("./..data/x", "invalid path: must not start with '..': ./..data/x"),
            ("a" * 256, "invalid path: filenames must be less than or equal to 255 characters"),
            ("a/" * 2500, "invalid path: must be less than or equal to 4096 characters"),
            (".", "invalid path: it names the volume itself: ."),
            ("a\0b", "invalid path: no file can have this name: 'a\\x00b'"),
        ],
    )
    def test_paths_that_are_refused(self, path: str, message: str) -> None:
        with pytest.raises(PathError) as caught:
            clean_path(path)
        assert str(caught.value) == message

    def test_dots_within_a_name_are_fine(self) -> None:
        assert clean_path("a/..b/c..") == "a/..b/c.."

    @given(st.text(alphabet="ab./\0é\ud800", max_size=12))
    def test_what_is_accepted_stays_inside_and_is_clean(self, path: str) -> None:
        try:
            clean = clean_path(path)
        except PathError:
            return
        names = clean.split("/")
        assert clean.encode()
        assert "\0" not in clean
        assert not {"", ".", ".."} & set(names)
        assert not names[0].startswith("..")
        assert clean_path(clean) == clean

    @given(st.lists(st.sampled_from(["a", "a/b", "a/b/c", "ab", "b", "b/c"]), max_size=4))
    def test_conflicts_are_files_that_are_directories_too(self, paths: list[str]) -> None:
        conflict = any(other.startswith(path + "/") for path in paths for other in paths)
        try:
            check_conflicts(paths)
        except PathError:
            assert conflict
        else:
            assert not conflict


def test_only_volumes_that_a_container_mounts_count() -> None:
    pod = pod_of(
        {"volumeMounts": [{"name": "used", "mountPath": "/u"}]},
        volumes=[{"name": "used", "configMap": {"name": "c"}}, {"name": "idle", "secret": {"secretName": "gone"}}],
    )
    assert [v.name for v in used_volumes(pod)] == ["used"]
    assert volume_references(used_volumes(pod)) == (frozenset({"c"}), frozenset(), frozenset())


def test_which_volumes_the_node_fills() -> None:
    assert has_contents(volume(configMap={"name": "c"}))
    assert not has_contents(volume(emptyDir={}))
    assert not has_contents(volume(hostPath={"path": "/"}))


def test_nothing_secret_shows_in_a_repr() -> None:
    made = contents(secret={"secretName": "s"})
    assert "hush" not in repr(made)
    assert "hush" not in repr(OBJECTS)
    assert base64.b64encode(b"hush").decode() not in repr(OBJECTS)
    assert "tok" not in repr(OBJECTS).replace("tokens", "")
