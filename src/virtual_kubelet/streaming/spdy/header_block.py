"""Header blocks of SPDY/3: name/value pairs, compressed over the whole session with the protocol's dictionary."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from typing import Final, TypeAlias

from virtual_kubelet.errors import SpdyError
from virtual_kubelet.streaming.buffers import Buffer

__all__ = ["HeaderCompressor", "HeaderDecompressor", "Headers", "first_header"]

#: Pairs of lower-case name and value, in order. A name with several values comes several times.
Headers: TypeAlias = tuple[tuple[str, str], ...]

_NAMES: Final = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow "
    "authorization cache-control connection content-base content-encoding content-language content-length "
    "content-location content-md5 content-range content-type date etag expect expires from host if-match "
    "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
    "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status"
)
#: The dictionary of SPDY/3, section 2.6.10.1; what is longer than one word comes after the names.
DICTIONARY: Final = b"".join(
    struct.pack(">I", len(word)) + word.encode()
    for word in (
        *_NAMES.split(),
        "200 OK",
        "version",
        "HTTP/1.1",
        "url",
        "public",
        "set-cookie",
        "keep-alive",
        "origin",
    )
) + (
    b"100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    b"203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized"
    b"403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    b"Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    b"chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,"
    b"text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)

#: 2 KiB hold the dictionary, and a node sends next to no headers: 12 KiB of memory a session instead of 256.
_WINDOW_BITS: Final = 11
_MEMORY_LEVEL: Final = 1


def first_header(headers: Headers, name: str, default: str = "") -> str:
    """The first value of ``name`` (lower case)."""
    for key, value in headers:
        if key == name:
            return value
    return default


class HeaderCompressor:
    """Compresses the header blocks of one session, in the order in which they are sent."""

    def __init__(self) -> None:
        self._zlib = zlib.compressobj(
            zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, _WINDOW_BITS, _MEMORY_LEVEL, zdict=DICTIONARY
        )

    def compress(self, headers: Iterable[tuple[str, str]]) -> bytes:
        """One block. Raises ``ValueError`` for a name or value that SPDY cannot carry."""
        values: dict[str, list[str]] = {}
        for name, value in headers:
            if not name or "\0" in name or name != name.lower() or not name.isascii():
                raise ValueError(f"not a header name in SPDY: {name!r}")
            if "\0" in value:
                raise ValueError(f"the value of header {name!r} has a NUL")
            values.setdefault(name, []).append(value)
        parts = [struct.pack(">I", len(values))]
        for name, several in values.items():
            if len(several) > 1 and "" in several:
                raise ValueError(f"header {name!r} has an empty value among others")
            for text in (name.encode("ascii"), "\0".join(several).encode("latin-1")):
                parts += (struct.pack(">I", len(text)), text)
        return self._zlib.compress(b"".join(parts)) + self._zlib.flush(zlib.Z_SYNC_FLUSH)


class HeaderDecompressor:
    """Reads the header blocks of one session; memory and time are bounded whatever they claim to hold."""

    def __init__(self, *, max_bytes: int, max_headers: int) -> None:
        """
        Args:
            max_bytes: of one block, expanded.
            max_headers: names in one block.
        """
        self._max_bytes = max_bytes
        self._max_headers = max_headers
        self._zlib = zlib.decompressobj(zdict=DICTIONARY)

    def decompress(self, block: Buffer) -> Headers:
        """One block. Raises ``SpdyError``: the session cannot go on then, its compression state is lost."""
        try:
            plain = self._zlib.decompress(block, self._max_bytes + 1)
        except zlib.error as error:
            raise SpdyError(f"a header block cannot be decompressed: {error}") from None
        if len(plain) > self._max_bytes:
            raise SpdyError(f"a header block expands to more than {self._max_bytes} bytes")
        if self._zlib.eof:
            raise SpdyError("the compression of headers ended before the session")
        return self._parse(plain)

    def _parse(self, plain: bytes) -> Headers:
        count, position = _number(plain, 0)
        if count > self._max_headers:
            raise SpdyError(f"a header block has more than {self._max_headers} headers")
        headers: list[tuple[str, str]] = []
        seen: set[str] = set()
        for _ in range(count):
            raw_name, position = _text(plain, position)
            raw_value, position = _text(plain, position)
            try:
                name = raw_name.decode("ascii")
            except UnicodeDecodeError:
                raise SpdyError("a header's name is not ASCII") from None
            if not name or "\0" in name or name != name.lower():
                raise SpdyError("a header's name is empty or not in lower case")
            if name in seen:
                raise SpdyError("a header comes twice in one block")
            seen.add(name)
            values = raw_value.decode("latin-1").split("\0")
            if len(values) > 1 and "" in values:
                raise SpdyError("a header has an empty value among others")
            headers += [(name, value) for value in values]
        if position != len(plain):
            raise SpdyError("a header block is longer than its headers")
        return tuple(headers)


def _number(plain: bytes, position: int) -> tuple[int, int]:
    end = position + 4
    if end > len(plain):
        raise SpdyError("a header block is cut short")
    return int.from_bytes(plain[position:end], "big"), end


def _text(plain: bytes, position: int) -> tuple[bytes, int]:
    length, position = _number(plain, position)
    end = position + length
    if end > len(plain):
        raise SpdyError("a header block is cut short")
    return plain[position:end], end
