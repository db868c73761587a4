"""Pulls from a real registry that wants credentials."""

from __future__ import annotations

import asyncio
import io
import os
import re
import tarfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from providers.docker.tests.machine import Machine, container, pod
from providers.docker.tests.registry import PASSWORD, USER, Registry, registry_in
from virtual_kubelet import ImagePullError, RegistryCredentials
from virtual_kubelet_docker.images import DaemonImages

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


@asynccontextmanager
async def slowly(server: str) -> AsyncIterator[str]:
    """The same registry by a line of some 3 MB a second: engines say nothing of what comes at once."""
    host, _, port = server.partition(":")

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection(host, port)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(copy(reader, ours, 0))
            tasks.create_task(copy(theirs, writer, 0.02))

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter, pause: float) -> None:
        with suppress(ConnectionError):
            while data := await source.read(65536):
                target.write(data)
                await target.drain()
                await asyncio.sleep(pause)
        target.close()

    async with await asyncio.start_server(relay, "127.0.0.1", 0) as listening:
        yield f"localhost:{listening.sockets[0].getsockname()[1]}"


async def test_the_progress_of_a_pull_is_told(machine: Machine, registry: Registry) -> None:
    image = await registry.push("big/thing", busybox(padding=2_000_000))
    told: list[str] = []
    images = DaemonImages(machine.runtime.daemon, report_every=0)
    async with slowly(registry.server) as server:
        credentials = RegistryCredentials(server, USER, PASSWORD)
        await images.pull_image(image.replace(registry.server, server), credentials, told.append)
    assert told, "nothing was told"
    assert all(re.fullmatch(r"[A-Z][\w ]+: \d+\.\d of \d+\.\d MB in \d layers?", text) for text in told), told
