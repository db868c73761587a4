"""What one HTTP server lets its clients use."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ServerLimits"]


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What one server lets its clients use. Times in seconds.

    Attributes:
        max_connections: open connections, those still in their TLS handshake included. One more takes the place of the one
            that has waited for its client for longest (idle, a handshake, a request that trickles in, a short answer that
            is not taken); if each is being served it is closed unanswered. An idle TLS connection costs about 0.3 MB.
        max_header_bytes: request line and headers; more is answered 431. ``kubectl exec`` has its command in there.
        max_header_fields: header fields of a request; more is answered 431. Small ones take fifty times their bytes.
        max_body_bytes: request body, unless the handler says otherwise; more is answered 413. The API server's limit.
        header_timeout: for the TLS handshake, and from the first byte of a request to the end of its headers; 408.
        body_timeout: for the whole request body; 408.
        idle_timeout: between requests; the connection is closed.
        keep_alive: after so many silent seconds TCP asks a client whether it is there, thrice in as many more; one that is
            not is cut, also behind a silent stream. Whole seconds.
        write_timeout: how long a client may take nothing of a response; then it is cut. ``kubectl logs -f | less`` is
            such a client, hence an hour.
        write_buffer_bytes: of a response held for a client that is slower than the handler; also the size of one batch.
        linger_timeout: after an answer that closes the connection while the client still sends: what it sends is thrown
            away for so long, because closing at once would reset the connection and the answer with it.
        close_timeout: for the clean-up of a streaming body when its client has gone, and for the peer's half of the TLS
            goodbye.
    """

    max_connections: int = 512
    max_header_bytes: int = 128 * 1024
    max_header_fields: int = 256
    max_body_bytes: int = 3 * 1024 * 1024
    header_timeout: float = 30.0
    body_timeout: float = 60.0
    idle_timeout: float = 60.0
    keep_alive: int = 15
    write_timeout: float = 3600.0
    write_buffer_bytes: int = 64 * 1024
    linger_timeout: float = 0.5
    close_timeout: float = 5.0
