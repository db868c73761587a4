"""``kubectl logs``: what containers have written, by the API."""

from __future__ import annotations

import asyncio
import re

from virtual_kubelet.errors import ApiError
from virtual_kubelet.objects.core_v1 import Pod
from virtual_kubelet.testing.conformance.check import promise
from virtual_kubelet.testing.conformance.expectations import PromiseBrokenError, expect
from virtual_kubelet.testing.conformance.stage import Stage
from virtual_kubelet.testing.conformance.statuses import restarts, running_since

_LINES = "".join(f"line {number}\n" for number in range(1, 11))
_TIME = re.compile(rb"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d) line \d+$")


async def _printing(stage: Stage) -> Pod:
    """A pod that has printed ten lines."""
    pod = await stage.start(stage.prints(_LINES))
    await stage.sees(lambda: stage.user.logs(pod), lambda text: text == _LINES.encode(), "the log has the ten lines")
    return pod


@promise("prints")
async def output(stage: Stage) -> None:
    """A container's log is what it has printed, byte by byte."""
    await _printing(stage)


@promise("prints")
async def tail(stage: Stage) -> None:
    """tailLines gives the last lines, 0 none."""
    pod = await _printing(stage)
    last = await stage.user.logs(pod, tailLines="2")
    expect(last == b"line 9\nline 10\n", "the last two lines", last)
    none = await stage.user.logs(pod, tailLines="0")
    expect(none == b"", "no line", none)


@promise("prints")
async def limit(stage: Stage) -> None:
    """limitBytes ends the log after so many bytes."""
    pod = await _printing(stage)
    some = await stage.user.logs(pod, limitBytes="10")
    expect(some == _LINES.encode()[:10], "the first ten bytes", some)


@promise("prints")
async def timestamps(stage: Stage) -> None:
    """With timestamps each line begins with the time at which it was written."""
    pod = await _printing(stage)
    lines = (await stage.user.logs(pod, timestamps="true")).splitlines()
    expect(len(lines) == 10 and all(map(_TIME.match, lines)), "ten lines, each with a time", lines[:3])


@promise("prints")
async def since(stage: Stage) -> None:
    """sinceSeconds and sinceTime leave out what is older."""
    pod = await _printing(stage)
    there = await stage.user.logs(pod, sinceSeconds="3600")
    expect(there == _LINES.encode(), "all lines of the last hour", there)
    nothing = await stage.user.logs(pod, sinceTime="2099-01-01T00:00:00Z")
    expect(nothing == b"", "nothing since the future", nothing)


@promise("prints")
async def follow(stage: Stage) -> None:
    """A log that is followed ends when its container does, with all that it has written."""
    pod = await _printing(stage)
    following = asyncio.create_task(stage.user.logs(pod, follow="true", seconds=2 * stage.patience))
    await asyncio.sleep(0.5)
    expect(not following.done(), "following goes on while the container runs", "it has ended")
    await stage.user.delete(pod)
    try:
        text = await following
    finally:
        following.cancel()
    expect(text == _LINES.encode(), "all ten lines", text)


@promise("shell")
async def follow_new_lines(stage: Stage) -> None:
    """Following shows lines that are written meanwhile, to the last one before the container ends."""
    pod = await stage.start(stage.shell("for i in 1 2 3 4 5; do echo tick $i; sleep 1; done; printf end"))
    text = await stage.user.logs(pod, follow="true", seconds=stage.patience)
    wanted = b"tick 1\ntick 2\ntick 3\ntick 4\ntick 5\nend"
    expect(text == wanted, repr(wanted), text)


@promise("exits")
async def of_an_ended_pod(stage: Stage) -> None:
    """The log of a container that has ended can be read, and followed to its end."""
    pod = await stage.finish(stage.exits(0, seconds=1))
    text = await stage.user.logs(pod)
    followed = await stage.user.logs(pod, follow="true")
    expect(text == followed, "the same log, followed or not", f"{text!r}, {followed!r}")


@promise("shell")
async def both_streams(stage: Stage) -> None:
    """What goes to stderr is in the log, too, and lines of either stream stay whole."""
    pod = await stage.finish(stage.shell("for i in 1 2 3; do echo out $i; echo err $i >&2; done"))
    wanted = sorted(f"{kind} {number}" for kind in ("out", "err") for number in (1, 2, 3))
    await stage.sees(
        lambda: stage.user.logs(pod), lambda text: sorted(text.decode().splitlines()) == wanted, f"the lines {wanted}"
    )


@promise("shell")
async def previous(stage: Stage) -> None:
    """previous gives the log of the run before, and an error if there is none."""
    once = await stage.start(stage.runs())
    try:
        text = await stage.user.logs(once, previous="true")
    except ApiError as error:
        expect(
            "previous terminated container" in error.message, "previous terminated container … not found", error.message
        )
    else:
        raise PromiseBrokenError("an error: there is no previous run", repr(text))
    made = stage.shell("echo begun at $(date +%s%N); sleep 8; exit 1").restarting("Always")
    pod = await stage.create(made)

    def runs_again(one: Pod) -> bool:
        return restarts(one) >= 1 and bool(running_since(one))

    for _ in range(3):
        seen = await stage.user.until(pod, runs_again, "it has restarted", stage.patience + 30)
        now, before = await stage.user.logs(pod), await stage.user.logs(pod, previous="true")
        if running_since(await stage.user.get(pod)) == running_since(seen):
            break  # else it has ended while we read, and both were of another run
    expect(before.startswith(b"begun at ") and before != now, "the log of the run before", f"{before!r}, now {now!r}")


@promise("shell")
async def long_lines(stage: Stage) -> None:
    """A line of 300 KB, without a newline at its end, comes whole."""
    script = "i=0; while [ $i -lt 300 ]; do printf '%01000d' $i; i=$((i+1)); done"
    pod = await stage.finish(stage.shell(script))
    wanted = "".join(f"{number:01000d}" for number in range(300)).encode()
    await stage.sees(lambda: stage.user.logs(pod), lambda text: text == wanted, "300 000 digits, as they were written")


@promise("shell")
async def bytes_as_they_are(stage: Stage) -> None:
    """Bytes that are no UTF-8, and zeroes, come as they were written."""
    pod = await stage.finish(stage.shell(r"printf '\000\001\377\376 \303\n'"))
    await stage.sees(lambda: stage.user.logs(pod), lambda text: text == b"\x00\x01\xff\xfe \xc3\n", "the same bytes")


@promise("runs")
async def unknown_container(stage: Stage) -> None:
    """The log of a container that the pod does not have is an error that says so."""
    pod = await stage.start(stage.runs())
    try:
        text = await stage.user.logs(pod, "nobody")
    except ApiError as error:
        expect("nobody" in error.message, "a message that names the container", error.message)
    else:
        raise PromiseBrokenError("an error", repr(text))
