"""The steps of one pod: what ``pod_decision`` says is done with the provider, until nothing is to be done.

Called by the one worker that the pod has. What fails sets a timer, which wakes it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from virtual_kubelet.contracts.pods import RerunSafe
from virtual_kubelet.errors import (
    ApiConnectionError,
    ApiError,
    InvalidInputError,
    NotFoundError,
    TransientError,
)
from virtual_kubelet.kube.events import EventRecorder
from virtual_kubelet.node.cached_pod import CachedPod
from virtual_kubelet.node.configuration_watch import ConfigurationWatch
from virtual_kubelet.node.pod_admission import PodAdmission
from virtual_kubelet.node.pod_controller_config import PodControllerConfig
from virtual_kubelet.node.pod_decision import Action, Facts, decide
from virtual_kubelet.node.pod_difference import differs
from virtual_kubelet.node.pod_draining import drain_pod
from virtual_kubelet.node.pod_environment import EnvironmentNotReadyError, PodEnvironment
from virtual_kubelet.node.pod_outcomes import PodOutcomes
from virtual_kubelet.node.pod_record import Applied, PodRecord
from virtual_kubelet.node.pod_records import PodRecords
from virtual_kubelet.node.pod_resizes import PodResizes
from virtual_kubelet.node.pod_status_patch import had_run, is_terminal, no_container_runs
from virtual_kubelet.node.provider_calls import ProviderCallError, ProviderCalls
from virtual_kubelet.node.provider_failures import (
    lost_status,
    rejected_status,
    terminated_status,
)
from virtual_kubelet.node.status_writer import StatusWriter
from virtual_kubelet.objects.core_v1 import Pod, PodStatus
from virtual_kubelet.objects.times import format_time
from virtual_kubelet.telemetry.logs import get_logger

__all__ = ["PodSync"]

log = get_logger(__name__)

#: More steps than any pod needs; a provider whose answers make no sense ends here instead of in a loop.
_MOST_STEPS: Final = 10
#: Seconds between questions at most, for a pod that waits for its own address: nobody tells when it is there.
_ADDRESS_RETRY: Final = 5.0
#: Tries to have a pod killed of which no failure is made: 1, 2 and 4 s, and a little more.
_QUIET_TRIES: Final = 3
#: Seconds between two such tries at most: a successor of its name may wait for it.
_LONGEST_KILL_RETRY: Final = 10.0


class _StillThereError(ProviderCallError):
    """The provider was told to kill a pod, which the API server has lost, and still has it."""


class PodSync:
    """``wake``: takes a record that is to be looked at again."""

    def __init__(
        self,
        config: PodControllerConfig,
        calls: ProviderCalls,
        records: PodRecords,
        writer: StatusWriter,
        recorder: EventRecorder,
        wake: Callable[[PodRecord], None],
    ) -> None:
        self._config = config
        self._calls = calls
        self._records = records
        self._writer = writer
        self._wake = wake
        self._outcomes = PodOutcomes(config, recorder, writer.submit, wake)
        self._environment = PodEnvironment(config, calls, recorder)
        self._admission = PodAdmission(config, records)
        self._resizes = PodResizes(
            self._admission, self._outcomes, writer.submit, wake, lambda: format_time(config.clock.now())
        )
        self._configuration = ConfigurationWatch(config, calls, wake)
        self._rerun_is_safe = isinstance(config.provider, RerunSafe) and config.provider.rerun_is_safe

    async def sync(self, record: PodRecord, *, draining: bool) -> bool:
        """Steps until there is nothing to do. Gives whether all went well; a failure has set a timer.

        Args:
            draining: the node stops: no pod begins any more.
        """
        try:
            if record.draining is not None or draining:
                await drain_pod(record, self._calls)
                return True
            for _ in range(_MOST_STEPS):
                action = decide(self._facts(record))
                if action is Action.NOTHING or action is Action.WAIT_FOR_NAME:
                    return True
                if action is Action.FORGET:
                    self._records.forget(record)
                    self._environment.release(record)
                    self._admission.release(record)
                    self._resizes.release(record)
                    self._resizes.room_was_made()
                    self._configuration.release(record)
                    return True
                if action is Action.FINISH:
                    self._finish(record)
                    return True
                if action is Action.FAIL_AS_LOST:
                    assert record.pod is not None
                    record.status = lost_status(record.pod.status, self._config.clock.now())
                    self._writer.submit(record)
                elif action is Action.CREATE:
                    await self._create(record)
                elif action is Action.UPDATE:
                    await self._update(record)
                elif action is Action.CONFIGURE:
                    await self._configure(record)
                else:
                    await self._delete(record)
            raise ProviderCallError("sync", TransientError("the provider's answers lead nowhere"))
        except EnvironmentNotReadyError as error:
            record.waits_for_reference = True
            if record.in_provider:  # what runs goes on as it was
                self._outcomes.event(record, "Warning", "ProviderUpdateFailed", str(error))
            else:
                record.status, record.status_is_ours = error.status, True
                self._writer.submit(record)
            self._outcomes.try_later(record, error, None, at_most=_ADDRESS_RETRY if error.waits_for_address else None)
        except _StillThereError as error:
            if record.attempts >= _QUIET_TRIES:  # before, it is being killed: that takes a moment, and is no failure
                log.warning("the pod was to be killed: %s", error)
                self._outcomes.event(record, "Warning", "ProviderDeleteFailed", str(error))
            self._outcomes.try_later(record, error, None, at_most=_LONGEST_KILL_RETRY)
        except ProviderCallError as error:
            self._outcomes.failed(record, error)
        except (ApiError, ApiConnectionError) as error:
            log.warning("the pod cannot be judged before this node has read its Node: %s", error)
            self._outcomes.try_later(record, error, None)
        except msgspec.DecodeError as error:
            # Of a server much newer than we are, say. One such pod must not end the node; a changed one is looked at again.
            log.error("the pod's spec cannot be read: %s", error)
            self._outcomes.event(
                record, "Warning", "UnreadablePodSpec", f"this node cannot read the pod's spec: {error}"
            )
        return False

    def _facts(self, record: PodRecord) -> Facts:
        pod = record.pod
        if pod is None:
            return Facts(in_api=False, in_provider=record.in_provider)
        newest = record.status or pod.status
        deleting = pod.metadata.deletion_timestamp is not None
        return Facts(
            in_api=True,
            deleting=deleting,
            terminal=is_terminal(pod.status) or is_terminal(newest),
            containers_ended=record.status is not None and no_container_runs(record.status),
            in_provider=record.in_provider,
            delete_accepted=record.delete_grace is not None
            and record.delete_grace <= (pod.metadata.deletion_grace_period_seconds or 0),
            grace_over=record.grace_over,
            had_run=not record.created and (had_run(pod.status) or had_run(newest)),
            rerun_is_safe=self._rerun_is_safe,
            changed=bool(record.in_provider)
            and not deleting
            and (self._changed(record, pod) or self._resizes.is_due(record)),
            configuration_due=self._configuration.is_due(record),
            name_taken=self._records.name_taken(record),
        )

    def _changed(self, record: PodRecord, pod: CachedPod) -> bool:
        if record.applied is None:
            # Adopted: compare with what the provider was given by an earlier process.
            if record.found is not None:
                wanted = pod.decode()
                if record.settled is None:
                    self._environment.adopt(record, wanted, record.found)
                if differs(wanted, record.found):
                    return True
            applied = Applied.of(pod)
            if applied.gates:
                return True  # the provider may have asked for its conditions before they were known here
            record.applied, record.found = applied, None
            return False
        return record.applied != Applied.of(pod)

    # Steps

    async def _create(self, record: PodRecord) -> None:
        assert record.pod is not None
        if record.in_provider is None or record.attempts:
            # The outcome of an earlier try, of this process or of one before, is not known.
            if await self._calls.knows(record.key):
                await self._found_after_all(record)
                return
            record.in_provider = False
            if had_run(record.pod.status) and not record.created and not self._rerun_is_safe:
                return
        pod, applied = record.pod.decode(), Applied.of(record.pod)  # what cannot be read is not judged either
        if not await self._admitted(record):
            return
        resolved = await self._resolve(record, pod, "create_pod")
        await self._configuration.before_creation(record, pod)
        record.in_provider = None  # until the call has returned, nobody knows
        record.created = True
        record.status_is_ours = True
        await self._calls.create_pod(resolved)
        record.in_provider, record.applied, record.attempts = True, applied, 0
        record.created_at = self._config.clock.monotonic()
        self._outcomes.event(record, "Normal", "ProviderCreateSuccess", "Create pod in provider successfully")

    async def _admitted(self, record: PodRecord) -> bool:
        """Whether the node takes it; if not, that is told."""
        rejection = await self._admission.admit(record)
        if rejection is None:
            return True
        assert record.pod is not None
        log.warning("the pod is rejected: %s", rejection.message)
        record.in_provider = False
        now = self._config.clock.now()
        record.status = rejected_status(record.pod.status, rejection.reason, rejection.status_message, now)
        record.status_is_ours = True
        self._writer.submit(record)
        self._outcomes.event(record, "Warning", rejection.reason, rejection.message)
        return False

    async def _resolve(self, record: PodRecord, pod: Pod, call: str) -> Pod:
        record.waits_for_reference = False
        try:
            return await self._environment.resolve(record, pod)
        except InvalidInputError as error:
            raise ProviderCallError(call, error) from error

    async def _found_after_all(self, record: PodRecord) -> None:
        assert record.pod is not None
        if record.status_is_ours:
            # What we said of it while it seemed to fail is not true; the provider said its part before that.
            status = await self._calls.get_pod_status(record.key)
            if status is not None:
                self._take_status(record, status)
        record.in_provider, record.attempts = True, 0
        self._admission.recount(record)
        if record.applied is None:
            record.applied = Applied.of(record.pod)

    def _take_status(self, record: PodRecord, status: PodStatus) -> None:
        try:
            self._records.status_from_provider(record.key, status)
        except ValueError as error:
            raise ProviderCallError("get_pod_status", error) from error

    async def _update(self, record: PodRecord) -> None:
        assert record.pod is not None
        pod, applied = record.pod.decode(), Applied.of(record.pod)
        self._resizes.allocate(record, pod)
        resolved = await self._resolve(record, pod, "update_pod")
        try:
            await self._calls.update_pod(resolved)
        except NotFoundError:
            # It had it: what ran there is lost, and running it again is not for us to decide.
            record.in_provider = record.created = False
            return
        record.applied, record.found, record.attempts = applied, None, 0
        self._resizes.given(record, pod)
        self._admission.recount(record)
        self._configuration.metadata_changed(record)
        self._outcomes.event(record, "Normal", "ProviderUpdateSuccess", "Update pod in provider successfully")

    async def _configure(self, record: PodRecord) -> None:
        assert record.pod is not None
        try:
            await self._configuration.update(record, record.pod.decode())
        except NotFoundError:
            record.in_provider = record.created = False
            return
        record.attempts = 0

    async def _delete(self, record: PodRecord) -> None:
        pod = record.pod.decode_or_bare() if record.pod is not None else record.last_decoded
        assert pod is not None
        grace = pod.metadata.deletion_grace_period_seconds
        if record.pod is None:
            # Gone from the API (forced, or while we did not look): what is left of its grace period is nothing.
            pod.metadata.deletion_grace_period_seconds = grace = 0
        try:
            await self._calls.delete_pod(pod)
        except NotFoundError:
            record.in_provider = False
            return
        first = record.delete_grace is None
        record.delete_grace = grace or 0
        if first:
            self._outcomes.event(record, "Normal", "ProviderDeleteSuccess", "Delete pod in provider successfully")
        if record.pod is None:
            if not await self._calls.knows(record.key):
                record.in_provider = False
                return
            raise _StillThereError("delete_pod", TransientError("the provider still has the pod"))
        record.attempts = 0
        self._start_grace(record, grace or 0)
        if not (record.status is not None and no_container_runs(record.status)) and not await self._calls.knows(
            record.key
        ):
            # Gone without a word. One that takes its time is still known, and says so when it has ended.
            record.in_provider = False
            record.status = terminated_status(record.pod.status, self._config.clock.now())
            self._writer.submit(record)

    def _start_grace(self, record: PodRecord, grace: int) -> None:
        # As a kubelet, from when it begins to end the pod; deletionTimestamp is by another machine's clock.
        if record.timer is not None:
            record.timer.cancel()
        record.timer = asyncio.get_running_loop().call_later(
            grace + self._config.kill_margin, self._grace_is_over, record
        )

    def _grace_is_over(self, record: PodRecord) -> None:
        record.grace_over = True
        record.timer = None
        self._wake(record)

    def _finish(self, record: PodRecord) -> None:
        if not record.finished:
            record.finishing = True
            self._writer.submit(record)
