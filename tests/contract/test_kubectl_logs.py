"""``kubectl logs`` through the API server to the node: every flag, and what kubectl printed with a real kubelet.

The pods are those of the recording (``../shared/kubelet-1.36``): h1 with containers a and b, h2 finished with 3, h3 that
cannot start, h4 in a crash loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SHARED
from tests.contract.api_servers import ApiServer
from tests.contract.commands import Kubectl, running_node
from tests.contract.scenarios import eventually

RECORDING = SHARED / "kubelet-1.36" / "kubectl.jsonl"
#: The node's own words stand where the kubelet has those of its container runtime.
OTHER_WORDS = {
    "logs h3": "which reason a container has that cannot start",
    "logs h4 -p": "the log of a removed container",
}
ROWS: list[dict[str, Any]] = (
    [row for row in map(json.loads, RECORDING.read_text().splitlines()) if row["kubectl"][0] == "logs"]
    if RECORDING.is_file()
    else []
)

LINES = ["err", "line 1", "line 2", "line 3", "line 4", "line 5"]
SCRIPTS: dict[str, dict[str, str | None]] = {
    "h1": {"a": f"printf '%s\\n' {' '.join(f'{line!r}' for line in LINES)}; exec sleep 1000", "b": "exec sleep 1000"},
    "h2": {"a": "echo bye; exit 3"},
    "h3": {"a": None},
    "h4": {"a": "echo run $$$$; sleep 0.2; exit 1"},
}


class Logs:
    """``kubectl logs`` in the namespace of the pods."""

    def __init__(self, kubectl: Kubectl, namespace: str) -> None:
        self.kubectl = kubectl
        self.namespace = namespace

    async def __call__(self, *args: str, code: int = 0) -> str:
        """Its output, or what it says on stderr if it is to fail."""
        result = await self.kubectl("logs", "-n", self.namespace, *args, code=code)
        return result.err if code else result.out

    async def get(self, pod: str, path: str) -> str:
        """A part of a pod, by JSONPath."""
        return (await self.kubectl("get", "pod", pod, "-n", self.namespace, "-o", f"jsonpath={{{path}}}")).out

    async def create(self, pod: str, scripts: dict[str, str | None], **spec: Any) -> None:
        containers = [
            {"name": name, "image": "busybox", **({"command": ["sh", "-c", script]} if script is not None else {})}
            for name, script in scripts.items()
        ]
        manifest = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": pod, "namespace": self.namespace, "labels": {"app": pod}},
            "spec": {"tolerations": [{"operator": "Exists"}], "containers": containers, **spec},
        }
        await self.kubectl("create", "-f", "-", stdin=json.dumps(manifest))

    @contextlib.asynccontextmanager
    async def following(self, *args: str) -> AsyncIterator[asyncio.StreamReader]:
        """The output of ``kubectl logs -f``, which must end by itself."""
        child = await asyncio.create_subprocess_exec(
            "kubectl", "--kubeconfig", str(self.kubectl.kubeconfig), "logs", "-f", "-n", self.namespace, *args,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert child.stdout is not None
        try:
            async with asyncio.timeout(40):
                yield child.stdout
                assert await child.stdout.read() == b""
                assert await child.wait() == 0
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()


@pytest.fixture
async def logs(
    api_server: ApiServer,
    node_name: str,
    namespace: str,
    kubeconfig_file: Callable[[str], Path],
    tmp_path: Path,
) -> AsyncIterator[Logs]:
    """With a node whose containers are processes, under the node's own identity."""
    certificate, key = api_server.serving_certificate("127.0.0.1")
    (tmp_path / "tls.crt").write_bytes(certificate)
    (tmp_path / "tls.key").write_bytes(key)
    options = [
        "--listen", "127.0.0.1:0", "--node-ip", "127.0.0.1",
        "--tls-cert-file", str(tmp_path / "tls.crt"), "--tls-private-key-file", str(tmp_path / "tls.key"),
        "--provider", "process", "--allow-host-processes", "--state-dir", str(tmp_path / "state"),
        "--on-shutdown", "drain", "--drain-timeout", "1s",
    ]  # fmt: skip
    kubeconfig = kubeconfig_file(api_server.node_kubeconfig(node_name))
    async with running_node(kubeconfig, node_name, *options) as node:
        yield Logs(Kubectl(kubeconfig_file(api_server.admin_kubeconfig())), namespace)
        assert await node.stop() == 0


@pytest.fixture
async def recorded_pods(logs: Logs, node_name: str) -> None:
    """Those of the recording, in the state in which it was made."""
    for name, scripts in SCRIPTS.items():
        await logs.create(name, scripts, nodeName=node_name, restartPolicy="Never" if name == "h2" else "Always")

    async def settled() -> bool:
        return (
            await logs.get("h1", ".status.containerStatuses[*].ready") == "true true"
            and await logs.get("h2", ".status.phase") == "Failed"
            and await logs.get("h3", ".status.containerStatuses[0].state.waiting.reason")
            not in ("", "ContainerCreating")
            and await logs.get("h4", ".status.containerStatuses[0].lastState.terminated.exitCode") == "1"
        )

    await eventually(settled, seconds=40)


@pytest.mark.recording
def test_the_recording_has_rows_of_logs(shared: Path) -> None:
    assert len(ROWS) == 12
    assert set(OTHER_WORDS) <= {row["note"] for row in ROWS}


@pytest.mark.recording
@pytest.mark.usefixtures("recorded_pods")
async def test_kubectl_prints_what_it_printed_with_a_kubelet(logs: Logs) -> None:
    for row in ROWS:
        _, *args = row["kubectl"]
        if "--since=1s" in args:
            await asyncio.sleep(1.1)  # the age of lines is the very thing this is about
        result = await logs.kubectl("logs", "-n", logs.namespace, *args, code=row["rc"])
        if row["note"] == "logs h3":
            reason = await logs.get("h3", ".status.containerStatuses[0].state.waiting.reason")
            words = f'Error from server (BadRequest): container "a" in pod "h3" is waiting to start: {reason}\n'
            assert (result.out, result.err) == ("", words)
        elif row["note"] == "logs h4 -p":
            assert re.fullmatch(r"run [0-9]+\n", result.out)
        else:
            said = row["stderr"].replace('namespace "default"', f'namespace "{logs.namespace}"')
            assert (result.out, result.err) == (row["stdout"], said), row["note"]


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
