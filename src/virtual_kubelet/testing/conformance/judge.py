"""Makes the checks, side by side, and says of each what came of it: what a check raises becomes a verdict here."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from virtual_kubelet.errors import ApiConnectionError, ApiError
from virtual_kubelet.testing.cluster_user import ClusterUser, NotSeenError, PodRefusedError
from virtual_kubelet.testing.conformance.check import KILLING, SUITES, Check
from virtual_kubelet.testing.conformance.declaration import Declaration
from virtual_kubelet.testing.conformance.expectations import NotOfferedError, NotRunError
from virtual_kubelet.testing.conformance.nodes import JudgedNode
from virtual_kubelet.testing.conformance.restarts import Meanwhile, SharedRestart
from virtual_kubelet.testing.conformance.results import CheckResult, Verdict
from virtual_kubelet.testing.conformance.stage import Stage
from virtual_kubelet.testing.user_streams import StreamRefusedError

__all__ = ["Judge"]

#: HTTP status of what a provider does not offer.
_NOT_OFFERED: Final = 501


class Judge:
    """See ``ConformanceConfig`` for the arguments that are named as there.

    Args:
        user, node, node_name: who looks, and at what.
        factory: the provider's class or factory.
        version: of the cluster.
        on_result: is told of each check that has ended.
    """

    def __init__(
        self,
        *,
        user: ClusterUser,
        node: JudgedNode,
        node_name: str,
        declaration: Declaration,
        factory: Any,
        version: tuple[int, int],
        timeout: float,
        parallel: int,
        unclaimed: bool,
        on_result: Callable[[CheckResult], None],
    ) -> None:
        self.node = node
        self._user = user
        self._node_name = node_name
        self._declaration = declaration
        self._factory = factory
        self._version = version
        self._timeout = timeout
        self._slots = asyncio.Semaphore(parallel)
        self._unclaimed = unclaimed
        self._on_result = on_result
        self._results: dict[Check, CheckResult] = {}
        self._under_way: set[asyncio.Task[None]] = set()
        self._ended = ""  # what the node said when it ended by itself

    async def results_of(self, checks: Sequence[Check]) -> Mapping[Check, CheckResult]:
        """First those that leave the node alone, side by side; then those that have it killed, together."""
        watching = asyncio.create_task(self._watch(), name="judged node's end")
        try:
            due = [check for check in checks if not self._excuse(check)]
            await self._together([check for check in due if check.suite not in KILLING], None)
            killing = [check for check in due if check.suite in KILLING]
            if killing and not self._ended:
                await self._together(killing, SharedRestart(self.node, len(killing)))
            for check in due:
                if check not in self._results:
                    self._say(_broken(check, "the node runs", self._ended))
        finally:
            watching.cancel()
            await asyncio.wait({watching})
        return self._results

    async def _together(self, checks: Sequence[Check], shared: SharedRestart | None) -> None:
        restart = None if shared is None else asyncio.create_task(shared.run(), name="the node's restart")
        try:
            async with asyncio.TaskGroup() as making:
                for check in checks:
                    task = making.create_task(self._one(check, shared), name=str(check))
                    self._under_way.add(task)
                    task.add_done_callback(self._under_way.discard)
        finally:
            if restart is not None:
                restart.cancel()
                await asyncio.wait({restart})

    async def _watch(self) -> None:
        """A node that has ended keeps no promise."""
        self._ended = await self.node.wait_ended()
        for task in self._under_way:
            task.cancel()

    def _excuse(self, check: Check) -> bool:
        """Whether it need not be made; then that is its result."""
        method = SUITES[check.suite]
        lacking = self._declaration.lacking(check.suite, str(check))
        verdict, reason = Verdict.NOT_CLAIMED, ""
        if method is not None and inspect.isclass(self._factory) and not hasattr(self._factory, method):
            reason = f"the provider has no {method}"
        elif lacking and not self._unclaimed:
            reason = lacking
        elif missing := [need for need in check.needs if not self._declaration.can(need)]:
            verdict, reason = Verdict.NOT_RUN, f"its containers cannot be made to do this: {', '.join(missing)}"
        elif check.api > self._version:
            since = f"{check.api[0]}.{check.api[1]}"
            verdict, reason = Verdict.NOT_RUN, f"Kubernetes before {since} does not know these fields"
        if reason:
            self._say(CheckResult(check=check, verdict=verdict, reason=reason))
        return bool(reason)

    async def _one(self, check: Check, shared: SharedRestart | None) -> None:
        """Never raises, but for a cancellation from outside: what the check raises is its result."""
        arrived = False

        async def killed(meanwhile: Meanwhile | None) -> None:
            nonlocal arrived
            assert shared is not None, f"the suite {check.suite} leaves the node alone"
            arrived = True
            await shared.arrive(meanwhile)

        async with self._slots:
            stage = Stage(str(check), self._user, self._node_name, self._declaration, self._user.patience, killed)
            began = time.monotonic()
            try:
                result = await self._judge(check, stage)
            except asyncio.CancelledError:
                if not self._ended:
                    raise
                result = _broken(check, "the node runs", self._ended)
            finally:
                if shared is not None and not arrived:
                    shared.leave()
            result = replace(result, seconds=time.monotonic() - began)
            if result.verdict is Verdict.BROKEN:
                result = await self._with_evidence(result, stage)
            self._say(result)
            await self._clean(stage)

    async def _judge(self, check: Check, stage: Stage) -> CheckResult:
        limit = asyncio.timeout(self._timeout)
        try:
            async with limit:
                await check.function(stage)
        except NotRunError as error:
            return CheckResult(check=check, verdict=Verdict.NOT_RUN, reason=str(error))
        except (PodRefusedError, NotOfferedError) as error:
            return self._refused(check, str(error))
        except (StreamRefusedError, ApiError) as error:
            if error.code == _NOT_OFFERED:
                return self._refused(check, error.message or "the node answers 501")
            return _broken(check, "the request succeeds", f"{error.code} {error.message}")
        except NotSeenError as error:
            return _broken(check, error.expected, error.seen)
        except TimeoutError:
            what = f"not over after {self._timeout:g} s" if limit.expired() else "a stream that says nothing more"
            return _broken(check, "the check comes to an end", what)
        except (ApiConnectionError, OSError) as error:
            return _broken(check, "the API server and the node answer", str(error))
        except ExceptionGroup as group:
            return _broken_by_group(check, group)
        return CheckResult(check=check, verdict=Verdict.HOLDS)

    def _refused(self, check: Check, why: str) -> CheckResult:
        if self._declaration.claimed(check.suite, str(check)):
            return _broken(check, "it is done, since it is claimed", why)
        return CheckResult(check=check, verdict=Verdict.NOT_CLAIMED, reason=why)

    async def _with_evidence(self, result: CheckResult, stage: Stage) -> CheckResult:
        """What was seen of its pods, and the events on them."""
        history: list[str] = []
        events: list[str] = []
        for pod in stage.created:
            history += [f"{pod.metadata.name}:", *self._user.history(pod).lines()]
            try:
                found = await self._user.events(pod)
            except (ApiError, ApiConnectionError) as error:
                events.append(f"{pod.metadata.name}: cannot be read: {error}")
                continue
            events += [f"{pod.metadata.name}: {one.type} {one.reason}: {one.message}" for one in found]
        return replace(result, history=history[-60:], events=events[-30:])

    async def _clean(self, stage: Stage) -> None:
        """Its pods end, so that they burden the other checks no longer."""
        for pod in stage.created:
            try:
                await self._user.delete(pod, 1)
            except (ApiError, ApiConnectionError):
                continue  # it is another one by now; what is left goes at the end

    def _say(self, result: CheckResult) -> None:
        self._results[result.check] = result
        self._on_result(result)


def _broken(check: Check, expected: str, seen: str) -> CheckResult:
    return CheckResult(check=check, verdict=Verdict.BROKEN, expected=expected, seen=seen)


def _broken_by_group(check: Check, group: BaseExceptionGroup[Any]) -> CheckResult:
    """The first promise that several things at once found broken."""
    for error in _leaves(group):
        if isinstance(error, NotSeenError):
            return _broken(check, error.expected, error.seen)
    first = next(_leaves(group))
    return _broken(check, "no error", f"{type(first).__name__}: {first}")


def _leaves(group: BaseExceptionGroup[Any]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
