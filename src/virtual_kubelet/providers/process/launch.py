"""Starting a container, all of it or nothing: record, links to volumes, groups, streams, process. Standard library only."""

from __future__ import annotations

import os
import time

from virtual_kubelet.providers.process.cgroup_entry import enter_groups
from virtual_kubelet.providers.process.cgroups import limit_groups, make_groups, places
from virtual_kubelet.providers.process.container_streams import ContainerStreams, refused
from virtual_kubelet.providers.process.marks import new_mark
from virtual_kubelet.providers.process.process_start import spawn
from virtual_kubelet.providers.process.process_tree import start_time_of
from virtual_kubelet.providers.process.supervised_container import Container
from virtual_kubelet.providers.process.terminal import open_terminal, start_keeper
from virtual_kubelet.providers.process.volume_links import make_links

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing is not worth its memory in a process that has to stay small
    from typing import Any

__all__ = ["launch", "new_record"]


def new_record(request: dict[str, Any], boot: str, directory: str) -> dict[str, Any]:
    """What is known of a container before it has a process. Raises ``OSError`` if its processes cannot be marked."""
    beside, cgroup, labels = request.get("beside"), request.get("cgroup"), request["labels"]
    group = f"{labels['container']}-{labels['attempt']}" if cgroup else ""
    return {
        "id": request["id"],
        "labels": labels,
        "pid": 0,
        "start_time": 0,
        "boot_id": boot,
        "mark": new_mark(),
        "started_ns": time.time_ns(),
        "exit": None,
        "max_log_bytes": request["max_log_bytes"],
        "max_log_files": request["max_log_files"],
        "stdin": "open" if request.get("stdin") else None,
        "terminal": None,
        "namespaces": request.get("namespaces", []) if beside is None else beside["kinds"],
        "links": request.get("links", []),
        "cgroups": places(cgroup["root"], directory, labels["uid"], group) if cgroup else {},
    }


def launch(container: Container, request: dict[str, Any], streams: ContainerStreams) -> dict[str, Any] | None:
    """Start the container's process; None, or what went wrong. Its directory is there and empty."""
    record = container.record
    terminal: tuple[int, int] | None = None

    def forked(pid: int) -> None:
        record["pid"], record["start_time"] = pid, start_time_of(pid)
        if terminal is not None:
            keeper = start_keeper(container.directory, *terminal, pid)
            record["terminal"] = {"pid": keeper, "start_time": start_time_of(keeper)}
        container.save()
        enter_groups(record["cgroups"], pid)

    try:
        if record["links"] or record["cgroups"]:
            container.save()  # who finds this record without a process takes away what it says
            make_links(record["links"])
            make_groups(record["cgroups"])
            if record["cgroups"]:
                limit_groups(record["cgroups"], request["cgroup"]["pod"], request["cgroup"]["own"])
        if request.get("tty"):
            terminal = open_terminal(request.get("uid"))
            streams.watch(container, "stdout", terminal[0])
        else:
            streams.make_fifos(container, bool(request.get("stdin")), request.get("uid"))
            streams.open(container)
        started = spawn(container.directory, request, record["mark"], forked, terminal[1] if terminal else None)
    except OSError as error:
        return refused(error)
    finally:
        if terminal is not None:
            os.close(terminal[1])
    return None if isinstance(started, int) else started
