"""The process a command runs in: its logs, event loop, signals and garbage collector. Never the library's business."""

from __future__ import annotations

import argparse
import asyncio
import gc
import signal
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from virtual_kubelet.telemetry import logs

__all__ = ["Interrupted", "begin_collecting_garbage", "collect_garbage_rarely", "configure_logs", "run_until_signal"]

T = TypeVar("T")

#: SIGHUP is a terminal that was closed; under nohup it is ignored, and stays so.
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: Allocations between collections. Python's 700 makes it look through everything far too often under load.
_GC_THRESHOLD: Final = 10_000


class Interrupted(Exception):
    """A signal ended the main coroutine. ``signal`` tells which."""

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.signal = number


def configure_logs(arguments: argparse.Namespace) -> None:
    """As ``--log-level`` and ``--log-format`` say, to stderr."""
    logs.configure(arguments.log_level, arguments.log_format)


def run_until_signal(main: Coroutine[Any, Any, T]) -> T:
    """Run ``main`` in a loop of its own, on uvloop where that is installed.

    The first SIGINT, SIGTERM or SIGHUP cancels it, so that it can stop in order; a second one kills the process. Raises
    ``Interrupted`` when ``main`` ended because of the first.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_guarded(main))


async def _guarded(main: Coroutine[Any, Any, T]) -> T:
    loop = asyncio.get_running_loop()
    task = loop.create_task(main)
    received: list[int] = []

    def stop(number: int) -> None:
        received.append(number)
        task.cancel()
        for other in watched:
            loop.remove_signal_handler(other)
            signal.signal(other, signal.SIG_DFL)

    watched = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    for number in watched:
        loop.add_signal_handler(number, stop, number)
    try:
        return await task
    except asyncio.CancelledError:
        if received:
            raise Interrupted(received[0]) from None
        raise
    finally:
        if not received:
            for number in watched:
                loop.remove_signal_handler(number)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # the extra "uvloop" is not installed
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def collect_garbage_rarely(ready: Coroutine[Any, Any, None]) -> None:
    """Await ``ready`` without collections, then take what was loaded until then out of the collector's sight.

    The first list is large and stays: looking through it for garbage costs as much as decoding it did.
    """
    gc.disable()
    try:
        await ready
        gc.collect()
    finally:
        begin_collecting_garbage()


def begin_collecting_garbage() -> None:
    """Collect, now and then, what comes from now on; what has been loaded is out of the collector's sight."""
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD, 10, 10)
    gc.enable()
