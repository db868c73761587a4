"""Pulls from a real registry that wants credentials."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from providers.docker.tests.machine import Machine, container, pod
from providers.docker.tests.registry import PASSWORD, USER, Registry, registry_in
from virtual_kubelet import ImagePullError, RegistryCredentials

pytestmark = pytest.mark.may_block


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with registry_in(tmp_path) as made:
        yield made


def busybox(*, padding: int = 0) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add("/bin/busybox", "bin/busybox")
        link = tarfile.TarInfo("bin/sh")
        link.type, link.linkname = tarfile.SYMTYPE, "busybox"
        archive.addfile(link)
        noise = tarfile.TarInfo("noise")
        noise.size = padding
        archive.addfile(noise, io.BytesIO(os.urandom(padding)))
    return packed.getvalue()


async def test_a_private_image_is_pulled_with_credentials_and_only_with_them(
    machine: Machine, registry: Registry
) -> None:
    image = await registry.push("private/thing", busybox())
    told: list[str] = []
    with pytest.raises(ImagePullError) as refused:
        await machine.runtime.pull_image(image, None, told.append)
    assert refused.value.reason == "ErrImagePull"
    wrong = RegistryCredentials(registry.server, USER, "wrong-s3cret")
    with pytest.raises(ImagePullError) as refused:
        await machine.runtime.pull_image(image, wrong, told.append)
    assert "wrong-s3cret" not in str(refused.value)
    assert await machine.runtime.find_image(image) is None

    pulled = await machine.runtime.pull_image(image, RegistryCredentials(registry.server, USER, PASSWORD), told.append)
    assert pulled.id.startswith(f"{registry.server}/private/thing@sha256:")
    assert pulled.user == "12"
    assert await machine.runtime.find_image(image) == pulled
    what = container("/bin/sh", "-c", "echo runs; echo $(busybox id -u)")
    what.image = image
    ended, log = await machine.run(pod(), what)
    assert (ended.exit_code, log) == (0, b"runs\n12\n")


async def test_what_a_registry_does_not_have_is_an_error_in_its_words(machine: Machine, registry: Registry) -> None:
    credentials = RegistryCredentials(registry.server, USER, PASSWORD)
    with pytest.raises(ImagePullError) as refused:
        await machine.runtime.pull_image(f"{registry.server}/none:1", credentials, lambda text: None)
    assert "manifest" in str(refused.value)
    with pytest.raises(ImagePullError, match="connection refused"):
        await machine.runtime.pull_image("localhost:1/none:1", None, lambda text: None)
