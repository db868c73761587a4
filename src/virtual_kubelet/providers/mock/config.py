"""The mock provider's configuration: the Go framework's file, JSON by node name."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from virtual_kubelet import ProviderConfigError
from virtual_kubelet.objects.quantity import Quantity

__all__ = ["MockConfig", "load_config"]

_KEYS: Final = frozenset({"cpu", "memory", "pods", "others", "providerID"})


@dataclass(frozen=True, slots=True)
class MockConfig:
    """What the node claims to have."""

    cpu: str = "1000"
    memory: str = "10Ti"
    pods: str = "10000"
    others: dict[str, str] = field(default_factory=dict)
    provider_id: str = ""


def load_config(path: Path | None, node_name: str) -> MockConfig:
    """The entry of ``node_name``, or the defaults without a file.

    A key left out is the Go framework's default for a file: 20 CPUs, 100Gi, 20 pods. Raises ``ProviderConfigError``.
    """
    if path is None:
        return MockConfig()
    try:
        content: Any = json.loads(path.read_text())
    except OSError as error:
        raise ProviderConfigError(f"cannot read the provider configuration {path}: {error.strerror}") from None
    except ValueError as error:
        raise ProviderConfigError(f"the provider configuration {path} is not JSON: {error}") from None
    if not isinstance(content, dict) or not isinstance(content.get(node_name), dict):
        names = ", ".join(sorted(content)) if isinstance(content, dict) else "none"
        raise ProviderConfigError(
            f"the provider configuration {path} has no node {node_name!r}", hint=f"it has: {names or 'none'}"
        )
    entry = content[node_name]
    unknown = sorted(entry.keys() - _KEYS)
    if unknown:
        raise ProviderConfigError(
            f"the provider configuration {path} has unknown keys: {', '.join(unknown)}",
            hint=f"known ones: {', '.join(sorted(_KEYS))}",
        )
    others = entry.get("others") or {}
    amounts = {"cpu": entry.get("cpu", "20"), "memory": entry.get("memory", "100Gi"), "pods": entry.get("pods", "20")}
    for name, value in {**amounts, **others}.items():
        try:
            Quantity(value)
        except ValueError as error:
            raise ProviderConfigError(f"the provider configuration {path}: invalid {name} value: {error}") from None
    return MockConfig(
        str(amounts["cpu"]),
        str(amounts["memory"]),
        str(amounts["pods"]),
        {name: str(value) for name, value in others.items()},
        str(entry.get("providerID") or ""),
    )
