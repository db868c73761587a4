"""The engine's images: what is there, and pulls with credentials and progress."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from virtual_kubelet import Image, ImagePullError, RegistryCredentials, parse_image_name
from virtual_kubelet_docker.daemon import Daemon, DaemonError

__all__ = ["DaemonImages", "PullProgress", "image_of", "registry_auth"]

#: Seconds between two reports of progress.
_REPORTS: Final = 5.0


class DaemonImages:
    """``ImageStore`` of one engine.

    Args:
        report_every: seconds between two reports of a pull's progress.
    """

    def __init__(self, daemon: Daemon, *, report_every: float = _REPORTS) -> None:
        self._daemon = daemon
        self._report_every = report_every

    async def find_image(self, image: str) -> Image | None:
        inspected = await self.inspect(image)
        return None if inspected is None else image_of(inspected, image)

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
        progress = PullProgress(on_progress, every=self._report_every)
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


class PullProgress:
    """Sums the layers up.

    Args:
        tell: is told in a sentence.
        every: seconds between two sentences, at least.
    """

    def __init__(self, tell: Callable[[str], None], *, every: float) -> None:
        self._tell = tell
        self._every = every
        self._layers: dict[str, tuple[int, int]] = {}
        self._next = asyncio.get_running_loop().time() + every

    def take(self, message: Mapping[str, Any]) -> None:
        """A line of the engine's stream. Raises ``ImagePullError`` when it says that the pull has failed."""
        if message.get("error"):
            raise ImagePullError(str(message["error"]).strip())
        layer, detail = str(message.get("id") or ""), message.get("progressDetail") or {}
        if not layer or not isinstance(detail.get("total"), int):
            return
        self._layers[layer] = int(detail.get("current") or 0), detail["total"]
        now = asyncio.get_running_loop().time()
        if now >= self._next:
            self._next = now + self._every
            done, total = (sum(part[side] for part in self._layers.values()) for side in (0, 1))
            of_layers = f"{len(self._layers)} layer{'s' if len(self._layers) > 1 else ''}"
            self._tell(f"{message.get('status') or 'Pulling'}: {_mega(done)} of {_mega(total)} MB in {of_layers}")


def image_of(inspected: Mapping[str, Any], asked: str = "") -> Image:
    """A repository digest is better than the id, which another registry's copy has too.

    Args:
        asked: the name by which it was found; if that is one of its tags, it is the image's name.
    """
    digests = inspected.get("RepoDigests") or ()
    tags = [name for tag in inspected.get("RepoTags") or () if (name := _full_name(tag))]
    wanted = _full_name(asked)
    return Image(
        id=digests[0] if digests else inspected["Id"],
        user=(inspected.get("Config") or {}).get("User") or "",
        size=inspected.get("Size"),
        name=wanted if wanted in tags else next(iter(tags), ""),
    )


def _full_name(reference: str) -> str:
    """With its registry and tag, which Docker leaves out; empty for what is no such name: an id, a digest, ``<none>``."""
    try:
        name = parse_image_name(reference)
    except ValueError:
        return ""
    return "" if name.digest else f"{name.repository}:{name.tag}"


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
