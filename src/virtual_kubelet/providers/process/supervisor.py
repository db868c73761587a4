"""The supervisor: one small process a node that outlives it, starts its containers' processes and keeps what they leave.

Plain standard library, run by its path as ``python -I -S supervisor.py DIRECTORY``: it imports nothing of this package and
stays small. It is the child subreaper of all it starts, so no process gets out of its sight by ``setsid`` or a double
fork. A container's output goes through two FIFOs, which the child opens for reading and writing: should the supervisor be
killed, writes do not fail, and a new supervisor reads on. What it knows is in one JSON file a container, written
atomically; a process is recognised by pid, start time and boot id, so a reused pid fools nobody.

Protocol, on the Unix socket ``supervisor.sock``: a message is a 4-byte big-endian length and JSON. Requests have an ``op``
(start, signal, remove, list, stop) and a ``seq``; the answer repeats ``seq``. ``{"event": "exit", …}`` comes unasked.
Only processes of the same user are served (SO_PEERCRED), one frame is at most 16 MiB.
"""

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import selectors
import signal
import socket
import struct
import sys
import time

MARKER = "VIRTUAL_KUBELET_CONTAINER"
LIMIT = 16 * 1024 * 1024
IDLE_SECONDS = 60.0
PR_SET_CHILD_SUBREAPER = 36


def boot_id():
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def stat_of(pid):
    """(state, ppid, pgrp, session, start time) of a process, or None."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return fields[0].decode(), int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19])


def now_ns():
    return time.time_ns()


class Container:
    """One run of one container."""

    def __init__(self, directory, record):
        self.directory = directory
        self.record = record
        self.fifos = {}  # stream -> descriptor
        self.rest = {"stdout": b"", "stderr": b""}
        self.log = None
        self.size = 0
        self.pidfd = None

    @property
    def running(self):
        return self.record["exit"] is None

    def save(self):
        path = os.path.join(self.directory, "record.json")
        with open(path + ".new", "w") as file:
            json.dump(self.record, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(path + ".new", path)

    def write(self, stream, data):
        """Lines as the CRI writes them: time, stream, F for a whole line or P for a part of one, the line."""
        stamp = _stamp(now_ns())
        lines = (self.rest[stream] + data).split(b"\n")
        self.rest[stream] = lines.pop()
        out = [b"%s %s F %s\n" % (stamp, stream.encode(), line) for line in lines]
        while len(self.rest[stream]) >= 16384:
            out.append(b"%s %s P %s\n" % (stamp, stream.encode(), self.rest[stream][:16384]))
            self.rest[stream] = self.rest[stream][16384:]
        self.append(b"".join(out))

    def finish_logs(self):
        for stream, rest in self.rest.items():
            if rest:
                self.append(b"%s %s P %s\n" % (_stamp(now_ns()), stream.encode(), rest))
                self.rest[stream] = b""
        for descriptor in self.fifos.values():
            os.close(descriptor)
        self.fifos = {}
        if self.log is not None:
            os.close(self.log)
            self.log = None

    def append(self, data):
        if not data:
            return
        path = os.path.join(self.directory, "log")
        if self.log is None:
            self.log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self.size = os.fstat(self.log).st_size
        if self.size and self.size + len(data) > self.record["max_log_bytes"]:
            os.close(self.log)
            for number in range(self.record["max_log_files"] - 1, 0, -1):
                older = path if number == 1 else f"{path}.{number - 1}"
                with contextlib.suppress(FileNotFoundError):
                    os.replace(older, f"{path}.{number}")
            if self.record["max_log_files"] == 1:
                os.unlink(path)
            self.log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self.size = 0
        try:
            written = os.write(self.log, data)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            return  # a full disk costs log lines, not the container
        self.size += written


def _stamp(ns):
    seconds, fraction = divmod(ns, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{fraction:09d}Z".encode()


class Client:
    """One connection; output that it does not read is bounded, then it is cut."""

    def __init__(self, connection):
        self.connection = connection
        self.inbox = b""
        self.outbox = b""


class Supervisor:
    def __init__(self, directory):
        self.directory = directory
        self.containers = {}
        self.clients = {}
        self.selector = selectors.DefaultSelector()
        self.boot = boot_id()
        self.idle_since = time.monotonic()
        self.stopping = False

    # The loop

    def run(self):
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
        listener.bind(path)
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

    def leave_if_idle(self):
        if self.clients or any(c.running for c in self.containers.values()):
            self.idle_since = time.monotonic()
        elif time.monotonic() - self.idle_since > IDLE_SECONDS:
            self.stopping = True

    # Containers

    def adopt(self):
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
            container.pidfd = os.pidfd_open(record["pid"])
            self.selector.register(container.pidfd, selectors.EVENT_READ, ("pidfd", container))

    def adopted_ended(self, container):
        self.forget_pidfd(container)
        self.ended(
            container, 137, None, "ContainerStatusUnknown", "the supervisor that started it was gone when it ended"
        )

    def forget_pidfd(self, container):
        if container.pidfd is not None:
            self.selector.unregister(container.pidfd)
            os.close(container.pidfd)
            container.pidfd = None

    def open_fifos(self, container):
        for stream in ("stdout", "stderr"):
            path = os.path.join(container.directory, stream)
            # Our own end is for reading and writing too: without another writer it would report its end at once.
            descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            container.fifos[stream] = descriptor
            self.selector.register(descriptor, selectors.EVENT_READ, ("output", (container, stream)))

    def read_output(self, container, stream):
        descriptor = container.fifos.get(stream)
        if descriptor is None:
            return
        try:
            data = os.read(descriptor, 65536)
        except BlockingIOError:
            return
        container.write(stream, data)

    def start(self, request):
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
            "started_ns": now_ns(),
            "exit": None,
            "max_log_bytes": request["max_log_bytes"],
            "max_log_files": request["max_log_files"],
        }
        container = Container(directory, record)
        try:
            for stream in ("stdout", "stderr"):
                os.mkfifo(os.path.join(directory, stream), 0o600)
            self.open_fifos(container)
            failure = self.spawn(container, request)
        except OSError as error:
            failure = {"error": "os", "errno": error.errno, "message": error.strerror or str(error)}
        if failure is not None:
            self.discard(container)
            return failure
        found = stat_of(record["pid"])
        record["start_time"] = found[4] if found is not None else 0
        self.containers[name] = container
        container.save()
        return {"container": self.describe(container)}

    def spawn(self, container, request):
        """Fork and exec; gives what went wrong, told by the child through a pipe that exec closes."""
        told, tell = os.pipe2(os.O_CLOEXEC)
        descriptors = [
            os.open(os.path.join(container.directory, s), os.O_RDWR | os.O_CLOEXEC) for s in ("stdout", "stderr")
        ]
        pid = os.fork()
        if pid == 0:
            self.become(request, descriptors, tell)  # does not return
        os.close(tell)
        for descriptor in descriptors:
            os.close(descriptor)
        with os.fdopen(told, "rb") as file:
            failure = file.read()
        if failure:
            os.waitpid(pid, 0)
            return json.loads(failure)
        container.record["pid"] = pid
        return None

    def become(self, request, descriptors, tell):
        stage = "start"
        try:
            signal.set_wakeup_fd(-1)
            for number in range(1, signal.NSIG):
                if number not in (signal.SIGKILL, signal.SIGSTOP):
                    with contextlib.suppress(OSError, ValueError):
                        signal.signal(number, signal.SIG_DFL)
            os.setsid()
            null = os.open(os.devnull, os.O_RDONLY)
            for target, source in ((0, null), (1, descriptors[0]), (2, descriptors[1])):
                os.dup2(source, target)
            os.umask(0o022)
            stage = "runAsUser/runAsGroup"
            if request.get("gid") is not None:
                os.setgroups([])
                os.setgid(request["gid"])
            if request.get("uid") is not None:
                if request.get("gid") is None:
                    os.setgroups([])
                os.setuid(request["uid"])
            stage = "workingDir"
            os.chdir(request["cwd"])
            stage = "command"
            os.closerange(3, tell)
            os.closerange(tell + 1, 4096)
            environment = {**request["env"], MARKER: request["id"]}
            path = environment.get("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            self.execute(request["argv"], environment, path)
        except OSError as error:
            os.write(tell, json.dumps({"error": stage, "errno": error.errno, "message": error.strerror}).encode())
        except (ValueError, TypeError, KeyError, UnicodeError) as error:
            os.write(tell, json.dumps({"error": stage, "errno": 0, "message": type(error).__name__}).encode())
        finally:
            os._exit(127)

    def execute(self, argv, environment, path):
        if "/" in argv[0]:
            os.execve(argv[0], argv, environment)
        last = OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        for folder in path.split(":"):
            try:
                os.execve(os.path.join(folder or ".", argv[0]), argv, environment)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                    last = error
        raise last

    def reap(self):
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

    def ended(self, container, code, number, reason, message):
        """Its main process is gone: what else belongs to it goes too, as in a container; then it is written down."""
        container.record["exit"] = {
            "code": code,
            "signal": number,
            "reason": reason,
            "message": message,
            "finished_ns": now_ns(),
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

    def members(self, container):
        """Processes that belong to it: by descent, by session, by the mark in their environment."""
        marker = f"{MARKER}={container.record['id']}".encode()
        main, found, stats = container.record["pid"], set(), {}
        for name in os.listdir("/proc"):
            if name.isdigit():
                stat = stat_of(int(name))
                if stat is not None and stat[0] != "Z":
                    stats[int(name)] = stat
        for pid, stat in stats.items():
            if pid == os.getpid():
                continue
            if (main and (pid == main or stat[3] == main)) or stat[1] in found:
                found.add(pid)
                continue
            try:
                with open(f"/proc/{pid}/environ", "rb") as file:
                    if marker in file.read().split(b"\0"):
                        found.add(pid)
            except OSError:
                continue
        grown = True
        while grown:
            children = {pid for pid, stat in stats.items() if stat[1] in found and pid not in found}
            found |= children
            grown = bool(children)
        # Orphans of ours that hide their descent and their mark: they can only be of a container that has ended.
        if not any(c.running for c in self.containers.values() if c is not container):
            known = {c.record["pid"] for c in self.containers.values()}
            found |= {pid for pid, stat in stats.items() if stat[1] == os.getpid() and pid not in known}
        if not container.running:
            found.discard(main)
        return found

    def kill_all(self, container):
        for _ in range(20):  # a process may fork while it is being looked for
            members = self.members(container)
            if not members:
                return
            for pid in members:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.002)

    def signal(self, request):
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

    def remove(self, request):
        container = self.containers.get(request["id"])
        if container is None:
            return {}
        if container.running:
            self.forget_pidfd(container)
            self.kill_all(container)
            deadline = time.monotonic() + 5
            while container.running and time.monotonic() < deadline:
                self.reap()
                if container.running and stat_of(container.record["pid"]) is None:
                    self.ended(container, 137, 9, None, None)
                time.sleep(0.002)
        self.kill_all(container)
        del self.containers[request["id"]]
        self.discard(container)
        return {}

    def discard(self, container):
        for descriptor in container.fifos.values():
            self.selector.unregister(descriptor)
        container.finish_logs()
        for name in os.listdir(container.directory):
            os.unlink(os.path.join(container.directory, name))
        os.rmdir(container.directory)

    def describe(self, container):
        record = container.record
        return {key: record[key] for key in ("id", "labels", "started_ns", "exit", "pid")}

    # Clients

    def accept(self, listener):
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

    def serve(self, client):
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

    def answer(self, request):
        op = request["op"]
        if op == "start":
            return self.start(request)
        if op == "signal":
            return self.signal(request)
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

    def send(self, client, message):
        body = json.dumps(message).encode()
        data = struct.pack(">I", len(body)) + body
        with contextlib.suppress(OSError):
            client.connection.settimeout(5)  # the node reads all the time; one that does not for 5 s is gone
            client.connection.sendall(data)
            client.connection.setblocking(False)
            return
        self.drop(client)

    def broadcast(self, message):
        for client in list(self.clients.values()):
            self.send(client, message)

    def drop(self, client):
        number = client.connection.fileno()
        if self.clients.pop(number, None) is not None:
            self.selector.unregister(client.connection)
            client.connection.close()


def main():
    directory = sys.argv[1]
    os.chdir("/")
    return Supervisor(directory).run()


if __name__ == "__main__":
    sys.exit(main())
