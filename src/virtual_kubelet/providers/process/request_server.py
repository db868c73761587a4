"""The supervisor's socket: frames of JSON from a few clients of the same user, in its own loop. Standard library only."""

from __future__ import annotations

import json
import os
import selectors
import socket
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing is not worth its memory in a process that has to stay small
    from collections.abc import Callable
    from typing import Any

__all__ = ["RequestServer"]

LIMIT = 16 * 1024 * 1024


class Client:
    """One connection; output that it does not read is kept up to a limit, then it is cut."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.inbox = bytearray()
        self.outbox = bytearray()


class RequestServer:
    """Registers with ``selector`` as ``("server", …)``; what is ready there goes to ``ready``."""

    def __init__(self, selector: selectors.BaseSelector, answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self.selector = selector
        self.answer = answer
        self.clients: dict[int, Client] = {}

    def open(self, folder: str) -> None:
        self.path = os.path.join(folder, "supervisor.sock")
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            pass
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        # By way of the open directory: a socket's own path may have 107 bytes only, a state directory's may have more.
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.listener.bind(f"/proc/self/fd/{directory}/supervisor.sock")
        finally:
            os.close(directory)
        os.chmod(self.path, 0o600)
        self.listener.listen(8)
        self.listener.setblocking(False)
        self.selector.register(self.listener, selectors.EVENT_READ, ("server", None))

    def close(self) -> None:
        os.unlink(self.path)

    def ready(self, client: Client | None, events: int) -> None:
        if client is None:
            self.accept()
            return
        if events & selectors.EVENT_WRITE:
            self.flush(client)
        if events & selectors.EVENT_READ:
            self.read(client)

    def broadcast(self, message: dict[str, Any]) -> None:
        for client in list(self.clients.values()):
            self.send(client, message)

    def accept(self) -> None:
        try:
            connection, _ = self.listener.accept()
        except OSError:
            return
        _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid != os.getuid():
            connection.close()
            return
        connection.setblocking(False)
        client = self.clients[connection.fileno()] = Client(connection)
        self.selector.register(connection, selectors.EVENT_READ, ("server", client))

    def read(self, client: Client) -> None:
        try:
            data = client.connection.recv(1 << 20)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.drop(client)
            return
        client.inbox += data
        while len(client.inbox) >= 4:
            (length,) = struct.unpack_from(">I", client.inbox)
            if length > LIMIT:
                self.drop(client)
                return
            if len(client.inbox) < 4 + length:
                return
            body = bytes(client.inbox[4 : 4 + length])
            del client.inbox[: 4 + length]
            try:
                request = json.loads(body)
                answer = self.answer(request)
            except (ValueError, KeyError, TypeError) as error:
                self.send(client, {"error": "protocol", "message": f"malformed request: {type(error).__name__}"})
                self.drop(client)
                return
            self.send(client, {"seq": request.get("seq"), **answer})

    def send(self, client: Client, message: dict[str, Any]) -> None:
        body = json.dumps(message).encode()
        client.outbox += struct.pack(">I", len(body)) + body
        self.flush(client)

    def flush(self, client: Client) -> None:
        """What a client does not read now waits for it; nobody else does."""
        try:
            while client.outbox:
                sent = client.connection.send(client.outbox)
                del client.outbox[:sent]
        except BlockingIOError:
            if len(client.outbox) > LIMIT:
                self.drop(client)
                return
        except OSError:
            self.drop(client)
            return
        if client.connection.fileno() in self.clients:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.outbox else 0)
            self.selector.modify(client.connection, events, ("server", client))

    def drop(self, client: Client) -> None:
        if self.clients.pop(client.connection.fileno(), None) is not None:
            self.selector.unregister(client.connection)
            client.connection.close()
