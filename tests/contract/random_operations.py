"""Random sequences of API requests, the same for every server: a seed makes them. Pure.

What differs from server to server is written as a marker and filled in when a step is sent (``in_step``):

    {{rv:PATH}}    the newest resourceVersion that was seen of the object at PATH
    {{old:PATH}}   the first one
    {{uid:PATH}}   its UID
    {{list:PATH}}  the resourceVersion of the last list of PATH
    {{next:PATH}}  the continue token of the last list of PATH

A body ``{"{{object}}": PATH, "{{merge}}": PATCH}`` is the object at PATH as it was last seen,
with a merge patch applied: what
clients do that read, change and write.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from tests.contract.random_draw import NOBODY, Draw, Json, Kind
from tests.contract.random_objects import KINDS, PODS, WEIGHTS

__all__ = ["Step", "random_steps"]

JSON: Final = "application/json"
MERGE: Final = "application/merge-patch+json"
STRATEGIC: Final = "application/strategic-merge-patch+json"
JSON_PATCH: Final = "application/json-patch+json"


@dataclass(frozen=True)
class Step:
    """One request; ``path`` and ``body`` (text) may hold markers."""

    method: str
    path: str
    body: str | None = None
    content_type: str = JSON

    def of(self, placeholder: str, run: str) -> Step:
        """The same step with the names of a run."""
        body = None if self.body is None else self.body.replace(placeholder, run)
        return Step(self.method, self.path.replace(placeholder, run), body, self.content_type)

    def __str__(self) -> str:
        kind = "" if self.content_type == JSON else f" ({self.content_type.removeprefix('application/')})"
        return f"{self.method} {self.path}{kind} {self.body or ''}".rstrip()


def random_steps(seed: int, run: str, count: int) -> list[Step]:
    """``count`` steps; ``run`` is what names of this run begin with (its length must not differ between runs)."""
    operations = Operations(random.Random(seed), run)
    while len(operations.steps) < count:
        operations.some()
    return operations.steps[:count]


class Operations(Draw):
    """Makes steps."""

    def __init__(self, generator: random.Random, run: str) -> None:
        super().__init__(generator, run)
        self.steps: list[Step] = []
        self._generated = 0

    def add(self, method: str, path: str, body: Any = None, content_type: str = JSON, **query: Any) -> None:
        given = [f"{key}={quote(str(value), safe='{}:')}" for key, value in query.items() if value is not None]
        whole = path + ("?" + "&".join(given) if given else "")
        text = body if isinstance(body, str) or body is None else json.dumps(body)
        self.steps.append(Step(method, whole, text, content_type))

    def some(self) -> None:
        """A few steps more."""
        kind = self.random.choices(KINDS, WEIGHTS)[0]
        self.random.choices(VERBS, VERB_WEIGHTS)[0](self, kind)

    def folder(self, kind: Kind) -> str:
        """Where objects of ``kind`` are."""
        if not kind.namespaced:
            return f"{kind.root}/{kind.plural}"
        namespace = "nosuch" if self.chance(2) else self.one(*self.namespaces, self.namespaces[0])
        return f"{kind.root}/namespaces/{namespace}/{kind.plural}"

    def name(self, kind: Kind) -> str:
        return self.one("a", "b", "c") if kind.namespaced else f"{self.run}-{self.one('c', 'd')}"

    def path(self, kind: Kind) -> str:
        return f"{self.folder(kind)}/{self.name(kind)}"

    def dry(self) -> Json:
        return {"dryRun": self.one("All", "All", "", "Some") if self.chance(6) else None}

    def create(self, kind: Kind) -> None:
        folder, name = self.folder(kind), self.name(kind)
        body = self.whole(kind, name)
        if self.chance(5):
            self._generated += 1
            body["metadata"].pop("name", None)
            body["metadata"]["generateName"] = f"g{self._generated}-" if self.chance(85) else "Bad_"
            if not kind.namespaced:
                return
        self.add("POST", folder, body, **self.dry())

    def whole(self, kind: Kind, name: str) -> Json:
        made = kind.make(self, name)
        head: Json = {"kind": kind.name, "apiVersion": kind.api_version}
        if self.chance(3):
            head = self.one({}, {"kind": "Wrong", "apiVersion": kind.api_version}, {"kind": kind.name,
            "apiVersion": "v9"},
                            {"kind": "Service", "apiVersion": "v1"}, {"kind": kind.name})  # fmt: skip
        return {**head, **made}

    def get(self, kind: Kind) -> None:
        self.add("GET", self.path(kind), resourceVersion=self.one("0", "1", "abc") if self.chance(5) else None)

    def listing(self, kind: Kind) -> None:
        everywhere = kind.namespaced and self.chance(20)
        folder = f"{kind.root}/{kind.plural}" if everywhere else self.folder(kind)
        query: Json = {}
        if everywhere:
            query["fieldSelector"] = f"metadata.namespace={self.one(*self.namespaces)}"
        if not kind.namespaced:
            query["labelSelector"] = f"run={self.run}"
        elif self.chance(40):
            query["labelSelector"] = self.one(*LABEL_SELECTORS)
        if self.chance(30) and not everywhere:
            selector = self.one(*FIELD_SELECTORS[""], *FIELD_SELECTORS.get(kind.plural, []))
            query["fieldSelector"] = selector.replace("NODE", self.node)
        if kind.plural in ("configmaps", "secrets") and not everywhere:
            query["fieldSelector"] = ",".join(filter(None, [query.get("fieldSelector"), OWN[kind.plural]]))
        if self.chance(35) and not everywhere:
            query["limit"] = self.one(1, 1, 2, 3, 500, 0, -1, "x")
        if self.chance(12):
            query["resourceVersion"] = self.one("0", f"{{{{list:{folder}}}}}", "1", "abc", "999999999999", "-1", "")
        if self.chance(8):
            query["resourceVersionMatch"] = self.one("Exact", "NotOlderThan", "Wrong")
        if self.chance(3):
            query |= self.one(
                {"continue": "garbage"}, {"continue": "e30"}, {"timeoutSeconds": "x"}, {"timeoutSeconds": 5}
            )
        self.add("GET", folder, **query)
        pages = {k: v for k, v in query.items() if k in ("labelSelector", "fieldSelector", "limit")}
        if query.get("limit") in (1, 2) and self.chance(80):
            for _ in range(self.one(1, 2, 4)):
                if self.chance(30):
                    self.some_write(kind)
                self.add("GET", folder, **pages, **{"continue": f"{{{{next:{folder}}}}}"})

    def some_write(self, kind: Kind) -> None:
        self.one(Operations.create, Operations.update, Operations.patch, Operations.delete)(self, kind)

    def update(self, kind: Kind) -> None:
        path = self.path(kind)
        if self.chance(65):
            body: Any = {"{{object}}": path, "{{merge}}": self.changes(kind, path)}
        else:
            body = self.whole(kind, path.rpartition("/")[2])
        self.add("PUT", path + self.subresource(kind), body, **self.dry())

    def subresource(self, kind: Kind) -> str:
        return "/status" if kind.status and self.chance(35) else ""

    def changes(self, kind: Kind, path: str) -> Json:
        """A merge patch: a change of the kind's own, of metadata, or both."""
        made: Json = kind.change(self) if self.chance(75) else {}
        if self.chance(45):
            change = self.metadata_change(path)
            # A namespace that nothing holds goes at a time of its own.
            if kind.name != "Namespace" or not change.keys() & {"finalizers"}:
                made = {**made, "metadata": change}
        return made

    def metadata_change(self, path: str) -> Json:
        return self.one(  # type: ignore[no-any-return]
            {"labels": self.labels()}, {"labels": {"app": self.one("1", "2", None)}}, {"labels": None},
            {"annotations": {"a": self.one("1", None, "2")}}, {"finalizers": self.one(None, [], ["x.y/hold"])},
            {"finalizers": ["x.y/new", "x.y/hold"]}, {"resourceVersion": self.one("", None, "0", "1", "abc")},
            {"resourceVersion": f"{{{{old:{path}}}}}"}, {"resourceVersion": f"{{{{rv:{path}}}}}"},
            {"uid": self.one("", NOBODY, None, f"{{{{uid:{path}}}}}")}, {"name": self.one("other", "", None)},
            {"namespace": self.one("other", "", None)}, {"generation": self.one(5, 0, None)},
            {"creationTimestamp": self.one(None, "2020-01-01T00:00:00Z")},
            {"deletionTimestamp": self.one(None, "2020-01-01T00:00:00Z")},
            {"deletionGracePeriodSeconds": self.one(None, 3)}, {"generateName": "other-"},
            {"labels": {"bad key!": "x"}}, {"annotations": {"bad key!": "x"}}, {"finalizers": ["nodomain"]},
        )  # fmt: skip

    def patch(self, kind: Kind) -> None:
        path = self.path(kind)
        media_type = self.one(MERGE, MERGE, STRATEGIC, STRATEGIC, JSON_PATCH)
        body: Any
        if media_type == JSON_PATCH:
            body = self.operations(self.changes(kind, path))
        else:
            body = self.changes(kind, path)
        if self.chance(4):
            body = self.one("null", "[]", "{", "3", '"x"', "{}", '{"spec": 3}', '{"metadata": []}', '{"zzz": null}', "")
        if self.chance(2):
            media_type = self.one("application/json", "text/plain", "application/xml")
        self.add("PATCH", path + self.subresource(kind), body, media_type, **self.dry())

    def operations(self, change: Json) -> list[Json]:
        """A merge patch as JSON patch, and some operations of its own."""
        found: list[Json] = []

        def walk(value: Any, path: str) -> None:
            if isinstance(value, dict) and value and self.chance(85):
                for key, item in value.items():
                    walk(item, f"{path}/{key.replace('~', '~0').replace('/', '~1')}")
            elif value is None:
                found.append({"op": "remove", "path": path})
            else:
                found.append({"op": self.one("add", "add", "replace"), "path": path, "value": value})

        walk(change, "")
        if self.chance(30):
            found.insert(self.one(0, len(found)), self.one(
                {"op": "test", "path": "/metadata/labels/app", "value": self.one("1", None)},
                {"op": "test", "path": "/kind", "value": self.one("Pod", "ConfigMap")},
                {"op": "copy", "from": "/metadata/name", "path": "/metadata/annotations/copy"},
                {"op": "move", "from": "/metadata/labels/app", "path": "/metadata/labels/moved"},
                {"op": "remove", "path": "/metadata/labels"}, {"op": "remove", "path": "/nosuch"},
                {"op": "replace", "path": "", "value": {}}, {"op": "add", "path": "/metadata/labels/-", "value": "x"},
                {"op": "wrong", "path": "/kind"}, {"op": "add", "path": "/metadata/labels", "value": {"app": "1"}},
                {"op": "remove", "path": "/metadata/uid"}, {"op": "remove", "path": "/metadata/resourceVersion"},
            ))  # fmt: skip
        return found

    def delete(self, kind: Kind) -> None:
        path = self.path(kind)
        query: Json = {}
        body: Json | None = None
        if self.chance(50):
            query = self.delete_query()
        if self.chance(35):
            body = self.delete_options(path)
        self.add("DELETE", path, body, **query)
        if self.chance(30):
            self.add("GET", path)

    def delete_query(self) -> Json:
        # No negative grace: of a real 1.20 nothing removes such a pod any more.
        query: Json = {"gracePeriodSeconds": self.one(0, 0, 1, 30, 100, "x") if self.chance(70) else None}
        if self.chance(20):
            query["propagationPolicy"] = self.one("Background", "Wrong")
        if self.chance(4):
            query["orphanDependents"] = "false"
        if self.chance(5):
            # Otherwise the garbage collector acts, at a time of its own.
            return {**query, "propagationPolicy": self.one("Orphan", "Foreground"), "dryRun": "All"}
        return {**query, **self.dry()}

    def delete_options(self, path: str) -> Json:
        made: Json = {}
        if self.chance(70):
            made |= {"kind": "DeleteOptions", "apiVersion": self.one("v1", "v1", "v1", "meta.k8s.io/v1", "v9")}
        if self.chance(50):
            made["gracePeriodSeconds"] = self.one(0, 0, 1, 30)
        if self.chance(40):
            made["preconditions"] = self.one(
                {"uid": f"{{{{uid:{path}}}}}"}, {"uid": NOBODY}, {"resourceVersion": f"{{{{rv:{path}}}}}"},
                {"resourceVersion": f"{{{{old:{path}}}}}"}, {}, {"uid": f"{{{{uid:{path}}}}}", "resourceVersion": "1"},
            )  # fmt: skip
        if self.chance(20):
            made["propagationPolicy"] = self.one("Background", "Wrong")
        if self.chance(5):
            made["dryRun"] = self.one(["All"], [], ["Some"])
        return made

    def delete_collection(self, kind: Kind) -> None:
        if not kind.namespaced or kind.plural == "serviceaccounts":
            return
        query: Json = {"labelSelector": self.one(*LABEL_SELECTORS, "app=1", "app=2")} if self.chance(80) else {}
        # What controllers put into every namespace stays.
        if kind.plural in ("configmaps", "secrets"):
            query["fieldSelector"] = OWN[kind.plural]
        elif self.chance(20):
            query["fieldSelector"] = self.one(*FIELD_SELECTORS[""])
        query |= self.delete_query() if self.chance(40) else {}
        self.add("DELETE", self.folder(kind), None, **query)

    def bind(self, kind: Kind) -> None:
        if kind is not PODS:
            self.get(kind)
            return
        path = self.path(kind)
        name = path.rpartition("/")[2]
        metadata = self.one({"name": name}, {"name": name}, {"name": name}, {"name": "other"}, {})
        if self.chance(50):
            target = self.one(
                {"kind": "Node", "name": self.node},
                {"name": self.node},
                {"kind": "Node"},
                {"kind": "Pod", "name": "x"},
                {},
            )
            body = {"kind": "Binding", "apiVersion": "v1", "metadata": metadata, "target": target}
            self.add("POST", f"{path}/binding", body, **self.dry())
        else:
            eviction: Json = {"kind": "Eviction", "apiVersion": "policy/v1beta1", "metadata": metadata}
            if self.chance(40):
                eviction["deleteOptions"] = {"gracePeriodSeconds": self.one(0, 5)}
            self.add("POST", f"{path}/eviction", eviction, **self.dry())

    def odd(self, kind: Kind) -> None:
        """Requests that make no sense."""
        path = self.path(kind)
        folder, _, name = path.rpartition("/")
        method, where, body = self.one(
            ("POST", path, self.whole(kind, name)), ("PUT", folder, self.whole(kind, name)), ("PATCH", folder, {}),
            ("GET", f"{path}/nosuch", None), ("GET", f"{path}/status", None), ("POST", folder, "{not json"),
            ("POST", folder, ""), ("POST", folder, "[]"), ("POST", folder, "null"), ("PUT", path, "{}"),
            ("POST", folder, '{"kind": 3}'), ("POST", folder, '{"metadata": 3}'), ("DELETE", path, "{"),
            ("DELETE", path, "[]"), ("GET", f"{folder}/", None), ("POST", folder, {"metadata": {"name": name}}),
            ("POST", f"{kind.root}/{kind.plural}", self.whole(kind, name)), ("HEAD", path, None),
        )  # fmt: skip
        if where == folder and not kind.namespaced and method == "POST" and isinstance(body, dict):
            return
        self.add(method, where, body)


LABEL_SELECTORS: Final = (
    "app", "app=1", "app==2", "app!=1", "app in (1,2)", "app notin (1)", "!app", "app,tier=1", "app=1,tier!=2",
    "z>1", "z<3",
    "app in (", "app=", "=1", "app in 1", "!", "bad key!", "app=1,", "app~1", ",", "app=bad value", "x/y/z",
    "app in ()", "z>x",
)  # fmt: skip
FIELD_SELECTORS: Final[dict[str, list[str]]] = {
    "": ["metadata.name=a", "metadata.name!=a", "metadata.name==b", "metadata.name", "nosuch=1", "metadata.labels=x",
    "=", ",",
         "metadata.name=a,metadata.name=b", "metadata.namespace!=x", "metadata.uid=1"],
    "pods": ["status.phase=Running", "status.phase!=Pending", "spec.nodeName=NODE", "spec.nodeName=",
    "spec.restartPolicy=Never",
             "spec.schedulerName=nobody", "status.podIP=10.1.2.3", "spec.serviceAccountName=default", "spec.zzz=1"],
    "secrets": ["type=Opaque", "type!=Opaque"],
    "events": ["involvedObject.name=a", "reason=Why", "type=Normal", "source=c", "involvedObject.uid=u"],
}  # fmt: skip

#: Without what controllers put into every namespace.
OWN: Final = {"configmaps": "metadata.name!=kube-root-ca.crt", "secrets": "type!=kubernetes.io/service-account-token"}

VERBS: Final = (
    Operations.create, Operations.get, Operations.listing, Operations.update, Operations.patch, Operations.delete,
    Operations.delete_collection, Operations.bind, Operations.odd,
)  # fmt: skip
VERB_WEIGHTS: Final = (30, 6, 14, 16, 22, 12, 2, 4, 3)
