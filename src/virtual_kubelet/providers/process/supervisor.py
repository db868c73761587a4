"""The supervisor: one small process a node that outlives it, starts its containers' processes and keeps what they leave.

Plain standard library, run with ``python -I -S``: of this package it imports its own parts only, and stays small. It is
the child subreaper of all it starts, so no process gets out of its sight by ``setsid`` or a double fork. A container's
output goes through two FIFOs, which the child opens for reading and writing: should the supervisor be killed, writes do
not fail, and a new supervisor reads on. What it knows is in one JSON file a container, written atomically; a process is
recognised by pid, start time and boot id, so a reused pid fools nobody.

Protocol, on the Unix socket ``supervisor.sock``: a message is a 4-byte big-endian length and JSON. Requests have an ``op``
(start, signal, remove, list, stop) and a ``seq``; the answer repeats ``seq``. ``{"event": "exit", …}`` comes unasked.
Only processes of the same user are served (SO_PEERCRED), one frame is at most 16 MiB.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import selectors
import signal
import socket
import struct
import time

from virtual_kubelet.providers.process.process_start import spawn
from virtual_kubelet.providers.process.process_tree import boot_id, members_of, stat_of
from virtual_kubelet.providers.process.supervised_container import Container

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing is not worth its memory in a process that has to stay small
    from typing import Any

LIMIT = 16 * 1024 * 1024
IDLE_SECONDS = 60.0
PR_SET_CHILD_SUBREAPER = 36


class Client:
    """One connection; output that it does not read is bounded, then it is cut."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.inbox = b""
        self.outbox = b""


class Supervisor:
    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.containers: dict[str, Container] = {}
        self.clients: dict[int, Client] = {}
        self.selector = selectors.DefaultSelector()
        self.boot = boot_id()
        self.idle_since = time.monotonic()
        self.stopping = False

    # The loop

    def run(self) -> int:
        self.lock = os.open(
            os.path.join(self.directory, "supervisor.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0  # another one serves this directory
        if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER")
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)  # it ends when it is asked to, not with a terminal or a node
        self.selector.register(reader, selectors.EVENT_READ, ("signals", None))
        self.adopt()
        path = os.path.join(self.directory, "supervisor.sock")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        # By way of the open directory: a socket's own path may have 107 bytes only, a state directory's may have more.
        directory = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            listener.bind(f"/proc/self/fd/{directory}/supervisor.sock")
        finally:
            os.close(directory)
        os.chmod(path, 0o600)
        listener.listen(8)
        listener.setblocking(False)
        self.selector.register(listener, selectors.EVENT_READ, ("listener", listener))
        while not self.stopping:
            for key, _ in self.selector.select(1.0):
                what, thing = key.data
                if what == "signals":
                    os.read(reader, 4096)
                elif what == "listener":
                    self.accept(listener)
                elif what == "client":
                    self.serve(thing)
                elif what == "output":
                    self.read_output(*thing)
                elif what == "pidfd":
                    self.adopted_ended(thing)
            self.reap()
            self.leave_if_idle()
        os.unlink(path)
        return 0

    def leave_if_idle(self) -> None:
        if self.clients or any(c.running for c in self.containers.values()):
            self.idle_since = time.monotonic()
        elif time.monotonic() - self.idle_since > IDLE_SECONDS:
            self.stopping = True

    # Containers

    def adopt(self) -> None:
        """What an earlier supervisor started: by pid, start time and boot; the exit codes of such are not told to us."""
        base = os.path.join(self.directory, "containers")
        os.makedirs(base, mode=0o700, exist_ok=True)
        for name in os.listdir(base):
            try:
                with open(os.path.join(base, name, "record.json")) as file:
                    record = json.load(file)
            except (OSError, ValueError):
                continue  # it was killed while it wrote the first one: nothing had been started
            container = self.containers[name] = Container(os.path.join(base, name), record)
            if not container.running:
                continue
            found = stat_of(record["pid"]) if record["boot_id"] == self.boot and record["pid"] else None
            if found is None or found[4] != record["start_time"] or found[0] == "Z":
                self.ended(container, 137, None, "ContainerStatusUnknown", "the supervisor was not there when it ended")
                continue
            self.open_fifos(container)
            pidfd = container.pidfd = os.pidfd_open(record["pid"])
            self.selector.register(pidfd, selectors.EVENT_READ, ("pidfd", container))

    def adopted_ended(self, container: Container) -> None:
        self.forget_pidfd(container)
        self.ended(
            container, 137, None, "ContainerStatusUnknown", "the supervisor that started it was gone when it ended"
        )

    def forget_pidfd(self, container: Container) -> None:
        if container.pidfd is not None:
            self.selector.unregister(container.pidfd)
            os.close(container.pidfd)
            container.pidfd = None

    def open_fifos(self, container: Container) -> None:
        for stream in ("stdout", "stderr"):
            path = os.path.join(container.directory, stream)
            # Our own end is for reading and writing too: without another writer it would report its end at once.
            descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            container.fifos[stream] = descriptor
            self.selector.register(descriptor, selectors.EVENT_READ, ("output", (container, stream)))

    def read_output(self, container: Container, stream: str) -> None:
        descriptor = container.fifos.get(stream)
        if descriptor is None:
            return
        try:
            data = os.read(descriptor, 65536)
        except BlockingIOError:
            return
        container.write(stream, data)

    def start(self, request: dict[str, Any]) -> dict[str, Any]:
        name = request["id"]
        directory = os.path.join(self.directory, "containers", name)
        if name in self.containers or "/" in name or name.startswith("."):
            return {"error": "exists", "message": f"container {name} exists"}
        os.makedirs(directory, mode=0o700)
        record = {
            "id": name,
            "labels": request["labels"],
            "pid": 0,
            "start_time": 0,
            "boot_id": self.boot,
            "started_ns": time.time_ns(),
            "exit": None,
            "max_log_bytes": request["max_log_bytes"],
            "max_log_files": request["max_log_files"],
        }
        container = Container(directory, record)
        try:
            for stream in ("stdout", "stderr"):
                os.mkfifo(os.path.join(directory, stream), 0o600)
            self.open_fifos(container)
            started = spawn(directory, request)
        except OSError as error:
            started = {"error": "os", "errno": error.errno, "message": error.strerror or str(error)}
        if not isinstance(started, int):
            self.discard(container)
            return started
        record["pid"] = started
        found = stat_of(record["pid"])
        record["start_time"] = found[4] if found is not None else 0
        self.containers[name] = container
        container.save()
        return {"container": self.describe(container)}

    def reap(self) -> None:
        """Collect every child that has ended; those of no container were orphans of one."""
        by_pid = {c.record["pid"]: c for c in self.containers.values() if c.running}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            container = by_pid.get(pid)
            if container is not None and container.pidfd is None:
                if os.WIFSIGNALED(status):
                    number = os.WTERMSIG(status)
                    self.ended(container, 128 + number, number, None, None)
                else:
                    self.ended(container, os.WEXITSTATUS(status), None, None, None)

    def ended(
        self, container: Container, code: int, number: int | None, reason: str | None, message: str | None
    ) -> None:
        """Its main process is gone: what else belongs to it goes too, as in a container; then it is written down."""
        container.record["exit"] = {
            "code": code,
            "signal": number,
            "reason": reason,
            "message": message,
            "finished_ns": time.time_ns(),
        }
        self.kill_all(container)
        for stream in list(container.fifos):
            with contextlib.suppress(BlockingIOError):
                while True:
                    data = os.read(container.fifos[stream], 65536)
                    if not data:
                        break
                    container.write(stream, data)
        for descriptor in container.fifos.values():
            self.selector.unregister(descriptor)
        container.finish_logs()
        container.save()
        self.broadcast({"event": "exit", "container": self.describe(container)})

    def members(self, container: Container) -> set[int]:
        others_run = any(c.running for c in self.containers.values() if c is not container)
        known = {c.record["pid"] for c in self.containers.values()}
        return members_of(
            container.record["id"], container.record["pid"], container.running, None if others_run else known
        )

    def kill_all(self, container: Container) -> None:
        for _ in range(20):  # a process may fork while it is being looked for
            members = self.members(container)
            if not members:
                return
            for pid in members:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.002)

    def send_signal(self, request: dict[str, Any]) -> dict[str, Any]:
        container = self.containers.get(request["id"])
        if container is None or not container.running:
            return {}
        if request["signal"] == signal.SIGKILL:
            for pid in self.members(container):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(container.record["pid"], request["signal"])
        return {}

    def remove(self, request: dict[str, Any]) -> dict[str, Any]:
        container = self.containers.get(request["id"])
        if container is None:
            return {}
        if container.running:
            self.forget_pidfd(container)
            self.kill_all(container)
            self.await_end(container, time.monotonic() + 5)
        self.kill_all(container)
        del self.containers[request["id"]]
        self.discard(container)
        return {}

    def await_end(self, container: Container, deadline: float) -> None:
        while time.monotonic() < deadline:
            self.reap()
            if not container.running:
                return
            if stat_of(container.record["pid"]) is None:  # another supervisor's child: nobody tells us its end
                self.ended(container, 137, 9, None, None)
                return
            time.sleep(0.002)

    def discard(self, container: Container) -> None:
        for descriptor in container.fifos.values():
            self.selector.unregister(descriptor)
        container.finish_logs()
        for name in os.listdir(container.directory):
            os.unlink(os.path.join(container.directory, name))
        os.rmdir(container.directory)

    def describe(self, container: Container) -> dict[str, Any]:
        record = container.record
        return {key: record[key] for key in ("id", "labels", "started_ns", "exit", "pid")}

    # Clients

    def accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid != os.getuid():
            connection.close()
            return
        connection.setblocking(False)
        client = self.clients[connection.fileno()] = Client(connection)
        self.selector.register(connection, selectors.EVENT_READ, ("client", client))

    def serve(self, client: Client) -> None:
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
            (length,) = struct.unpack(">I", client.inbox[:4])
            if length > LIMIT:
                self.drop(client)
                return
            if len(client.inbox) < 4 + length:
                return
            body, client.inbox = client.inbox[4 : 4 + length], client.inbox[4 + length :]
            try:
                request = json.loads(body)
                answer = self.answer(request)
            except (ValueError, KeyError, TypeError) as error:
                self.send(client, {"error": "protocol", "message": f"malformed request: {type(error).__name__}"})
                self.drop(client)
                return
            self.send(client, {"seq": request.get("seq"), **answer})

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        op = request["op"]
        if op == "start":
            return self.start(request)
        if op == "signal":
            return self.send_signal(request)
        if op == "remove":
            return self.remove(request)
        if op == "list":
            return {"containers": [self.describe(c) for c in self.containers.values()]}
        if op == "stop":
            if any(c.running for c in self.containers.values()):
                return {"stopped": False}
            self.stopping = True
            return {"stopped": True}
        return {"error": "protocol", "message": f"unknown op {op!r}"}

    def send(self, client: Client, message: dict[str, Any]) -> None:
        body = json.dumps(message).encode()
        data = struct.pack(">I", len(body)) + body
        with contextlib.suppress(OSError):
            client.connection.settimeout(5)  # the node reads all the time; one that does not for 5 s is gone
            client.connection.sendall(data)
            client.connection.setblocking(False)
            return
        self.drop(client)

    def broadcast(self, message: dict[str, Any]) -> None:
        for client in list(self.clients.values()):
            self.send(client, message)

    def drop(self, client: Client) -> None:
        number = client.connection.fileno()
        if self.clients.pop(number, None) is not None:
            self.selector.unregister(client.connection)
            client.connection.close()


def main(directory: str) -> int:
    """Serve this directory until there is nothing to supervise; 0 at once if another one serves it."""
    os.chdir("/")
    return Supervisor(directory).run()
