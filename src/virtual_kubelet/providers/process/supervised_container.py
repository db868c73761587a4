"""One container as the supervisor has it: its record on disk, its output to rotated CRI log files. Standard library only."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing is not worth its memory in a process that has to stay small
    from typing import Any

__all__ = ["Container"]


class Container:
    """One run of one container."""

    def __init__(self, directory: str, record: dict[str, Any]) -> None:
        self.directory = directory
        self.record = record
        self.fifos: dict[str, int] = {}  # stream -> descriptor
        self.rest = {"stdout": b"", "stderr": b""}
        self.log: int | None = None
        self.size = 0
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
        stamp = _stamp(time.time_ns())
        lines = (self.rest[stream] + data).split(b"\n")
        self.rest[stream] = lines.pop()
        out = [b"%s %s F %s\n" % (stamp, stream.encode(), line) for line in lines]
        while len(self.rest[stream]) >= 16384:
            out.append(b"%s %s P %s\n" % (stamp, stream.encode(), self.rest[stream][:16384]))
            self.rest[stream] = self.rest[stream][16384:]
        self.append(b"".join(out))

    def finish_logs(self) -> None:
        for stream, rest in self.rest.items():
            if rest:
                self.append(b"%s %s P %s\n" % (_stamp(time.time_ns()), stream.encode(), rest))
                self.rest[stream] = b""
        for descriptor in self.fifos.values():
            os.close(descriptor)
        self.fifos = {}
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
        path = os.path.join(self.directory, "log")
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        if self.log is None:
            self.log = os.open(path, flags, 0o600)
            self.size = os.fstat(self.log).st_size
        if self.size and self.size + len(data) > self.record["max_log_bytes"]:
            os.close(self.log)
            for number in range(self.record["max_log_files"] - 1, 0, -1):
                older = path if number == 1 else f"{path}.{number - 1}"
                with contextlib.suppress(FileNotFoundError):
                    os.replace(older, f"{path}.{number}")
            if self.record["max_log_files"] == 1:
                os.unlink(path)
            self.log = os.open(path, flags, 0o600)
            self.size = 0
        try:
            written = os.write(self.log, data)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            return  # a full disk costs log lines, not the container
        self.size += written


def _stamp(ns: int) -> bytes:
    seconds, fraction = divmod(ns, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{fraction:09d}Z".encode()
