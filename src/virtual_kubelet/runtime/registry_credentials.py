"""Credentials for registries: from a pod's imagePullSecrets, found by an image's name. Pure.

The rules are the kubelet's (pkg/credentialprovider/keyring.go, config.go, secrets/secrets.go), and so is their order: the
more specific name first, several that fit one after another. What a Secret holds is never in a message.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import msgspec

from virtual_kubelet.contracts.runtime import RegistryCredentials
from virtual_kubelet.objects.core_v1 import Pod, Secret
from virtual_kubelet.runtime.globs import matches_glob

__all__ = ["InvalidPullSecretError", "Keyring", "missing_secrets_message", "pull_secret_names", "read_pull_secret"]

_DOCKER_CONFIG_JSON: Final = ("kubernetes.io/dockerconfigjson", ".dockerconfigjson")
_DOCKER_CFG: Final = ("kubernetes.io/dockercfg", ".dockercfg")
#: What Docker's own registry is called in credentials (its path, ``/v1/``, is cut off).
_DEFAULT_REGISTRY: Final = "index.docker.io"
_DEFAULT_NAMES: Final = ("docker.io", _DEFAULT_REGISTRY)


class InvalidPullSecretError(ValueError):
    """A Secret has no registry credentials that can be read; the message quotes nothing of it."""


def pull_secret_names(pod: Pod) -> list[str]:
    """The Secrets that the pod names for its images; its service account's are among them, the API server adds those."""
    return [reference.name for reference in pod.spec.image_pull_secrets or () if reference.name]


def missing_secrets_message(names: Iterable[str]) -> str:
    """The message of the ``FailedToRetrieveImagePullSecret`` event (pkg/kubelet/kubelet_pods.go)."""
    listed = ", ".join(names)
    return f"Unable to retrieve some image pull secrets ({listed}); attempting to pull the image may not succeed."


def read_pull_secret(secret: Secret) -> dict[str, RegistryCredentials]:
    """The credentials in a Secret, by the registry as it is written there; none in one of another type.

    Raises ``InvalidPullSecretError``.
    """
    data = secret.data or {}
    for kind, key in (_DOCKER_CONFIG_JSON, _DOCKER_CFG):
        if secret.type == kind and data.get(key):
            registries = _json(data[key])
            if kind == _DOCKER_CONFIG_JSON[0]:
                registries = registries.get("auths") or {}
            if not isinstance(registries, dict):
                raise InvalidPullSecretError("its registries are no JSON object")
            return {server: _entry(server, entry) for server, entry in registries.items()}
    return {}


def _json(encoded: str) -> dict[str, Any]:
    try:
        decoded = msgspec.json.decode(base64.b64decode(encoded, validate=True))
    except (binascii.Error, ValueError, msgspec.DecodeError):
        # Without its cause: that could quote the Secret.
        raise InvalidPullSecretError("its content is not JSON") from None
    if not isinstance(decoded, dict):
        raise InvalidPullSecretError("its content is no JSON object")
    return decoded


def _entry(server: str, entry: Any) -> RegistryCredentials:
    def text(name: str) -> str:
        value = entry.get(name) or ""
        if not isinstance(value, str):
            raise InvalidPullSecretError(f"{name} of a registry is no text")
        return value

    if not isinstance(entry, dict):
        raise InvalidPullSecretError("a registry's entry is no JSON object")
    username, password, auth = text("username"), text("password"), text("auth").strip()
    if auth:
        username, password = _basic(auth)
    return RegistryCredentials(
        server, username, password, identity_token=text("identitytoken"), registry_token=text("registrytoken")
    )


def _basic(auth: str) -> tuple[str, str]:
    """``auth``: base64, padded or not, of a name and a password; the first colon parts them."""
    try:
        decoded = base64.b64decode(auth + "=" * (-len(auth) % 4), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise InvalidPullSecretError("auth of a registry is not base64") from None
    username, colon, password = decoded.partition(":")
    if not colon:
        raise InvalidPullSecretError("auth of a registry must be formatted as base64(username:password)")
    return username, password


class _Registry(NamedTuple):
    """A registry, or an image, without scheme: the host's labels, its port, its path."""

    labels: tuple[str, ...]
    port: str
    path: str

    def takes(self, image: _Registry) -> bool:
        """Whether these credentials are for this image: labels may be globs, the path is a prefix."""
        return (
            self.port == image.port
            and len(self.labels) == len(image.labels)
            and image.path.startswith(self.path)
            and all(matches_glob(pattern, label) for pattern, label in zip(self.labels, image.labels, strict=True))
        )


class Keyring:
    """Credentials of several Secrets, in their order.

    Args:
        secrets: what ``read_pull_secret`` gave of each.
    """

    def __init__(self, secrets: Iterable[Mapping[str, RegistryCredentials]] = ()) -> None:
        found: dict[str, list[RegistryCredentials]] = {}
        for secret in secrets:
            for server, credentials in secret.items():
                key = _key(server)
                if key is not None:
                    found.setdefault(key, []).append(credentials)
        # In reverse order, so that the longer one of two names that begin alike comes first.
        self._found = {key: found[key] for key in sorted(found, reverse=True)}

    def __bool__(self) -> bool:
        return bool(self._found)

    def for_image(self, repository: str) -> Sequence[RegistryCredentials]:
        """The credentials to try one after another; empty: pull without.

        Args:
            repository: as ``parse_image_name`` gives it, registry included.
        """
        image = _split(repository)
        fitting = [c for key, some in self._found.items() if _split(key).takes(image) for c in some]
        if fitting:
            return fitting
        return self._found.get(_DEFAULT_REGISTRY, []) if _is_default(repository) else []


def _key(server: str) -> str | None:
    """Host and path of a registry as somebody wrote it; ``/v1/`` and ``/v2/`` are the registry itself. None: it is none."""
    try:
        url = urlsplit(server if server.startswith(("https://", "http://")) else f"https://{server}")
    except ValueError:
        return None
    host = url.netloc.rpartition("@")[2]
    path = url.path[3:] if url.path.startswith(("/v1/", "/v2/")) else url.path
    return host if path in ("", "/") else host + path


def _split(name: str) -> _Registry:
    host, slash, path = name.partition("/")
    if host.startswith("["):  # an IPv6 address
        address, _, port = host.partition("]")
        return _Registry((address[1:],), port.removeprefix(":"), slash + path)
    host, _, port = host.partition(":")
    return _Registry(tuple(host.split(".")), port, slash + path)


def _is_default(repository: str) -> bool:
    first, slash, _ = repository.partition("/")
    if not first:
        return False
    return not slash or first in _DEFAULT_NAMES or not ("." in first or ":" in first)
