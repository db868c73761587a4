"""Probes that open a TCP connection and close it (pkg/probe/tcp)."""

from __future__ import annotations

import asyncio

from virtual_kubelet.objects.core_v1 import TCPSocketAction
from virtual_kubelet.runtime.probes.connection import ConnectionFailure, dial, host_port
from virtual_kubelet.runtime.probes.target import ContainerTarget, Outcome, ProbeAnswer, resolve_port

__all__ = ["probe_tcp_socket"]


async def probe_tcp_socket(target: ContainerTarget, action: TCPSocketAction, timeout: float) -> ProbeAnswer:
    """A tcpSocket probe. Raises ``ProbeError`` if there is no such port or address."""
    host, port = target.host(action.host), resolve_port(action.port, target.container)
    try:
        async with asyncio.timeout(timeout), dial(host, port):
            return ProbeAnswer(Outcome.SUCCESS)
    except TimeoutError:
        return ProbeAnswer(Outcome.FAILURE, f"dial tcp {host_port(host, port)}: i/o timeout")
    except ConnectionFailure as error:
        return ProbeAnswer(Outcome.FAILURE, str(error))
