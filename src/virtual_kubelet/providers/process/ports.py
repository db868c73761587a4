"""Connections to TCP ports on which a pod's own processes listen, and to no other port of the machine."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
import sys
from collections.abc import Collection
from typing import Final

from virtual_kubelet import PortStream, forward_socket
from virtual_kubelet.providers.process.process_tree import mark_of, members_of

__all__ = ["forward", "listening_at"]

_LISTEN: Final = b"0A"
#: Seconds. A full backlog does not answer.
_CONNECT: Final = 30.0


def listening_at(port: int, mains: Collection[int]) -> list[str]:
    """Loopback addresses by which the processes of these containers are reached there, best first. Blocking.

    Args:
        mains: the containers' main processes.
    """
    listeners = [
        *_listeners("/proc/net/tcp", port),
        *_listeners("/proc/net/tcp6", port),
    ]
    if not listeners:
        return []
    marks = {mark for pid in mains if (mark := mark_of(pid)) is not None}
    sockets: set[bytes] = set()
    for pid in members_of(marks, mains=set(mains), known=set(), everywhere=True):
        sockets |= _sockets_of(pid)
    others_have_ipv4 = any(address.version == 4 for address, inode in listeners if inode not in sockets)
    addresses = []
    for address, inode in listeners:
        if inode not in sockets:
            continue
        if address.is_unspecified:
            addresses.append("127.0.0.1" if address.version == 4 else "::1")
            if address.version == 6 and not others_have_ipv4:
                addresses.append("127.0.0.1")  # where the machine has no ::1
        elif address.is_loopback:
            addresses.append(str(address))
    return list(dict.fromkeys(addresses))


def _listeners(table: str, port: int) -> list[tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, bytes]]:
    """(address, inode of the socket) of those who listen on this port."""
    found = []
    wanted = b":%04X" % port
    try:
        with open(table, "rb") as file:
            for line in file:
                fields = line.split()
                if len(fields) > 9 and fields[3] == _LISTEN and fields[1].endswith(wanted):
                    found.append((_address(fields[1].partition(b":")[0].decode()), fields[9]))
    except FileNotFoundError:  # a machine without IPv6
        return []
    return found


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The kernel prints words of 32 bits, as numbers of its own byte order."""
    words = (int(text[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(text), 8))
    address = ipaddress.ip_address(b"".join(words))
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address


def _sockets_of(pid: int) -> set[bytes]:
    found = set()
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                target = os.readlink(f"/proc/{pid}/fd/{name}")
            except OSError:  # closed meanwhile
                continue
            if target.startswith("socket:["):
                found.add(target[8:-1].encode())
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return found
    return found


async def forward(port: int, mains: Collection[int], stream: PortStream) -> None:
    """As ``PortForwarder.port_forward``."""
    await forward_socket(await _connect(port, mains), stream)


async def _connect(port: int, mains: Collection[int]) -> socket.socket:
    for address in await asyncio.to_thread(listening_at, port, mains):
        connection = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(_CONNECT):
                await asyncio.get_running_loop().sock_connect(connection, (address, port))
            return connection
        except TimeoutError:
            connection.close()
            raise TimeoutError(errno.ETIMEDOUT, f"dial tcp {address}:{port}: i/o timeout") from None
        except OSError:
            connection.close()
        except BaseException:
            connection.close()
            raise
    # As a kubelet's container runtime says it.
    raise ConnectionRefusedError(
        errno.ECONNREFUSED,
        f"failed to connect to localhost:{port}: IPv4: dial tcp4 127.0.0.1:{port}: connect: connection refused "
        f"IPv6: dial tcp6 [::1]:{port}: connect: connection refused",
    )
