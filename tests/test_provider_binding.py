"""How a provider is made, and what of a node half it has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import pytest

from virtual_kubelet.contracts.context import ProviderContext
from virtual_kubelet.contracts.nodes import NodeProvider
from virtual_kubelet.contracts.pods import PodKey, PodLifecycleHandler
from virtual_kubelet.errors import ConfigurationError, ProviderConfigError
from virtual_kubelet.objects.core_v1 import Node, NodeStatus, Pod, PodStatus
from virtual_kubelet.provider_binding import NodeHalf, make_provider, provider_label

CONTEXT = cast("ProviderContext", object())


class Minimal:
    """The six methods, and what it was given."""

    def __init__(self, context: object = None, **options: object) -> None:
        self.context = context
        self.options = options

    async def create_pod(self, pod: Pod) -> None: ...

    async def update_pod(self, pod: Pod) -> None: ...

    async def delete_pod(self, pod: Pod) -> None: ...

    async def get_pod(self, key: PodKey) -> Pod | None:
        return None

    async def get_pod_status(self, key: PodKey) -> PodStatus | None:
        return None

    async def get_pods(self) -> Sequence[Pod]:
        return []


async def async_factory(context: ProviderContext) -> PodLifecycleHandler:
    return Minimal(context)


@pytest.mark.parametrize("source", [Minimal, lambda context: Minimal(context), async_factory, partial(Minimal, x=1)])
async def test_a_class_or_factory_gets_the_context(source: Callable[..., Any]) -> None:
    provider = await make_provider(source, CONTEXT)
    assert isinstance(provider, Minimal)
    assert provider.context is CONTEXT


async def test_a_provider_that_is_ready_is_taken_as_it_is() -> None:
    provider = Minimal()
    assert await make_provider(provider, CONTEXT) is provider


async def test_a_provider_is_also_found_by_its_name() -> None:
    provider = await make_provider(f"{__name__}:Minimal", CONTEXT)
    assert type(provider).__name__ == "Minimal"


async def test_what_is_no_provider_is_told_what_it_lacks() -> None:
    class Half:
        def __init__(self, context: object) -> None: ...

        async def create_pod(self, pod: Pod) -> None: ...

    with pytest.raises(ProviderConfigError, match="a Half has no update_pod, delete_pod, get_pod, get_pod_status, get"):
        await make_provider(Half, CONTEXT)


async def test_a_provider_s_own_refusal_is_passed_on() -> None:
    def factory(context: object) -> PodLifecycleHandler:
        raise ConfigurationError("no region", hint="set one")

    with pytest.raises(ConfigurationError, match=r"^no region$"):
        await make_provider(factory, CONTEXT)


@pytest.mark.parametrize("error", [KeyError("region"), TypeError("no"), RuntimeError()])
async def test_a_provider_that_breaks_while_it_is_made_says_how(error: Exception) -> None:
    def broken(context: object) -> PodLifecycleHandler:
        raise error

    with pytest.raises(ProviderConfigError, match=f"'broken' could not be made: {type(error).__name__}") as refused:
        await make_provider(broken, CONTEXT)
    assert refused.value.__cause__ is error


@pytest.mark.parametrize(
    ("source", "label"),
    [
        ("mock", "mock"),
        ("a.b:C.D", "D"),
        (Minimal, "Minimal"),
        (partial(Minimal, x=1), "Minimal"),
        (Minimal(), "Minimal"),
    ],
)
def test_the_label_is_fit_for_a_taint(source: Any, label: str) -> None:
    assert provider_label(source) == label


class Pinged(Minimal):
    pings = 0

    async def ping(self) -> None:
        self.pings += 1


class Changing(Minimal):
    def notify_node_status(self, callback: Callable[[Node], None]) -> None:
        self.report = callback


async def test_a_provider_with_one_half_of_a_node_provider_has_that_half_used() -> None:
    pinged = Pinged()
    half = NodeHalf(pinged, Node())
    assert isinstance(half, NodeProvider)
    await half.ping()
    assert pinged.pings == 1
    half.notify_node_status(lambda node: pytest.fail("nobody reports"))

    changing = Changing()
    half = NodeHalf(changing, Node(status=NodeStatus(capacity={"cpu": "1"})))
    await half.ping()
    assert half.allocatable == {"cpu": "1"}
    seen: list[Node] = []
    half.notify_node_status(seen.append)
    changing.report(Node(status=NodeStatus(capacity={"cpu": "4"}, allocatable={"cpu": "3"})))
    assert len(seen) == 1
    assert half.allocatable == {"cpu": "3"}


async def test_a_failing_ping_is_the_provider_s_own_error() -> None:
    class Dead(Minimal):
        async def ping(self) -> None:
            raise ConnectionError("gone")

    with pytest.raises(ConnectionError, match="gone"):
        await NodeHalf(Dead(), Node()).ping()
