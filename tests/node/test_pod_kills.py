"""Pods that end a moment after their time, and providers that hang for some of them."""

from __future__ import annotations

import asyncio

import pytest

from tests.node.pod_api import NotifyingProvider, PodApi, Provider, ended, pod
from tests.node.test_pod_controller import controlled, until
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.objects.core_v1 import Pod

pytestmark = pytest.mark.looptime


class SlowToKill(NotifyingProvider):
    """Ends a pod ``late`` seconds after the time that it was told; as a runtime does whose SIGKILL takes a moment."""

    def __init__(self, late: float) -> None:
        super().__init__()
        self.late = late
        self.ends_on_delete = False
        self.ending: dict[PodKey, asyncio.TimerHandle] = {}

    async def delete_pod(self, one: Pod) -> None:
        await super().delete_pod(one)
        key, grace = PodKey.of(one), one.metadata.deletion_grace_period_seconds or 0
        if key not in self.ending:
            self.ending[key] = asyncio.get_running_loop().call_later(grace + self.late, self._end, key)

    def _end(self, key: PodKey) -> None:
        one = self.pods.pop(key)
        self.report(key, ended(one, 137, "Failed"))


async def test_a_pod_killed_at_the_end_of_its_grace_period_tells_how_it_ended_and_is_no_failure() -> None:
    api, provider = PodApi(pod("p")), SlowToKill(late=0.5)
    async with controlled(api, provider):
        await until(lambda: api.status("p").phase == "Running")
        api.user_deletes("p", 1)
        await until(lambda: not api.has("p"))
        await asyncio.sleep(30)
    *_, status, deletion = api.writes
    assert (status[0], status[2]["status"]["phase"], deletion[0]) == ("patch", "Failed", "delete")
    assert "ProviderDeleteFailed" not in api.reasons()


async def test_a_forced_deletion_that_takes_a_moment_is_no_failure() -> None:
    api, provider = PodApi(pod("p")), SlowToKill(late=3)
    async with controlled(api, provider):
        await until(lambda: api.status("p").phase == "Running")
        api.user_deletes("p", 0)
        await until(lambda: not provider.pods)
        await asyncio.sleep(60)
    assert "ProviderDeleteFailed" not in api.reasons()


async def test_a_forced_deletion_that_the_provider_does_not_carry_out_is_told_and_tried_again() -> None:
    api, provider = PodApi(pod("p")), NotifyingProvider()
    provider.ends_on_delete = False
    async with controlled(api, provider):
        await until(lambda: api.status("p").phase == "Running")
        api.user_deletes("p", 0)
        await until(lambda: "ProviderDeleteFailed" in api.reasons())
        tries = provider.count("delete", "p")
        await asyncio.sleep(200)
        assert 10 <= provider.count("delete", "p") - tries <= 25  # every ten to fifteen seconds, for ever
        # … and a pod of the same name begins soon after it is gone.
        api.put_pod(pod("p", "uid-2"))
        provider.ends_on_delete = True
        await until(lambda: PodKey("default", "p", "uid-2") in provider.pods, 30)


@pytest.mark.parametrize("made", [NotifyingProvider, Provider], ids=["notifies", "is polled"])
async def test_ten_pods_for_which_the_provider_hangs_do_not_hold_up_another(made: type[Provider]) -> None:
    hanging = [f"h{number}" for number in range(10)]
    api, provider = PodApi(), made()
    for name in hanging:
        provider.gates["create", name] = asyncio.Event()
    async with controlled(api, provider, workers=10):
        for name in hanging:
            api.put_pod(pod(name))
        await until(lambda: all(provider.count("create", name) for name in hanging))
        before = asyncio.get_running_loop().time()
        api.put_pod(pod("p"))
        await until(lambda: api.status("p").phase == "Running")
        assert asyncio.get_running_loop().time() - before < 20
        for name in hanging:
            provider.gates["create", name].set()
        await until(lambda: all(api.status(name).phase == "Running" for name in hanging))
    assert all(provider.count("create", name) == 1 for name in hanging)


async def test_how_many_hang_beside_the_workers_is_bounded() -> None:
    names = [f"h{number}" for number in range(10)]
    api, provider = PodApi(), NotifyingProvider()
    for name in names:
        provider.gates["create", name] = asyncio.Event()
    async with controlled(api, provider, workers=2, most_slow=3):
        for name in names:
            api.put_pod(pod(name))
        await asyncio.sleep(300)
        begun = [name for name in names if provider.count("create", name)]
        assert len(begun) == 5
        for name in names:
            provider.gates["create", name].set()
        await until(lambda: all(api.status(name).phase == "Running" for name in names))
