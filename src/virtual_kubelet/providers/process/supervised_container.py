"""One container as the supervisor has it: its record on disk, its output to rotated CRI log files. Standard library only."""

from __future__ import annotations

import json
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing is not worth its memory in a process that has to stay small
    from typing import Any

__all__ = ["Container", "log_numbers", "log_path"]


def log_path(directory: str, number: int) -> str:
    return os.path.join(directory, f"log.{number}")


def log_numbers(directory: str) -> list[int]:
    """The numbers of the log files that are there, oldest first."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    return sorted(int(name[4:]) for name in names if name.startswith("log.") and name[4:].isdigit())


class Container:
    """One run of one container."""

    def __init__(self, directory: str, record: dict[str, Any]) -> None:
        self.directory = directory
        self.record = record
        self.outputs: dict[str, int] = {}  # stream -> descriptor
        self.stdin: int | None = None  # our writing end, so that its stdin stays open between clients
        self.attached: list[dict[str, int]] = []  # of each client: stream -> descriptor
        self.rest = {"stdout": b"", "stderr": b""}
        self.log: int | None = None  # descriptor of the newest log file, its number and size
        self.number = 0
        self.size = 0
        self.torn = False  # it ends amid a line
        self.said_lost = False
        self.pidfd: int | None = None

    @property
    def running(self) -> bool:
        return self.record["exit"] is None

    def save(self) -> None:
        path = os.path.join(self.directory, "record.json")
        with open(path + ".new", "w") as file:
            json.dump(self.record, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(path + ".new", path)

    def write(self, stream: str, data: bytes) -> None:
        """Lines as the CRI writes them: time, stream, F for a whole line or P for a part of one, the line."""
        self.pass_on(stream, data)
        stamp = _stamp(time.time_ns())
        lines = (self.rest[stream] + data).split(b"\n")
        self.rest[stream] = lines.pop()
        out = [b"%s %s F %s\n" % (stamp, stream.encode(), line) for line in lines]
        while len(self.rest[stream]) >= 16384:
            out.append(b"%s %s P %s\n" % (stamp, stream.encode(), self.rest[stream][:16384]))
            self.rest[stream] = self.rest[stream][16384:]
        self.append(b"".join(out))

    def pass_on(self, stream: str, data: bytes) -> None:
        """To clients that are attached. One that does not take it is cut off: a container never waits for a client."""
        for client in list(self.attached):
            if stream in client:
                try:
                    written = os.write(client[stream], data)
                except OSError:
                    written = 0
                if written < len(data):
                    self.detach(client)

    def detach(self, client: dict[str, int]) -> None:
        self.attached.remove(client)
        for descriptor in client.values():
            os.close(descriptor)

    def close_stdin(self) -> None:
        if self.stdin is not None:
            os.close(self.stdin)
            self.stdin = None

    def finish_logs(self) -> None:
        for stream, rest in self.rest.items():
            if rest:
                self.append(b"%s %s P %s\n" % (_stamp(time.time_ns()), stream.encode(), rest))
                self.rest[stream] = b""
        for descriptor in self.outputs.values():
            os.close(descriptor)
        self.outputs = {}
        self.close_stdin()
        for client in list(self.attached):
            self.detach(client)
        if self.log is not None:
            os.close(self.log)
            self.log = None

    def append(self, data: bytes) -> None:
        limit = self.record["max_log_bytes"]
        while len(data) > limit:  # more than a file may have: at a line's end, if there is one
            at = data.rfind(b"\n", 0, limit) + 1 or data.find(b"\n") + 1 or len(data)
            if at == len(data):
                break
            self.append(data[:at])
            data = data[at:]
        if not data:
            return
        try:
            if self.log is None:
                self.open_log((log_numbers(self.directory) or [1])[-1])
            if self.size and self.size + len(data) > limit:
                self.open_log(self.number + 1)
                for number in log_numbers(self.directory)[: -self.record["max_log_files"]]:
                    os.unlink(log_path(self.directory, number))
            if self.torn:
                data = b"\n" + data
            assert self.log is not None
            written = os.write(self.log, data)
        except OSError as error:
            self.say_lost(error)  # a full disk costs log lines, not the container
            return
        self.said_lost = False
        self.size += written
        self.torn = data[written - 1 : written] != b"\n"

    def open_log(self, number: int) -> None:
        """Go on with this file. It is never renamed, so that a reader can be any number of files behind."""
        if self.log is not None:
            os.close(self.log)
            self.log = None
        self.log = os.open(log_path(self.directory, number), os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.number = number
        self.size = os.fstat(self.log).st_size
        # Of an earlier supervisor that was killed amid a write, or of a full disk.
        self.torn = self.size > 0 and os.pread(self.log, 1, self.size - 1) != b"\n"

    def say_lost(self, error: OSError) -> None:
        if not self.said_lost:
            self.said_lost = True
            print(f"output of container {self.record['id']} is lost: {error.strerror}", file=sys.stderr, flush=True)


def _stamp(ns: int) -> bytes:
    seconds, fraction = divmod(ns, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{fraction:09d}Z".encode()
