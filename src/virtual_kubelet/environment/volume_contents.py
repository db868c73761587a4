"""A volume's files, from the pod and the objects that it refers to. Pure.

``volume_contents(pod, volume, objects)`` is what the kubelet's configMap, secret, downwardAPI and projected volume plugins
collect (MakePayload and collectData in pkg/volume/…), with their messages. None of them shows what is in a Secret.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeVar

from virtual_kubelet.contracts.configuration import VolumeContents, VolumeFile
from virtual_kubelet.environment.fields import FieldError, field_value, resource_value
from virtual_kubelet.environment.references import containers_of
from virtual_kubelet.environment.resolution import ReadFailure
from virtual_kubelet.environment.volume_ownership import READ_ONLY_BITS, file_owner, volume_group
from virtual_kubelet.environment.volume_paths import PathError, check_conflicts, clean_path
from virtual_kubelet.objects.core_v1 import (
    ConfigMap,
    DownwardAPIVolumeFile,
    KeyToPath,
    Pod,
    Secret,
    ServiceAccountTokenProjection,
    Volume,
    VolumeProjection,
)

__all__ = ["TokenSpec", "VolumeContentsError", "VolumeObjects", "has_contents", "volume_contents"]

_DEFAULT_MODE: Final = 0o644
_TOKEN_MODE: Final = 0o600
#: Of a token that does not say how long it is to be good: seconds.
_TOKEN_SECONDS: Final = 3600

T = TypeVar("T")


class VolumeContentsError(ValueError):
    """Why a volume cannot be filled, as the kubelet says it after ``MountVolume.SetUp failed for volume "x" :``."""


class TokenSpec(NamedTuple):
    """A service account token to ask for: whom it is for (empty: the API server), and for how many seconds."""

    audience: str
    expiration_seconds: int

    @classmethod
    def of(cls, source: ServiceAccountTokenProjection) -> TokenSpec:
        return cls(source.audience or "", source.expiration_seconds or _TOKEN_SECONDS)


@dataclass(frozen=True, slots=True)
class VolumeObjects:
    """What contents draw on, by name; None is an object that is not there. Nothing of it is shown in ``repr``.

    Attributes:
        tokens: the service account tokens.
        allocatable: the node's, for a ``resourceFieldRef`` without a limit.
    """

    config_maps: Mapping[str, ConfigMap | ReadFailure | None] = field(default_factory=dict, repr=False)
    secrets: Mapping[str, Secret | ReadFailure | None] = field(default_factory=dict, repr=False)
    tokens: Mapping[TokenSpec, str | ReadFailure] = field(default_factory=dict, repr=False)
    allocatable: Mapping[str, str] = field(default_factory=dict)


def has_contents(volume: Volume) -> bool:
    """Whether the node fills this volume: ``volume_contents`` is for such."""
    sources = (volume.config_map, volume.secret, volume.downward_api, volume.projected)
    return any(source is not None for source in sources)


def volume_contents(pod: Pod, volume: Volume, objects: VolumeObjects, *, owned: bool = True) -> VolumeContents:
    """The files of a volume for which ``has_contents``. Raises ``VolumeContentsError``.

    Args:
        owned: files can be given away to the pod's users and groups. Else tokens keep the volume's mode: with 0600 nobody
            but this process could read them.
    """
    collector = _Collector(pod, objects, volume_group(pod) if owned else None, file_owner(pod) if owned else None)
    if volume.config_map is not None:
        source = volume.config_map
        collector.config_map(source.name, source.items, bool(source.optional), _mode(source.default_mode))
    elif volume.secret is not None:
        secret = volume.secret
        collector.secret(secret.secret_name, secret.items, bool(secret.optional), _mode(secret.default_mode))
    elif volume.downward_api is not None:
        collector.downward_api(volume.downward_api.items, _mode(volume.downward_api.default_mode))
    elif volume.projected is not None:
        collector.projected(volume.projected.sources or (), _mode(volume.projected.default_mode))
    else:
        raise VolumeContentsError("it is no volume that the node fills")
    try:
        check_conflicts(collector.files)
    except PathError as error:
        raise VolumeContentsError(str(error)) from None
    return VolumeContents(collector.files, collector.group)


def _mode(mode: int | None) -> int:
    return _DEFAULT_MODE if mode is None else mode


class _Collector:
    """Files so far; a later one of the same path takes its place, as the kubelet's do."""

    def __init__(self, pod: Pod, objects: VolumeObjects, group: int | None, owner: int | None) -> None:
        self.pod, self.objects, self.group, self.owner = pod, objects, group, owner
        self.files: dict[str, VolumeFile] = {}

    def put(self, path: str, data: bytes, mode: int, owner: int | None = None) -> None:
        try:
            clean = clean_path(path)
        except PathError as error:
            raise VolumeContentsError(str(error)) from None
        bits = mode & 0o777 | (READ_ONLY_BITS if self.group is not None else 0)
        self.files[clean] = VolumeFile(data, bits, owner)

    def config_map(self, name: str | None, items: Sequence[KeyToPath] | None, optional: bool, mode: int) -> None:
        found = _read(self.objects.config_maps, "configmap", name or "", optional)
        data: dict[str, bytes] = {}
        if found is not None:
            data = {key: _decoded(value, f"binaryData[{key}]") for key, value in (found.binary_data or {}).items()}
            data |= {key: text.encode(errors="surrogatepass") for key, text in (found.data or {}).items()}
        self.keys(data, items, optional, mode, "configmap references non-existent config key: ")

    def secret(self, name: str | None, items: Sequence[KeyToPath] | None, optional: bool, mode: int) -> None:
        found = _read(self.objects.secrets, "secret", name or "", optional)
        data = {} if found is None else {k: _decoded(v, f"data[{k}]") for k, v in (found.data or {}).items()}
        self.keys(data, items, optional, mode, "references non-existent secret key: ")

    def keys(
        self, data: Mapping[str, bytes], items: Sequence[KeyToPath] | None, optional: bool, mode: int, missing: str
    ) -> None:
        if not items:
            for key in sorted(data):
                self.put(key, data[key], mode)
            return
        for item in items:
            if item.key in data:
                self.put(item.path, data[item.key], mode if item.mode is None else item.mode)
            elif not optional:
                raise VolumeContentsError(missing + item.key)

    def downward_api(self, items: Sequence[DownwardAPIVolumeFile] | None, mode: int) -> None:
        errors = []
        for item in items or ():
            try:
                text = self.field(item)
            except FieldError as error:
                errors.append(str(error))
            else:
                data = text.encode(errors="surrogatepass")
                self.put(item.path, data, mode if item.mode is None else item.mode)
        _raise_all(errors)

    def field(self, item: DownwardAPIVolumeFile) -> str:
        if item.field_ref is not None:
            path = item.field_ref.field_path
            if not path.startswith("metadata."):
                raise FieldError(f"unsupported fieldPath: {path}")
            try:
                return field_value(self.pod, path, pod_ips=None, host_ips=())
            except FieldError:
                raise FieldError(f"unsupported fieldPath: {path}") from None
        selector = item.resource_field_ref
        if selector is None:
            return ""
        container = next((c for c in containers_of(self.pod) if c.name == selector.container_name), None)
        if container is None:
            raise FieldError(f"container {selector.container_name or ''} not found")
        return resource_value(self.pod, container, selector, self.objects.allocatable)

    def token(self, source: ServiceAccountTokenProjection, mode: int) -> None:
        token = self.objects.tokens.get(TokenSpec.of(source))
        if token is None or isinstance(token, ReadFailure):
            why = "it was not asked for" if token is None else token.message
            raise VolumeContentsError(f"failed to fetch token: {why}")
        own = self.group is not None or self.owner is not None
        self.put(source.path, token.encode(), _TOKEN_MODE if own else mode, self.owner)

    def projected(self, sources: Iterable[VolumeProjection], mode: int) -> None:
        errors = []
        for source in sources:
            try:
                self.projection(source, mode)
            except VolumeContentsError as error:
                errors.append(str(error))
        _raise_all(errors)

    def projection(self, source: VolumeProjection, mode: int) -> None:
        if source.secret is not None:
            self.secret(source.secret.name, source.secret.items, bool(source.secret.optional), mode)
        elif source.config_map is not None:
            config_map = source.config_map
            self.config_map(config_map.name, config_map.items, bool(config_map.optional), mode)
        elif source.downward_api is not None:
            self.downward_api(source.downward_api.items, mode)
        elif source.service_account_token is not None:
            self.token(source.service_account_token, mode)
        else:
            kind = "clusterTrustBundle" if source.cluster_trust_bundle is not None else "podCertificate"
            raise VolumeContentsError(f"this node has no {kind} volume sources")


def _read(table: Mapping[str, T | ReadFailure | None], word: str, name: str, optional: bool) -> T | None:
    found = table.get(name)
    if isinstance(found, ReadFailure):
        raise VolumeContentsError(found.message)
    if found is None and not optional:
        raise VolumeContentsError(f'{word} "{name}" not found')
    return found


def _decoded(value: str, where: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        pass  # it is raised below, where it carries no context: that of a Secret would quote it
    raise VolumeContentsError(f"{where} is not base64")


def _raise_all(errors: Iterable[str]) -> None:
    """As Go's utilerrors.NewAggregate says several."""
    distinct = list(dict.fromkeys(errors))
    if distinct:
        raise VolumeContentsError(distinct[0] if len(distinct) == 1 else f"[{', '.join(distinct)}]")
