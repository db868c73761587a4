from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.runtime.probes.raw_server import raw_server, says, target
from virtual_kubelet.contracts.streams import AttachIO
from virtual_kubelet.errors import InvalidInputError
from virtual_kubelet.objects.core_v1 import (
    Container,
    ExecAction,
    GRPCAction,
    HTTPGetAction,
    Lifecycle,
    LifecycleHandler,
    Pod,
    PodSpec,
    Probe,
    TCPSocketAction,
)
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.runtime.bounded_call import LeftBehind
from virtual_kubelet.runtime.probes import execute
from virtual_kubelet.runtime.probes.execute import check_probes, execute_probe
from virtual_kubelet.runtime.probes.target import Outcome, ProbeError

NOTHING = b"HTTP/1.1 204 No Content\r\n\r\n"


async def exit_3(container_id: str, command: Sequence[str], streams: AttachIO) -> int:
    return 3


async def test_each_kind_of_probe_is_run_as_what_it_is() -> None:
    left = LeftBehind()
    async with raw_server(says(NOTHING)) as server:
        http = Probe(http_get=HTTPGetAction(port=server.port, path="/"), timeout_seconds=60)
        assert (await execute_probe(http, target(), left)).outcome is Outcome.SUCCESS
        tcp = Probe(tcp_socket=TCPSocketAction(port=server.port), timeout_seconds=60)
        assert (await execute_probe(tcp, target(), left)).outcome is Outcome.SUCCESS
        grpc = Probe(grpc=GRPCAction(port=server.port), timeout_seconds=60)
        assert (await execute_probe(grpc, target(), left)).message.startswith("error: health rpc probe failed")
    command = Probe(exec=ExecAction(command=["x"]))
    assert (await execute_probe(command, target(exec=exit_3), left)).outcome is Outcome.FAILURE


async def test_a_probe_that_says_not_what_to_do_cannot_be_made() -> None:
    with pytest.raises(ProbeError, match=r"missing probe handler for p_n\(u\):main"):
        await execute_probe(Probe(), target(), LeftBehind())


async def test_a_pod_without_an_address_cannot_be_probed_and_nobody_else_is() -> None:
    probes = (
        Probe(http_get=HTTPGetAction(port=1)),
        Probe(tcp_socket=TCPSocketAction(port=1)),
        Probe(grpc=GRPCAction(port=1)),
    )
    for probe in probes:
        with pytest.raises(ProbeError, match="the pod has no address"):
            await execute_probe(probe, target(ip=""), LeftBehind())


async def test_without_h2_a_grpc_probe_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execute, "grpc_is_there", lambda: False)
    with pytest.raises(ProbeError, match=r"install virtual-kubelet\[grpc\]"):
        await execute_probe(Probe(grpc=GRPCAction(port=1)), target(), LeftBehind())


def pod(container: Container, *, init: bool = False) -> Pod:
    spec = PodSpec(containers=[container])
    return Pod(metadata=ObjectMeta(), spec=PodSpec(init_containers=[container], containers=[]) if init else spec)


def test_without_h2_grpc_probes_are_refused_with_the_fields_name(monkeypatch: pytest.MonkeyPatch) -> None:
    asking = pod(Container(name="web", startup_probe=Probe(grpc=GRPCAction(port=1))))
    check_probes(asking, commands=False)
    monkeypatch.setattr(execute, "grpc_is_there", lambda: False)
    with pytest.raises(
        InvalidInputError, match=r"spec\.containers\[web\]\.startupProbe\.grpc: .*virtual-kubelet\[grpc\]"
    ):
        check_probes(asking, commands=True)


def test_without_commands_exec_probes_and_hooks_are_refused_with_the_fields_name() -> None:
    exec_action = ExecAction(command=["x"])
    probing = pod(Container(name="side", liveness_probe=Probe(exec=exec_action)), init=True)
    hooked = pod(Container(name="web", lifecycle=Lifecycle(pre_stop=LifecycleHandler(exec=exec_action))))
    for asking in (probing, hooked):
        check_probes(asking, commands=True)
    with pytest.raises(InvalidInputError, match=r"spec\.initContainers\[side\]\.livenessProbe\.exec"):
        check_probes(probing, commands=False)
    with pytest.raises(InvalidInputError, match=r"spec\.containers\[web\]\.lifecycle\.preStop\.exec"):
        check_probes(hooked, commands=False)
