"""Sends the same requests to two API servers, one after the other in step, and compares what each answers.

Compared are status, warnings and the whole body,
and in the end what watches from the beginning have seen. What differs in
every run is mapped: UIDs and resourceVersions as they first appear (so that a write which should be none shows),
names that
are generated, addresses that are allocated; times that the servers chose may differ by some seconds. ``known_differences``
says what else may.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import ssl
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.contract.known_differences import KNOWN, Exchange, without_disruption
from tests.contract.random_operations import Step
from tests.devcluster.clients import Answer, Api
from virtual_kubelet.objects.patches import apply_merge_patch

__all__ = ["RUN", "Difference", "Pair", "Side", "in_step", "shrink"]

#: Stands in steps for the beginning of a run's own names; as long as what it is replaced by.
RUN: Final = "run-12345678"
_MARKER: Final = re.compile(r"\{\{(rv|old|uid|list|next):([^}]*)\}\}")
_PATH: Final = re.compile(
    r"(?P<root>/api/v1|/apis/[^/]+/[^/]+)(/namespaces/(?P<namespace>[^/]+))?/(?P<plural>[a-z]+)(/(?P<name>[^/?]+))?"
)
_NAMESPACE: Final = re.compile(
    r"(?P<root>/api/v1)/(?P<plural>namespaces)(?P<namespace>)(/(?P<name>[^/?]+)(/status|/finalize)?)?$"
)
_GENERATED: Final = re.compile(r"\b(g\d+-|Bad_)[bcdfghjklmnpqrstvwxz2456789]{5}\b")
_NOBODY: Final = "00000000-0000-0000-0000-000000000000"
_NEAR_SECONDS: Final = 60.0
#: Controllers of a real cluster write these at times of their own.
_RESTLESS: Final = frozenset({"nodes", "namespaces", "serviceaccounts"})
_PATIENCE: Final = 60.0

#: The object after which nothing comes.
LAST: Final = "z-last"

Json = dict[str, Any]


class Watched(NamedTuple):
    """A watch from the beginning of a run; the last object is in its selection."""

    plural: str
    query: str


WATCHES: Final = (
    Watched("configmaps", ""),
    Watched("configmaps", "labelSelector=app%3D1"),
    Watched("configmaps", "fieldSelector=metadata.name!%3Da"),
    Watched("pods", ""),
    Watched("pods", "labelSelector=app"),
    Watched("pods", f"fieldSelector=spec.nodeName%3D{RUN}-n"),
    Watched("pods", "fieldSelector=status.phase%3DPending&labelSelector=app%3D1"),
)


class Side:
    """One of the two servers, and what has been seen of it."""

    def __init__(self, kind: str, api: Api) -> None:
        self.kind = kind
        self.api = api
        self.seen: dict[str, Json] = {}
        self._first: dict[str, str] = {}
        self._lists: dict[str, tuple[str, str]] = {}

    @classmethod
    async def of(cls, kind: str, kubeconfig: str) -> Side:
        """``kubeconfig`` is JSON."""
        return cls(
            kind,
            Api(json.loads(kubeconfig)["clusters"][0]["cluster"]["server"], await asyncio.to_thread(_tls, kubeconfig)),
        )

    def filled(self, text: str) -> str:
        """``text`` with the markers' values on this side."""

        def value(marker: re.Match[str]) -> str:
            what, path = marker.groups()
            if what in ("list", "next"):
                return self._lists.get(path, ("1", ""))[what == "next"]
            if what == "old":
                return self._first.get(path, "1")
            metadata = self.seen.get(path, {}).get("metadata", {})
            return str(metadata.get("uid", _NOBODY) if what == "uid" else metadata.get("resourceVersion", "1"))

        return _MARKER.sub(value, text)

    def body(self, text: str | None) -> bytes | None:
        if text is None:
            return None
        text = self.filled(text)
        if '"{{object}}"' in text:
            content = json.loads(text)
            text = json.dumps(apply_merge_patch(self.seen.get(content["{{object}}"], {}), content["{{merge}}"]))
        return text.encode()

    async def send(self, step: Step) -> Answer:
        answer = await self.api.send(
            step.method, self.filled(step.path), self.body(step.body), content_type=step.content_type
        )
        self._remember(step, answer)
        return answer

    def _remember(self, step: Step, answer: Answer) -> None:
        path, _, query = step.path.partition("?")
        if answer.status >= 300 or not isinstance(answer.body, dict):
            return
        body: Json = answer.body
        if body.get("kind", "").endswith("List"):
            metadata = body["metadata"]
            self._lists[path] = (metadata.get("resourceVersion", ""), metadata.get("continue", ""))
            for item in body["items"]:
                self.note(path, item)
        elif body.get("kind") != "Status" and "dryRun=All" not in query and "All" not in (step.body or ""):
            self.note(path, body)

    def note(self, path: str, obj: Json) -> None:
        where = _NAMESPACE.match(path) or _PATH.match(path)
        metadata = obj.get("metadata") or {}
        if where is None or "name" not in metadata:
            return
        above = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
        key = f"{where['root']}{above}/{where['plural']}/{metadata['name']}"
        self.seen[key] = obj
        self._first.setdefault(key, metadata.get("resourceVersion", ""))


def _tls(kubeconfig: str) -> ssl.SSLContext:
    config = json.loads(kubeconfig)
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    with tempfile.TemporaryDirectory() as directory:
        pem = Path(directory, "pem")
        pem.write_bytes(base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"]))
        context.load_cert_chain(pem)
    return context


class Difference(AssertionError):
    """The two sides have answered a step differently, and nothing known explains it."""

    def __init__(self, index: int, step: Step | str, places: Sequence[str]) -> None:
        super().__init__(f"step {index}: {step}\n    " + "\n    ".join(places))
        self.index = index
        self.places = list(places)


class Pair:
    """Two servers in step: ``new`` is ours, ``old`` the real one."""

    def __init__(self, new: Side, old: Side) -> None:
        self.new = new
        self.old = old
        self._known: dict[str, str] = {}
        self._known_back: dict[str, str] = {}
        self.explained: dict[str, int] = {}
        self._forced = False
        self._plural = ""
        self._begins: dict[tuple[Side, str], str] = {}

    async def step(self, index: int, step: Step) -> None:
        """Raises ``Difference``."""
        self._plural = plural_of(step.path)
        restless = self._plural in _RESTLESS
        if restless:
            await self._look(step)
        new, old = await asyncio.gather(self.new.send(step), self.old.send(step))
        for _ in range(10):
            if not restless or (_is_modified(new) == _is_modified(old)):
                break
            # A controller was faster on one of them.
            await self._look(step)
            if _is_modified(new):
                new = await self.new.send(step)
            else:
                old = await self.old.send(step)
        if step.method == "GET" and "resourceVersion=" in step.path:
            # From a cache, which may be behind what was written a moment ago, and before 1.31 has no order.
            for _ in range(40):
                if _names(new) == _names(old):
                    break
                await asyncio.sleep(0.05)
                old = await self.old.send(step)
            for answer in (new, old):
                if answer.status == 200 and "items" in answer.body:
                    answer.body["items"].sort(key=lambda item: item["metadata"]["name"])
        exchange = Exchange(step, new.status, old.status, _warnings(new), _warnings(old), new.body, old.body)
        self._apply_known(exchange)
        if exchange.unlike:
            await self.make_even(step)
            return
        if exchange.settled:
            return
        self._forced = exchange.another_write
        places = self.compare(exchange, restless=restless)
        if places:
            raise Difference(index, step, places)

    def _apply_known(self, exchange: Exchange) -> None:
        for known in KNOWN:
            if known.apply(exchange):
                self.explained[known.reason] = self.explained.get(known.reason, 0) + 1
            if exchange.settled or exchange.unlike:
                return

    async def _look(self, step: Step) -> None:
        path = step.path.partition("?")[0].removesuffix("/status")
        await asyncio.gather(*(side.send(Step("GET", path)) for side in (self.new, self.old)))

    async def begin(self, run: str) -> None:
        """Remember where watches are to begin."""
        for plural in {watch.plural for watch in WATCHES}:
            await self._begin_at(f"/api/v1/namespaces/{run}-a/{plural}")

    async def _begin_at(self, folder: str) -> None:
        for side in (self.new, self.old):
            listed = await side.api.get(folder)
            self._begins[side, plural_of(folder)] = listed.body["metadata"]["resourceVersion"]

    async def end(self, index: int, run: str) -> None:
        """Compare what watches from the beginning see. Raises ``Difference``."""
        folder = f"/api/v1/namespaces/{run}-a"
        metadata = {"name": LAST, "labels": {"app": "1"}}
        spec = {
            "containers": [{"name": "main", "image": "x"}],
            "nodeName": f"{run}-n",
            "automountServiceAccountToken": False,
        }
        for side in (self.new, self.old):
            await side.api.create(f"{folder}/configmaps", {"metadata": metadata})
            await side.api.create(f"{folder}/pods", {"metadata": metadata, "spec": spec})
        for watch in WATCHES:
            path = f"{folder}/{watch.plural}?watch=1&{watch.query.replace(RUN, run)}&resourceVersion="
            new, old = await asyncio.gather(
                *(_seen(side, path + self._begins[side, watch.plural]) for side in (self.new, self.old))
            )
            new, old = _without_silent_writes(_without_disruption(new)), _without_silent_writes(old)
            step = Step("GET", f"{folder}/{watch.plural}")
            exchange = Exchange(step, 200, 200, [], [], _as_list(new), _as_list(old))
            self._apply_known(exchange)
            shown = [
                [(kind, _GENERATED.sub(r"\1?", obj["metadata"]["name"])) for kind, obj in events]
                for events in (new, old)
            ]
            places = [] if shown[0] == shown[1] else [f"events: {shown[0]}, not {shown[1]}"]
            self._walk(exchange.new, exchange.old, "", places, restless=True)
            if places:
                raise Difference(index, f"watch of {watch.plural} with {watch.query or 'no selector'}", places)

    async def make_even(self, step: Step) -> None:
        """After a step that one side took and the other did not: remove what it was about from both."""
        if step.method == "GET":
            return
        where = _NAMESPACE.match(step.path.partition("?")[0]) or _PATH.match(step.path)
        if where is None:
            return
        for side in (self.new, self.old):
            folder = step.path.partition("?")[0]
            if where["name"]:
                folder = folder[: where.start("name") - 1]
            listed = await side.api.get(folder)
            for item in (listed.body.get("items") or ()) if listed.status == 200 else ():
                name = item["metadata"]["name"]
                if where["plural"] in ("nodes", "namespaces"):
                    own = re.fullmatch("run-[0-9a-f]{8}-[cd]", name) is not None
                else:
                    own = name not in ("default", "kube-root-ca.crt") and not name.startswith("default-token-")
                if own:
                    await remove(side, f"{folder}/{name}")
        # What it took to make them even differs: watches begin after it.
        if where["namespace"] is not None and where["namespace"].endswith("-a") and self._begins:
            await self._begin_at(folder)

    def compare(self, exchange: Exchange, *, restless: bool = False) -> list[str]:
        found: list[str] = []
        if exchange.new_status != exchange.old_status:
            found.append(
                f"status: {exchange.new_status}, not {exchange.old_status}: {_short(exchange.new)} / {_short(exchange.old)}"
            )
            return found
        if exchange.new_warnings != exchange.old_warnings:
            found.append(f"warnings: {exchange.new_warnings}, not {exchange.old_warnings}")
        self._walk(exchange.new, exchange.old, "", found, restless)
        return found

    def _walk(self, new: Any, old: Any, where: str, found: list[str], restless: bool) -> None:
        if isinstance(new, dict) and isinstance(old, dict):
            for key in sorted(new.keys() | old.keys()):
                here = f"{where}.{key}"
                if key == "continue" and (restless or self._plural == "secrets"):
                    continue  # whether there is more depends on what others have made
                if key not in old:
                    found.append(f"{here}: is {_short(new[key])}, should not be there")
                elif key not in new:
                    found.append(f"{here}: is not there, should be {_short(old[key])}")
                elif key == "resourceVersion" and isinstance(new[key], str) and isinstance(old[key], str):
                    # A list has that of the whole store, in which others write, too.
                    if not restless and where.endswith(".metadata") and not _is_list(new):
                        self._pair(new[key], old[key], here, found)
                elif key == "continue":
                    continue  # an opaque token
                elif key == "uid" and isinstance(new[key], str) and isinstance(old[key], str):
                    self._pair(new[key], old[key], here, found)
                else:
                    self._walk(new[key], old[key], here, found, restless)
        elif isinstance(new, list) and isinstance(old, list):
            if len(new) != len(old):
                found.append(f"{where}: {_short(new)}, not {_short(old)}")
                return
            for index, (one, other) in enumerate(zip(new, old, strict=True)):
                self._walk(one, other, f"{where}[{index}]", found, restless)
        elif isinstance(new, str) and isinstance(old, str):
            if not self._same_text(new, old):
                found.append(f"{where}: {_short(new)}, not {_short(old)}")
        elif new != old or type(new) is not type(old):
            found.append(f"{where}: {_short(new)}, not {_short(old)}")

    def _pair(self, new: str, old: str, where: str, found: list[str]) -> None:
        if new == old == "":
            return
        # What a real 1.20 writes because of managedFields alone is no write here: ours has been seen, theirs has not.
        if self._forced or (new in self._known and old not in self._known_back):
            self._known[new], self._known_back[old] = old, new
        known = self._known.setdefault(new, old)
        back = self._known_back.setdefault(old, new)
        if known != old:
            found.append(f"{where}: {new} was {known} before, and is {old} now")
        elif back != new:
            found.append(f"{where}: {old} was {back} before, and is {new} now")

    def _same_text(self, new: str, old: str) -> bool:
        new, old = _GENERATED.sub(r"\1?", new), _GENERATED.sub(r"\1?", old)
        if new == old:
            return True
        first, second = _time(new), _time(old)
        if first is not None and second is not None and len(new) == len(old):
            return abs((first - second).total_seconds()) < _NEAR_SECONDS
        translated = re.sub(
            r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\b\d+\b", lambda m: self._known.get(m[0], m[0]), new
        )
        return translated == old


async def _seen(side: Side, path: str) -> list[tuple[str, Json]]:
    """The events of a watch until the last object has come."""
    events: list[tuple[str, Json]] = []
    async with asyncio.timeout(_PATIENCE), side.api.watch(path) as watch:
        while True:
            for event in await watch.take(1):
                obj = event["object"]
                assert event["type"] in ("ADDED", "MODIFIED", "DELETED"), event
                events.append((event["type"], obj))
                if obj["metadata"]["name"] == LAST:
                    revisions = [int(obj["metadata"]["resourceVersion"]) for _, obj in events]
                    assert revisions == sorted(set(revisions)), f"revisions of {side.kind} go up: {revisions}"
                    return events


def _without_silent_writes(events: list[tuple[str, Json]]) -> list[tuple[str, Json]]:
    """Writes that changed nothing but managedFields are none to the other side."""
    kept: list[tuple[str, Json]] = []
    known: dict[str, Json] = {}
    for kind, obj in events:
        metadata = {k: v for k, v in obj["metadata"].items() if k not in ("managedFields", "resourceVersion")}
        status = {key: item for key, item in (obj.get("status") or {}).items() if key != "qosClass"}
        value = {**obj, "metadata": metadata, "status": status}
        if kind == "DELETED":
            known.pop(metadata["uid"], None)
        elif kind == "MODIFIED" and known.get(metadata["uid"]) == value:
            continue
        else:
            known[metadata["uid"]] = value
        kept.append((kind, obj))
    return kept


def _without_disruption(events: list[tuple[str, Json]]) -> list[tuple[str, Json]]:
    """An eviction writes a condition first, since 1.26: then the write is one that changes nothing."""
    for _, obj in events:
        if "status" in obj:
            without_disruption(obj)
    return events


def _as_list(events: list[tuple[str, Json]]) -> Json:
    return {"items": [obj for _, obj in events]}


def _is_list(metadata: Json) -> bool:
    return not {"name", "uid", "generateName"} & metadata.keys()


def _names(answer: Answer) -> list[str]:
    if answer.status != 200 or "items" not in answer.body:
        return [str(answer.status)]
    return sorted(_GENERATED.sub(r"\1?", item["metadata"]["name"]) for item in answer.body["items"])


def _is_modified(answer: Answer) -> bool:
    return answer.status == 409 and "has been modified" in str(answer.body.get("message", ""))


def _warnings(answer: Answer) -> list[str]:
    found = answer.headers.getall("Warning", []) if hasattr(answer.headers, "getall") else []
    return [re.sub(r'^299 - "(.*)"$', r"\1", text) for text in found]


def plural_of(path: str) -> str:
    where = _NAMESPACE.match(path.partition("?")[0]) or _PATH.match(path)
    return where["plural"] if where is not None else ""


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) < 1200 else text[:1200] + "…"


def _time(text: str) -> datetime | None:
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", text):
        return None
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


async def remove(side: Side, path: str, *, wait: bool = True) -> None:
    """Whatever keeps it; ``wait``: until it is gone."""
    side.seen.pop(path, None)
    await side.api.send("DELETE", f"{path}?gracePeriodSeconds=0")
    async with asyncio.timeout(_PATIENCE):
        while (left := await side.api.get(path)).status == 200:
            # Controllers write meanwhile: what conflicts is tried again.
            await side.api.patch(path, {"metadata": {"finalizers": None}})
            if _NAMESPACE.match(path):
                await side.api.put(f"{path}/finalize", {**left.body, "spec": {"finalizers": []}})
            if not wait:
                return
            await asyncio.sleep(0.02)


@asynccontextmanager
async def in_step(new: str, old: str) -> AsyncIterator[tuple[Pair, str]]:
    """Both servers by their kubeconfigs, with two namespaces for a run whose name comes with them."""
    run = f"run-{uuid.uuid4().hex[:8]}"
    sides = [await Side.of("new", new), await Side.of("old", old)]
    async with sides[0].api, sides[1].api:
        namespaces = [f"{run}-a", f"{run}-b"]
        try:
            for side in sides:
                for namespace in namespaces:
                    await side.api.create("/api/v1/namespaces", {"metadata": {"name": namespace}})
            for side in sides:
                for namespace in namespaces:
                    await _ready(side, namespace)
            yield Pair(*sides), run
        finally:
            for side in sides:
                await _clean(side, run)


async def _ready(side: Side, namespace: str) -> None:
    """Controllers have made what is in every namespace."""
    async with asyncio.timeout(_PATIENCE):
        while True:
            account = await side.api.get(f"/api/v1/namespaces/{namespace}/serviceaccounts/default")
            root = await side.api.get(f"/api/v1/namespaces/{namespace}/configmaps/kube-root-ca.crt")
            if account.status == root.status == 200 and (side.kind == "new" or account.body.get("secrets")):
                return
            await asyncio.sleep(0.05)


async def _clean(side: Side, run: str) -> None:
    """Leave nothing that holds a namespace; it goes when its controllers come to it."""
    core = ("pods", "configmaps", "secrets", "services", "serviceaccounts", "events")
    for folder in [
        f"{root}/namespaces/{run}-{letter}/{plural}"
        for letter in "ab"
        for root, plural in [*(("/api/v1", plural) for plural in core), ("/apis/coordination.k8s.io/v1", "leases")]
    ]:
        for obj in (await side.api.get(folder)).body.get("items", ()):
            if plural_of(folder) == "pods" or obj["metadata"].get("finalizers"):
                await remove(side, f"{folder}/{obj['metadata']['name']}", wait=False)
    for plural in ("nodes", "namespaces"):
        for obj in (await side.api.get(f"/api/v1/{plural}")).body["items"]:
            if obj["metadata"]["name"].startswith(run):
                await remove(side, f"/api/v1/{plural}/{obj['metadata']['name']}", wait=False)


async def shrink(steps: list[Step], fails: Callable[[list[Step]], Any], tries: int) -> list[Step]:
    """Fewer steps that still fail: ``fails`` says so (awaited). At most so many tries."""
    size = max(1, len(steps) // 2)
    while tries > 0 and size >= 1:
        start = 0
        while start < len(steps) - 1 and tries > 0:
            rest = steps[:start] + steps[min(start + size, len(steps) - 1) :]
            tries -= 1
            if await fails(rest):
                steps = rest
            else:
                start += size
        size //= 2
    return steps
