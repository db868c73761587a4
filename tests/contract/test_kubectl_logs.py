"""``kubectl logs`` through the API server to the node: every flag. Its pods are those of ``recorded_pods``."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.contract.recorded_pods import LINES, Logs
from tests.contract.scenarios import eventually


@pytest.mark.usefixtures("recorded_pods")
async def test_each_flag_does_what_its_help_says(logs: Logs) -> None:
    whole = "".join(f"{line}\n" for line in LINES)
    a = ("h1", "-c", "a")
    assert await logs(*a) == whole
    assert await logs(*a, "--insecure-skip-tls-verify-backend") == whole
    # How much of it
    assert await logs(*a, "--tail=2") == "line 4\nline 5\n"
    assert await logs(*a, "--tail=0") == ""
    assert await logs(*a, "--tail=-1") == whole
    assert await logs(*a, "--tail=1000000") == whole
    assert await logs(*a, "--limit-bytes=6") == whole[:6]
    assert await logs(*a, "--tail=1", "--limit-bytes=3") == "lin"
    assert await logs(*a, "--since=1h") == whole
    # When
    stamped = (await logs(*a, "--timestamps")).splitlines()
    times = [line.split(" ")[0] for line in stamped]
    assert [line.split(" ", 1)[1] for line in stamped] == LINES
    assert times == sorted(times)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", time) for time in times)
    now = datetime.now(UTC)
    assert now - timedelta(minutes=5) < datetime.fromisoformat(times[0][:19] + "+00:00") <= now
    assert await logs(*a, f"--since-time={now - timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}") == whole
    assert await logs(*a, f"--since-time={now + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}") == ""
    # Whose
    assert await logs("h1", "--all-containers", "--prefix") == "".join(f"[pod/h1/a] {line}\n" for line in LINES)
    assert await logs("-l", "app=h1", "-c", "a") == whole
    assert await logs("-l", "app=h1", "-c", "a", "--tail=1", "--prefix") == "[pod/h1/a] line 5\n"
    assert await logs("-l", "app in (h1, h2)", "--all-containers", "--max-log-requests=9") in (
        f"{whole}bye\n",
        f"bye\n{whole}",
    )
    assert await logs("pod/h2", "--all-pods") == "[pod/h2/a] bye\n"
    assert "line 5" in await logs("-l", "app in (h1, h3)", "--all-containers", "--ignore-errors", "-f=false")
    # Which run
    newest, before = await logs("h4"), await logs("h4", "-p")
    assert re.fullmatch(r"run \d+\n", newest)
    assert re.fullmatch(r"run \d+\n", before)
    # What cannot be
    assert "at most one of" in await logs(*a, "--since=5s", "--since-time=2026-01-01T00:00:00Z", code=1)


async def test_a_crash_loop_shows_its_newest_and_its_previous_run(logs: Logs, node_name: str, tmp_path: Path) -> None:
    count = tmp_path / "count"
    script = f"echo x >> {count}; echo run $(wc -l < {count}); [ $(wc -l < {count}) -ge 2 ] && exec sleep 1000; exit 1"
    await logs.create("c", {"a": script}, nodeName=node_name)

    async def second_run() -> bool:
        return (
            await logs.get("c", ".status.containerStatuses[0].restartCount") == "1"
            and await logs.get("c", ".status.containerStatuses[0].state.running.startedAt") != ""
        )

    await eventually(second_run, seconds=40)
    await eventually(lambda: _equals(logs("c"), "run 2\n"))
    assert await logs("c", "-p") == "run 1\n"
    assert await logs("c", "--previous", "--tail=0") == ""


async def _equals(output: Any, expected: str) -> bool:
    return bool(await output == expected)


@pytest.mark.parametrize(
    ("flags", "past"),
    [
        ([], ["one", "two"]),
        (["--tail=1"], ["two"]),
        (["--tail=0"], []),
        (["--since=1h", "--tail=5"], ["one", "two"]),
        (["--prefix", "--all-containers"], ["[pod/f/a] one", "[pod/f/a] two"]),
    ],
)
async def test_follow_shows_the_past_that_was_asked_for_then_each_line_as_it_comes(
    logs: Logs, node_name: str, tmp_path: Path, flags: list[str], past: list[str]
) -> None:
    lines = tmp_path / "lines"
    lines.touch()
    script = f"echo one; echo two; tail -f {lines} & while [ ! -e {lines}.end ]; do sleep 0.05; done; kill $!"
    await logs.create("f", {"a": script}, nodeName=node_name, restartPolicy="Never")
    await logs.kubectl("wait", "-n", logs.namespace, "--for=condition=Ready", "pod/f", "--timeout=30s")
    await eventually(lambda: _equals(logs("f", "--tail=1"), "two\n"))
    prefix = "[pod/f/a] " if "--prefix" in flags else ""
    async with logs.following("f", *flags) as output:
        for expected in past:
            assert (await output.readline()).decode() == f"{expected}\n"
        # With a tail of nothing the follower does not say when it is there: the first line that it shows does.
        reading = asyncio.create_task(output.readline())
        written = 0
        while not reading.done():
            with lines.open("a") as file:
                file.write(f"new {written}\n")
            written += 1
            await asyncio.wait({reading}, timeout=0.5)
        first = (await reading).decode()
        shown = int(first.removeprefix(f"{prefix}new "))
        assert shown == 0 or not past
        for number in range(shown + 1, written):
            assert (await output.readline()).decode() == f"{prefix}new {number}\n"
        Path(f"{lines}.end").touch()


async def test_follow_goes_on_across_the_rotation_of_files(logs: Logs, node_name: str, tmp_path: Path) -> None:
    script = f"echo begin; while [ ! -e {tmp_path}/go ]; do sleep 0.05; done; seq 1 3000; sleep 0.3; seq 3001 6000"
    await logs.create("r", {"a": script}, nodeName=node_name, restartPolicy="Never")
    await logs.kubectl("wait", "-n", logs.namespace, "--for=condition=Ready", "pod/r", "--timeout=30s")
    async with logs.following("r") as output:
        assert await output.readline() == b"begin\n"
        (tmp_path / "go").touch()
        shown = [await output.readline() for _ in range(6000)]
    assert shown == [b"%d\n" % number for number in range(1, 6001)]
    (folder,) = (tmp_path / "state").glob("**/containers/*-a-*")
    assert len(list(folder.glob("log.*"))) > 20


async def test_the_pods_of_a_selector_are_followed_together(logs: Logs, node_name: str, tmp_path: Path) -> None:
    go = tmp_path / "go"
    script = f"echo begin; while [ ! -e {go} ]; do sleep 0.05; done; echo end"
    names = [f"s{number}" for number in range(3)]
    for name in names:
        await logs.create(name, {"a": script}, nodeName=node_name, restartPolicy="Never")
    for name in names:
        await logs.kubectl("wait", "-n", logs.namespace, "--for=condition=Ready", f"pod/{name}", "--timeout=30s")
    async with logs.following("-l", "app in (s0, s1, s2)", "--prefix") as output:
        begun = {(await output.readline()).decode() for _ in names}
        assert begun == {f"[pod/{name}/a] begin\n" for name in names}
        go.touch()
        ended = {(await output.readline()).decode() for _ in names}
        assert ended == {f"[pod/{name}/a] end\n" for name in names}
