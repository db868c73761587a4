"""References of images: the distribution project's grammar, Docker's short names, and a kubelet's words for what is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from virtual_kubelet.runtime.image_names import (
    ImageName,
    InvalidImageNameError,
    default_pull_policy,
    parse_image_name,
    with_default_tag,
)

SHA = "sha256:" + "a" * 64
RECORDING = Path(__file__).parents[3] / "shared/kubelet-1.36/lifecycles/image-invalid-name.jsonl"


@pytest.mark.parametrize(
    ("image", "meaning"),
    [
        ("busybox", ("docker.io/library/busybox", "latest", "")),
        ("busybox:1.29", ("docker.io/library/busybox", "1.29", "")),
        ("docker.io/busybox", ("docker.io/library/busybox", "latest", "")),
        ("index.docker.io/busybox", ("docker.io/library/busybox", "latest", "")),
        ("library/busybox", ("docker.io/library/busybox", "latest", "")),
        ("user/image", ("docker.io/user/image", "latest", "")),
        ("localhost/image", ("localhost/image", "latest", "")),
        ("localhost:1/none:1", ("localhost:1/none", "1", "")),
        ("registry.example.com/a/b/c:tag", ("registry.example.com/a/b/c", "tag", "")),
        ("registry.example.com:5000/a", ("registry.example.com:5000/a", "latest", "")),
        ("[2001:db8::1]:5000/a:b", ("[2001:db8::1]:5000/a", "b", "")),
        ("UPPER/image", ("UPPER/image", "latest", "")),
        (f"busybox@{SHA}", ("docker.io/library/busybox", "", SHA)),
        (f"a.b/c:d@{SHA}", ("a.b/c", "d", SHA)),
        ("a.b/c__d-e--f.g:T_1.x-y", ("a.b/c__d-e--f.g", "T_1.x-y", "")),
    ],
)
def test_a_reference_and_its_defaults(image: str, meaning: tuple[str, str, str]) -> None:
    assert parse_image_name(image) == ImageName(*meaning)


@pytest.mark.parametrize(
    ("image", "why"),
    [
        ("", "invalid reference format"),
        ("Bad@@Name", "invalid reference format: repository name (library/Bad@@Name) must be lowercase"),
        ("library/Bad", "invalid reference format: repository name (library/Bad) must be lowercase"),
        ("bad@@name", "invalid reference format"),
        ("a b", "invalid reference format"),
        ("image:", "invalid reference format"),
        ("image:.tag", "invalid reference format"),
        ("image:" + "t" * 129, "invalid reference format"),
        ("a..b/c", "invalid reference format"),
        ("a/b/", "invalid reference format"),
        ("/a", "invalid reference format"),
        ("a___b", "invalid reference format"),
        ("image\n", "invalid reference format"),
        ("f" * 64, "invalid repository name (" + "f" * 64 + "), cannot specify 64-byte hexadecimal strings"),
        ("a.b/" + "c" * 256, "repository name must not be more than 255 characters"),
        ("a@sha256:" + "a" * 63, "invalid checksum digest length"),
        ("a@sha256:" + "A" * 64, "invalid checksum digest format"),
        ("a@md5:" + "a" * 32, "unsupported digest algorithm"),
        ("a@sha256:" + "a" * 31, "invalid reference format"),
    ],
)
def test_what_is_no_reference_says_why(image: str, why: str) -> None:
    with pytest.raises(InvalidImageNameError) as caught:
        parse_image_name(image)
    assert str(caught.value).endswith(f": {why}")


def test_a_digest_of_each_known_algorithm() -> None:
    for algorithm, digits in (("sha256", 64), ("sha384", 96), ("sha512", 128)):
        assert parse_image_name(f"a@{algorithm}:" + "0" * digits).digest.startswith(algorithm)


@pytest.mark.recording
def test_an_invalid_name_in_the_words_of_the_recorded_kubelet() -> None:
    rows = [json.loads(line) for line in RECORDING.read_text().splitlines()]
    image = rows[0]["pod"]["spec"]["containers"][0]["image"]
    (said,) = {event["message"] for event in rows[-1]["events"] if event["reason"] == "InspectFailed"}
    with pytest.raises(InvalidImageNameError) as caught:
        with_default_tag(image)
    assert str(caught.value) == said


def test_the_default_tag_is_added_only_where_there_is_neither_tag_nor_digest() -> None:
    assert with_default_tag("busybox") == "busybox:latest"
    assert with_default_tag("busybox:latest") == "busybox:latest"
    assert with_default_tag("localhost:5000/a") == "localhost:5000/a:latest"
    assert with_default_tag("a:1") == "a:1"
    assert with_default_tag(f"a@{SHA}") == f"a@{SHA}"
    assert with_default_tag(f"a:1@{SHA}") == f"a:1@{SHA}"


def test_the_pull_policy_follows_from_the_tag() -> None:
    assert default_pull_policy("busybox") == "Always"
    assert default_pull_policy("busybox:latest") == "Always"
    assert default_pull_policy("busybox:1") == "IfNotPresent"
    assert default_pull_policy(f"busybox@{SHA}") == "IfNotPresent"
    assert default_pull_policy("Bad@@Name") == "IfNotPresent"
