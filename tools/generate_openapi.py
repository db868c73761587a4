"""Generate the dev cluster's OpenAPI data from Kubernetes' OpenAPI documents.

    python tools/generate_openapi.py ../shared/kubernetes-1.36/openapi

Only what the dev cluster serves, and only names, types, defaults and merge keys: Kubernetes' prose stays behind. The
result, one gzipped JSON file, has

* ``schemas``: every schema that a served path refers to, by name;
* ``documents``: for each group and version its paths, and the names of the schemas it needs.

The same schemas drive the decoding of objects (``devcluster.schema``), so what is validated is what is published.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
from pathlib import Path
from typing import Any

OUTPUT = Path(__file__).resolve().parent.parent / "src" / "virtual_kubelet" / "devcluster" / "openapi.json.gz"
#: group and version -> (document, pattern of the resources served)
DOCUMENTS = {
    "api/v1": (
        "api_v1.json",
        r"(configmaps|events|namespaces|nodes|pods|secrets|serviceaccounts|services)"
        r"(/\{name\}(/(status|finalize|token|binding|eviction|log|exec|attach|portforward|ephemeralcontainers|proxy))?)?$",
    ),
    "apis/authentication.k8s.io/v1": ("apis_authentication.k8s.io_v1.json", r"(tokenreviews|selfsubjectreviews)$"),
    "apis/authorization.k8s.io/v1": (
        "apis_authorization.k8s.io_v1.json",
        r"(localsubjectaccessreviews|selfsubjectaccessreviews|selfsubjectrulesreviews|subjectaccessreviews)$",
    ),
    "apis/certificates.k8s.io/v1": (
        "apis_certificates.k8s.io_v1.json",
        r"certificatesigningrequests(/\{name\}(/(approval|status))?)?$",
    ),
    "apis/coordination.k8s.io/v1": ("apis_coordination.k8s.io_v1.json", r"leases(/\{name\})?$"),
}
METHODS = ("get", "post", "put", "patch", "delete")
REFERENCE = "#/components/schemas/"


def without_prose(value: Any) -> Any:
    """``value`` without descriptions; a property that is named so stays."""
    if isinstance(value, dict):
        kept = {}
        for key, item in value.items():
            if key == "properties":
                kept[key] = {name: without_prose(schema) for name, schema in item.items()}
            elif key != "description":
                kept[key] = without_prose(item)
        return kept
    if isinstance(value, list):
        return [without_prose(item) for item in value]
    return value


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        found = {value["$ref"].removeprefix(REFERENCE)} if isinstance(value.get("$ref"), str) else set()
        return found.union(*map(references, value.values()))
    if isinstance(value, list):
        return set().union(*map(references, value))
    return set()


def operation(source: dict[str, Any]) -> dict[str, Any]:
    """What clients look for in an operation: its kind, its parameters, its body and what it answers."""
    kept: dict[str, Any] = {k: source[k] for k in ("operationId", "tags") if k in source}
    kept.update({k: v for k, v in source.items() if k.startswith("x-kubernetes-")})
    kept["parameters"] = [without_prose(p) for p in source.get("parameters", ())]
    body = source.get("requestBody", {}).get("content", {})
    body = {kind: without_prose(value) for kind, value in body.items() if kind != "application/apply-patch+yaml"}
    if body:
        kept["requestBody"] = {"content": body}
    answer = source.get("responses", {}).get("200", {}).get("content", {}).get("application/json")
    kept["responses"] = {"200": {"description": "OK", **({"content": {"application/json": answer}} if answer else {})}}
    return kept


def main(folder: Path) -> None:
    schemas: dict[str, Any] = {}
    documents: dict[str, Any] = {}
    for name, (file, served) in DOCUMENTS.items():
        source = json.loads((folder / file).read_text())
        pattern = re.compile(rf"/{re.escape(name)}/(namespaces/\{{namespace\}}/)?{served}")
        paths: dict[str, Any] = {}
        for path, item in source["paths"].items():
            if pattern.match(path):
                kept = {method: operation(item[method]) for method in METHODS if method in item}
                paths[path] = {"parameters": [without_prose(p) for p in item.get("parameters", ())], **kept}
        needed: set[str] = set()
        queue = references(paths)
        while queue:
            schema = queue.pop()
            if schema not in needed:
                needed.add(schema)
                schemas[schema] = without_prose(source["components"]["schemas"][schema])
                queue |= references(schemas[schema])
        documents[name] = {"paths": paths, "schemas": sorted(needed)}
    data = json.dumps(
        {"schemas": dict(sorted(schemas.items())), "documents": documents}, separators=(",", ":"), ensure_ascii=True
    )
    OUTPUT.write_bytes(gzip.compress(data.encode(), mtime=0))
    print(f"{OUTPUT.name}: {len(schemas)} schemas, {len(data)} bytes, {OUTPUT.stat().st_size} compressed")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
