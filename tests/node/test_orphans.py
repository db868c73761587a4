"""Pods that only the provider knows: removed on evidence only, and never beside a successor of their name."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.node.pod_api import NotifyingProvider, PodApi, pod, running
from tests.node.test_pod_controller import controlled, until
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.errors import ForbiddenError, ServerError
from virtual_kubelet.kube.resources import Resource

pytestmark = pytest.mark.looptime


class NodeAuthorizer(PodApi):
    """Of 1.34 and later: a pod that is not there may not be asked for by name."""

    async def get(self, resource: Resource[Any], name: str, namespace: str | None = None, **_: Any) -> Any:
        raise ForbiddenError(403, "Forbidden", f"no relationship found between node 'node-a' and {name}")


async def test_an_orphan_is_found_out_with_the_rights_of_a_node() -> None:
    api, provider = NodeAuthorizer(), NotifyingProvider(pod("stray"))
    async with controlled(api, provider):
        await until(lambda: not provider.pods)


async def test_a_pod_that_the_cache_has_not_seen_yet_is_no_orphan() -> None:
    """elotl/kip#107."""
    late = pod("late")

    class Lagging(PodApi):
        async def watch(self, resource: Resource[Any], namespace: str | None = None, **options: Any) -> Any:
            async for event in super().watch(resource, namespace, **options):
                if resource.plural == "pods" and event.object is not None and event.type == "ADDED":
                    await asyncio.sleep(100)
                yield event

    api, provider = Lagging(), NotifyingProvider()
    async with controlled(api, provider, orphan_interval=20):
        provider.pods[PodKey.of(late)] = late
        provider.statuses[PodKey.of(late)] = running(late)
        api.put_pod(late)
        await asyncio.sleep(90)
        assert provider.count("list", "") >= 4
        assert provider.count("delete", "late") == 0


async def test_nothing_begins_while_the_api_server_does_not_say_what_is_an_orphan() -> None:
    """Else a pod that is made anew under the orphan's name would run beside it."""
    api, provider = PodApi(), NotifyingProvider(pod("p", "uid-old"))
    trouble = [ServerError(500, "InternalError", "etcd")] * 3
    api.refuse = lambda verb, name: trouble.pop() if (verb, name) == ("find", "pods") and trouble else None
    async with controlled(api, provider):
        api.put_pod(pod("p", "uid-new"))
        await until(lambda: PodKey("default", "p", "uid-new") in provider.pods)
        assert trouble == []
        assert provider.calls.index(("delete", "p")) < provider.calls.index(("create", "p"))


async def test_an_orphan_whose_name_another_pod_has_needs_no_other_evidence() -> None:
    api, provider = PodApi(pod("p", "uid-new")), NotifyingProvider(pod("p", "uid-old"))
    api.refuse = lambda verb, name: ServerError(500, "InternalError", "") if (verb, name) == ("find", "pods") else None
    async with controlled(api, provider):
        await until(lambda: PodKey("default", "p", "uid-new") in provider.pods)
        assert PodKey("default", "p", "uid-old") not in provider.pods
