"""Addresses of a pod that are known only when it has its sandbox: stand-ins in its environment until then. Pure.

A pod's environment is resolved before anything of it runs. Where ``status.podIP(s)`` is used then, a stand-in takes its
place, through every expansion, and the engine puts the addresses in when a container starts. A stand-in is no valid text of
anybody's (noncharacters of Unicode).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from virtual_kubelet.objects.core_v1 import Container, EnvVar

__all__ = ["STAND_INS", "MissingAddressError", "needs_addresses", "with_addresses"]

#: What a provider gives as a pod's addresses while it does not know them: two, so that ``podIP`` and ``podIPs`` differ.
STAND_INS: Final = ("\ufdd0podIP\ufdd1", "\ufdd0podIPs\ufdd1")
_ALL: Final = ",".join(STAND_INS)


class MissingAddressError(Exception):
    """The pod has no address, and a container needs one."""


def needs_addresses(container: Container) -> bool:
    """Whether it has a stand-in anywhere."""
    texts = [*(v.value or "" for v in container.env or ()), *(container.command or ()), *(container.args or ())]
    return any(STAND_INS[0] in text for text in texts)


def with_addresses(container: Container, ips: Sequence[str]) -> Container:
    """The container with the pod's addresses, the primary one first. Raises ``MissingAddressError``."""
    if not needs_addresses(container):
        return container
    if not ips:
        raise MissingAddressError("the pod has no address, which the container's environment needs")

    def put(text: str) -> str:
        return text.replace(_ALL, ",".join(ips)).replace(STAND_INS[0], ips[0])

    return replace(
        container,
        env=[EnvVar(name=v.name, value=put(v.value or "")) if v.value_from is None else v for v in container.env or ()]
        or None,
        command=[put(part) for part in container.command] if container.command else container.command,
        args=[put(part) for part in container.args] if container.args else container.args,
    )
