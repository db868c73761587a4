"""Cutting a connection works whatever became of it before, on each Python that we support."""

from __future__ import annotations

import asyncio
import ssl

from virtual_kubelet.server.transports import abort


async def test_a_tls_connection_is_cut_also_after_it_was_closed_twice(
    serving_context: ssl.SSLContext, certified_context: ssl.SSLContext
) -> None:
    ends: list[bytes] = []
    seen = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            ends.append(await reader.read())
        except OSError:
            ends.append(b"")
        writer.close()
        seen.set()

    async with asyncio.timeout(30), await asyncio.start_server(serve, "127.0.0.1", 0, ssl=serving_context) as server:
        address = server.sockets[0].getsockname()
        for closed in range(3):
            _, writer = await asyncio.open_connection(*address, ssl=certified_context, server_hostname="127.0.0.1")
            for _ in range(closed):
                writer.transport.close()
            abort(writer.transport)
            await seen.wait()
            seen.clear()
    assert ends == [b""] * 3
