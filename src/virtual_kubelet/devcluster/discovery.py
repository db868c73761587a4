"""What the server says it serves: groups, resources, versions; plain and aggregated. Pure; made once."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable
from typing import Any, Final

from virtual_kubelet.devcluster.registry.resource import Resource
from virtual_kubelet.devcluster.rendering import encode
from virtual_kubelet.server.connection import Request, Response

__all__ = ["VERSION", "Discovery"]

AGGREGATED: Final = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
VERSION: Final = {
    "major": "1",
    "minor": "36",
    "emulationMajor": "1",
    "emulationMinor": "36",
    "minCompatibilityMajor": "1",
    "minCompatibilityMinor": "35",
    "gitVersion": "v1.36.2+virtual-kubelet",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "cpython",
    "platform": f"linux/{ {'x86_64': 'amd64', 'aarch64': 'arm64'}.get(platform.machine(), platform.machine()) }",
}
#: What is there beside discovery, as the root tells it.
_OTHER_PATHS: Final = (
    "/apis/",
    *(f"/{check}{part}" for check in ("healthz", "livez", "readyz") for part in ("", "/ping")),
    "/openapi/v2",
    "/openapi/v3",
    "/openapi/v3/",
)
#: In the order of a real server's documents, by which clients resolve names that several groups have.
_PRIORITY: Final = {
    group: index
    for index, group in enumerate(
        [
            "events.k8s.io",
            "authentication.k8s.io",
            "authorization.k8s.io",
            "certificates.k8s.io",
            "policy",
            "rbac.authorization.k8s.io",
            "coordination.k8s.io",
            "node.k8s.io",
            "discovery.k8s.io",
        ]
    )
}


class Discovery:
    """The documents below ``/api`` and ``/apis``."""

    def __init__(self, resources: Iterable[Resource], address: str) -> None:
        """``address``: host and port, for the oldest of the documents."""
        groups: dict[str, dict[str, list[Resource]]] = {}
        for resource in sorted((r for r in resources if r.in_discovery), key=lambda r: r.plural):
            groups.setdefault(resource.group, {}).setdefault(resource.version, []).append(resource)
        # Indented, as the API server does with this one.
        self._documents: dict[str, bytes] = {"/version": json.dumps(VERSION, indent=2).encode()}
        self._aggregated: dict[str, tuple[bytes, str]] = {}
        core = groups.pop("", {})
        self._documents["/api"] = encode(
            {
                "kind": "APIVersions",
                "versions": list(core),
                "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
            }
        )
        groups = dict(sorted(groups.items(), key=lambda group: (_PRIORITY.get(group[0], len(_PRIORITY)), group[0])))
        named = [_group(group, list(versions)) for group, versions in groups.items()]
        self._documents["/apis"] = encode({"kind": "APIGroupList", "apiVersion": "v1", "groups": named})
        for group in named:
            self._documents[f"/apis/{group['name']}"] = encode({"kind": "APIGroup", "apiVersion": "v1", **group})
        for version, served in core.items():
            self._documents[f"/api/{version}"] = encode(
                {"kind": "APIResourceList", "groupVersion": version, "resources": _resources(served)}
            )
        for name, versions in groups.items():
            for version, served in versions.items():
                self._documents[f"/apis/{name}/{version}"] = encode(
                    {
                        "kind": "APIResourceList",
                        "apiVersion": "v1",
                        "groupVersion": f"{name}/{version}",
                        "resources": _resources(served),
                    }
                )
        paths = json.dumps({"paths": sorted({*self._documents, *_OTHER_PATHS})}, indent=2).encode()
        self._documents.update({"/": paths, "/index.html": paths})
        self._aggregated["/api"] = _aggregated({"": core})
        self._aggregated["/apis"] = _aggregated(groups)

    def answer(self, request: Request) -> Response | None:
        """The document at this path; None: there is none."""
        path = request.path if request.path == "/" else request.path.rstrip("/")
        if path in self._aggregated and _wants_aggregated(request.headers.get("accept")):
            body, tag = self._aggregated[path]
            headers = [("Cache-Control", "public"), ("ETag", tag), ("Vary", "Accept")]
            if request.headers.get("if-none-match") == tag:
                return Response(304, headers)
            return Response(200, [*headers, ("Content-Type", AGGREGATED)], body)
        found = self._documents.get(path)
        if found is None:
            return None
        headers = [("Cache-Control", "no-cache, private"), ("Content-Type", "application/json")]
        return Response(200, headers, found)


def _wants_aggregated(accept: str) -> bool:
    for clause in accept.split(","):
        parts = {part.strip() for part in clause.split(";")}
        if "application/json" in parts:
            return {"g=apidiscovery.k8s.io", "v=v2", "as=APIGroupDiscoveryList"} <= parts
    return False


def _group(name: str, versions: list[str]) -> dict[str, Any]:
    entries = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": entries, "preferredVersion": entries[0]}


def _resources(served: list[Resource]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for resource in served:
        row: dict[str, Any] = {
            "name": resource.plural,
            "singularName": resource.singular,
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "verbs": list(resource.verbs),
        }
        if resource.short_names:
            row["shortNames"] = list(resource.short_names)
        if resource.categories:
            row["categories"] = list(resource.categories)
        if resource.storage_version_hash:
            row["storageVersionHash"] = resource.storage_version_hash
        rows.append(row)
        for sub in resource.subresources:
            row = {"name": f"{resource.plural}/{sub.name}", "singularName": "", "namespaced": resource.namespaced}
            if sub.group:
                row.update(group=sub.group, version=sub.version)
            rows.append({**row, "kind": sub.kind, "verbs": list(sub.verbs)})
    return rows


def _aggregated(groups: dict[str, dict[str, list[Resource]]]) -> tuple[bytes, str]:
    items = []
    for name, versions in groups.items():
        entries = [
            {"version": version, "resources": [_discovered(r) for r in served], "freshness": "Current"}
            for version, served in versions.items()
        ]
        items.append({"metadata": {"name": name} if name else {}, "versions": entries})
    body = encode(
        {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}
    )
    return body, f'"{hashlib.sha512(body).hexdigest().upper()}"'


def _discovered(resource: Resource) -> dict[str, Any]:
    row: dict[str, Any] = {
        "resource": resource.plural,
        "responseKind": {
            "group": resource.group,
            "version": "" if not resource.group else resource.version,
            "kind": resource.kind,
        },
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        row["shortNames"] = list(resource.short_names)
    if resource.categories:
        row["categories"] = list(resource.categories)
    if resource.subresources:
        row["subresources"] = [
            {
                "subresource": sub.name,
                "responseKind": {"group": sub.group, "version": sub.version, "kind": sub.kind},
                "verbs": list(sub.verbs),
            }
            for sub in resource.subresources
        ]
    return row
