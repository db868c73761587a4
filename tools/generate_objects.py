"""Generate the typed objects and the patch schema from Kubernetes' OpenAPI documents.

    python tools/generate_objects.py ../shared/kubernetes-1.36/openapi

Only names, types and merge keys are taken over; Kubernetes' prose stays behind. Each group becomes one module of
``virtual_kubelet.objects``. Rules:

* attributes are snake_case, the JSON names are kept by ``rename``;
* a field that the API requires has no default and is always written (a list defaults to an empty one); all others
  default to None (``metadata``, ``spec`` and ``status`` to an empty object) and are left out when unset;
* ``managedFields`` is not declared: skipping it in the parser halves the cost of an event;
* ``apiVersion`` and ``kind`` of a top-level kind are constants of its class (``objects.serialization`` writes them);
* times and quantities stay the strings the API sent (``objects.times``, ``objects.quantity`` read them);
* types that hold only plain values are not tracked by the garbage collector.
"""

from __future__ import annotations

import json
import keyword
import re
import sys
from pathlib import Path
from typing import Any

OUTPUT = Path(__file__).resolve().parent.parent / "src" / "virtual_kubelet" / "objects"

#: module -> (document, schema prefix, root kinds, one line for the docstring)
MODULES: dict[str, tuple[str, str, list[str], str]] = {
    "meta_v1": (
        "api_v1.json",
        "io.k8s.apimachinery.pkg.apis.meta.v1.",
        ["ObjectMeta", "ListMeta", "Status", "DeleteOptions", "LabelSelector"],
        "meta/v1: what every object has, and the Status every error is.",
    ),
    "core_v1": (
        "api_v1.json",
        "io.k8s.api.core.v1.",
        [
            "Pod",
            "Node",
            "ConfigMap",
            "Secret",
            "Service",
            "Namespace",
            "Event",
            "ServiceAccount",
            "Binding",
        ],
        "core/v1: pods, nodes and what pods refer to.",
    ),
    "coordination_v1": (
        "apis_coordination.k8s.io_v1.json",
        "io.k8s.api.coordination.v1.",
        ["Lease"],
        "coordination/v1: leases.",
    ),
    "authentication_v1": (
        "apis_authentication.k8s.io_v1.json",
        "io.k8s.api.authentication.v1.",
        ["TokenReview"],
        "authentication/v1: token reviews.",
    ),
    "authorization_v1": (
        "apis_authorization.k8s.io_v1.json",
        "io.k8s.api.authorization.v1.",
        ["SubjectAccessReview", "SelfSubjectAccessReview"],
        "authorization/v1: access reviews.",
    ),
    "certificates_v1": (
        "apis_certificates.k8s.io_v1.json",
        "io.k8s.api.certificates.v1.",
        ["CertificateSigningRequest"],
        "certificates/v1: certificate signing requests.",
    ),
}
#: Reached from several groups; lives with core/v1's service accounts in the API but is its own group.
TOKEN_REQUEST = ("api_v1.json", "io.k8s.api.authentication.v1.", ["TokenRequest"])
META = "io.k8s.apimachinery.pkg.apis.meta.v1."
SKIPPED = {("ObjectMeta", "managedFields"), ("ObjectMeta", "selfLink")}
EMPTY_OBJECT_FIELDS = {"metadata", "spec", "status"}
SCALARS = {"string": "str", "integer": "int", "boolean": "bool", "number": "float"}


def snake(name: str) -> str:
    name = re.sub(r"(IP|ID|URL)s(?=[A-Z]|$)", lambda m: m.group(1).capitalize() + "s", name)
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
    return name + "_" if keyword.iskeyword(name) else name


class Generator:
    def __init__(self, documents: Path) -> None:
        self.documents = documents
        self.schemas: dict[str, dict[str, Any]] = {}
        for path in documents.glob("*.json"):
            if path.name != "index.json":
                self.schemas.update(json.loads(path.read_text())["components"]["schemas"])
        self.home: dict[str, str] = {}  # full schema name -> module
        self.patch_schema: dict[str, dict[str, Any]] = {}

    def reference(self, node: dict[str, Any]) -> str | None:
        if "$ref" in node:
            return str(node["$ref"]).rsplit("/", 1)[-1]
        if len(node.get("allOf", [])) == 1:
            return self.reference(node["allOf"][0])
        return None

    def scalar(self, full: str) -> str | None:
        """The Python type of a reference that is not an object with properties of its own."""
        last = full.rsplit(".", 1)[-1]
        if last in ("Quantity", "Time", "MicroTime"):
            return "str"
        if last == "IntOrString":
            return "int | str"
        if "properties" not in self.schemas[full]:
            return "dict[str, Any]"
        return None

    def type_of(self, node: dict[str, Any]) -> tuple[str, str | None]:
        """Python annotation of a property, and the struct it is made of, if any."""
        full = self.reference(node)
        if full is not None:
            scalar = self.scalar(full)
            return (scalar, None) if scalar else (full.rsplit(".", 1)[-1], full)
        kind = node.get("type")
        if kind == "array":
            inner, struct = self.type_of(node["items"])
            return f"list[{inner}]", struct
        if kind == "object":
            if "additionalProperties" in node:
                inner, struct = self.type_of(node["additionalProperties"])
                return f"dict[str, {inner}]", struct
            return "dict[str, Any]", None
        return SCALARS[str(kind)], None

    def closure(self, roots: list[str], module: str) -> None:
        todo = list(roots)
        while todo:
            full = todo.pop()
            if full in self.home:
                continue
            if full.startswith(META) and module != "meta_v1":
                self.closure([full], "meta_v1")
                continue
            self.home[full] = module
            for name, node in self.schemas[full].get("properties", {}).items():
                if (full.rsplit(".", 1)[-1], name) in SKIPPED:
                    continue
                struct = self.type_of(node)[1]
                if struct is not None:
                    todo.append(struct)

    def may_be_empty(self, full: str) -> bool:
        schema = self.schemas[full]
        return all(
            self.type_of(schema["properties"][name])[0].startswith("list") for name in schema.get("required", [])
        )

    def class_of(self, full: str, imports: dict[str, set[str]], module: str) -> str:
        schema = self.schemas[full]
        name = full.rsplit(".", 1)[-1]
        required = set(schema.get("required", []))
        group_version_kind = schema.get("x-kubernetes-group-version-kind")
        api_version = None
        if group_version_kind and name not in ("Status", "DeleteOptions"):
            chosen = next((g for g in group_version_kind if g["kind"] == name), None)
            if chosen:
                api_version = (f"{chosen['group']}/" if chosen["group"] else "") + chosen["version"]
        constants: list[str] = []
        lines: list[str] = []
        optional: list[str] = []
        rename: list[tuple[str, str]] = []
        leaf = True
        entry: dict[str, Any] = {}
        for json_name in sorted(schema["properties"]):
            if (name, json_name) in SKIPPED:
                continue
            node = schema["properties"][json_name]
            annotation, struct = self.type_of(node)
            attribute = snake(json_name)
            if attribute != json_name and not (api_version and json_name == "apiVersion"):
                rename.append((attribute, json_name))
            if struct is not None:
                home = self.home[struct]
                if home != module:
                    imports.setdefault(home, set()).add(struct.rsplit(".", 1)[-1])
            if struct is not None or annotation.startswith(("list", "dict")):
                leaf = False
            self.note_patching(entry, json_name, node, struct)
            if json_name == "apiVersion" and api_version:
                constants.append(f'    API_VERSION: ClassVar[str] = "{api_version}"')
            elif json_name == "kind" and api_version:
                constants.append(f'    KIND: ClassVar[str] = "{name}"')
            elif json_name in EMPTY_OBJECT_FIELDS and struct is not None and self.may_be_empty(struct):
                optional.append(f"    {attribute}: {annotation} = field(default_factory=lambda: {annotation}())")
            elif json_name in required and annotation.startswith("list"):
                optional.append(f"    {attribute}: {annotation} = field(default_factory=list)")
            elif json_name in required:
                lines.append(f"    {attribute}: {annotation}")
            else:
                optional.append(f"    {attribute}: {annotation} | None = None")
        if entry:
            self.patch_schema[name] = entry
        options = ["omit_defaults=True", "kw_only=True"]
        if leaf:
            options.append("gc=False")
        if rename:
            pairs = ", ".join(f'"{a}": "{b}"' for a, b in rename)
            options.append(f"rename={{{pairs}}}")
        return f"class {name}(Struct, {', '.join(options)}):\n" + "\n".join(constants + lines + optional) + "\n"

    def note_patching(self, entry: dict[str, Any], json_name: str, node: dict[str, Any], struct: str | None) -> None:
        strategy = node.get("x-kubernetes-patch-strategy")
        key = node.get("x-kubernetes-patch-merge-key")
        if struct is None and strategy is None:
            return
        row: dict[str, Any] = {}
        if struct is not None:
            row["type"] = struct.rsplit(".", 1)[-1]
        shape = node.get("type")
        row["shape"] = "list" if shape == "array" else "map" if shape == "object" else "object"
        if strategy:
            row["strategy"] = strategy
        if key:
            row["key"] = key
        entry[json_name] = row

    def run(self) -> None:
        for module, (_, prefix, roots, _) in MODULES.items():
            self.closure([prefix + root for root in roots], module)
        _, prefix, roots = TOKEN_REQUEST
        self.closure([prefix + root for root in roots], "authentication_v1")
        for module, (_, _, _, line) in MODULES.items():
            imports: dict[str, set[str]] = {}
            members = sorted(full for full, home in self.home.items() if home == module)
            members = self.in_order(members)
            classes = [self.class_of(full, imports, module) for full in members]
            body = "\n\n".join(classes)
            head = [f'"""{line}\n\nGenerated by tools/generate_objects.py: do not edit.\n"""', ""]
            head.append("from __future__ import annotations\n")
            typing = [n for n, mark in (("Any", "Any]"), ("ClassVar", "ClassVar")) if mark in body]
            if typing:
                head.append(f"from typing import {', '.join(typing)}\n")
            head.append("from msgspec import Struct, field\n" if "field(" in body else "from msgspec import Struct\n")
            head += [
                f"from virtual_kubelet.objects.{m} import {', '.join(sorted(names))}"
                for m, names in sorted(imports.items())
            ]
            names = ", ".join(f'"{full.rsplit(".", 1)[-1]}"' for full in sorted(members))
            head.append(f"\n__all__ = [{names}]\n\n")
            (OUTPUT / f"{module}.py").write_text("\n".join(head) + "\n" + body)
        text = (
            '"""How strategic merge patches join each type\'s fields: merge keys and patch strategies.\n\n'
            "Generated by tools/generate_objects.py: do not edit.\n"
            'A row: JSON name -> {type: element type, shape: object|list|map, strategy, key}.\n"""\n\n'
            "from __future__ import annotations\n\nfrom typing import Any, Final\n\n"
            "PATCH_SCHEMA: Final[dict[str, dict[str, dict[str, Any]]]] = "
            f"{json.dumps(self.patch_schema, indent=1, sort_keys=True)}\n"
        )
        (OUTPUT / "patch_schema.py").write_text(text)

    def in_order(self, members: list[str]) -> list[str]:
        """Definitions before use, so that msgspec and readers meet no forward reference but true cycles."""
        done: list[str] = []
        seen: set[str] = set()

        def visit(full: str) -> None:
            if full in seen or full not in members:
                return
            seen.add(full)
            for json_name, node in sorted(self.schemas[full].get("properties", {}).items()):
                if (full.rsplit(".", 1)[-1], json_name) in SKIPPED:
                    continue
                struct = self.type_of(node)[1]
                if struct is not None:
                    visit(struct)
            done.append(full)

        for full in members:
            visit(full)
        return done


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    Generator(Path(sys.argv[1])).run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
