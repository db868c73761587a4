"""The provider's configuration file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from virtual_kubelet import ProviderConfigError
from virtual_kubelet.objects.quantity import Quantity

__all__ = ["DockerConfig", "load_config"]


@dataclass(frozen=True, slots=True)
class DockerConfig:
    """YAML, in camelCase. Every key may be left out.

    Attributes:
        host: of the engine, such as ``unix:///run/docker.sock``; None: as Docker's client finds it.
        network: the engine's network that pods are in; None: its default.
        cpu, memory, pods: the node's capacity; None: the engine's machine, 110 pods.
        pod_pids_limit: processes that each container may have; None: as many as the engine allows.
        max_log_bytes, max_log_files: rotation of each container's log, as a kubelet's defaults.
        seccomp_profile_root: where ``seccompProfile.localhostProfile`` is looked for.
        allowed_unsafe_sysctls: names, or beginnings that end with ``*``, beside those that Kubernetes calls safe.
        runtime_classes: ``runtimeClassName`` -> a runtime that the engine is configured with.
        pause_image: of the infra containers; it must be there. None: one is made, which needs no registry.
    """

    host: str | None = None
    network: str | None = None
    cpu: str | None = None
    memory: str | None = None
    pods: str = "110"
    pod_pids_limit: int | None = None
    max_log_bytes: int = 10 * 1024 * 1024
    max_log_files: int = 5
    seccomp_profile_root: Path = Path("/var/lib/kubelet/seccomp")
    allowed_unsafe_sysctls: Sequence[str] = ()
    runtime_classes: Mapping[str, str] = field(default_factory=dict)
    pause_image: str | None = None


def load_config(path: Path | None) -> DockerConfig:
    """Raises ``ProviderConfigError``, naming the key that is wrong."""
    if path is None:
        return DockerConfig()
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ProviderConfigError(f"cannot read the provider configuration {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ProviderConfigError(f"the provider configuration {path} is not YAML: {error}") from None
    if content is None:
        return DockerConfig()
    if not isinstance(content, dict):
        raise ProviderConfigError(f"the provider configuration {path} is not a mapping")
    unknown = sorted(str(key) for key in content.keys() - _KEYS.keys())
    if unknown:
        raise ProviderConfigError(
            f"the provider configuration {path} has unknown keys: {', '.join(unknown)}",
            hint=f"known ones: {', '.join(sorted(_KEYS))}",
        )
    given = {}
    for key, value in content.items():
        name, take = _KEYS[key]
        try:
            given[name] = take(value)
        except (TypeError, ValueError) as error:
            raise ProviderConfigError(f"the provider configuration {path}: {key}: {error}") from None
    return DockerConfig(**given)


def _string(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError("it must be a string")
    return value


def _strings(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise TypeError("it must be a list of strings")
    return [_string(one) for one in value]


def _mapping(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise TypeError("it must be a mapping of strings")
    return {_string(name): _string(one) for name, one in value.items()}


def _quantity(value: Any) -> str:
    return str(Quantity(value))


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise TypeError("it must be a number from 1")
    return value


_KEYS: Final[dict[str, tuple[str, Any]]] = {
    "host": ("host", _string),
    "network": ("network", _string),
    "cpu": ("cpu", _quantity),
    "memory": ("memory", _quantity),
    "pods": ("pods", _quantity),
    "podPidsLimit": ("pod_pids_limit", _count),
    "maxLogBytes": ("max_log_bytes", _count),
    "maxLogFiles": ("max_log_files", _count),
    "seccompProfileRoot": ("seccomp_profile_root", lambda value: Path(_string(value))),
    "allowedUnsafeSysctls": ("allowed_unsafe_sysctls", _strings),
    "runtimeClasses": ("runtime_classes", _mapping),
    "pauseImage": ("pause_image", _string),
}
