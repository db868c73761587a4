"""The node is killed once for all checks that want that: it waits until each of them has come, or has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from virtual_kubelet.testing.conformance.nodes import JudgedNode

__all__ = ["SharedRestart"]

Meanwhile = Callable[[], Awaitable[None]]


class SharedRestart:
    """One kill and one start of ``node``, for so many checks.

    Args:
        checks: that will ``arrive`` or ``leave``, each once.
    """

    def __init__(self, node: JudgedNode, checks: int) -> None:
        self._node = node
        self._expected = checks
        self._meanwhile: list[tuple[Meanwhile, asyncio.Future[None]]] = []
        self._all_here = asyncio.Event()
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._came = 0

    async def run(self) -> None:
        """Wait for them and do it. Raises what keeps the node from starting again, after they have been told."""
        await self._all_here.wait()
        if not self._came:
            return
        try:
            await self._node.kill()
            works = [work() for work, _ in self._meanwhile]
            for (_, done), outcome in zip(
                self._meanwhile, await asyncio.gather(*works, return_exceptions=True), strict=True
            ):
                if done.done():
                    continue
                if isinstance(outcome, BaseException):
                    done.set_exception(outcome)  # that check's own failure, and told there
                else:
                    done.set_result(None)
            await self._node.start()
        except BaseException as error:
            if not self._over.done():
                self._over.set_exception(RuntimeError(f"the node did not start again: {error}"))
                self._over.exception()  # whoever still waits is told; perhaps nobody does
            raise
        if not self._over.done():
            self._over.set_result(None)

    async def arrive(self, meanwhile: Meanwhile | None) -> None:
        """Returns when the node is Ready again. Raises what ``meanwhile`` raised."""
        done: asyncio.Future[None] | None = None
        if meanwhile is not None:
            done = asyncio.get_running_loop().create_future()
            self._meanwhile.append((meanwhile, done))
        self._came += 1
        self.leave()
        await asyncio.shield(self._over)
        if done is not None:
            await done

    def leave(self) -> None:
        """One check fewer to wait for."""
        self._expected -= 1
        if self._expected <= 0:
            self._all_here.set()
