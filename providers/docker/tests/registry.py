"""A real registry that wants a name and a password: Debian's ``docker-registry`` on loopback."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from providers.docker.tests.machine import PATIENCE

USER, PASSWORD = "puller", "s3cret:with:colons"
_CONFIG = """
version: 0.1
storage: {{filesystem: {{rootdirectory: {data}}}}}
http: {{addr: 127.0.0.1:{port}}}
auth: {{htpasswd: {{realm: tests, path: {passwords}}}}}
"""


@dataclass(frozen=True)
class Registry:
    server: str

    async def push(self, name: str, layer: bytes) -> str:
        """An image of one layer, a tar archive; its reference. By the registry's own API: no engine is told a password."""
        headers = {"Authorization": f"Basic {b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"}
        async with aiohttp.ClientSession(f"http://{self.server}", headers=headers, raise_for_status=True) as client:
            config = json.dumps(
                {
                    "architecture": "amd64",
                    "os": "linux",
                    "config": {"Cmd": ["sh"], "User": "12"},
                    "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
                }
            ).encode()
            for blob in (layer, config):
                async with client.post(f"/v2/{name}/blobs/uploads/") as begun:
                    place = begun.headers["Location"]
                async with client.put(f"{place}&digest={_digest(blob)}", data=io.BytesIO(blob)):
                    pass
            kind = "application/vnd.docker.distribution.manifest.v2+json"
            manifest = {
                "schemaVersion": 2,
                "mediaType": kind,
                "config": {
                    "mediaType": "application/vnd.docker.container.image.v1+json",
                    "size": len(config),
                    "digest": _digest(config),
                },
                "layers": [
                    {
                        "mediaType": "application/vnd.docker.image.rootfs.diff.tar",
                        "size": len(layer),
                        "digest": _digest(layer),
                    }
                ],
            }
            async with client.put(f"/v2/{name}/manifests/1", json=manifest, headers={"Content-Type": kind}):
                pass
        return f"{self.server}/{name}:1"


@contextmanager
def registry_in(directory: Path) -> Iterator[Registry]:
    """Installs it if it is not there; ends it at the end. Blocking."""
    if shutil.which("docker-registry") is None or shutil.which("htpasswd") is None:
        for arguments in (["update"], ["-y", "install", "--no-install-recommends", "docker-registry", "apache2-utils"]):
            subprocess.run(
                ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=300", *arguments],
                check=True,
                capture_output=True,
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            )
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    passwords = directory / "passwords"
    passwords.write_bytes(subprocess.run(["htpasswd", "-Bbn", USER, PASSWORD], check=True, capture_output=True).stdout)
    config = directory / "registry.yml"
    config.write_text(_CONFIG.format(data=directory / "blobs", port=port, passwords=passwords))
    with open(directory / "registry.log", "wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, (directory / "registry.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield Registry(f"localhost:{port}")
    finally:
        process.kill()
        process.wait()


def docker_config(server: str) -> str:
    """A ``.dockerconfigjson`` for it."""
    auth = b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    return json.dumps({"auths": {server: {"auth": auth}}})


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"
