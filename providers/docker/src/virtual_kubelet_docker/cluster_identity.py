"""Which cluster a node is of: nodes of one name, of several clusters, may share a container engine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from virtual_kubelet import ProviderConfigError, VirtualKubeletError
from virtual_kubelet.objects.core_v1 import Service

__all__ = ["cluster_identity"]

#: Every API server makes it once and keeps it, in this namespace; nodes may read Services.
_SERVICE: Final = "kubernetes"
_NAMESPACE: Final = "default"
_FILE: Final = "cluster"


async def cluster_identity(
    services: Callable[[str], Awaitable[Sequence[Service]]],
    directory: Path,
    log: logging.LoggerAdapter[logging.Logger],
) -> str:
    """The UID of the API server's own Service.

    Args:
        services: of a namespace.
        directory: where it is kept, for a start at which it cannot be read.

    Raises ``ProviderConfigError`` if it was never to be had.
    """
    file = directory / _FILE
    try:
        found = [one.metadata.uid for one in await services(_NAMESPACE) if one.metadata.name == _SERVICE]
    except VirtualKubeletError as error:
        kept = await asyncio.to_thread(_read, file)
        if not kept:
            raise ProviderConfigError(
                f"which cluster this is cannot be known: the Service {_NAMESPACE}/{_SERVICE} cannot be read: {error}",
                hint="nodes need the right to list Services; `virtual-kubelet rbac` writes all that they need",
            ) from error
        log.warning("the Service %s/%s cannot be read; the cluster is taken to be the last one", _NAMESPACE, _SERVICE)
        return kept
    identity = next((uid for uid in found if uid), "")
    if not identity:
        raise ProviderConfigError(f"which cluster this is cannot be known: it has no Service {_NAMESPACE}/{_SERVICE}")
    await asyncio.to_thread(file.write_text, identity)
    return identity


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except FileNotFoundError:
        return ""
