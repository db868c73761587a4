"""YAML files as a user writes them: documents of the kinds that the dev cluster serves, checked before any is applied."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from virtual_kubelet.errors import AlreadyExistsError, ApiError, ConfigurationError
from virtual_kubelet.kube.client import ApiClient
from virtual_kubelet.kube.resources import (
    CONFIG_MAPS,
    NAMESPACES,
    PODS,
    SECRETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    Resource,
)
from virtual_kubelet.kube.transport import ApiResponse

#: Seconds for a new namespace to get its service account.
_ACCOUNT: Final = 10.0

__all__ = ["Manifest", "apply", "read_manifests"]

_SERVED: Final[dict[tuple[str, str], Resource[Any]]] = {
    (resource.api_version, resource.kind): resource
    for resource in (NAMESPACES, CONFIG_MAPS, SECRETS, SERVICES, SERVICE_ACCOUNTS, PODS)
}


class _Loader(yaml.SafeLoader):
    """As kubectl reads YAML: a date is a string, a key that is there twice is an error."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is there twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object to be applied.

    Attributes:
        source: file and document, for messages.
        namespace: None for kinds without.
        body: the object as JSON, namespace filled in.
    """

    source: str
    resource: Resource[Any]
    namespace: str | None
    name: str
    body: dict[str, Any] = field(repr=False)

    def __str__(self) -> str:
        where = f"{self.namespace}/" if self.namespace else ""
        return f"{self.resource.kind.lower()} {where}{self.name}"


def read_manifests(path: str) -> list[Manifest]:
    """The objects of a file, ``-`` being stdin. Raises ``ConfigurationError`` that names file, document and mistake."""
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    try:
        documents = list(yaml.load_all(text, Loader=_Loader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "cannot be read"
        raise ConfigurationError(f"{path}{where}: not YAML: {problem}") from None
    found = [
        manifest
        for number, document in enumerate(documents, 1)
        for manifest in _manifests(document, path if len(documents) == 1 else f"{path}, document {number}")
    ]
    if not found:
        raise ConfigurationError(f"{path} holds no object", hint="it is to be YAML with apiVersion, kind and metadata")
    return found


def _manifests(document: Any, source: str) -> Iterator[Manifest]:
    if document is None:
        return
    if not isinstance(document, dict):
        raise ConfigurationError(f"{source}: not a Kubernetes object but a {type(document).__name__}")
    version, kind = document.get("apiVersion"), document.get("kind")
    if version == "v1" and kind == "List":
        for number, item in enumerate(document.get("items") or (), 1):
            yield from _manifests(item, f"{source}, item {number}")
        return
    for key, value in (("apiVersion", version), ("kind", kind)):
        if not isinstance(value, str) or not value:
            raise ConfigurationError(f"{source}: {key} is missing")
    resource = _SERVED.get((str(version), str(kind)))
    if resource is None:
        kinds = ", ".join(served for _, served in _SERVED)
        raise ConfigurationError(
            f"{source}: the dev cluster does not serve {kind} of {version}",
            hint=f"it serves {kinds}; there are no controllers for workloads, write the Pods themselves",
        )
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(metadata, dict) or not isinstance(name, str) or not name:
        raise ConfigurationError(f"{source}: {kind} without a metadata.name that is a string")
    namespace = None
    if resource.namespaced:
        namespace = metadata.get("namespace") or "default"
        if not isinstance(namespace, str):
            raise ConfigurationError(f"{source}: metadata.namespace is not a string")
        document = {**document, "metadata": {**metadata, "namespace": namespace}}
    yield Manifest(source, resource, namespace, name, document)


async def apply(client: ApiClient, manifest: Manifest) -> str:
    """Create the object, or bring it in line; gives its UID. Raises ``ConfigurationError`` if the server refuses it."""
    path = manifest.resource.path(None, manifest.namespace)
    try:
        body = msgspec.json.encode(manifest.body)
    except TypeError as error:
        raise ConfigurationError(f"{manifest.source}: {manifest} cannot be written as JSON: {error}") from None
    try:
        try:
            answer = await _create(client, path, body)
            stored: Any = msgspec.json.decode(answer.body)
            return str(stored["metadata"]["uid"])
        except AlreadyExistsError:
            patched: Any = await client.patch(manifest.resource, manifest.name, body, manifest.namespace)
            return str(patched.metadata.uid)
    except ApiError as error:
        raise ConfigurationError(f"{manifest.source}: the API server refuses {manifest}: {error}") from error


async def _create(client: ApiClient, path: str, body: bytes) -> ApiResponse:
    """Unknown fields are refused rather than dropped. A namespace just made has its service account in a moment."""
    deadline = asyncio.get_running_loop().time() + _ACCOUNT
    while True:
        try:
            return await client.request(
                "POST",
                path,
                query={"fieldValidation": "Strict"},
                body=body,
                headers={"Content-Type": "application/json"},
            )
        except ApiError as error:
            late = asyncio.get_running_loop().time() > deadline
            if late or error.code != 403 or "error looking up service account" not in str(error):
                raise
        await asyncio.sleep(0.1)
