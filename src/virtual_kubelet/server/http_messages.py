"""Requests and responses as values: strictly decoded targets, headers, query, the caller's certificate. No I/O."""

from __future__ import annotations

import asyncio
import hashlib
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, NamedTuple, TypeAlias
from urllib.parse import unquote_to_bytes

from virtual_kubelet.errors import ProtocolError

__all__ = [
    "BodyReader",
    "Handler",
    "Headers",
    "PeerIdentity",
    "PromptHandler",
    "QueryParameters",
    "Request",
    "Response",
    "ResponseBroken",
    "Target",
    "UpgradeHandler",
    "parse_target",
    "peer_identity",
    "reason",
    "text_response",
]

_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_ABSOLUTE = re.compile(rb"(?i:https?)://[^/?#]*")
#: Most paths need no decoding and hold nothing odd: one match instead of the slow way.
_PLAIN_PATH = re.compile(r"/(?:[A-Za-z0-9_~:@!$'()*,=-][A-Za-z0-9._~:@!$'()*,=-]*(?:/|\Z))*\Z")


class PeerIdentity(NamedTuple):
    """Who a verified client certificate names.

    Attributes:
        common_name: the subject's (last) CN; Kubernetes' user name.
        organizations: the subject's O values in order; Kubernetes' groups.
        serial: serial number, hexadecimal.
        not_after: end of validity, seconds since the epoch. A connection may outlive it: compare at each request.
        sha256: fingerprint of the whole certificate, hexadecimal; empty if it was not asked for.
    """

    common_name: str
    organizations: tuple[str, ...]
    serial: str
    not_after: float
    sha256: str = ""


def peer_identity(certificate: Mapping[str, Any] | None, der: bytes | None = None) -> PeerIdentity | None:
    """What ``SSLObject.getpeercert()`` says, or None if the client showed no certificate.

    ``der``: the certificate itself (``getpeercert(True)``), for its fingerprint.
    """
    if not certificate:
        return None
    common_name, organizations = "", []
    for rdn in certificate.get("subject", ()):
        for name, value in rdn:
            if name == "commonName":
                common_name = value
            elif name == "organizationName":
                organizations.append(value)
    return PeerIdentity(
        common_name,
        tuple(organizations),
        certificate.get("serialNumber", ""),
        float(ssl.cert_time_to_seconds(certificate["notAfter"])),
        hashlib.sha256(der).hexdigest() if der else "",
    )


class Headers:
    """Header fields of a request; names without regard to case."""

    __slots__ = ("_first", "_items")

    def __init__(self, items: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """``items`` have lower-case names, as h11 gives them."""
        self._items = list(items)
        self._first = {key.decode("latin-1"): value.decode("latin-1") for key, value in reversed(self._items)}

    def get(self, name: str, default: str = "") -> str:
        """The first value of ``name``."""
        found = self._first.get(name)
        return self._first.get(name.lower(), default) if found is None else found

    def get_all(self, name: str) -> list[str]:
        """All values of ``name``, in order; lists in one field are not split."""
        wanted = name.lower().encode("latin-1")
        return [value.decode("latin-1") for key, value in self._items if key == wanted]

    def __contains__(self, name: str) -> bool:
        return name in self._first or name.lower() in self._first

    def __len__(self) -> int:
        return len(self._items)

    def items(self) -> list[tuple[str, str]]:
        return [(key.decode("latin-1"), value.decode("latin-1")) for key, value in self._items]


class QueryParameters:
    """Query parameters, read as Go's ``net/url`` does: pairs with a bad escape or a ``;`` do not count."""

    __slots__ = ("_pairs",)

    def __init__(self, raw: str = "") -> None:
        self._pairs: list[tuple[str, str]] = []
        for pair in raw.split("&") if raw else ():
            if not pair or ";" in pair:
                continue
            key, _, value = pair.partition("=")
            try:
                self._pairs.append((_unescape(key), _unescape(value)))
            except ValueError:
                continue

    def get(self, name: str, default: str = "") -> str:
        """The first value of ``name``."""
        for key, value in self._pairs:
            if key == name:
                return value
        return default

    def get_all(self, name: str) -> list[str]:
        return [value for key, value in self._pairs if key == name]

    def __contains__(self, name: str) -> bool:
        return any(key == name for key, _ in self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def items(self) -> list[tuple[str, str]]:
        return list(self._pairs)


def _unescape(text: str) -> str:
    raw = text.replace("+", " ").encode("latin-1")
    if b"%" not in raw:
        return raw.decode()
    if _BAD_ESCAPE.search(raw):
        raise ValueError("bad escape")
    return unquote_to_bytes(raw).decode(errors="replace")


class Target(NamedTuple):
    """A request target: the decoded path, and path and query as they were sent."""

    path: str
    raw_path: str
    raw_query: str


def parse_target(target: bytes) -> Target:
    """Split and decode a request target (origin or absolute form).

    Refused with ``ProtocolError`` 400: other forms, a fragment, a bad escape, and paths that could be read in two ways
    by those who route and those who authorise: ``.`` and ``..`` segments, an encoded ``/``, control characters, NUL,
    bytes that are no UTF-8.
    """
    if not target.startswith(b"/"):
        match = _ABSOLUTE.match(target)
        if match is None:
            raise ProtocolError("the request target must be a path")
        target = target[match.end() :]
        if not target.startswith(b"/"):
            target = b"/" + target
    try:
        raw = target.decode("ascii")
    except UnicodeDecodeError:
        raise ProtocolError("the request target is not ASCII") from None
    if "#" in raw:
        raise ProtocolError("the request target has a fragment")
    raw_path, _, raw_query = raw.partition("?")
    if _PLAIN_PATH.match(raw_path):
        return Target(raw_path, raw_path, raw_query)
    return Target("/".join(_segment(part) for part in raw_path.split("/")), raw_path, raw_query)


def _segment(raw: str) -> str:
    data = raw.encode("ascii")
    if _BAD_ESCAPE.search(data):
        raise ProtocolError("the path has a bad percent-escape")
    try:
        text = unquote_to_bytes(data).decode()
    except UnicodeDecodeError:
        raise ProtocolError("the path is not UTF-8") from None
    if text in (".", ".."):
        raise ProtocolError("the path has a dot segment")
    if "/" in text or any(c < " " or c == "\x7f" for c in text):
        raise ProtocolError("the path has an encoded slash or a control character")
    return text


#: Reads the whole body, at most so many bytes (None: the server's limit).
BodyReader: TypeAlias = Callable[[int | None], Awaitable[bytes]]


async def _no_body(limit: int | None) -> bytes:
    return b""


class Request:
    """One request.

    Attributes:
        method: as sent, upper case by convention.
        path: percent-decoded; see ``parse_target`` for what never gets here.
        raw_path, raw_query: as sent.
        headers: of the request.
        peer_certificate: who the client's verified TLS certificate names, or None.
        remote: the client's address, ``host:port``.
        content: the whole body, where it came in one piece with the head; None: ``body`` waits for it.
    """

    __slots__ = (
        "_query",
        "_read_body",
        "content",
        "headers",
        "method",
        "path",
        "peer_certificate",
        "raw_path",
        "raw_query",
        "remote",
    )

    def __init__(
        self,
        method: str,
        target: Target,
        headers: Headers,
        *,
        peer_certificate: PeerIdentity | None = None,
        remote: str = "",
        read_body: BodyReader = _no_body,
        content: bytes | None = None,
    ) -> None:
        self.method = method
        self.path, self.raw_path, self.raw_query = target
        self.headers = headers
        self.content = content
        self.peer_certificate = peer_certificate
        self.remote = remote
        self._read_body = read_body
        self._query: QueryParameters | None = None

    @property
    def query(self) -> QueryParameters:
        """The query's parameters, parsed when first asked for."""
        if self._query is None:
            self._query = QueryParameters(self.raw_query)
        return self._query

    @property
    def log_fields(self) -> dict[str, str]:
        """What a log line may say of this request: neither the query (commands) nor headers (tokens)."""
        return {"method": self.method, "path": self.raw_path, "remote": self.remote}

    async def body(self, limit: int | None = None) -> bytes:
        """The whole body; again the same on a second call.

        Args:
            limit: greatest number of bytes; None: ``ServerLimits.max_body_bytes``.

        Raises ``ProtocolError``: 413 over the limit, 408 when the client is too slow, 400 when the framing is broken.
        Cancelled when the client goes away.
        """
        if limit is None and self.content is not None:
            return self.content
        return await self._read_body(limit)

    def __repr__(self) -> str:
        # Neither query (exec commands) nor headers (tokens) belong into a log.
        return f"<Request {self.method} {self.raw_path} from {self.remote}>"


class ResponseBroken(Exception):
    """Raised by a streaming body: cut the connection, so that the client knows the response is not whole.

    Nothing is logged: whoever raises it has said what there is to say.
    """


#: Takes the connection over once ``101 Switching Protocols`` is written: given the transport and the bytes that came
#: with the request, it returns the protocol that gets all further callbacks (but not ``connection_made``).
UpgradeHandler: TypeAlias = Callable[[asyncio.Transport, bytes], asyncio.Protocol]


@dataclass(slots=True)
class Response:
    """What a handler answers.

    Attributes:
        status: HTTP status; 101 only with ``upgrade``.
        headers: without framing (``Content-Length``, ``Transfer-Encoding``) and ``Date``, which the server adds.
        body: all of it, or an iterator: then headers go out at once, each chunk as soon as it is there, and the
            iterator is closed (``aclose``) when it ended, failed, or the client went away.
        upgrade: takes the connection over; the status is 101 then.
    """

    status: int = 200
    headers: Sequence[tuple[str, str]] = ()
    body: bytes | AsyncIterator[bytes] = b""
    upgrade: UpgradeHandler | None = None


Handler: TypeAlias = Callable[[Request], Awaitable[Response]]
#: Answers a request whose ``content`` is there without waiting for anything; None: ``Handler`` is to answer it.
PromptHandler: TypeAlias = Callable[[Request], Response | None]

TEXT: Final = ("Content-Type", "text/plain; charset=utf-8")


_REASONS: Final = {int(status): status.phrase.encode() for status in HTTPStatus}


def reason(status: int) -> bytes:
    """The reason phrase of a status."""
    return _REASONS.get(status, b"")


def text_response(status: int, text: str, *headers: tuple[str, str]) -> Response:
    """A plain-text answer."""
    return Response(status, [TEXT, *headers], text.encode())
