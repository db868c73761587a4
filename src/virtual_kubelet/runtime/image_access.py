"""Which pods may use an image that is here already: those that could have pulled it. Pure but for the file it is kept in.

As the kubelet's KubeletEnsureSecretPulledImages with its default policy, NeverVerifyPreloadedImages (pkg/kubelet/images/
pullmanager): an image that was pulled with credentials is for pods that show the same ones, others pull it again and so
show theirs to the registry. An image that was pulled without any, or that this node did not pull, is for all.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from pathlib import Path

import msgspec

from virtual_kubelet.contracts.runtime import RegistryCredentials
from virtual_kubelet.private_file import write_privately
from virtual_kubelet.telemetry.logs import get_logger

__all__ = ["ImageAccess"]

log = get_logger(__name__)


class _Records(msgspec.Struct):
    """``images``: by name, the digests of the credentials that they were pulled with."""

    salt: str
    images: dict[str, list[str]]


class ImageAccess:
    """Blocking where it says so. Holds digests, salted, and no credentials.

    Args:
        path: a file that keeps it for the next process; None: in memory only.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._records = _Records(secrets.token_hex(16), {})

    def load(self) -> None:
        """What an earlier process has saved. Blocking. A file that cannot be read is said, and counts as empty."""
        if self._path is None:
            return
        try:
            self._records = msgspec.json.decode(self._path.read_bytes(), type=_Records)
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError) as error:
            said = "%s cannot be read (%s): images that are here are open to all pods"
            log.error(said, self._path, type(error).__name__)

    def restricted(self, image: str) -> bool:
        """Whether a pod has to show credentials for it."""
        return image in self._records.images

    def allows(self, image: str, credentials: Iterable[RegistryCredentials]) -> bool:
        """Whether a pod with these credentials may use it without a pull."""
        digests = self._records.images.get(image)
        return digests is None or any(self._digest(c) in digests for c in credentials)

    def pulled(self, image: str, credentials: RegistryCredentials | None) -> bool:
        """It was pulled with these credentials; without any, it is for all from now on. Gives whether that is news."""
        images = self._records.images
        if credentials is None:
            return images.pop(image, None) is not None
        digests, digest = images.setdefault(image, []), self._digest(credentials)
        if digest in digests:
            return False
        digests.append(digest)
        return True

    def save(self) -> None:
        """Blocking. Raises ``OSError``."""
        if self._path is not None:
            write_privately(self._path, msgspec.json.encode(self._records))

    def _digest(self, credentials: RegistryCredentials) -> str:
        shown = [
            self._records.salt,
            credentials.username,
            credentials.password,
            credentials.identity_token,
            credentials.registry_token,
        ]
        return hashlib.sha256(msgspec.json.encode(shown)).hexdigest()
