"""Pulls of images, in virtual time: policies, back-off, sharing, time-outs, who may use what is here, and what is told."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from tests.runtime.container_fakes import LoopClock
from virtual_kubelet.contracts.runtime import Image, ImagePullError, RegistryCredentials
from virtual_kubelet.errors import ApiConnectionError, ApiNotFoundError
from virtual_kubelet.objects.core_v1 import Container, LocalObjectReference, Pod, PodSpec, Secret
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.runtime.image_access import ImageAccess
from virtual_kubelet.runtime.image_pull_backoff import PullBackoff
from virtual_kubelet.runtime.image_pulls import ImageNotReadyError, ImagePulls
from virtual_kubelet.runtime.pull_secrets import read_keyring
from virtual_kubelet.runtime.registry_credentials import Keyring

pytestmark = [pytest.mark.looptime, pytest.mark.may_block]

LIFECYCLES = Path(__file__).parents[3] / "shared/kubelet-1.36/lifecycles"
Events = list[tuple[str, str, str]]


class Store:
    """Images that are here, or can be had; a pull takes so many seconds, and may be made to fail or to hang."""

    def __init__(self) -> None:
        self.here: dict[str, Image] = {}
        self.seconds = 1.0
        self.failures: list[Exception] = []
        self.always: Exception | None = None
        self.lookup_fails: Exception | None = None
        self.password = ""
        self.pulled: list[tuple[str, str]] = []
        self.under_way = self.most = self.cancelled = 0
        self.says: list[str] = []
        self.hang = False

    async def find_image(self, image: str) -> Image | None:
        if self.lookup_fails is not None:
            raise self.lookup_fails
        return self.here.get(image)

    async def pull_image(
        self, image: str, credentials: RegistryCredentials | None, on_progress: Callable[[str], None]
    ) -> Image:
        self.pulled.append((image, credentials.username if credentials is not None else ""))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            for sentence in self.says or [""]:
                await asyncio.sleep(self.seconds)
                if sentence:
                    on_progress(sentence)
            if self.hang:
                await asyncio.sleep(1_000_000)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.under_way -= 1
        if self.always is not None:
            raise self.always
        if self.failures:
            raise self.failures.pop(0)
        if self.password and (credentials is None or credentials.password != self.password):
            raise ImagePullError("pull access denied")
        found = self.here[image] = Image(f"sha256:{image}", size=129338587)
        return found


@pytest.fixture
def store() -> Store:
    return Store()


@pytest_asyncio.fixture
async def pulls(store: Store) -> AsyncIterator[ImagePulls]:
    async with ImagePulls(store, clock=LoopClock()) as made:
        yield made


def a_pod(uid: str = "u1", *secrets: str) -> Pod:
    references = [LocalObjectReference(name=name) for name in secrets]
    return Pod(metadata=ObjectMeta(name="p", namespace="default", uid=uid), spec=PodSpec(image_pull_secrets=references))


def a_container(image: str = "r.io/a:1", policy: str | None = None) -> Container:
    return Container(name="main", image=image, image_pull_policy=policy)


def keys(*passwords: str) -> Callable[[], Awaitable[Keyring]]:
    async def read() -> Keyring:
        return Keyring([{"r.io": RegistryCredentials("r.io", f"user-{p}", p)} for p in passwords])

    return read


async def ask(
    pulls: ImagePulls,
    events: Events | None = None,
    *,
    uid: str = "u1",
    image: str = "r.io/a:1",
    policy: str | None = None,
    keyring: Callable[[], Awaitable[Keyring]] | None = None,
) -> Image | ImageNotReadyError:
    told = events if events is not None else []
    try:
        return await pulls.ensure(
            a_pod(uid), a_container(image, policy), keyring or keys(), lambda *event: told.append(event)
        )
    except ImageNotReadyError as error:
        return error


def now() -> float:
    return asyncio.get_running_loop().time()


def reasons(events: Events) -> list[str]:
    return [reason for _, reason, _ in events]


# As recorded


@pytest.mark.recording
@pytest.mark.parametrize(
    "name", ["image-missing", "image-never-pull", "image-invalid-name", "delete-while-image-missing"]
)
async def test_the_recorded_kubelet_says_the_same(name: str, store: Store, pulls: ImagePulls) -> None:
    rows = [json.loads(line) for line in (LIFECYCLES / f"{name}.jsonl").read_text().splitlines()]
    container = msgspec.convert(rows[0]["pod"]["spec"]["containers"][0], Container)
    waiting: list[tuple[str, str]] = []
    for row in rows[1:-1]:
        for status in row.get("status", {}).get("containerStatuses", ()):
            state = status["state"].get("waiting", {})
            if "message" in state and (state["reason"], state["message"]) not in waiting[-1:]:
                waiting.append((state["reason"], state["message"]))
    recorded = Counter((e["type"], e["reason"], e["message"]) for e in rows[-1]["events"])
    failed = next((message for reason, message in waiting if reason == "ErrImagePull"), None)
    store.always = ImagePullError(failed) if failed else None

    events: Events = []
    said: list[tuple[str, str]] = []
    while len(said) < max(len(waiting), len(recorded) // 2):
        with pytest.raises(ImageNotReadyError) as caught:
            await pulls.ensure(a_pod(), container, keys(), lambda *event: events.append(event))
        said.append((caught.value.reason, str(caught.value)))
        if caught.value.again_at is None:
            break
        await asyncio.sleep(caught.value.again_at - now())
    assert said[: len(waiting)] == waiting
    assert set(events) == set(recorded)


async def test_a_failed_pull_is_tried_again_after_10_s_doubling_to_300_s(store: Store, pulls: ImagePulls) -> None:
    store.always, store.seconds = ImagePullError("no"), 0.0
    tries: list[float] = []
    while len(tries) < 9:
        error = await ask(pulls)
        assert isinstance(error, ImageNotReadyError)
        assert error.again_at is not None
        if error.reason == "ErrImagePull":
            tries.append(now())
        await asyncio.sleep(error.again_at - now())
    assert [round(b - a) for a, b in pairwise(tries)] == [10, 20, 40, 80, 160, 300, 300, 300]


def test_ten_minutes_without_a_failure_begin_the_back_off_anew() -> None:
    backoff = PullBackoff()
    why = ("ErrImagePull", "no")
    assert backoff.failed("u", "i", why, 0.0).delay == 10
    assert backoff.failed("u", "i", why, 10.0).delay == 20
    assert backoff.failed("u", "i", why, 611.0).delay == 10


def test_a_back_off_is_of_one_pod_and_one_image_and_goes_with_the_pod() -> None:
    backoff = PullBackoff()
    backoff.failed("u", "i", ("ErrImagePull", "no"), 0.0)
    assert backoff.waiting("u", "i", 9.9) is not None
    assert backoff.waiting("u", "i", 10.0) is None
    assert backoff.waiting("v", "i", 1.0) is backoff.waiting("u", "j", 1.0) is None
    backoff.forget("u")
    assert len(backoff) == 0


def test_a_back_off_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than its cap"):
        PullBackoff(initial=10, cap=5)


async def test_asked_again_within_a_back_off_it_pulls_nothing_and_tells_it_once(
    store: Store, pulls: ImagePulls
) -> None:
    store.always = ImagePullError("no")
    events: Events = []
    await ask(pulls, events)
    for _ in range(3):
        error = await ask(pulls, events)
        assert isinstance(error, ImageNotReadyError)
        assert (error.reason, str(error)) == (
            "ImagePullBackOff",
            'Back-off pulling image "r.io/a:1": ErrImagePull: no',
        )
    assert reasons(events) == ["Pulling", "Failed", "Failed", "BackOff", "Failed"]
    assert len(store.pulled) == 1


async def test_a_changed_image_is_pulled_at_once(store: Store, pulls: ImagePulls) -> None:
    store.failures = [ImagePullError("no")]
    await ask(pulls)
    assert isinstance(await ask(pulls, image="r.io/b:1"), Image)


async def test_forgetting_a_pod_forgets_its_back_off(store: Store, pulls: ImagePulls) -> None:
    store.failures = [ImagePullError("no")]
    await ask(pulls)
    pulls.forget("u1")
    assert isinstance(await ask(pulls), Image)


# Policies


async def test_if_not_present_takes_what_is_here(store: Store, pulls: ImagePulls) -> None:
    store.here["r.io/a:1"] = Image("sha256:1")
    events: Events = []
    assert await ask(pulls, events) == Image("sha256:1")
    present = 'Container image "r.io/a:1" already present on machine and can be accessed by the pod'
    assert events == [("Normal", "Pulled", present)]
    assert store.pulled == []


async def test_always_pulls_what_is_here_too(store: Store, pulls: ImagePulls) -> None:
    store.here["r.io/a:1"] = Image("sha256:1")
    events: Events = []
    await ask(pulls, events, policy="Always")
    pulled = 'Successfully pulled image "r.io/a:1" in 1s (1s including waiting). Image size: 129338587 bytes.'
    assert events == [("Normal", "Pulling", 'Pulling image "r.io/a:1"'), ("Normal", "Pulled", pulled)]


async def test_latest_is_always_pulled_and_named_to_the_runtime(store: Store, pulls: ImagePulls) -> None:
    store.here["r.io/a:latest"] = Image("sha256:1")
    events: Events = []
    await ask(pulls, events, image="r.io/a")
    assert store.pulled == [("r.io/a:latest", "")]
    assert 'Pulling image "r.io/a"' in events[0][2]


async def test_never_is_looked_for_again(store: Store, pulls: ImagePulls) -> None:
    error = await ask(pulls, policy="Never")
    assert isinstance(error, ImageNotReadyError)
    assert error.reason == "ErrImageNeverPull"
    assert error.again_at == pytest.approx(now() + 10)
    store.here["r.io/a:1"] = Image("sha256:1")
    assert isinstance(await ask(pulls, policy="Never"), Image)


async def test_a_name_that_is_none_waits_for_another(pulls: ImagePulls) -> None:
    error = await ask(pulls, image="Bad@@Name")
    assert isinstance(error, ImageNotReadyError)
    assert (error.reason, error.again_at) == ("InvalidImageName", None)


async def test_a_runtime_that_cannot_look_for_images_is_asked_again(store: Store, pulls: ImagePulls) -> None:
    store.lookup_fails = OSError("the engine is away")
    events: Events = []
    error = await ask(pulls, events)
    assert isinstance(error, ImageNotReadyError)
    message = 'Failed to inspect image "r.io/a:1": the engine is away'
    assert (error.reason, str(error)) == ("ImageInspectError", message)
    assert events == [("Warning", "InspectFailed", message), ("Warning", "Failed", "Error: ImageInspectError")]
    store.lookup_fails = None
    assert isinstance(await ask(pulls), Image)


@pytest.mark.parametrize(
    ("reason", "because"),
    [
        ("RegistryUnavailable", "because the registry is unavailable"),
        ("SignatureValidationFailed", "because the signature validation failed"),
    ],
)
async def test_what_failed_a_pull_has_the_reasons_of_the_cri(
    reason: str, because: str, store: Store, pulls: ImagePulls
) -> None:
    store.always = ImagePullError("down", reason=reason)
    error = await ask(pulls)
    assert isinstance(error, ImageNotReadyError)
    assert (error.reason, str(error)) == (reason, f"image pull failed for r.io/a:1 {because}: down")


async def test_any_exception_of_a_runtime_is_a_failed_pull(store: Store, pulls: ImagePulls) -> None:
    store.always = KeyError("oops")
    error = await ask(pulls)
    assert isinstance(error, ImageNotReadyError)
    assert (error.reason, str(error)) == ("ErrImagePull", "'oops'")


# Sharing, limits, time


async def test_pods_that_want_the_same_image_share_one_pull(store: Store, pulls: ImagePulls) -> None:
    events: Events = []
    first = asyncio.create_task(ask(pulls, uid="u1"))
    await asyncio.sleep(0.5)
    second = asyncio.create_task(ask(pulls, events, uid="u2"))
    assert await first == await second
    assert len(store.pulled) == 1
    assert "in 1s (500ms including waiting)" in events[-1][2]


async def test_a_pull_that_fails_fails_for_all_who_wait_and_each_backs_off(store: Store, pulls: ImagePulls) -> None:
    store.failures = [ImagePullError("no")]
    answers = await asyncio.gather(ask(pulls, uid="u1"), ask(pulls, uid="u2"))
    assert [isinstance(answer, ImageNotReadyError) for answer in answers] == [True, True]
    assert [str(await ask(pulls, uid=uid)).startswith("Back-off") for uid in ("u1", "u2")] == [True, True]


async def test_other_credentials_are_another_pull(store: Store, pulls: ImagePulls) -> None:
    await asyncio.gather(ask(pulls, uid="u1", keyring=keys("x")), ask(pulls, uid="u2", keyring=keys("y")))
    assert sorted(store.pulled) == [("r.io/a:1", "user-x"), ("r.io/a:1", "user-y")]


async def test_only_so_many_images_are_pulled_at_once(store: Store) -> None:
    async with ImagePulls(store, clock=LoopClock(), parallel=2) as pulls:
        events: Events = []
        images = [f"r.io/i:{n}" for n in range(5)]
        await asyncio.gather(*(ask(pulls, events, image=image) for image in images))
    assert (store.most, len(store.pulled)) == (2, 5)
    assert "in 1s (3s including waiting)" in events[-1][2]


async def test_a_limit_of_none_at_once_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ImagePulls(store, clock=LoopClock(), parallel=0)


async def test_a_pull_that_nobody_waits_for_any_more_is_cancelled(store: Store, pulls: ImagePulls) -> None:
    store.hang = True
    waiting = asyncio.create_task(ask(pulls))
    await asyncio.sleep(5)
    waiting.cancel()
    await asyncio.sleep(0)
    store.hang = False
    assert isinstance(await ask(pulls), Image)
    assert store.cancelled == 1


async def test_a_pull_that_another_pod_waits_for_goes_on(store: Store, pulls: ImagePulls) -> None:
    gone, stays = asyncio.create_task(ask(pulls, uid="u1")), asyncio.create_task(ask(pulls, uid="u2"))
    await asyncio.sleep(0.5)
    gone.cancel()
    assert isinstance(await stays, Image)
    assert (len(store.pulled), store.cancelled) == (1, 0)


async def test_a_pull_without_a_word_has_failed_after_the_time_out(store: Store) -> None:
    store.hang = True
    async with ImagePulls(store, clock=LoopClock(), stall_timeout=60) as pulls:
        began = now()
        error = await ask(pulls)
        assert isinstance(error, ImageNotReadyError)
        assert str(error) == "the runtime has said nothing of the pull for 1m0s"
        assert now() - began == pytest.approx(60)
        assert store.cancelled == 1


async def test_progress_keeps_a_long_pull_alive_and_is_told_now_and_then(store: Store) -> None:
    store.seconds, store.says = 20.0, [f"{n} of\n 12   layers" for n in range(1, 13)]
    async with ImagePulls(store, clock=LoopClock(), stall_timeout=30, progress_interval=60) as pulls:
        events: Events = []
        assert isinstance(await ask(pulls, events), Image)
    told = [message for _, reason, message in events if reason == "Pulling"]
    said = [f'Pulling image "r.io/a:1": {n} of 12 layers' for n in (3, 6, 9, 12)]
    assert told == ['Pulling image "r.io/a:1"', *said]


async def test_progress_events_can_be_left_out(store: Store) -> None:
    store.seconds, store.says = 100.0, ["a", "b"]
    async with ImagePulls(store, clock=LoopClock(), progress_interval=0) as pulls:
        events: Events = []
        await ask(pulls, events)
    assert reasons(events) == ["Pulling", "Pulled"]


async def test_leaving_ends_pulls_and_who_waits_for_them(store: Store) -> None:
    store.hang = True
    async with ImagePulls(store, clock=LoopClock()) as pulls:
        begun = asyncio.create_task(ask(pulls))
        await asyncio.sleep(5)
        not_begun = asyncio.create_task(ask(pulls, image="r.io/b:1"))
        await asyncio.sleep(0)
    answers = await asyncio.gather(begun, not_begun)
    assert [str(answer) for answer in answers] == ["the pull was cancelled"] * 2


# Credentials


async def test_several_credentials_are_tried_in_their_order(store: Store, pulls: ImagePulls) -> None:
    store.password = "right"
    assert isinstance(await ask(pulls, keyring=keys("wrong", "right", "unused")), Image)
    assert [user for _, user in store.pulled] == ["user-wrong", "user-right"]


async def test_if_none_of_them_is_taken_all_answers_are_told(store: Store, pulls: ImagePulls) -> None:
    store.failures = [ImagePullError("denied"), ImagePullError("unknown"), ImagePullError("denied")]
    assert str(await ask(pulls, keyring=keys("a", "b", "c"))) == "[denied, unknown]"


async def test_credentials_are_read_only_when_they_are_needed(store: Store, pulls: ImagePulls) -> None:
    async def unexpected() -> Keyring:
        raise AssertionError("nobody needs them")

    store.here["r.io/a:1"] = Image("sha256:1")
    assert isinstance(await ask(pulls, keyring=unexpected), Image)


async def test_credentials_that_a_runtime_quotes_are_not_told(store: Store, pulls: ImagePulls) -> None:
    store.says = ["logging in with hunter2"]
    store.seconds = 40
    store.always = ImagePullError("https://user:hunter2@r.io: no")
    events: Events = []
    error = await ask(pulls, events, keyring=keys("hunter2"))
    store.always = ValueError("hunter2")
    other = await ask(pulls, events, uid="u2", keyring=keys("hunter2"))
    assert "hunter2" not in repr((error, other, str(error), str(other), events))
    assert str(error) == "https://user:***@r.io: no"


async def test_a_private_image_is_for_those_who_could_have_pulled_it(store: Store, pulls: ImagePulls) -> None:
    store.password = "right"
    assert isinstance(await ask(pulls, uid="owner", keyring=keys("right")), Image)
    for uid, keyring in (("stranger", keys()), ("liar", keys("wrong"))):
        error = await ask(pulls, uid=uid, keyring=keyring)
        assert isinstance(error, ImageNotReadyError)
        assert error.reason == "ErrImagePull"
        refused = await ask(pulls, uid=uid, keyring=keyring, policy="Never")
        assert isinstance(refused, ImageNotReadyError)
        assert refused.reason == "ErrImageNeverPull"
    before = len(store.pulled)
    assert isinstance(await ask(pulls, uid="friend", keyring=keys("right")), Image)
    assert len(store.pulled) == before


async def test_an_image_that_needs_no_credentials_any_more_is_for_all(store: Store, pulls: ImagePulls) -> None:
    await ask(pulls, keyring=keys("right"))
    await ask(pulls, uid="u2", policy="Always")
    before = len(store.pulled)
    assert isinstance(await ask(pulls, uid="u3"), Image)
    assert len(store.pulled) == before


async def test_who_may_use_an_image_outlives_the_process(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "images.json"
    async with ImagePulls(store, clock=LoopClock(), access=ImageAccess(path)) as pulls:
        await ask(pulls, keyring=keys("hunter2"))
    assert "hunter2" not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    store.password = "hunter2"
    async with ImagePulls(store, clock=LoopClock(), access=ImageAccess(path)) as pulls:
        assert isinstance(await ask(pulls, uid="u2"), ImageNotReadyError)
        assert isinstance(await ask(pulls, uid="u3", keyring=keys("hunter2")), Image)


async def test_a_disk_that_is_full_does_not_stop_a_pull(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    access = ImageAccess()
    access._path = blocked / "images.json"  # a folder that cannot be made
    async with ImagePulls(store, clock=LoopClock(), access=access) as pulls:
        assert isinstance(await ask(pulls, keyring=keys("x")), Image)
    assert "could not be kept" in caplog.text


def test_a_record_that_cannot_be_read_counts_as_empty(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "images.json"
    path.write_text("{")
    access = ImageAccess(path)
    access.load()
    assert access.allows("r.io/a:1", [])
    assert "cannot be read" in caplog.text


# Secrets


class Secrets:
    def __init__(self, **answers: Any) -> None:
        self.answers = answers

    async def get(self, namespace: str, name: str) -> Secret:
        answer = self.answers.get(name, ApiNotFoundError(404, "NotFound", f'secrets "{name}" not found'))
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            await asyncio.sleep(1_000_000)
        assert isinstance(answer, Secret)
        return answer


def pull_secret(password: str) -> Secret:
    config = json.dumps({"r.io": {"username": "u", "password": password}}).encode()
    return Secret(type="kubernetes.io/dockercfg", data={".dockercfg": base64.b64encode(config).decode()})


async def test_the_secrets_of_a_pod_make_its_keyring_in_their_order() -> None:
    events: Events = []
    secrets = Secrets(a=pull_secret("1"), b=pull_secret("2"))
    ring = await read_keyring(a_pod("u", "b", "a"), secrets, lambda *event: events.append(event))
    assert [c.password for c in ring.for_image("r.io/x")] == ["2", "1"]
    assert events == []


async def test_secrets_that_cannot_be_had_are_told_and_done_without() -> None:
    events: Events = []
    bad = Secret(type="kubernetes.io/dockercfg", data={".dockercfg": "hunter2"})
    secrets = Secrets(a=pull_secret("1"), bad=bad, down=ApiConnectionError("no route"))
    pod = a_pod("u", "gone", "bad", "a", "down")
    ring = await read_keyring(pod, secrets, lambda *event: events.append(event))
    assert [c.password for c in ring.for_image("r.io/x")] == ["1"]
    message = (
        "Unable to retrieve some image pull secrets (gone, bad, down); attempting to pull the image may not succeed."
    )
    assert events == [("Warning", "FailedToRetrieveImagePullSecret", message)]


async def test_an_api_server_that_hangs_delays_a_pull_only_so_long() -> None:
    events: Events = []
    began = now()
    secrets = Secrets(a=None, b=None)
    assert not await read_keyring(a_pod("u", "a", "b"), secrets, lambda *event: events.append(event), timeout=30)
    assert now() - began == pytest.approx(30)
    assert "(a, b)" in events[0][2]
