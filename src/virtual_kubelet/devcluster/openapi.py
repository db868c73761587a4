"""OpenAPI v3 as it is served: an index, and a document a group version, built when first asked for."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Final

from virtual_kubelet.devcluster.discovery import VERSION
from virtual_kubelet.devcluster.rendering import encode
from virtual_kubelet.server.connection import Request, Response

__all__ = ["OpenApi"]

_PREFIX: Final = "/openapi/v3"


class OpenApi:
    """The documents below ``/openapi/v3``."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        """``data``: schemas and documents (``schema.load_openapi``)."""
        self._data = data
        self._documents: dict[str, tuple[bytes, bytes, str]] = {}
        self._modified = format_datetime(datetime.now(UTC), usegmt=True)

    def answer(self, request: Request) -> Response | None:
        """The document at this path; None: there is none."""
        path = request.path.rstrip("/")
        if path == _PREFIX:
            return self._index()
        name = path.removeprefix(_PREFIX + "/")
        if name == path or name not in self._data["documents"]:
            return None
        body, zipped, tag = self._document(name)
        # What is asked for by its hash never changes.
        forever = request.query.get("hash") == tag
        headers = [
            ("Cache-Control", "public, immutable" if forever else "no-cache, private"),
            ("ETag", f'"{tag}"'),
            ("Vary", "Accept-Encoding"),
            ("Vary", "Accept"),
        ]
        if request.headers.get("if-none-match") == f'"{tag}"':
            return Response(304, headers)
        headers.append(("Content-Type", "application/json"))
        if "gzip" in request.headers.get("accept-encoding"):
            return Response(200, [*headers, ("Content-Encoding", "gzip")], zipped)
        return Response(200, headers, body)

    def _index(self) -> Response:
        paths = {
            name: {"serverRelativeURL": f"{_PREFIX}/{name}?hash={self._document(name)[2]}"}
            for name in self._data["documents"]
        }
        headers = [
            ("Cache-Control", "no-cache, private"),
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Last-Modified", self._modified),
        ]
        return Response(200, headers, encode({"paths": paths}))

    def _document(self, name: str) -> tuple[bytes, bytes, str]:
        found = self._documents.get(name)
        if found is None:
            source = self._data["documents"][name]
            body = encode(
                {
                    "openapi": "3.0.0",
                    "info": {"title": "Kubernetes", "version": VERSION["gitVersion"]},
                    "paths": source["paths"],
                    "components": {"schemas": {n: self._data["schemas"][n] for n in source["schemas"]}},
                }
            )
            tag = hashlib.sha512(body).hexdigest().upper()
            found = self._documents[name] = (body, gzip.compress(body, 6, mtime=0), tag)
        return found
