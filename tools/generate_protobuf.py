"""Generate the dev cluster's table of Protobuf field numbers from Kubernetes' ``generated.proto`` files.

    python tools/generate_protobuf.py API APIMACHINERY

``API`` and ``APIMACHINERY`` are checkouts of github.com/kubernetes/api and github.com/kubernetes/apimachinery (the table
was made from v0.36.2; numbers never change, newer versions only add some). Names and numbers only. The result, one
gzipped JSON file, is ``{message: {number: [field, message of the field or ""]}}``: what a field holds otherwise stands in
the OpenAPI schemas, where names are the same. ``devcluster.protobuf`` reads with it what typed Go clients send.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
from pathlib import Path

OUTPUT = Path(__file__).resolve().parent.parent / "src" / "virtual_kubelet" / "devcluster" / "protobuf.json.gz"
#: Only groups that the dev cluster serves, and what they refer to. Messages of one name must be the same.
API_FILES = (
    "authentication/v1",
    "authorization/v1",
    "certificates/v1",
    "coordination/v1",
    "core/v1",
    "policy/v1",
)
APIMACHINERY_FILES = ("pkg/api/resource", "pkg/apis/meta/v1", "pkg/util/intstr")
#: Referred to by nothing, and in the way of apimachinery's.
UNUSED = {("core/v1", "Preconditions")}
#: Where a field's name differs from the one in JSON.
JSON_NAMES = {"uID": "uid"}
FIELD = re.compile(r"(?:optional|repeated|required)? *(map<\w+, *[\w.]+>|[\w.]+) (\w+) = (\d+)( \[.*\])?;")
SCALARS = frozenset(["string", "bytes", "bool", "int32", "int64", "uint32", "uint64", "double", "float"])


def messages(text: str) -> dict[str, dict[str, list[str]]]:
    """The messages of one file; those of generated.proto files are flat."""
    found: dict[str, dict[str, list[str]]] = {}
    fields: dict[str, list[str]] | None = None
    for line in (line.strip() for line in text.splitlines()):
        if line.startswith("message "):
            fields = found[line.split()[1]] = {}
        elif line == "}":
            fields = None
        elif fields is not None and line and not line.startswith(("//", "reserved ")):
            match = FIELD.fullmatch(line)
            if match is None:
                raise ValueError(f"not understood: {line}")
            kind, name, number = match[1].removesuffix(">").rpartition(",")[2].strip(), match[2], match[3]
            fields[number] = [JSON_NAMES.get(name, name), "" if kind in SCALARS else kind.rpartition(".")[2]]
    return found


def main(api: Path, apimachinery: Path) -> None:
    table: dict[str, dict[str, list[str]]] = {}
    for root, folders in ((api, API_FILES), (apimachinery, APIMACHINERY_FILES)):
        for folder in folders:
            found = messages((root / folder / "generated.proto").read_text())
            found = {name: fields for name, fields in found.items() if (folder, name) not in UNUSED}
            twice = {name for name in found.keys() & table.keys() if found[name] != table[name]}
            if twice:
                raise ValueError(f"{folder}: different in another file: {', '.join(sorted(twice))}")
            table |= found
    data = json.dumps(dict(sorted(table.items())), separators=(",", ":"))
    OUTPUT.write_bytes(gzip.compress(data.encode(), mtime=0))
    print(f"{OUTPUT.name}: {len(table)} messages, {len(data)} bytes, {OUTPUT.stat().st_size} compressed")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
