"""Volumes by path, where containers cannot have mounts: links from where a container wants them. Standard library only."""

from __future__ import annotations

import contextlib
import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing is not worth its memory in a process that has to stay small
    from collections.abc import Iterable

__all__ = ["make_links", "remove_links"]


def make_links(links: list[list[str]]) -> None:
    """Of (place, volume). Raises ``OSError`` if there is something else at a place."""
    for place, volume in links:
        try:
            os.symlink(volume, place)
        except FileExistsError:
            if not _is_link(place, volume):
                raise OSError(errno.EEXIST, "there is something else already", place) from None


def remove_links(links: list[list[str]], needed: Iterable[list[str]]) -> None:
    """Those that are still what they were, and not ``needed`` by another container of the pod."""
    kept = {tuple(link) for link in needed}
    for place, volume in links:
        if (place, volume) not in kept and _is_link(place, volume):
            with contextlib.suppress(OSError):  # its directory is not ours any more
                os.unlink(place)


def _is_link(place: str, volume: str) -> bool:
    try:
        return os.readlink(place) == volume
    except OSError:
        return False
