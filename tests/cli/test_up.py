"""``virtual-kubelet up`` as a user runs it: a dev cluster, a node with real processes, files that run to their end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.commands import Finished, Kubectl, command, processes_with
from virtual_kubelet.cli import build_parser
from virtual_kubelet.cli.exit_codes import ExitCode
from virtual_kubelet.cli.up import _with_tokens

#: A whole cluster, node and their processes start in each: seconds of CPU, of which a busy machine gives few.
pytestmark = pytest.mark.timeout(180)


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where `up` puts its own things: empty again when it has ended."""
    path = tmp_path / "tmp"
    path.mkdir()
    monkeypatch.setenv("TMPDIR", str(path))
    return path


async def up(*args: str) -> Finished:
    return await command(sys.executable, "-m", "virtual_kubelet", "up", *args, seconds=150)


def manifest(tmp_path: Path, *pods: tuple[str, str], restart: str = "Never", more: str = "") -> str:
    path = tmp_path / "pods.yaml"
    documents = [
        f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  restartPolicy: {restart}
  terminationGracePeriodSeconds: 1
  {more}
  containers:
  - {{name: main, image: none, command: [sh, -c, {script!r}]}}
"""
        for name, script in pods
    ]
    path.write_text("---".join(documents))
    return str(path)


async def test_the_example_says_hello_and_nothing_is_left(repository: Path, temporary: Path) -> None:
    done = await up("--run", str(repository / "examples" / "hello.yaml"))
    assert (done.code, done.out) == (ExitCode.OK, "hello from hello on virtual-kubelet\n"), done.err
    assert "default/hello" in done.err
    assert "Succeeded" in done.err
    assert list(temporary.iterdir()) == []


async def test_a_pod_that_fails_makes_it_1_and_its_log_is_shown(tmp_path: Path) -> None:
    done = await up("--run", manifest(tmp_path, ("good", "echo fine"), ("bad", "echo broken; exit 3")))
    assert done.code == ExitCode.FAILURE
    assert sorted(done.out.splitlines()) == ["bad/main: broken", "good/main: fine"]
    assert "main ended with exit code 3" in done.err


async def test_what_does_not_finish_in_time_is_124_and_no_process_is_left(tmp_path: Path) -> None:
    path = manifest(tmp_path, ("p", f"echo begun; exec sleep 1000 # {tmp_path}"), restart="Always")
    done = await up("--run", path, "--timeout", "8s")
    assert (done.code, done.out) == (ExitCode.TIMEOUT, "begun\n"), done.err
    assert "not finished within 8s" in done.err
    assert "pod default/p: Running (its restartPolicy is Always, so it never finishes)" in done.err
    assert processes_with(str(tmp_path)) == []


async def test_several_files_and_kinds_are_applied_in_order(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {GREETING: good morning}\n")
    pod = tmp_path / "pod.yaml"
    pod.write_text(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  restartPolicy: Never\n  containers:\n"
        "  - name: main\n    image: none\n    command: [sh, -c, echo $GREETING]\n"
        "    envFrom: [{configMapRef: {name: c}}]\n"
    )
    done = await up("--run", str(config), str(pod))
    assert (done.code, done.out) == (ExitCode.OK, "good morning\n"), done.err


async def test_a_pod_in_a_namespace_of_the_same_files_has_its_service_accounts_token(tmp_path: Path) -> None:
    path = manifest(tmp_path, ("p", "cd /var/run/secrets/kubernetes.io/serviceaccount; cut -c1-3 token; cat namespace"))
    text = Path(path).read_text().replace("{name: p}", "{name: p, namespace: own}")
    Path(path).write_text("apiVersion: v1\nkind: Namespace\nmetadata: {name: own}\n---\n" + text)
    done = await up("--run", path)
    assert (done.code, done.out) == (ExitCode.OK, "eyJ\nown\n"), done.err
    assert not Path("/var/run/secrets/kubernetes.io/serviceaccount").exists(), "nothing is left on the machine"


@pytest.mark.parametrize(
    ("given", "tokens"),
    [
        ([], True),
        (["--no-service-account-tokens"], False),
        (["--provider", "mock"], False),
        (["--provider", "mock", "--service-account-tokens"], True),
    ],
)
def test_tokens_are_mounted_where_the_provider_is_known_to_mount(given: list[str], tokens: bool) -> None:
    assert _with_tokens(build_parser().parse_args(["up", *given])) is tokens


@pytest.mark.parametrize(
    ("more", "said"),
    [("nodeSelektor: {a: b}", "nodeSelektor"), ("restartPolicy: Sometimes", "'restartPolicy' is there twice")],
)
async def test_a_wrong_manifest_is_refused_in_words(tmp_path: Path, more: str, said: str) -> None:
    done = await up("--run", manifest(tmp_path, ("p", "true"), more=more))
    assert done.code == ExitCode.CONFIGURATION, done
    assert said in done.err
    assert "Traceback" not in done.err


async def test_files_without_a_pod_are_refused_before_anything_starts(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n")
    done = await up("--run", str(config))
    assert done.code == ExitCode.CONFIGURATION
    assert "there is no Pod in what --run names" in done.err
    assert "node " not in done.err


async def test_what_never_came_up_does_not_say_that_it_stops(tmp_path: Path) -> None:
    done = await up("--provider", "mock", "--provider-config", str(tmp_path / "nosuch.json"))
    assert done.code == ExitCode.CONFIGURATION
    assert "cannot read the provider configuration" in done.err
    assert "stopping" not in done.out


class Running:
    """``up`` until a signal; its lines as they come."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []

    async def until(self, text: str) -> str:
        assert self.process.stdout is not None
        async with asyncio.timeout(100):
            while True:
                line = (await self.process.stdout.readline()).decode()
                assert line, f"it ended: {self.lines}"
                self.lines.append(line.rstrip("\n"))
                if re.search(text, line):
                    return line.strip()

    async def rest(self) -> str:
        assert self.process.stdout is not None
        async with asyncio.timeout(100):
            return (await self.process.stdout.read()).decode()


@contextlib.asynccontextmanager
async def interactive(*args: str) -> AsyncIterator[Running]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "virtual_kubelet", "up", *args,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield Running(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_it_says_what_to_type_shows_what_happens_and_stops_on_ctrl_c(
    tmp_path: Path, repository: Path, temporary: Path
) -> None:
    async with interactive("--nodename", "here") as node:
        await node.until('with the node "here", whose pods are processes of this machine')
        kubeconfig = Path((await node.until("export KUBECONFIG=")).partition("=")[2])
        assert "kubectl apply -f examples/hello.yaml" in await node.until("kubectl apply")
        assert stat.S_IMODE(kubeconfig.stat().st_mode) == 0o600
        assert any(re.search(r"node +here +Ready", line) for line in node.lines)
        kubectl = Kubectl(kubeconfig)
        assert re.search(r"^here +Ready ", (await kubectl("get", "nodes")).out, re.MULTILINE)
        await kubectl("apply", "-f", str(repository / "examples" / "hello.yaml"))
        await node.until(r"pod +default/hello +Succeeded")
        assert (await kubectl("logs", "hello")).out == "hello from hello on here\n"
        await kubectl("apply", "-f", manifest(tmp_path, ("stays", f"trap '' TERM; sleep 1000 & wait # {tmp_path}")))
        await node.until(r"pod +default/stays +Running")
        assert processes_with(f"wait # {tmp_path}")
        node.process.send_signal(signal.SIGINT)
        await node.until("stopping")
        await node.rest()
        assert await node.process.wait() == ExitCode.OK
    assert processes_with(f"wait # {tmp_path}") == []
    assert list(temporary.iterdir()) == []


async def test_the_kubeconfig_can_be_written_to_a_file_of_one_s_own_again_and_again(tmp_path: Path) -> None:
    path = tmp_path / "my.kubeconfig"
    for _ in range(2):
        async with interactive("--provider", "mock", "--kubeconfig-out", str(path)) as node:
            assert await node.until("export KUBECONFIG=") == f"export KUBECONFIG={path}"
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert "mock" in " ".join(node.lines)
            node.process.send_signal(signal.SIGTERM)
            await node.rest()
            assert await node.process.wait() == ExitCode.OK
    assert path.exists()


async def test_its_help_says_what_the_dev_cluster_is_not_and_where_more_is_said(repository: Path) -> None:
    said = " ".join((await up("--help")).out.split())
    for words in ("It is not Kubernetes", "not for production", "all is gone at the end", "docs/dev-cluster.md"):
        assert words in said
    assert "## What it is not" in (repository / "docs" / "dev-cluster.md").read_text()


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
async def test_with_a_data_dir_the_cluster_and_its_pods_go_on_after_the_next_start(
    tmp_path: Path, temporary: Path, end: signal.Signals
) -> None:
    directory = tmp_path / "data"
    kubectl = Kubectl(directory / "kubeconfig")
    text = f"trap '' TERM; sleep 1000 & wait # {tmp_path}"
    async with interactive("--data-dir", str(directory)) as node:
        await node.until(f"export KUBECONFIG={directory}/kubeconfig")
        await kubectl("create", "configmap", "mine", "--from-literal=a=b")
        await kubectl("apply", "-f", manifest(tmp_path, ("stays", text), restart="Always"))
        await node.until(r"pod +default/stays +Running")
        before = (await kubectl("get", "pod", "stays", "-o", "jsonpath={.metadata.uid} {.status.startTime}")).out
        old = tmp_path / "old.kubeconfig"
        old.write_text((directory / "kubeconfig").read_text())
        node.process.send_signal(end)
        await node.rest()
        await node.process.wait()
    (running,) = processes_with(f"wait # {tmp_path}")
    async with interactive("--data-dir", str(directory)) as node:
        await node.until("export KUBECONFIG=")
        kubectl = Kubectl(old)
        wanted = "jsonpath={.metadata.uid} {.status.startTime}"
        assert (await kubectl("get", "pod", "stays", "-o", wanted)).out == before
        assert (await kubectl("get", "configmap", "mine", "-o", "jsonpath={.data.a}")).out == "b"
        assert processes_with(f"wait # {tmp_path}") == [running]
        await kubectl("delete", "pod", "stays", "--grace-period=1")
        node.process.send_signal(signal.SIGINT)
        await node.until("the state is in")
        await node.rest()
        assert await node.process.wait() == ExitCode.OK
    assert processes_with(f"wait # {tmp_path}") == []
    assert list(temporary.iterdir()) == []


async def test_a_data_dir_that_another_process_has_is_refused_in_words(tmp_path: Path) -> None:
    async with interactive("--provider", "mock", "--data-dir", str(tmp_path / "data")) as node:
        await node.until("export KUBECONFIG=")
        second = await up("--provider", "mock", "--data-dir", str(tmp_path / "data"))
        assert second.code == ExitCode.CONFIGURATION
        assert "is in use by another process" in second.err
        assert "--data-dir" in second.err
        node.process.send_signal(signal.SIGINT)
        await node.rest()


async def test_interrupting_a_run_is_130(tmp_path: Path) -> None:
    path = manifest(tmp_path, ("p", f"exec sleep 1000 # {tmp_path}"))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "virtual_kubelet", "up", "--run", path,
        stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, env=dict(os.environ),
    )  # fmt: skip
    assert process.stderr is not None
    try:
        async with asyncio.timeout(100):
            while b"Running" not in await process.stderr.readline():
                assert process.returncode is None
            process.send_signal(signal.SIGINT)
            assert b"Traceback" not in await process.stderr.read()
            assert await process.wait() == ExitCode.INTERRUPTED
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert processes_with(str(tmp_path)) == []
