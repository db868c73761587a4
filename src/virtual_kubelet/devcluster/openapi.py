"""OpenAPI as it is served: v3's index and a document a group version, v2 in one; built when first asked for."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Final

from virtual_kubelet.devcluster import openapi_v2
from virtual_kubelet.devcluster.discovery import VERSION
from virtual_kubelet.devcluster.rendering import encode
from virtual_kubelet.devcluster.statuses import not_acceptable
from virtual_kubelet.server.connection import Request, Response

__all__ = ["OpenApi"]

_PREFIX: Final = "/openapi/v3"
_V2: Final = "/openapi/v2"


class OpenApi:
    """The documents below ``/openapi``."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        """``data``: schemas and documents (``schema.load_openapi``)."""
        self._data = data
        self._documents: dict[str, tuple[bytes, bytes, str]] = {}
        self._modified = format_datetime(datetime.now(UTC), usegmt=True)

    def answer(self, request: Request) -> Response | None:
        """The document at this path; None: there is none. Raises 406."""
        path = request.path.rstrip("/")
        if path == _V2:
            return self._version_2(request)
        if path == _PREFIX:
            return self._index()
        name = path.removeprefix(_PREFIX + "/")
        if name == path or name not in self._data["documents"]:
            return None
        prepared = self._document(name)
        # What is asked for by its hash never changes.
        forever = request.query.get("hash") == prepared[2]
        return _respond(request, prepared, "application/json", "public, immutable" if forever else "no-cache, private")

    def _version_2(self, request: Request) -> Response:
        kinds = [clause.partition(";")[0].strip() for clause in (request.headers.get("accept") or "*/*").split(",")]
        protobuf = next((kind for kind in kinds if kind in openapi_v2.PROTOBUF), None)
        if protobuf is None and not {"application/json", "application/*", "*/*"}.intersection(kinds):
            raise not_acceptable(("application/json", *openapi_v2.PROTOBUF))
        name = "v2.pb" if protobuf else "v2"
        found = self._documents.get(name)
        if found is None:
            content = openapi_v2.document(self._data["schemas"], VERSION["gitVersion"])
            body = openapi_v2.to_protobuf(content) if protobuf else encode(content)
            found = self._documents[name] = _prepared(body)
        return _respond(request, found, openapi_v2.PROTOBUF[1] if protobuf else "application/json", "no-cache, private")

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
            found = self._documents[name] = _prepared(body)
        return found


def _prepared(body: bytes) -> tuple[bytes, bytes, str]:
    """A body, the same zipped, and its tag."""
    return body, gzip.compress(body, 6, mtime=0), hashlib.sha512(body).hexdigest().upper()


def _respond(request: Request, prepared: tuple[bytes, bytes, str], content_type: str, caching: str) -> Response:
    body, zipped, tag = prepared
    headers = [("Cache-Control", caching), ("ETag", f'"{tag}"'), ("Vary", "Accept-Encoding"), ("Vary", "Accept")]
    if request.headers.get("if-none-match") == f'"{tag}"':
        return Response(304, headers)
    headers.append(("Content-Type", content_type))
    if "gzip" in request.headers.get("accept-encoding"):
        return Response(200, [*headers, ("Content-Encoding", "gzip")], zipped)
    return Response(200, headers, body)
