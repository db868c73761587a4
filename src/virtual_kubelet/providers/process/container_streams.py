"""The supervisor's ends of its containers' streams: made, opened again, read, passed on, closed. Standard library only."""

from __future__ import annotations

import contextlib
import os
import selectors
import sys

from virtual_kubelet.providers.process.process_tree import kill, start_time_of
from virtual_kubelet.providers.process.supervised_container import Container
from virtual_kubelet.providers.process.terminal import fetch_terminal

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing is not worth its memory in a process that has to stay small
    from typing import Any

__all__ = ["ContainerStreams", "refused", "say"]


class ContainerStreams:
    """Registers what it reads with ``selector`` as ``("output", (container, stream))``; what is ready there: ``read``."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self.selector = selector

    def make_fifos(self, container: Container, stdin: bool, uid: int | None) -> None:
        for stream in ("stdout", "stderr", *(("stdin",) if stdin else ())):
            path = os.path.join(container.directory, stream)
            os.mkfifo(path, 0o600)
            if uid is not None and os.getuid() == 0:
                os.chown(path, uid, -1)  # or it could not open /dev/stdout

    def open(self, container: Container) -> None:
        """Its FIFOs, or its terminal as its keeper has it."""
        if container.record.get("terminal") is not None:
            try:
                self.watch(container, "stdout", fetch_terminal(container.directory))
            except OSError as error:
                say(f"the terminal of container {container.record['id']} is lost: {error.strerror or error}")
            return
        for stream in ("stdout", "stderr"):
            path = os.path.join(container.directory, stream)
            # Our own end is for reading and writing too: without another writer it would report its end at once.
            self.watch(container, stream, os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
        if container.record.get("stdin") == "open":
            container.stdin = os.open(
                os.path.join(container.directory, "stdin"), os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC
            )

    def watch(self, container: Container, stream: str, descriptor: int) -> None:
        container.outputs[stream] = descriptor
        self.selector.register(descriptor, selectors.EVENT_READ, ("output", (container, stream)))

    def read(self, container: Container, stream: str) -> None:
        descriptor = container.outputs.get(stream)
        if descriptor is None:
            return
        try:
            data = os.read(descriptor, 65536)
        except BlockingIOError:
            return
        except OSError:  # EIO: the terminal's keeper was killed, and nobody has it open
            self.selector.unregister(descriptor)
            os.close(container.outputs.pop(stream))
            return
        container.write(stream, data)

    def drain(self, container: Container) -> None:
        """What its processes, which have all ended, have left."""
        for stream, descriptor in container.outputs.items():
            with contextlib.suppress(OSError):  # there is no more
                while data := os.read(descriptor, 65536):
                    container.write(stream, data)

    def close(self, container: Container) -> None:
        for descriptor in container.outputs.values():
            self.selector.unregister(descriptor)
        container.finish_logs()
        keeper = container.record.get("terminal")
        if keeper is not None and keeper["start_time"] == start_time_of(keeper["pid"]):
            kill({keeper["pid"]})

    def attach(self, container: Container | None, name: str) -> dict[str, Any]:
        """What it writes from now on goes to these FIFOs of the node's, too."""
        if container is None or not container.running:
            return {"attached": False}
        client: dict[str, int] = {}
        container.attached.append(client)
        try:
            for stream in ("stdout", "stderr"):
                path = os.path.join(container.directory, f"{os.path.basename(name)}.{stream}")
                client[stream] = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            container.detach(client)
            return refused(error)
        stdin, terminal = container.record.get("stdin") == "open", container.record.get("terminal") is not None
        return {"attached": True, "stdin": stdin, "terminal": terminal}


def refused(error: OSError) -> dict[str, Any]:
    return {"error": "os", "errno": error.errno, "message": error.strerror or str(error)}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
