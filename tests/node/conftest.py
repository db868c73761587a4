"""Fixtures of the node controller's tests: an API server in memory, virtual wall time, a node that runs for one test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.node.node_api import Events, LoopClock, NodeApi
from virtual_kubelet.contracts.nodes import NaiveNodeProvider, NodeProvider
from virtual_kubelet.node.node_controller import NodeController
from virtual_kubelet.node.node_template import default_node, system_information
from virtual_kubelet.objects.core_v1 import Node, Taint

RunNode = Callable[..., NodeController]


@pytest.fixture
def api() -> NodeApi:
    return NodeApi()


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def node_clock() -> LoopClock:
    return LoopClock()


@pytest.fixture
def vk_node() -> Node:
    """What ``virtual-kubelet run`` would register."""
    return default_node(
        "vk",
        system=system_information("v1.36.0-vk-test"),
        internal_ips=["10.0.0.1"],
        daemon_port=10250,
        taints=[Taint(key="virtual-kubelet.io/provider", value="mock", effect="NoSchedule")],
        capacity={"cpu": "1", "pods": "10"},
    )


@pytest.fixture
async def run_node(api: NodeApi, events: Events, node_clock: LoopClock, vk_node: Node) -> AsyncIterator[RunNode]:
    """Starts a NodeController; the test's end stops it, and its failure is the test's."""
    tasks: list[asyncio.Task[None]] = []

    def start(provider: NodeProvider | None = None, node: Node | None = None, **options: Any) -> NodeController:
        options = {"recorder": events, "clock": node_clock, **options}
        controller = NodeController(provider or NaiveNodeProvider(), node or vk_node, api.client, **options)
        tasks.append(asyncio.create_task(controller.run()))
        return controller

    yield start
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(result, asyncio.CancelledError), result
