"""imagePullSecrets: both kinds, which of them fits an image, and that nothing of them is ever shown."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest

from virtual_kubelet.contracts.runtime import RegistryCredentials
from virtual_kubelet.objects.core_v1 import LocalObjectReference, Pod, PodSpec, Secret
from virtual_kubelet.runtime.globs import matches_glob
from virtual_kubelet.runtime.registry_credentials import (
    InvalidPullSecretError,
    Keyring,
    missing_secrets_message,
    pull_secret_names,
    read_pull_secret,
)


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def docker_config(auths: Any) -> Secret:
    return Secret(type="kubernetes.io/dockerconfigjson", data={".dockerconfigjson": b64(json.dumps({"auths": auths}))})


def keyring(*names: str) -> Keyring:
    """Credentials whose user is the name they are for."""
    return Keyring([read_pull_secret(docker_config({name: {"username": name, "password": "p"}})) for name in names])


def users(found: Any) -> list[str]:
    return [credentials.username for credentials in found]


def test_both_kinds_of_secret_are_read() -> None:
    entry = {"username": "u", "password": "p", "email": "e", "auth": ""}
    old = Secret(type="kubernetes.io/dockercfg", data={".dockercfg": b64(json.dumps({"r.io": entry}))})
    expected = RegistryCredentials("r.io", "u", "p")
    assert read_pull_secret(old) == read_pull_secret(docker_config({"r.io": entry})) == {"r.io": expected}


def test_a_secret_of_another_type_has_none() -> None:
    config = b64(json.dumps({"auths": {"r.io": {"username": "u"}}}))
    assert read_pull_secret(Secret(type="Opaque", data={".dockerconfigjson": config})) == {}
    assert read_pull_secret(Secret(type="kubernetes.io/dockerconfigjson")) == {}


def test_auth_is_split_at_the_first_colon_and_wins() -> None:
    auths = {"r.io": {"username": "no", "password": "no", "auth": b64("user:pass:word")}}
    found = read_pull_secret(docker_config(auths))["r.io"]
    assert (found.username, found.password) == ("user", "pass:word")


def test_auth_may_lack_its_padding() -> None:
    auths = {"r.io": {"auth": b64("user:password").rstrip("=")}}
    assert read_pull_secret(docker_config(auths))["r.io"].password == "password"


def test_tokens_are_handed_on() -> None:
    found = read_pull_secret(docker_config({"r.io": {"identitytoken": "i", "registrytoken": "r"}}))["r.io"]
    assert (found.identity_token, found.registry_token) == ("i", "r")


@pytest.mark.parametrize(
    "secret",
    [
        Secret(type="kubernetes.io/dockerconfigjson", data={".dockerconfigjson": b64("hunter2")}),
        Secret(type="kubernetes.io/dockerconfigjson", data={".dockerconfigjson": "hunter2!"}),
        Secret(type="kubernetes.io/dockerconfigjson", data={".dockerconfigjson": b64('["hunter2"]')}),
        docker_config("hunter2"),
        docker_config({"r.io": "hunter2"}),
        docker_config({"r.io": {"auth": "hunter2!"}}),
        docker_config({"r.io": {"auth": b64("hunter2")}}),
        docker_config({"r.io": {"password": ["hunter2"]}}),
    ],
)
def test_what_cannot_be_read_is_refused_without_a_quotation(secret: Secret) -> None:
    with pytest.raises(InvalidPullSecretError) as caught:
        read_pull_secret(secret)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_nothing_secret_is_in_a_repr() -> None:
    auths = {"r.io": {"auth": b64("user:hunter2"), "identitytoken": "hunter2", "registrytoken": "hunter2"}}
    found = read_pull_secret(docker_config(auths))
    ring = Keyring([found])
    assert "hunter2" not in repr(found)
    assert "user" not in repr(found)
    assert "hunter2" not in repr(ring) + repr(ring.for_image("r.io/a"))


@pytest.mark.parametrize(
    ("server", "image"),
    [
        ("r.example.com", "r.example.com/a/b"),
        ("https://r.example.com", "r.example.com/a"),
        ("http://r.example.com/", "r.example.com/a"),
        ("https://r.example.com/v1/", "r.example.com/a"),
        ("https://r.example.com/v2/", "r.example.com/a"),
        ("r.example.com/a", "r.example.com/a/b"),
        ("r.example.com/v2/a", "r.example.com/a/b"),
        ("r.example.com:5000", "r.example.com:5000/a"),
        ("*.example.com", "r.example.com/a"),
        ("r*.example.*", "r1.example.com/a"),
        ("*.example.com:5000/a", "r.example.com:5000/a/b"),
        ("[2001:db8::1]:5000", "[2001:db8::1]:5000/a"),
        ("https://index.docker.io/v1/", "docker.io/library/busybox"),
        ("index.docker.io", "docker.io/library/busybox"),
        ("docker.io", "docker.io/library/busybox"),
    ],
)
def test_credentials_fit(server: str, image: str) -> None:
    assert users(keyring(server).for_image(image)) == [server]


@pytest.mark.parametrize(
    ("server", "image"),
    [
        ("r.example.com", "s.example.com/a"),
        ("r.example.com", "r.example.com:5000/a"),
        ("r.example.com:5000", "r.example.com/a"),
        ("r.example.com:*", "r.example.com:5000/a"),
        ("*.com", "r.example.com/a"),
        ("*.example.com", "example.com/a"),
        ("r.example.com/b", "r.example.com/a/b"),
        ("r.example.com/*", "r.example.com/a"),
        ("[.example.com", "r.example.com/a"),
        ("https://[::1", "[::1]/a"),
        ("index.docker.io", "r.example.com/a"),
        ("", "docker.io/library/busybox"),
    ],
)
def test_credentials_do_not_fit(server: str, image: str) -> None:
    assert users(keyring(server).for_image(image)) == []


def test_the_more_specific_name_comes_first_and_all_that_fit_are_tried() -> None:
    ring = keyring("r.io", "*.io", "r.io/a/b", "r.io/a")
    assert users(ring.for_image("r.io/a/b/c")) == ["r.io/a/b", "r.io/a", "r.io", "*.io"]


def test_several_secrets_for_one_registry_are_tried_in_their_order() -> None:
    secrets = [read_pull_secret(docker_config({"r.io": {"username": name}})) for name in ("second", "first")]
    assert users(Keyring(secrets).for_image("r.io/a")) == ["second", "first"]


def test_a_keyring_knows_whether_it_is_empty() -> None:
    assert not Keyring()
    assert keyring("r.io")


def test_the_secrets_that_a_pod_names() -> None:
    pod = Pod(spec=PodSpec(image_pull_secrets=[LocalObjectReference(name="a"), LocalObjectReference()]))
    assert pull_secret_names(pod) == ["a"]
    assert pull_secret_names(Pod(spec=PodSpec())) == []


def test_missing_secrets_are_told_in_the_kubelets_words() -> None:
    assert missing_secrets_message(["a", "b"]) == (
        "Unable to retrieve some image pull secrets (a, b); attempting to pull the image may not succeed."
    )


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("", "", True),
        ("abc", "abc", True),
        ("*", "", True),
        ("a*c", "abbc", True),
        ("a*b*c", "aXbYbZc", True),
        ("a*b", "abc", False),
        ("a?c", "ac", False),
        ("[a-c]x", "bx", True),
        ("[^a-c]x", "bx", False),
        ("[^a-c]x", "dx", True),
        (r"\*", "*", True),
        (r"\*", "x", False),
        (r"[\]]", "]", True),
        ("[]a]", "]", False),
        ("[a-]", "-", False),
        ("[", "[", False),
        ("\\", "\\", False),
    ],
)
def test_globs_are_gos(pattern: str, text: str, fits: bool) -> None:
    assert matches_glob(pattern, text) is fits


def test_a_glob_made_to_be_slow_is_not() -> None:
    started = time.process_time()
    assert not matches_glob("*a" * 500 + "b", "a" * 2000)
    assert time.process_time() - started < 30  # exponential, it would not end this year
