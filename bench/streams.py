"""How fast the wire protocols are by themselves: output and input of one exec, no network, no TLS, no process.

    python bench/streams.py [--megabytes 200] [--chunk 65536]

Prints one JSON line: megabytes a second of CPU time for each way. ``*_out`` is what a node does to send (``cat`` of a
large file), ``*_in`` what it does to receive (``tar x`` of one). What it sends is read back, to see that all came through.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from virtual_kubelet.streaming.buffers import Buffer
from virtual_kubelet.streaming.remote_command.session import RemoteCommandOptions, StdinData
from virtual_kubelet.streaming.remote_command.spdy_client import OutputData, SpdyRemoteCommandClient
from virtual_kubelet.streaming.remote_command.spdy_session import SpdyRemoteCommand
from virtual_kubelet.streaming.remote_command.status import CommandStatus
from virtual_kubelet.streaming.remote_command.websocket_session import STDIN, STDOUT, WebSocketRemoteCommand
from virtual_kubelet.streaming.websocket.channels import ChannelConnection, ChannelData, ChannelProtocol

OPTIONS = RemoteCommandOptions(stdin=True, stdout=True, stderr=True)


def spdy() -> tuple[SpdyRemoteCommand, SpdyRemoteCommandClient]:
    client, node = (
        SpdyRemoteCommandClient(OPTIONS, "v4.channel.k8s.io"),
        SpdyRemoteCommand(OPTIONS, "v4.channel.k8s.io"),
    )
    node.receive_data(b"".join(client.data_to_send()))
    client.receive_data(b"".join(node.data_to_send()))
    return node, client


def websocket(protocol: str) -> tuple[WebSocketRemoteCommand, ChannelConnection]:
    node = WebSocketRemoteCommand(OPTIONS, protocol)
    node.begin()
    node.data_to_send()
    return node, ChannelConnection(ChannelProtocol.named(protocol), 5, [1, 2, 3], client=True)


def send(node: Any, chunk: bytes, count: int, sink: Callable[[list[Buffer]], None]) -> float:
    """CPU seconds to make what goes to the network; ``sink`` is not counted."""
    spent = 0.0
    for _ in range(count):
        start = time.process_time()
        node.send_stdout(chunk)
        pieces = node.data_to_send()
        spent += time.process_time() - start
        sink(pieces)
    node.finish(CommandStatus.success())
    return spent


def receive(node: Any, wire: bytes, count: int) -> float:
    """CPU seconds to take the same bytes from the network again and again, in pieces as a transport gives them."""
    pieces = [wire[start : start + 64 * 1024] for start in range(0, len(wire), 64 * 1024)]
    start = time.process_time()
    for _ in range(count):
        for piece in pieces:
            for event in node.receive_data(piece):
                if isinstance(event, StdinData):
                    node.acknowledge(len(event.data))
    return time.process_time() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--chunk", type=int, default=64 * 1024, help="bytes that a command writes at once")
    arguments = parser.parse_args()
    count = max(1, arguments.megabytes * 1_000_000 // arguments.chunk)
    megabytes = count * arguments.chunk / 1e6
    chunk = bytes(range(256)) * (arguments.chunk // 256 + 1)
    chunk = chunk[: arguments.chunk]
    result: dict[str, float] = {"megabytes": round(megabytes, 1), "chunk": arguments.chunk}

    arrived = 0
    node, client = spdy()

    def read_spdy(pieces: list[Buffer]) -> None:
        nonlocal arrived
        events = client.receive_data(b"".join(pieces))
        arrived += sum(len(event.data) for event in events if isinstance(event, OutputData))

    result["spdy_out"] = megabytes / send(node, chunk, count, read_spdy)
    node, client = spdy()
    client.send_stdin(chunk)
    result["spdy_in"] = megabytes / receive(node, b"".join(client.data_to_send()), count)

    for name, protocol in (("websocket", "v5.channel.k8s.io"), ("websocket_base64", "v5.base64.channel.k8s.io")):
        channels_node, channels = websocket(protocol)

        def read_channels(pieces: list[Buffer], channels: ChannelConnection = channels) -> None:
            nonlocal arrived
            for event in channels.receive_data(b"".join(pieces)):
                arrived += len(event.data) if isinstance(event, ChannelData) and event.channel == STDOUT else 0

        result[f"{name}_out"] = megabytes / send(channels_node, chunk, count, read_channels)
        channels_node, channels = websocket(protocol)
        channels.send(STDIN, chunk)
        result[f"{name}_in"] = megabytes / receive(channels_node, b"".join(channels.data_to_send()), count)
    if arrived != 3 * count * arguments.chunk:
        raise SystemExit(f"{arrived} of {3 * count * arguments.chunk} bytes arrived")
    print(json.dumps({key: round(value, 1) for key, value in result.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
