"""Nodes of one name at one engine: each has its own cluster's containers, and no others. A real Podman and dockerd."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from providers.docker.tests.machine import Machine, pod, runtime_at, shell
from virtual_kubelet import ProviderConfigError, TransientError
from virtual_kubelet.objects.core_v1 import Service
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.telemetry.logs import get_logger
from virtual_kubelet_docker.cluster_identity import cluster_identity

pytestmark = pytest.mark.may_block


async def test_a_node_of_the_same_name_in_another_cluster_sees_and_removes_nothing(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    one = pod()
    started = await machine.start(one, shell("sleep 1000"))
    sandbox = await machine.runtime.ensure_sandbox(one)
    with caplog.at_level(logging.WARNING):
        async with runtime_at(machine.engine, machine.node_name, cluster="another") as other:
            assert await other.list_containers() == []
            assert await other.list_sandboxes() == []
            beside = await other.ensure_sandbox(pod())
            assert await machine.runtime.list_sandboxes() == [sandbox]
            await other.remove_sandbox(beside.id)
    said = [record.getMessage() for record in caplog.records]
    assert any("2 containers" in text and "virtual-kubelet.io/cluster=tests" in text for text in said)
    assert [found.id for found in await machine.runtime.list_containers()] == [started.id]
    assert await machine.runtime.ensure_sandbox(one) == sandbox
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        async with runtime_at(machine.engine, machine.node_name) as same:
            assert [found.id for found in await same.list_containers()] == [started.id]
    assert not caplog.records


def services(*names: str) -> Callable[[str], Awaitable[Sequence[Service]]]:
    async def read(namespace: str) -> Sequence[Service]:
        assert namespace == "default"
        return [Service(metadata=ObjectMeta(name=name, uid=f"uid-of-{name}")) for name in names]

    return read


async def unreadable(namespace: str) -> Sequence[Service]:
    raise TransientError("not today")


async def test_a_cluster_is_known_by_its_api_servers_own_service(tmp_path: Path) -> None:
    log = get_logger("tests")
    with pytest.raises(ProviderConfigError, match="not today"):
        await cluster_identity(unreadable, tmp_path, log)
    with pytest.raises(ProviderConfigError, match="no Service default/kubernetes"):
        await cluster_identity(services("web"), tmp_path, log)
    assert await cluster_identity(services("web", "kubernetes"), tmp_path, log) == "uid-of-kubernetes"
    assert await cluster_identity(unreadable, tmp_path, log) == "uid-of-kubernetes"  # the last one, kept
