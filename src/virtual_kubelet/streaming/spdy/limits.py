"""What a peer may use of one SPDY session."""

from __future__ import annotations

from dataclasses import dataclass, field

from virtual_kubelet.streaming.spdy.flow_control import DEFAULT_WINDOW
from virtual_kubelet.streaming.spdy.frame_parser import ParserLimits
from virtual_kubelet.streaming.spdy.frames import MAX_DATA, MAX_WINDOW

__all__ = ["SpdyLimits"]


@dataclass(frozen=True, slots=True)
class SpdyLimits:
    """What a peer may use of one session.

    Attributes:
        parser: see ``ParserLimits``.
        max_streams: streams that the peer may have open at a time; one more is refused (REFUSED_STREAM). A forwarded
            connection takes two.
        window: bytes of one stream, and of the session, that the peer may send ahead, where flow control is on.
        max_data_frame: bytes that one DATA frame of ours carries at most.
    """

    parser: ParserLimits = field(default_factory=ParserLimits)
    max_streams: int = 1024
    window: int = 256 * 1024
    max_data_frame: int = 256 * 1024

    def __post_init__(self) -> None:
        if not DEFAULT_WINDOW <= self.window <= MAX_WINDOW:
            raise ValueError(f"a window has {DEFAULT_WINDOW} to {MAX_WINDOW} bytes, not {self.window}")
        if not 1 <= self.max_data_frame <= MAX_DATA:
            raise ValueError(f"a DATA frame has 1 to {MAX_DATA} bytes, not {self.max_data_frame}")
