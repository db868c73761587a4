"""Connections to ports of a pod, those on its loopback interface too: ``kubectl port-forward``."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import socket
import threading
from typing import Final

from virtual_kubelet import PortStream, TransientError, forward_socket
from virtual_kubelet_docker.daemon import Daemon, DaemonError

__all__ = ["forward_port"]

#: Seconds.
_CONNECT: Final = 30.0
_CLONE_NEWNET: Final = 0x40000000


async def forward_port(daemon: Daemon, sandbox_id: str, port: int, stream: PortStream) -> None:
    """As ``PortForwarder.port_forward``.

    As root beside the engine, in the pod's own network, as a kubelet's container runtime; else from here, where only what
    listens on the pod's address is reached.
    """
    await forward_socket(await _connect(daemon, sandbox_id, port), stream)


async def _connect(daemon: Daemon, sandbox_id: str, port: int) -> socket.socket:
    try:
        inspected = await daemon.get(f"containers/{sandbox_id}/json")
    except DaemonError as error:
        raise TransientError(f"the pod's network cannot be found: {error}") from None
    failures = []
    namespace = await _network_namespace(daemon, sandbox_id, inspected["State"].get("Pid") or 0)
    try:
        for host, family in _targets(inspected, inside=namespace is not None):
            made = await _socket(family, namespace)
            try:
                made.setblocking(False)
                async with asyncio.timeout(_CONNECT):
                    await asyncio.get_running_loop().sock_connect(made, (host, port))
                return made
            except TimeoutError:
                made.close()
                raise TimeoutError(errno.ETIMEDOUT, f"dial tcp {host}:{port}: i/o timeout") from None
            except OSError as error:
                made.close()
                text = os.strerror(error.errno or errno.EIO).lower()
                kind, shown = ("IPv6", f"[{host}]") if family == socket.AF_INET6 else ("IPv4", host)
                failures.append(f"{kind}: dial tcp{kind[-1]} {shown}:{port}: connect: {text}")
            except BaseException:
                made.close()
                raise
    finally:
        if namespace is not None:
            os.close(namespace)
    # As a kubelet's container runtime says it.
    raise ConnectionRefusedError(errno.ECONNREFUSED, f"failed to connect to localhost:{port}: {' '.join(failures)}")


def _targets(inspected: dict[str, object], *, inside: bool) -> list[tuple[str, socket.AddressFamily]]:
    """Where to try, the best first."""
    if inside:
        return [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)]
    networks = (inspected.get("NetworkSettings") or {}).get("Networks") or {}  # type: ignore[attr-defined]
    addresses = [one.get("IPAddress") for one in networks.values() if one.get("IPAddress")]
    return [(address, socket.AF_INET) for address in addresses] or [("127.0.0.1", socket.AF_INET)]


async def _network_namespace(daemon: Daemon, sandbox_id: str, pid: int) -> int | None:
    """A descriptor of the pod's network namespace; None if it is not this machine's, or not ours to enter."""
    if not pid or not daemon.is_local or os.geteuid() != 0:
        return None
    try:
        descriptor = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        # It still is that process now that the namespace is held: so it is the pod's.
        state = (await daemon.get(f"containers/{sandbox_id}/json"))["State"]
        if state.get("Running") and state.get("Pid") == pid:
            return descriptor
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


async def _socket(family: socket.AddressFamily, namespace: int | None) -> socket.socket:
    """A TCP socket; it stays in the network namespace that it is made in, so a thread enters that, makes it, and ends."""
    if namespace is None:
        return socket.socket(family, socket.SOCK_STREAM)
    loop = asyncio.get_running_loop()
    made: asyncio.Future[socket.socket] = loop.create_future()

    def make() -> None:
        try:
            library = ctypes.CDLL(None, use_errno=True)
            if library.setns(namespace, _CLONE_NEWNET) != 0:  # of this thread alone
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
            result: socket.socket | OSError = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            result = error
        loop.call_soon_threadsafe(settle, result)

    def settle(result: socket.socket | OSError) -> None:
        if made.done():
            if isinstance(result, socket.socket):
                result.close()
        elif isinstance(result, socket.socket):
            made.set_result(result)
        else:
            made.set_exception(result)

    # Not of a pool: a thread in another network must never be used for anything else.
    threading.Thread(target=make, name="pod network", daemon=True).start()
    return await made
