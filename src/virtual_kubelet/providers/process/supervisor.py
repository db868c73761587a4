"""The supervisor: one small process a node that outlives it, starts its containers' processes and keeps what they leave.

Plain standard library, run with ``python -I -S``: of this package it imports its own parts only, and stays small. It is
the child subreaper of all it starts, and knows them by a mark that they inherit (``process_tree``), so no process gets out
of its sight by ``setsid``, a double fork or a new environment. A container's output goes through two FIFOs, which the child
opens for reading and writing: should the supervisor be killed, writes do not fail, and a new supervisor reads on; a
terminal is kept open by a process of its own (``terminal``). What it
knows is in one JSON file a container, written atomically, before the process may begin; a process is recognised by pid,
start time and boot id, so a reused pid fools nobody.

Protocol, on the Unix socket ``supervisor.sock``: a message is a 4-byte big-endian length and JSON. Requests have an ``op``
(abilities, start, signal, resize, enter, attach, close_stdin, remove, list, stop) and a ``seq``; the answer repeats ``seq``.
``{"event": "exit", …}`` comes unasked. To start an ``id`` that is there gives what is there: a client that lost an answer
asks again. Only processes of the same user are served (SO_PEERCRED), one frame is at most 16 MiB.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import selectors
import signal
import time

from virtual_kubelet.providers.process.abilities import effective_capabilities, find_namespaces, may_protect_root
from virtual_kubelet.providers.process.cgroups import find_controllers, remove_groups, resize_groups, was_killed
from virtual_kubelet.providers.process.container_streams import ContainerStreams, refused, say
from virtual_kubelet.providers.process.launch import launch, new_record
from virtual_kubelet.providers.process.process_start import raise_open_files
from virtual_kubelet.providers.process.process_tree import boot_id, kill, members_of, stat_of
from virtual_kubelet.providers.process.request_server import RequestServer
from virtual_kubelet.providers.process.supervised_container import Container
from virtual_kubelet.providers.process.volume_links import remove_links

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing is not worth its memory in a process that has to stay small
    from typing import Any

IDLE_SECONDS = 60.0
PR_SET_CHILD_SUBREAPER = 36


class Supervisor:
    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.containers: dict[str, Container] = {}
        self.selector = selectors.DefaultSelector()
        self.streams = ContainerStreams(self.selector)
        self.server = RequestServer(self.selector, self.answer)
        self.boot = boot_id()
        self.adopted = False  # whether there are containers that another supervisor started
        self.entered: set[int] = set()  # marks of containers in which the node has started commands of its own
        self.unsaved: set[Container] = set()
        self.said_unsaved = False
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
        raise_open_files()
        self.adopt()
        self.server.open(self.directory)
        while not self.stopping:
            for key, ready in self.selector.select(1.0):
                what, thing = key.data
                if what == "signals":
                    os.read(reader, 4096)
                elif what == "server":
                    self.server.ready(thing, ready)
                elif what == "output":
                    self.streams.read(*thing)
                elif what == "pidfd":
                    self.adopted_ended(thing)
            self.reap()
            self.save_again()
            self.leave_if_idle()
        self.server.close()
        return 0

    def leave_if_idle(self) -> None:
        if self.server.clients or any(c.running for c in self.containers.values()):
            self.idle_since = time.monotonic()
        elif time.monotonic() - self.idle_since > IDLE_SECONDS:
            self.stopping = True

    # Containers

    def adopt(self) -> None:
        """What an earlier supervisor started: by pid, start time and boot; the exit codes of such are not told to us."""
        base = os.path.join(self.directory, "containers")
        os.makedirs(base, mode=0o700, exist_ok=True)
        ended = set()
        for name in os.listdir(base):
            try:
                with open(os.path.join(base, name, "record.json")) as file:
                    record = json.load(file)
            except FileNotFoundError:  # it was killed while it wrote the first one: nothing had been started
                self.discard(Container(os.path.join(base, name), {"id": name}))
                continue
            except (OSError, ValueError) as error:
                say(f"the record of container {name} cannot be read ({type(error).__name__}): it is left alone")
                continue
            container = self.containers[name] = Container(os.path.join(base, name), record)
            if not container.running:
                ended.add(record["mark"])
                self.leave_places(container)  # it may have been killed before it had cleared up
                continue
            if not record["pid"]:  # killed between its links and its process
                self.discard(self.containers.pop(name))
                continue
            self.adopted = True
            pidfd = self.open_pidfd(record)
            if pidfd is None:
                if container.record.get("terminal") is not None:
                    self.streams.open(container)  # its keeper has what was written last
                self.ended(container, "the supervisor was not there when it ended")
                continue
            self.streams.open(container)
            container.pidfd = pidfd
            self.selector.register(pidfd, selectors.EVENT_READ, ("pidfd", container))
        self.kill_all(ended, everywhere=True)

    def open_pidfd(self, record: dict[str, Any]) -> int | None:
        """Of the very process in the record, if it is there: the number may have been another's before it was opened."""
        if record["boot_id"] != self.boot or not record["pid"]:
            return None
        try:
            pidfd = os.pidfd_open(record["pid"])
        except ProcessLookupError:
            return None
        found = stat_of(record["pid"])
        if found is None or found[2] != record["start_time"] or found[0] in "ZX":
            os.close(pidfd)
            return None
        return pidfd

    def adopted_ended(self, container: Container) -> None:
        self.forget_pidfd(container)
        self.ended(container, "the supervisor that started it was gone when it ended")

    def forget_pidfd(self, container: Container) -> None:
        if container.pidfd is not None:
            self.selector.unregister(container.pidfd)
            os.close(container.pidfd)
            container.pidfd = None

    def start(self, request: dict[str, Any]) -> dict[str, Any]:
        name = request["id"]
        if "/" in name or name.startswith("."):
            return {"error": "id", "message": f"{name!r} is no name of a container"}
        container = self.containers.get(name)
        if container is not None:
            return {"container": self.describe(container)}
        target = self.containers.get(request.get("target") or "")
        if target is not None and target.running and target.record.get("namespaces"):
            request["beside"] = {"pid": target.record["pid"], "kinds": target.record["namespaces"]}
        directory = os.path.join(self.directory, "containers", name)
        try:
            container = Container(directory, new_record(request, self.boot, self.directory))
            os.mkdir(directory, 0o700)
        except OSError as error:
            return refused(error)
        failure = launch(container, request, self.streams)
        if failure is not None:
            self.discard(container)
            return failure
        self.containers[name] = container
        return {"container": self.describe(container)}

    def reap(self) -> None:
        """Collect every child that has ended; those of no container were orphans of one."""
        by_pid = {c.record["pid"]: c for c in self.containers.values() if c.running}
        ended = []
        while True:
            try:
                child = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                break
            if child is None:
                break
            container = by_pid.get(child.si_pid)
            if container is not None and container.pidfd is None:
                # Written down before its exit code is taken: should we be killed in between, it is not lost.
                number = None if child.si_code == os.CLD_EXITED else child.si_status
                self.note_end(container, child.si_status if number is None else 128 + number, number)
                ended.append(container)
            os.waitpid(child.si_pid, 0)
        self.clear_up(*ended)

    def ended(self, container: Container, message: str) -> None:
        """It has, and nobody was told how."""
        self.note_end(container, 137, None, "ContainerStatusUnknown", message)
        self.clear_up(container)

    def note_end(
        self, container: Container, code: int, number: int | None, reason: str | None = None, message: str | None = None
    ) -> None:
        if code and reason is None and was_killed(container.record.get("cgroups", {})):
            reason = "OOMKilled"
        container.record["exit"] = {
            "code": code,
            "signal": number,
            "reason": reason,
            "message": message,
            "finished_ns": time.time_ns(),
        }
        self.unsaved.add(container)
        self.save_again()

    def clear_up(self, *containers: Container) -> None:
        """Main processes are gone: what else belongs to them goes too, as in a container; then everybody is told."""
        self.kill_all({container.record["mark"] for container in containers})
        for container in containers:
            self.leave_places(container)
            self.streams.drain(container)
            self.streams.close(container)
            self.server.broadcast({"event": "exit", "container": self.describe(container)})

    def save_again(self) -> None:
        """What could not be written, such as to a full disk: until it is, a new supervisor would not know that end."""
        for container in list(self.unsaved):
            try:
                container.save()
                self.unsaved.discard(container)
                self.said_unsaved = False
            except OSError as error:
                if not self.said_unsaved:
                    self.said_unsaved = True
                    say(f"the end of container {container.record['id']} cannot be written: {error.strerror}")
                return

    def kill_all(self, marks: set[int], *, everywhere: bool = False) -> None:
        """Until there is none: a process may fork while it is being looked for."""
        for _ in range(20 if marks else 0):
            if not self.kill_once(marks, everywhere=everywhere):
                return
            time.sleep(0.002)

    def kill_once(self, marks: set[int], *, everywhere: bool = False) -> int:
        running = [c for c in self.containers.values() if c.running]
        mains = {c.record["pid"] for c in running if c.record["mark"] in marks and self.is_there(c)}
        known = {c.record["pid"] for c in running} - mains
        everywhere = everywhere or self.adopted or not self.entered.isdisjoint(marks)
        return kill(members_of(marks, mains=mains, known=known, everywhere=everywhere))

    def send_signal(self, request: dict[str, Any]) -> dict[str, Any]:
        container = self.containers.get(request["id"])
        if container is None or not container.running:
            return {}
        if request["signal"] == signal.SIGKILL:
            self.kill_once({container.record["mark"]})
        elif container.pidfd is None or self.is_there(container):
            with contextlib.suppress(ProcessLookupError, PermissionError):  # it has ended, or is a setuid program
                os.killpg(container.record["pid"], request["signal"])
        return {}

    def resize(self, request: dict[str, Any]) -> dict[str, Any]:
        container = self.containers.get(request["id"])
        if container is None or not container.running:
            return {}  # its end says enough
        groups, name = container.record.get("cgroups"), container.record["labels"]["container"]
        if not groups:
            return {"error": "cgroups", "message": "it was started without a cgroup: its limits can only be set anew"}
        try:
            resize_groups(groups, name, request["pod"], request["own"])
        except OSError as error:
            return refused(error)
        return {}

    def enter(self, request: dict[str, Any]) -> dict[str, Any]:
        """A command with this container's mark is to run: from now on its end ends such commands too.

        The node asks once for the mark, and once more when a process has it and has not begun: whatever then begins is
        found.
        """
        container = self.containers.get(request["id"])
        if container is None or not container.running:
            return {"mark": None}
        self.entered.add(container.record["mark"])
        record = container.record
        return {"mark": record["mark"], "pid": record["pid"], **{k: record.get(k) for k in ("namespaces", "cgroups")}}

    def close_stdin(self, request: dict[str, Any]) -> dict[str, Any]:
        container = self.containers.get(request["id"])
        if container is not None and container.stdin is not None:
            container.record["stdin"] = "closed"
            self.unsaved.add(container)
            self.save_again()
            container.close_stdin()
        return {}

    def abilities(self, request: dict[str, Any]) -> dict[str, Any]:
        """What can be done for containers, of what is wanted."""
        kinds = find_namespaces(self.directory) if request["namespaces"] else []
        root = request["cgroup_root"]
        return {
            "namespaces": kinds,
            "read_only_root": may_protect_root(kinds, self.directory),
            "capabilities": effective_capabilities(),
            "controllers": [] if root is None else find_controllers(root, self.directory),
        }

    def is_there(self, container: Container) -> bool:
        """Of another supervisor's child the number may be another's by now; of our own only once we have reaped it."""
        found = stat_of(container.record["pid"])
        return found is not None and found[2] == container.record["start_time"]

    def remove(self, request: dict[str, Any]) -> dict[str, Any]:
        container = self.containers.get(request["id"])
        if container is None:
            return {}
        if container.running:
            self.forget_pidfd(container)
            self.kill_all({container.record["mark"]})
            self.await_end(container, time.monotonic() + 5)
        del self.containers[request["id"]]
        self.entered.discard(container.record["mark"])
        self.unsaved.discard(container)
        self.discard(container)
        return {}

    def await_end(self, container: Container, deadline: float) -> None:
        while time.monotonic() < deadline:
            self.reap()
            if not container.running:
                return
            if not self.is_there(container):  # another supervisor's child: nobody tells us its end
                self.note_end(container, 137, signal.SIGKILL)
                self.clear_up(container)
                return
            time.sleep(0.002)

    def leave_places(self, container: Container) -> None:
        """What it has had elsewhere: links to its volumes, groups."""
        needed = [link for c in self.containers.values() if c.running for link in c.record.get("links", ())]
        remove_links(container.record.get("links", []), needed)
        if not remove_groups(container.record.get("cgroups", {})):
            say(f"the cgroup of container {container.record['id']} cannot be removed: it has processes that do not end")

    def discard(self, container: Container) -> None:
        self.leave_places(container)
        self.streams.close(container)
        # Its record last: what is left of it should this be cut short is either known, or nothing.
        for name in sorted(os.listdir(container.directory), key=lambda name: name == "record.json"):
            os.unlink(os.path.join(container.directory, name))
        os.rmdir(container.directory)

    def describe(self, container: Container) -> dict[str, Any]:
        record = container.record
        described = {key: record[key] for key in ("id", "labels", "started_ns", "exit", "pid")}
        return {**described, "cgroups": record.get("cgroups", {})}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        op = request["op"]
        operations = {
            "start": self.start,
            "signal": self.send_signal,
            "resize": self.resize,
            "enter": self.enter,
            "close_stdin": self.close_stdin,
            "remove": self.remove,
            "abilities": self.abilities,
        }
        if op in operations:
            return operations[op](request)
        if op == "attach":
            return self.streams.attach(self.containers.get(request["id"]), request["name"])
        if op == "list":
            return {"containers": [self.describe(c) for c in self.containers.values()]}
        if op == "stop":
            if any(c.running for c in self.containers.values()):
                return {"stopped": False}
            self.stopping = True
            return {"stopped": True}
        return {"error": "protocol", "message": f"unknown op {op!r}"}


def main(directory: str) -> int:
    """Serve this directory until there is nothing to supervise; 0 at once if another one serves it."""
    os.chdir("/")
    return Supervisor(directory).run()
