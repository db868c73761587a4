"""Exec, attach and port-forward of the mock provider: what a pod's script says, and nothing else."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.providers.contexts import context
from tests.stream_clients import Client, Sizes, streams
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.errors import InvalidInputError, NotFoundError, ProviderError
from virtual_kubelet.objects.core_v1 import Container, Pod, PodSpec
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.providers.mock import MockProvider


def scripted(**script: str) -> Pod:
    annotations = {f"mock.virtual-kubelet.io/{name.replace('_', '-')}": value for name, value in script.items()}
    return Pod(
        metadata=ObjectMeta(name="p", namespace="default", uid="u", annotations=annotations),
        spec=PodSpec(containers=[Container(name="main", image="i")]),
    )


TABLE = json.dumps(
    {"id -u": {"stdout": "0\n", "stderr": "careful\n", "exitCode": 3}, "cat": {"stdin": True, "stdout": "end"}}
)


async def test_exec_does_what_its_table_says(tmp_path: Path) -> None:
    provider, one = MockProvider(context(tmp_path)), scripted(exec=TABLE)
    await provider.create_pod(one)
    key = PodKey.of(one)
    out, err, both = Client(), Client(), Client()
    assert await provider.run_in_container(key, "main", ["id", "-u"], streams(None, out, err)) == 3
    assert (bytes(out.data), bytes(err.data)) == (b"0\n", b"careful\n")
    assert await provider.run_in_container(key, "main", ["id", "-u"], streams(None, both, sizes=Sizes())) == 3
    assert bytes(both.data) == b"0\ncareful\n"
    echoed = Client()
    assert await provider.run_in_container(key, "main", ["cat"], streams(Client(b"sent "), echoed)) == 0
    assert bytes(echoed.data) == b"sent end"


async def test_any_other_command_does_not_exist_and_another_container_neither(tmp_path: Path) -> None:
    provider, one = MockProvider(context(tmp_path)), scripted()
    await provider.create_pod(one)
    with pytest.raises(ProviderError, match='exec: "/no/such": stat /no/such: no such file or directory'):
        await provider.run_in_container(PodKey.of(one), "main", ["/no/such"], streams())
    with pytest.raises(NotFoundError, match=r'container not found \("zz"\)'):
        await provider.run_in_container(PodKey.of(one), "zz", ["id"], streams())


async def test_attach_lasts_until_the_container_ends(tmp_path: Path) -> None:
    provider, one = MockProvider(context(tmp_path)), scripted(run_for="0.1")
    await provider.create_pod(one)
    async with asyncio.timeout(30):
        await provider.attach_to_container(PodKey.of(one), "main", streams(None, Client()))
    with pytest.raises(NotFoundError):
        await provider.attach_to_container(PodKey.of(one), "main", streams(None, Client()))


async def test_scripted_ports_echo_and_others_refuse(tmp_path: Path) -> None:
    provider, one = MockProvider(context(tmp_path)), scripted(echo_ports="80,81")
    await provider.create_pod(one)
    client = Client(b"hello")
    await provider.port_forward(PodKey.of(one), 81, client)
    assert bytes(client.data) == b"hello"
    with pytest.raises(ConnectionRefusedError, match="connection refused"):
        await provider.port_forward(PodKey.of(one), 82, client)


@pytest.mark.parametrize("table", ["[]", "{", '{"id": {"exitCode": "3"}}', '{"id": {"other": 1}}', '{"id": 1}'])
async def test_a_malformed_table_is_refused(tmp_path: Path, table: str) -> None:
    with pytest.raises(InvalidInputError, match=r"mock\.virtual-kubelet\.io/… is malformed"):
        await MockProvider(context(tmp_path)).create_pod(scripted(exec=table))
