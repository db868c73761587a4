"""The engine's images: what is there, and pulls with credentials and progress."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from virtual_kubelet import Image, ImagePullError, RegistryCredentials
from virtual_kubelet_docker.daemon import Daemon, DaemonError

__all__ = ["DaemonImages", "image_of", "registry_auth"]

#: Seconds between two reports of progress.
_REPORTS: Final = 5.0


class DaemonImages:
    """``ImageStore`` of one engine."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    async def find_image(self, image: str) -> Image | None:
        inspected = await self.inspect(image)
        return None if inspected is None else image_of(inspected)

    async def inspect(self, image: str) -> Mapping[str, Any] | None:
        """What the engine knows of it; None if it is not there."""
        try:
            found: Mapping[str, Any] = await self._daemon.get(f"images/{image}/json")
        except DaemonError as error:
            if error.status == 404:
                return None
            raise
        return found

    async def pull_image(
        self, image: str, credentials: RegistryCredentials | None, on_progress: Callable[[str], None]
    ) -> Image:
        headers = {} if credentials is None else {"X-Registry-Auth": registry_auth(credentials)}
        progress = _Progress(on_progress)
        try:
            async with self._daemon.open(
                "POST", "images/create", params={"fromImage": image}, headers=headers
            ) as response:
                async for line in response.content:
                    if line.strip():
                        progress.take(json.loads(line))
        except DaemonError as error:
            if error.status == 0:
                raise  # that is the engine's failure, not the registry's
            raise ImagePullError(str(error)) from None  # the engine's words, which carry no credentials
        found = await self.find_image(image)
        if found is None:
            raise ImagePullError("the engine says that it has pulled the image, and does not have it")
        return found


class _Progress:
    """Sums the layers up. Raises ``ImagePullError`` when the engine says in its stream that it failed."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._layers: dict[str, tuple[int, int]] = {}
        self._next = asyncio.get_running_loop().time() + _REPORTS

    def take(self, message: Mapping[str, Any]) -> None:
        if message.get("error"):
            raise ImagePullError(str(message["error"]).strip())
        layer, detail = str(message.get("id") or ""), message.get("progressDetail") or {}
        if layer and isinstance(detail.get("total"), int):
            self._layers[layer] = int(detail.get("current") or 0), detail["total"]
        now = asyncio.get_running_loop().time()
        if self._layers and now >= self._next:
            self._next = now + _REPORTS
            done, total = (sum(part[side] for part in self._layers.values()) for side in (0, 1))
            of_layers = f"{len(self._layers)} layer{'s' if len(self._layers) > 1 else ''}"
            self._tell(f"{message.get('status') or 'Pulling'}: {_mega(done)} of {_mega(total)} MB in {of_layers}")


def image_of(inspected: Mapping[str, Any]) -> Image:
    """A repository digest is better than the id, which another registry's copy has too."""
    digests = inspected.get("RepoDigests") or ()
    return Image(
        id=digests[0] if digests else inspected["Id"],
        user=(inspected.get("Config") or {}).get("User") or "",
        size=inspected.get("Size"),
    )


def registry_auth(credentials: RegistryCredentials) -> str:
    """The header of a pull."""
    given = {
        "serveraddress": credentials.server,
        "username": credentials.username,
        "password": credentials.password,
        "identitytoken": credentials.identity_token,
        "registrytoken": credentials.registry_token,
    }
    text = json.dumps({name: value for name, value in given.items() if value})
    return base64.urlsafe_b64encode(text.encode()).decode()


def _mega(size: int) -> str:
    return f"{size / 1e6:.1f}"
