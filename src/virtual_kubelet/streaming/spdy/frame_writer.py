"""Our own frames of one SPDY session, as bytes, in the order in which they must be sent."""

from __future__ import annotations

from collections.abc import Iterable

from virtual_kubelet.streaming.buffers import Buffer
from virtual_kubelet.streaming.spdy.frames import (
    FLAG_FIN,
    FLAG_UNIDIRECTIONAL,
    FrameType,
    RstStatus,
    Setting,
    control_frame,
    data_header,
    number_frame,
    pair_frame,
    settings_frame,
    stream_block,
    syn_stream_block,
)
from virtual_kubelet.streaming.spdy.header_block import HeaderCompressor

__all__ = ["FrameWriter"]


class FrameWriter:
    """Writes frames; it knows nothing of the streams they are for."""

    def __init__(self, max_data_frame: int) -> None:
        """``max_data_frame``: bytes that one DATA frame carries at most."""
        self._most = max_data_frame
        self._compressor = HeaderCompressor()
        self._out: list[Buffer] = []

    def take(self) -> list[Buffer]:
        """What has been written since the last time."""
        out, self._out = self._out, []
        return out

    def syn_stream(
        self, stream_id: int, headers: Iterable[tuple[str, str]], *, fin: bool, unidirectional: bool, priority: int
    ) -> None:
        """Raises ``ValueError`` for headers that cannot be sent, and writes nothing then."""
        flags = (FLAG_FIN if fin else 0) | (FLAG_UNIDIRECTIONAL if unidirectional else 0)
        block = syn_stream_block(stream_id, 0, priority, self._compressor.compress(headers))
        self._out.append(control_frame(FrameType.SYN_STREAM, flags, block))

    def headers(self, kind: FrameType, stream_id: int, headers: Iterable[tuple[str, str]], fin: bool) -> None:
        """SYN_REPLY or HEADERS."""
        block = self._compressor.compress(headers)
        self._out.append(control_frame(kind, FLAG_FIN if fin else 0, stream_block(stream_id, block)))

    def data(self, stream_id: int, data: Buffer, fin: bool) -> None:
        """In as many frames as it takes; the bytes are not copied."""
        length, most = len(data), self._most
        if length > most:
            view = memoryview(data)
            start = 0
            for start in range(0, length - most, most):
                self._out += (data_header(stream_id, most, False), view[start : start + most])
            data = view[start + most :]
        if data or fin:
            self._out.append(data_header(stream_id, len(data), fin))
            if data:
                self._out.append(data)

    def reset(self, stream_id: int, status: RstStatus) -> None:
        self._out.append(pair_frame(FrameType.RST_STREAM, stream_id, status))

    def go_away(self, last_stream_id: int, status: int) -> None:
        self._out.append(pair_frame(FrameType.GOAWAY, last_stream_id, status))

    def window_update(self, stream_id: int, delta: int) -> None:
        self._out.append(pair_frame(FrameType.WINDOW_UPDATE, stream_id, delta))

    def ping(self, ping_id: int) -> None:
        self._out.append(number_frame(FrameType.PING, ping_id))

    def settings(self, *settings: Setting) -> None:
        self._out.append(settings_frame(list(settings)))
