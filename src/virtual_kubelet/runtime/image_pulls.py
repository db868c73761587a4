"""Images for containers: pull policy, back-off, pulls that pods share, and the events and reasons of a kubelet.

The order is that of ``EnsureImageExists`` (pkg/kubelet/images/image_manager.go); what is written here was recorded. One
image is pulled once at a time for all pods that wait for it with the same credentials.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Final, TypeAlias

from virtual_kubelet.clock import Clock
from virtual_kubelet.contracts.runtime import Image, ImagePullError, ImageStore, RegistryCredentials
from virtual_kubelet.environment.fields import quote
from virtual_kubelet.errors import text_of
from virtual_kubelet.objects.core_v1 import Container, Pod
from virtual_kubelet.objects.durations import format_duration
from virtual_kubelet.runtime.image_access import ImageAccess
from virtual_kubelet.runtime.image_names import (
    InvalidImageNameError,
    default_pull_policy,
    parse_image_name,
    with_default_tag,
)
from virtual_kubelet.runtime.image_pull_backoff import IMAGE_BACKOFF_CAP, IMAGE_BACKOFF_INITIAL, PullBackoff
from virtual_kubelet.runtime.registry_credentials import Keyring
from virtual_kubelet.telemetry.logs import get_logger

__all__ = ["ImageNotReadyError", "ImagePulls", "TellEvent"]

log = get_logger(__name__)

#: Records an event: type, reason, message; never blocks.
TellEvent: TypeAlias = Callable[[str, str, str], None]

#: Seconds between a failure and its being shown as backed off. A kubelet shows it with its next sync, some ten seconds on.
_SHOW_BACKOFF: Final = 2.0
#: Seconds until an image that may not be pulled, or could not be looked for, is looked for again.
_LOOK_AGAIN: Final = 10.0
#: Characters of a runtime's sentence that an event shows.
_LONGEST_PROGRESS: Final = 256
_CANCELLED: Final = "the pull was cancelled"
#: How an image's registry, or its signature, failed it, by the reasons of the CRI (cri-api/pkg/errors).
_PULL_FAILURES: Final = {
    "RegistryUnavailable": "because the registry is unavailable",
    "SignatureValidationFailed": "because the signature validation failed",
}


class ImageNotReadyError(Exception):
    """A container cannot start: its image is not there. ``reason`` and the message are those of its waiting state.

    Attributes:
        reason: ``ErrImagePull``, ``ImagePullBackOff``, ``ErrImageNeverPull``, ``InvalidImageName``, ``ImageInspectError``…
        again_at: monotonic time to ask again; None: only when the container's image changes.
        news: it has not been told in events before.
    """

    def __init__(self, reason: str, message: str, *, again_at: float | None, news: bool = True) -> None:
        super().__init__(message)
        self.reason = reason
        self.again_at = again_at
        self.news = news


class ImagePulls:
    """Run it as an async context manager, which owns the pulls; leaving it cancels them.

    Args:
        store: the runtime's images.
        clock: monotonic time.
        access: who may use what is here already; loaded on entering.
        parallel: pulls at once; 1 pulls one image after another, as a kubelet by default (``serializeImagePulls``).
        stall_timeout: seconds without a word of the runtime after which a pull has failed.
        find_timeout: seconds to look for an image.
        progress_interval: least seconds between two events about the progress of a pull; 0: none.
        backoff_initial, backoff_cap: seconds until a failed pull is tried again: the first, and the longest.
    """

    def __init__(
        self,
        store: ImageStore,
        *,
        clock: Clock,
        access: ImageAccess | None = None,
        parallel: int = 5,
        stall_timeout: float = 900.0,
        find_timeout: float = 60.0,
        progress_interval: float = 30.0,
        backoff_initial: float = IMAGE_BACKOFF_INITIAL,
        backoff_cap: float = IMAGE_BACKOFF_CAP,
    ) -> None:
        if parallel < 1:
            raise ValueError("parallel must be at least 1")
        self._store = store
        self._clock = clock
        self._access = access or ImageAccess()
        self._backoff = PullBackoff(backoff_initial, backoff_cap)
        self._slots = asyncio.Semaphore(parallel)
        self._stall_timeout = stall_timeout
        self._find_timeout = find_timeout
        self._progress_interval = progress_interval
        self._pulls: dict[tuple[str, tuple[RegistryCredentials, ...]], _Pull] = {}
        self._saving = asyncio.Lock()
        self._tasks: asyncio.TaskGroup | None = None

    async def __aenter__(self) -> ImagePulls:
        await asyncio.to_thread(self._access.load)
        self._tasks = asyncio.TaskGroup()
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pull in self._pulls.values():
            pull.task.cancel()
        assert self._tasks is not None
        await self._tasks.__aexit__(None, None, None)
        for pull in list(self._pulls.values()):  # whose task was cancelled before it began
            pull.end(ImagePullError(_CANCELLED))
        self._pulls.clear()

    def forget(self, uid: str) -> None:
        """The pod is gone: so is its back-off."""
        self._backoff.forget(uid)

    async def ensure(
        self, pod: Pod, container: Container, keyring: Callable[[], Awaitable[Keyring]], tell: TellEvent
    ) -> Image:
        """The container's image, pulled if its policy says so. It may take long; cancel it when the pod ends: a pull that
        nobody waits for any more is cancelled with it.

        Ask again for each start of the container, and at ``again_at`` after an error. Asked again while a pull is backed
        off, it says so and pulls nothing.

        Args:
            keyring: reads the pod's credentials; called only if they are needed (``pull_secrets.read_keyring``).
            tell: records an event on the container.

        Raises ``ImageNotReadyError``; its events have been told.
        """
        try:
            return await self._ensure(pod, container, keyring, tell)
        except ImageNotReadyError as error:
            if error.news:
                tell("Warning", "Failed", f"Error: {error.reason}")
            raise

    async def _ensure(
        self, pod: Pod, container: Container, keyring: Callable[[], Awaitable[Keyring]], tell: TellEvent
    ) -> Image:
        wanted = container.image or ""
        try:
            image = with_default_tag(wanted)
        except InvalidImageNameError as error:
            tell("Warning", "InspectFailed", str(error))
            raise ImageNotReadyError("InvalidImageName", str(error), again_at=None) from None
        policy = container.image_pull_policy or default_pull_policy(image)
        credentials: Sequence[RegistryCredentials] | None = None
        if policy != "Always":
            found = await self._find(image, wanted, tell)
            if found is not None and self._access.restricted(image):
                credentials = await _credentials(image, keyring)
                if not self._access.allows(image, credentials):
                    found = None
            if found is not None:
                present = f"Container image {quote(wanted)} already present on machine and can be accessed by the pod"
                tell("Normal", "Pulled", present)
                return found
        if policy == "Never":
            absent = f"Container image {quote(wanted)} is not present with pull policy of Never"
            tell("Warning", "ErrImageNeverPull", absent)
            raise ImageNotReadyError("ErrImageNeverPull", absent, again_at=self._clock.monotonic() + _LOOK_AGAIN)
        self._check_backoff(pod.metadata.uid or "", wanted, tell)
        if credentials is None:
            credentials = await _credentials(image, keyring)
        return await self._pull(pod.metadata.uid or "", image, wanted, tuple(credentials), tell)

    async def _find(self, image: str, wanted: str, tell: TellEvent) -> Image | None:
        limit = asyncio.timeout(self._find_timeout)
        try:
            async with limit:
                return await self._store.find_image(image)
        except Exception as error:
            # Whatever a runtime raises: it is shown, and it is asked again.
            why = f"the runtime has not answered within {self._find_timeout:g} s" if limit.expired() else text_of(error)
            message = f"Failed to inspect image {quote(wanted)}: {why}"
            tell("Warning", "InspectFailed", message)
            again_at = self._clock.monotonic() + _LOOK_AGAIN
            raise ImageNotReadyError("ImageInspectError", message, again_at=again_at) from error

    def _check_backoff(self, uid: str, wanted: str, tell: TellEvent) -> None:
        waiting = self._backoff.waiting(uid, wanted, self._clock.monotonic())
        if waiting is None:
            return
        message = f"Back-off pulling image {quote(wanted)}"
        news = not waiting.told
        if news:
            waiting.told = True
            tell("Normal", "BackOff", message)
        reason, why = waiting.why
        raise ImageNotReadyError("ImagePullBackOff", f"{message}: {reason}: {why}", again_at=waiting.over, news=news)

    async def _pull(
        self, uid: str, image: str, wanted: str, credentials: tuple[RegistryCredentials, ...], tell: TellEvent
    ) -> Image:
        tell("Normal", "Pulling", f"Pulling image {quote(wanted)}")
        waiter = _Waiter(wanted, tell, self._clock.monotonic())
        pull = self._joined(image, credentials, waiter)
        try:
            found = await asyncio.shield(pull.outcome)
        except ImagePullError as error:
            tell("Warning", "Failed", f"Failed to pull image {quote(wanted)}: {error}")
            reason, message = error.reason, str(error)
            if reason in _PULL_FAILURES:
                message = f"image pull failed for {wanted} {_PULL_FAILURES[reason]}: {error}"
            failed = self._backoff.failed(uid, wanted, (reason, message), self._clock.monotonic())
            shown = min(failed.over, failed.at + _SHOW_BACKOFF)
            raise ImageNotReadyError(reason, message, again_at=shown) from error
        finally:
            self._left(pull, waiter)
        now = self._clock.monotonic()
        took = f"{_milliseconds(now - pull.began)} ({_milliseconds(now - waiter.since)} including waiting)"
        size = f" Image size: {found.size} bytes." if found.size is not None else ""
        tell("Normal", "Pulled", f"Successfully pulled image {quote(wanted)} in {took}.{size}")
        return found

    # One pull, for all who wait for it

    def _joined(self, image: str, credentials: tuple[RegistryCredentials, ...], waiter: _Waiter) -> _Pull:
        pull = self._pulls.get((image, credentials))
        if pull is None:
            assert self._tasks is not None
            pull = self._pulls[image, credentials] = _Pull(image, credentials, self._clock.monotonic())
            pull.task = self._tasks.create_task(self._run(pull), name=f"pull {image}")
        pull.waiters.append(waiter)
        return pull

    def _left(self, pull: _Pull, waiter: _Waiter) -> None:
        pull.waiters.remove(waiter)
        if not pull.waiters and not pull.outcome.done():
            log.info("nobody waits for image %s any more: its pull is cancelled", pull.image)
            # Who asks from now on gets a pull of his own.
            self._pulls.pop(pull.key, None)
            pull.task.cancel()

    async def _run(self, pull: _Pull) -> None:
        try:
            async with self._slots:
                pull.began = self._clock.monotonic()
                found, used = await self._try_each(pull)
            if self._access.pulled(pull.image, used):
                await self._save_access()
            pull.outcome.set_result(found)
        except ImagePullError as error:
            pull.end(error)
        finally:
            if self._pulls.get(pull.key) is pull:
                del self._pulls[pull.key]
            pull.end(ImagePullError(_CANCELLED))

    async def _try_each(self, pull: _Pull) -> tuple[Image, RegistryCredentials | None]:
        """With each of the credentials, until one is taken; without any if there are none."""
        errors: list[ImagePullError] = []
        for credentials in pull.credentials or (None,):
            try:
                return await self._try(pull, credentials), credentials
            except ImagePullError as error:
                errors.append(error)
        if len(errors) == 1:
            raise errors[0]
        messages = list(dict.fromkeys(str(error) for error in errors))
        reasons = {error.reason for error in errors}
        # As apimachinery prints an aggregate.
        text = messages[0] if len(messages) == 1 else f"[{', '.join(messages)}]"
        raise ImagePullError(text, reason=reasons.pop() if len(reasons) == 1 else "ErrImagePull")

    async def _try(self, pull: _Pull, credentials: RegistryCredentials | None) -> Image:
        loop = asyncio.get_running_loop()
        limit = asyncio.timeout(self._stall_timeout)

        def on_progress(sentence: str) -> None:
            if limit.when() is not None and not limit.expired():
                limit.reschedule(loop.time() + self._stall_timeout)
            self._tell_progress(pull, sentence)

        try:
            async with limit:
                return await self._store.pull_image(pull.image, credentials, on_progress)
        except ImagePullError as error:
            raise ImagePullError(_without_secrets(str(error), credentials), reason=error.reason) from None
        except Exception as error:  # noqa: BLE001 - its sentence is handed on; a cause would be logged, secrets and all
            if limit.expired():
                why = f"the runtime has said nothing of the pull for {format_duration(self._stall_timeout)}"
                raise ImagePullError(why) from None
            raise ImagePullError(_without_secrets(text_of(error), credentials)) from None

    def _tell_progress(self, pull: _Pull, sentence: str) -> None:
        if not self._progress_interval:
            return
        now = self._clock.monotonic()
        for waiter in pull.waiters:
            if now - waiter.told >= self._progress_interval:
                waiter.told = now
                text = " ".join(_without_secrets(sentence, *pull.credentials).split())[:_LONGEST_PROGRESS]
                waiter.tell("Normal", "Pulling", f"Pulling image {quote(waiter.wanted)}: {text}")

    async def _save_access(self) -> None:
        async with self._saving:
            try:
                await asyncio.to_thread(self._access.save)
            except OSError as error:
                log.error("which pods may use a pulled image could not be kept for the next process: %s", error)


class _Waiter:
    """One container that waits for a pull. ``told``: when it last had an event about its progress."""

    def __init__(self, wanted: str, tell: TellEvent, since: float) -> None:
        self.wanted = wanted
        self.tell = tell
        self.since = self.told = since


class _Pull:
    """One pull under way. ``began``: when it had its turn."""

    def __init__(self, image: str, credentials: tuple[RegistryCredentials, ...], began: float) -> None:
        self.image = image
        self.credentials = credentials
        self.began = began
        self.waiters: list[_Waiter] = []
        self.outcome: asyncio.Future[Image] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[None]

    def end(self, error: ImagePullError) -> None:
        """It has failed, unless it has ended already."""
        if not self.outcome.done():
            self.outcome.set_exception(error)
            self.outcome.exception()  # it may be that nobody asks

    @property
    def key(self) -> tuple[str, tuple[RegistryCredentials, ...]]:
        return (self.image, self.credentials)


async def _credentials(image: str, keyring: Callable[[], Awaitable[Keyring]]) -> Sequence[RegistryCredentials]:
    return (await keyring()).for_image(parse_image_name(image).repository)


def _without_secrets(text: str, *credentials: RegistryCredentials | None) -> str:
    """A runtime is not to quote credentials; should it, nobody sees them."""
    for one in credentials:
        if one is not None:
            for secret in (one.password, one.identity_token, one.registry_token):
                text = text.replace(secret, "***") if secret else text
    return text


def _milliseconds(seconds: float) -> str:
    return format_duration(int(seconds * 1000) / 1000)
