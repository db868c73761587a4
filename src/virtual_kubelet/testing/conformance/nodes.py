"""The node that is judged: a process of its own, which can be killed, or, for a provider without a name, one in this one."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from virtual_kubelet.kubelet import Kubelet
from virtual_kubelet.kubelet_config import KubeletConfig

__all__ = ["JudgedNode", "NodeInProcess", "NodeProcess", "run_options"]

#: Seconds until a node must be Ready, and until one that was told to end is killed.
_START: Final = 120.0
_STOP: Final = 30.0
#: A cluster that signs no serving certificates takes self-signed ones, after so long.
_SELF_SIGNED: Final = "20s"
#: Lines of its log that are kept.
_LINES: Final = 40


class JudgedNode(Protocol):
    """A node that is started, killed, started again, stopped."""

    #: How it is killed, for the report.
    killing: str

    async def start(self) -> None:
        """Returns when it is Ready. Raises whatever keeps it from that."""
        ...

    async def kill(self) -> None:
        """Without a word of warning; returns when it has gone."""
        ...

    async def stop(self) -> None:
        """In order; returns when it has gone. Nothing if it does not run."""
        ...

    @property
    def runs(self) -> bool:
        """Whether there is one, Ready or on its way."""
        ...

    async def wait_ended(self) -> str:
        """Until it ends by itself; gives what it said then."""
        ...


class NodeProcess:
    """``virtual-kubelet run`` as a process of its own.

    Args:
        options: those of ``run``, all but ``--nodename``.
    """

    killing = "its process is killed by SIGKILL"

    def __init__(self, name: str, options: Sequence[str]) -> None:
        self._command = [sys.executable, "-m", "virtual_kubelet", "run", "--nodename", name, *options]
        self._process: asyncio.subprocess.Process | None = None
        self._log: deque[str] = deque(maxlen=_LINES)
        self._reading: list[asyncio.Task[None]] = []
        self._told_to_end: set[asyncio.subprocess.Process] = set()

    async def start(self) -> None:
        pipe = asyncio.subprocess.PIPE
        self._process = process = await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe, start_new_session=True
        )
        assert process.stdout is not None
        assert process.stderr is not None
        ready = asyncio.Event()
        self._reading = [
            asyncio.create_task(self._read(process.stdout, ready), name="node's output"),
            asyncio.create_task(self._read(process.stderr, None), name="node's log"),
        ]
        ended = asyncio.create_task(process.wait())
        waiting = asyncio.create_task(ready.wait())
        try:
            await asyncio.wait({ended, waiting}, timeout=_START, return_when=asyncio.FIRST_COMPLETED)
            if not ready.is_set():
                code = process.returncode
                what = f"has not been Ready within {_START:g} s" if code is None else f"ended with {code}"
                raise RuntimeError(f"the node {what}: {self._said()}")
        finally:
            for task in (ended, waiting):
                task.cancel()

    async def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._told_to_end.add(self._process)
            self._process.kill()
        await self._gone()

    async def stop(self) -> None:
        process = self._process
        if process is not None and process.returncode is None:
            self._told_to_end.add(process)
            process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(_STOP):
                    await process.wait()
            except TimeoutError:
                process.kill()
        await self._gone()

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def wait_ended(self) -> str:
        while True:
            process = self._process
            assert process is not None
            code = await process.wait()
            if process not in self._told_to_end:
                await asyncio.wait(self._reading, timeout=2)
                return f"the node's process ended with {code}: {self._said()}"
            await asyncio.sleep(0.1)

    async def _gone(self) -> None:
        if self._process is not None:
            await self._process.wait()
        for task in self._reading:
            task.cancel()
        await asyncio.gather(*self._reading, return_exceptions=True)

    async def _read(self, stream: asyncio.StreamReader, ready: asyncio.Event | None) -> None:
        async for line in stream:
            text = line.decode(errors="replace").rstrip()
            if ready is not None and "is Ready" in text:
                ready.set()
            elif ready is None:
                self._log.append(text)

    def _said(self) -> str:
        return "\n".join(self._log) or "it said nothing"


class NodeInProcess:
    """A node in this process. It cannot be killed: it is stopped without a drain, and made anew from its class.

    Args:
        config: what it is made of, each time.
    """

    killing = "it is stopped, and made anew in the same process"

    def __init__(self, config: Callable[[], Coroutine[Any, Any, KubeletConfig]]) -> None:
        self._config = config
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        kubelet = Kubelet(await self._config())
        self._running = asyncio.create_task(kubelet.run(), name="judged node")
        await kubelet.wait_ready(_START)

    async def kill(self) -> None:
        await self.stop()

    async def stop(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            await asyncio.wait({running})

    @property
    def runs(self) -> bool:
        return self._running is not None and not self._running.done()

    async def wait_ended(self) -> str:
        while True:
            running = self._running
            if running is not None:
                await asyncio.wait({running})
                if self._running is running:
                    error = None if running.cancelled() else running.exception()
                    return f"the node ended by itself: {type(error).__name__}: {error}"
            await asyncio.sleep(0.1)


def run_options(
    *,
    provider: str,
    kubeconfig: Path,
    state_directory: Path,
    provider_config: Path | None,
    serving: tuple[Path, Path] | None,
    allow_host_processes: bool,
    bootstrap: Path | None = None,
) -> list[str]:
    """The options of ``virtual-kubelet run`` for a node that is judged, under its own identity.

    Args:
        kubeconfig: the node's own.
        serving: certificate and key, for a cluster on this machine.
        bootstrap: for another cluster: a kubeconfig with which the node asks for its certificates, both of them.
    """
    options = ["--kubeconfig", str(kubeconfig), "--provider", provider, "--state-dir", str(state_directory)]
    options += ["--disable-taint", "--startup-timeout", "100s", "--log-level", "warn"]
    if serving is not None:
        options += ["--listen", "127.0.0.1:0", "--node-ip", "127.0.0.1"]
        options += ["--tls-cert-file", str(serving[0]), "--tls-private-key-file", str(serving[1])]
    else:
        options += ["--listen", ":0", "--rotate-server-certificates", "--self-signed-fallback", _SELF_SIGNED]
    if bootstrap is not None:
        options += ["--bootstrap-kubeconfig", str(bootstrap)]
    if provider_config is not None:
        options += ["--provider-config", str(provider_config)]
    if allow_host_processes:
        options.append("--allow-host-processes")
    return options
