"""A pod's environment made concrete: ``env``, ``envFrom``, ``$(NAME)``, fields, resources, Services. Pure.

As the kubelet's makeEnvironmentVariables (pkg/kubelet/kubelet_pods.go), with the Go framework's events
(internal/podutils/env.go). Order is kept: envFrom, env, then Services that are not named yet; a later entry wins in the
place of the first. No value ever appears in an event, a message or a ``repr``.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from msgspec.structs import replace

from virtual_kubelet.environment.expansion import expand
from virtual_kubelet.environment.fields import FieldError, UnknownPodAddressError, field_value, resource_value
from virtual_kubelet.environment.services import service_variables
from virtual_kubelet.objects.core_v1 import ConfigMap, Container, EnvFromSource, EnvVar, Pod, Secret, Service

__all__ = [
    "ContainerResolution",
    "EnvironmentEvent",
    "EnvironmentFailure",
    "EnvironmentSource",
    "ReadFailure",
    "Resolution",
    "resolve_container",
    "resolve_environment",
]

_REASON: Final = "CreateContainerConfigError"


@dataclass(frozen=True, slots=True)
class ReadFailure:
    """An object that could not be read; ``message`` is the API's sentence."""

    message: str


@dataclass(frozen=True, slots=True)
class EnvironmentSource:
    """What a resolution draws on; None in the maps is an object that is not there.

    Attributes:
        pod_ips: the pod's addresses, where they are known.
        pod_ips_may_come: whether an address that is not known now may be known later.
    """

    config_maps: Mapping[str, ConfigMap | ReadFailure | None] = field(default_factory=dict, repr=False)
    secrets: Mapping[str, Secret | ReadFailure | None] = field(default_factory=dict, repr=False)
    services: Sequence[Service] = ()
    pod_ips: Sequence[str] | None = None
    pod_ips_may_come: bool = False
    host_ips: Sequence[str] = ()
    allocatable: Mapping[str, str] = field(default_factory=dict)
    api_server_override: tuple[str, int] | None = None


class EnvironmentEvent(NamedTuple):
    event_type: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class EnvironmentFailure:
    """Why a container cannot have its environment.

    ``permanent``: no other object can cure it. ``missing``: kinds and names whose appearance or change may.
    """

    container: str
    message: str
    permanent: bool = False
    missing: tuple[tuple[str, str], ...] = ()
    reason: str = _REASON


@dataclass(frozen=True, slots=True)
class Resolution:
    """``pod``: a copy with flat ``env`` and expanded commands, unless there is a ``failure``."""

    pod: Pod | None = field(repr=False)
    events: tuple[EnvironmentEvent, ...] = ()
    failure: EnvironmentFailure | None = None


@dataclass(frozen=True, slots=True)
class ContainerResolution:
    """``container``: a copy with flat ``env`` and expanded commands, unless there is a ``failure``."""

    container: Container | None = field(repr=False)
    events: tuple[EnvironmentEvent, ...] = ()
    failure: EnvironmentFailure | None = None


class _FailedError(Exception):
    def __init__(self, message: str, *, permanent: bool = False, missing: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message)
        self.message, self.permanent, self.missing = message, permanent, missing


def resolve_environment(
    pod: Pod,
    source: EnvironmentSource,
    *,
    settled: Mapping[str, Sequence[EnvVar]] | None = None,
    skip_downward_api: bool = False,
) -> Resolution:
    """Resolve all containers of ``pod``, which is not changed; the first failure ends it.

    Args:
        settled: the variables of containers that were resolved before, by container: they are what they were.
        skip_downward_api: the Go framework's SkipDownwardAPIResolution: the pod comes back as it is.
    """
    if skip_downward_api:
        return Resolution(pod)
    resolver = _Resolver(pod, source, settled)
    spec = pod.spec
    try:
        spec = replace(
            spec,
            init_containers=[resolver.container(c) for c in spec.init_containers]
            if spec.init_containers
            else spec.init_containers,
            containers=[resolver.container(c) for c in spec.containers],
            ephemeral_containers=[resolver.container(c) for c in spec.ephemeral_containers]  # type: ignore[arg-type]
            if spec.ephemeral_containers
            else spec.ephemeral_containers,
        )
    except _FailedError as error:
        failure = EnvironmentFailure(resolver.current, error.message, error.permanent, error.missing)
        return Resolution(None, tuple(resolver.events), failure)
    return Resolution(replace(pod, spec=spec), tuple(resolver.events))


def resolve_container(pod: Pod, container: Container, source: EnvironmentSource) -> ContainerResolution:
    """Resolve one container of ``pod``, as a kubelet does at each of its starts; neither is changed.

    By then the pod's addresses are known: ``source.pod_ips``.
    """
    resolver = _Resolver(pod, source)
    try:
        resolved = resolver.container(container)
    except _FailedError as error:
        failure = EnvironmentFailure(container.name, error.message, error.permanent, error.missing)
        return ContainerResolution(None, tuple(resolver.events), failure)
    return ContainerResolution(resolved, tuple(resolver.events))


class _Resolver:
    def __init__(
        self, pod: Pod, source: EnvironmentSource, settled: Mapping[str, Sequence[EnvVar]] | None = None
    ) -> None:
        self.pod, self.source, self.settled = pod, source, settled or {}
        self.events: list[EnvironmentEvent] = []
        self.current = ""
        self.services = service_variables(
            source.services,
            pod.metadata.namespace or "",
            links=pod.spec.enable_service_links is not False,
            api_server=source.api_server_override,
        )

    def container(self, container: Container) -> Container:
        self.current = container.name
        if not (self.services or self.settled or container.env or container.env_from or _refers(container)):
            return container  # most containers of a large node; a copy costs more than the rest
        settled = self.settled.get(container.name)
        values = self.values(container) if settled is None else {v.name: v.value or "" for v in settled}
        return replace(
            container,
            env=[EnvVar(name=name, value=value) for name, value in values.items()] or None,
            env_from=None,
            command=[expand(part, values) for part in container.command] if container.command else container.command,
            args=[expand(part, values) for part in container.args] if container.args else container.args,
        )

    def values(self, container: Container) -> dict[str, str]:
        values: dict[str, str] = {}
        for entry in container.env_from or ():
            self.env_from(entry, values)
        for variable in container.env or ():
            value = self.value(variable, container, values)
            if value is not None:
                values[variable.name] = value
        for name, value in self.services.items():
            values.setdefault(name, value)
        return values

    def env_from(self, entry: EnvFromSource, values: dict[str, str]) -> None:
        if entry.config_map_ref is not None:
            kind, name, optional = "ConfigMap", entry.config_map_ref.name or "", bool(entry.config_map_ref.optional)
        elif entry.secret_ref is not None:
            kind, name, optional = "Secret", entry.secret_ref.name or "", bool(entry.secret_ref.optional)
        else:
            return
        data = self.data(kind, name, optional, skipped="")
        invalid = []
        for key in sorted(data or ()):
            assert data is not None
            variable = (entry.prefix or "") + key
            if valid_name(variable):
                values[variable] = self.text(kind, name, key, data[key])
            else:
                invalid.append(variable)
        if invalid:
            self.event(
                "InvalidEnvironmentVariableNames",
                f"keys [{', '.join(sorted(invalid))}] from {kind.lower()} {self.pod.metadata.namespace}/{name} "
                "were skipped since they are invalid as environment variable names",
            )

    def value(self, variable: EnvVar, container: Container, values: dict[str, str]) -> str | None:
        chosen = variable.value_from
        if chosen is None:
            return expand(variable.value or "", values, self.services)
        try:
            if chosen.field_ref is not None:
                if chosen.field_ref.api_version not in (None, "", "v1"):
                    raise FieldError(f"unsupported pod version: {chosen.field_ref.api_version}")
                source = self.source
                return field_value(
                    self.pod, chosen.field_ref.field_path, pod_ips=source.pod_ips, host_ips=source.host_ips
                )
            if chosen.resource_field_ref is not None:
                return resource_value(self.pod, container, chosen.resource_field_ref, self.source.allocatable)
        except FieldError as error:
            may_come = self.source.pod_ips_may_come and isinstance(error, UnknownPodAddressError)
            raise _FailedError(f"variable {variable.name}: {error}", permanent=not may_come) from None
        if chosen.config_map_key_ref is not None:
            at = chosen.config_map_key_ref
            return self.key("ConfigMap", at.name or "", at.key, bool(at.optional), variable.name)
        if chosen.secret_key_ref is not None:
            secret = chosen.secret_key_ref
            return self.key("Secret", secret.name or "", secret.key, bool(secret.optional), variable.name)
        raise _FailedError(
            f"variable {variable.name}: its valueFrom is of a kind that is not supported (fileKeyRef?)", permanent=True
        )

    def key(self, kind: str, name: str, key: str, optional: bool, variable: str) -> str | None:
        data = self.data(kind, name, optional, skipped=f'skipping optional envvar "{variable}": ')
        if data is None:
            return None
        if key in data:
            return self.text(kind, name, key, data[key])
        sentence = f'key "{key}" does not exist in {kind.lower()} "{name}"'
        if optional:
            self.event(f"Optional{kind}KeyNotFound", f'skipping optional envvar "{variable}": {sentence}')
            return None
        self.event(f"Mandatory{kind}KeyNotFound", sentence)
        raise _FailedError(
            f"couldn't find key {key} in {kind} {self.pod.metadata.namespace}/{name}", missing=((kind, name),)
        )

    def data(self, kind: str, name: str, optional: bool, *, skipped: str) -> Mapping[str, str] | None:
        """The object's data; None if it is not there and need not be."""
        found = (self.source.config_maps if kind == "ConfigMap" else self.source.secrets).get(name)
        if isinstance(found, (ConfigMap, Secret)):
            return found.data or {}
        word = kind.lower()
        if isinstance(found, ReadFailure):
            sentence = f'failed to read {word} "{name}"'
            self.event(
                f"FailedToRead{'Optional' if optional else 'Mandatory'}{kind}",
                skipped + sentence if optional else sentence,
            )
            if optional:
                return None
            raise _FailedError(f'failed to fetch {word} "{name}": {found.message}', missing=((kind, name),))
        sentence = f'{word} "{name}" not found'
        if optional:
            self.event(f"Optional{kind}NotFound", skipped + sentence)
            return None
        self.event(f"Mandatory{kind}NotFound", sentence)
        raise _FailedError(sentence, missing=((kind, name),))

    def text(self, kind: str, name: str, key: str, value: str) -> str:
        if kind == "ConfigMap":
            return value
        try:
            return base64.b64decode(value, validate=True).decode()
        except (binascii.Error, ValueError):  # UnicodeDecodeError is one, and its repr shows the value
            pass
        # Raised out here so that the error carries no context.
        raise _FailedError(
            f'key "{key}" of secret "{name}" is not text: it cannot be a variable', missing=((kind, name),)
        )

    def event(self, reason: str, message: str) -> None:
        self.events.append(EnvironmentEvent("Warning", reason, message))


def _refers(container: Container) -> bool:
    return any("$" in part for part in (*(container.command or ()), *(container.args or ())))


def valid_name(name: str) -> bool:
    """Printable ASCII but ``=`` (IsRelaxedEnvVarName; Kubernetes 1.34 made it the rule)."""
    return bool(name) and all(" " <= character <= "~" and character != "=" for character in name)
