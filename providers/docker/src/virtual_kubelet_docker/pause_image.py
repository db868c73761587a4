"""The image of infra containers, made in the engine: nothing is pulled."""

from __future__ import annotations

from typing import Final

from virtual_kubelet import ProviderConfigError
from virtual_kubelet_docker.daemon import Daemon
from virtual_kubelet_docker.images import DaemonImages
from virtual_kubelet_docker.pause_program import ARCHITECTURES, pause_root

__all__ = ["ensure_pause_image"]

#: The name says what is in it: another program needs another. Podman imports without a tag.
_NAME: Final = "localhost/virtual-kubelet/pause-1"
_TAG: Final = "latest"


async def ensure_pause_image(daemon: Daemon, images: DaemonImages, configured: str | None) -> str:
    """Its name. Raises ``ProviderConfigError`` if the configured one is not there, or none can be made."""
    if configured is not None:
        if await images.find_image(configured) is None:
            raise ProviderConfigError(
                f'the engine has no image "{configured}"', hint="pull it, or leave pauseImage out"
            )
        return configured
    name = f"{_NAME}:{_TAG}"
    if await images.find_image(name) is None:
        architecture = str(daemon.version.get("Arch", ""))
        if architecture not in ARCHITECTURES:
            raise ProviderConfigError(
                f'there is no pause program for "{architecture}"',
                hint="name an image whose /pause waits for ever: pauseImage in the provider's configuration",
            )
        params = {"fromSrc": "-", "repo": _NAME, "tag": _TAG, "changes": 'ENTRYPOINT ["/pause"]'}
        async with daemon.open(
            "POST",
            "images/create",
            params=params,
            body=pause_root(architecture),
            headers={"Content-Type": "application/x-tar"},
        ) as response:
            await response.read()
    return name
