"""Replays recorded requests on a server of our own, and compares what comes back but for what differs in every run.

Compared are the status, the headers of ``HEADERS`` and the whole body, but for:

- UIDs, resource versions, tokens, generated names and the like: each of the tape's stands for one of ours from its first
  appearance on;
- how the server was built, and build metadata of its version (``v1.36.2+virtual-kubelet``);
- times that the server chose, ages, and serial numbers of tokens;
- ``metadata.managedFields``: the dev cluster answers server-side apply with 415 and therefore tracks no managers;
- the prose of table columns, which is not ours to ship.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

__all__ = ["TAPES", "Difference", "Key", "Replay", "Row", "replay_all", "rows"]

#: They share ``tape-node``: this order on one server.
TAPES = ("discovery", "nodes", "pods", "watch", "auth_events_csr")
HEADERS = ("Content-Type", "Cache-Control", "Warning", "Vary", "X-Content-Type-Options", "Retry-After")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z\Z")
_AGE = re.compile(r"\d+[smh]\Z")
#: API groups that the recorded server did not have: another server adds them to a real cluster.
_ADD_ONS = frozenset({"metrics.k8s.io"})
#: Values that the server chooses anew in every run: mapped from the tape's to ours as they first appear.
_CHOSEN = frozenset({"uid", "resourceVersion", "continue", "token", "clusterIP", "serverAddress", "certificate"})
#: Times that the server sets, unless a client has sent this very value.
_SERVER_TIMES = frozenset(
    {"creationTimestamp", "deletionTimestamp", "lastTransitionTime", "lastUpdateTime", "expirationTimestamp"}
)
#: Of ``/version``: how the server was built.
_BUILD = frozenset({"gitCommit", "goVersion", "compiler", "platform"})
_NOT_READY = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}

#: Tape and line.
Key = tuple[str, int]


@dataclass(frozen=True)
class Row:
    """One recorded exchange."""

    tape: str
    index: int
    content: dict[str, Any] = field(hash=False)

    @property
    def key(self) -> Key:
        return (self.tape, self.index)

    def __str__(self) -> str:
        note = re.sub(r"[^a-z0-9]+", "-", self.content["note"].lower()).strip("-")
        return f"{self.tape}-{self.index:02}-{note}"


def rows(folder: Path, tapes: Sequence[str] = TAPES) -> Iterator[Row]:
    """All rows of these tapes, in the order of replay."""
    for tape in tapes:
        for index, line in enumerate((folder / f"{tape}.jsonl").read_text().splitlines()):
            yield Row(tape, index, json.loads(line))


class Difference(AssertionError):
    """Where our answer is not the tape's."""


@dataclass
class Replay:
    """One server and what is known of how the tape's values translate to its own."""

    session: aiohttp.ClientSession
    url: str
    known: dict[str, str] = field(default_factory=dict)
    #: By the tape's UID and the field: times of ours.
    times: dict[tuple[str, str], str] = field(default_factory=dict)
    #: Times that a client sent: field and value.
    sent: set[tuple[str, str]] = field(default_factory=set)
    #: Of the row at hand: lists of what is served may be shorter than the tape's.
    served_part: bool = False

    async def play(self, row: Row, *, served_part: bool = False) -> None:
        """Send the row's request and compare. Raises ``Difference``."""
        self.served_part = served_part
        recorded = row.content["response"]
        if "events" in recorded:
            status, headers, events = await self._watch(row.content)
            self._head(recorded, status, headers)
            self.compare(recorded["events"], events, "events")
            return
        status, headers, body = await self._send(row.content["request"])
        if recorded["status"] != status:
            raise Difference(f"status {status}, not {recorded['status']}: {json.dumps(body)[:500]}")
        self._head(recorded, status, headers)
        self.compare(recorded["body"], body, "body")

    async def perform(self, request: dict[str, Any]) -> None:
        """Do what a row that is left out did to the cluster."""
        status, _, body = await self._send(request)
        if status >= 300:
            raise Difference(f"cannot do {request}: {body}")

    @staticmethod
    def _head(recorded: dict[str, Any], status: int, headers: Mapping[str, str]) -> None:
        if recorded["status"] != status:
            raise Difference(f"status {status}, not {recorded['status']}")
        theirs = {name.lower(): value for name, value in recorded["headers"].items()}
        for name in HEADERS:
            expected = theirs.get(name.lower())
            if expected != headers.get(name):
                raise Difference(f"header {name}: {headers.get(name)!r}, not {expected!r}")
        if ("etag" in theirs) != ("ETag" in headers):
            raise Difference("header ETag: only one of the two has it")

    async def _send(self, request: dict[str, Any]) -> tuple[int, Mapping[str, str], Any]:
        async with await self._open(request) as answer:
            text = await answer.text()
            try:
                body = json.loads(text)
            except ValueError:
                body = text
            return answer.status, answer.headers, body

    async def _open(self, request: dict[str, Any]) -> aiohttp.ClientResponse:
        body = request.get("body")
        data = None
        headers = dict(request.get("headers") or {})
        if body is not None:
            self._note_times(body)
            data = body if isinstance(body, str) else json.dumps(self.translate(body))
            headers.setdefault("Content-Type", "application/json")
        url = URL(self.url + self._translate_path(request["path"]), encoded=True)
        return await self.session.request(request["method"], url, data=data, headers=headers)

    def _note_times(self, value: Any) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                if key == "lastTransitionTime" and isinstance(item, str):
                    self.sent.add((key, item))
                self._note_times(item)
        elif isinstance(value, list):
            for item in value:
                self._note_times(item)

    def _translate_path(self, path: str) -> str:
        def replace(match: re.Match[str]) -> str:
            return match.group(1) + self.known.get(match.group(2), match.group(2))

        return re.sub(r"((?:resourceVersion|continue)=)([^&]+)", replace, path)

    async def _watch(self, content: dict[str, Any]) -> tuple[int, Mapping[str, str], Any]:
        request = content["request"]
        if "meanwhile" in content:
            # Where it began had been learned from a list that is not on the tape.
            path, _, query = request["path"].partition("?")
            begin = re.search(r"resourceVersion=(\d+)", query)
            assert begin is not None
            _, _, listed = await self._send({"method": "GET", "path": f"{path}?limit=1"})
            self.known.setdefault(begin.group(1), listed["metadata"]["resourceVersion"])
        else:
            # Nothing happens: one second shows all that the tape's several do.
            request = {**request, "path": re.sub(r"timeoutSeconds=\d+", "timeoutSeconds=1", request["path"])}
        async with await self._open(request) as answer:
            for write in content.get("meanwhile", ()):
                await self.perform(write)
            text = await answer.text()
            if answer.status != 200:
                return answer.status, answer.headers, json.loads(text)
            return answer.status, answer.headers, [json.loads(line) for line in text.splitlines()]

    def translate(self, value: Any) -> Any:
        """The tape's value with our own identities in it."""
        if isinstance(value, dict):
            found = {k: self.translate(v) for k, v in value.items() if k != "managedFields"}
            for key in _SERVER_TIMES & value.keys():
                found[key] = self.times.get((value.get("uid", ""), key), value[key])
            return found
        if isinstance(value, list):
            return [self.translate(item) for item in value]
        return self.known.get(value, value) if isinstance(value, str) else value

    def compare(self, tape: Any, ours: Any, where: str) -> None:
        """Raise ``Difference`` at the first place where they differ."""
        if isinstance(tape, dict) and isinstance(ours, dict):
            expected = {k: v for k, v in tape.items() if k != "managedFields"}
            if self.served_part and where == "body.paths":
                expected = {k: v for k, v in expected.items() if k in ours}
            if expected.keys() != ours.keys():
                extra, missing = ours.keys() - expected.keys(), expected.keys() - ours.keys()
                raise Difference(f"{where}: has {sorted(extra)} too, lacks {sorted(missing)}")
            if "uid" in expected:
                self._learn_times(expected, ours)
            for key, value in expected.items():
                self._member(key, value, ours[key], f"{where}.{key}")
        elif isinstance(tape, list) and isinstance(ours, list):
            if self.served_part and where.endswith((".groups", ".items")):
                ours = [item for item in ours if _name(item) not in _ADD_ONS]
            tape = self._comparable(tape, ours, where)
            if len(tape) != len(ours):
                raise Difference(f"{where}: {len(ours)} items, not {len(tape)}: {json.dumps(ours)[:300]}")
            for index, (one, item) in enumerate(zip(tape, ours, strict=True)):
                self.compare(one, item, f"{where}[{index}]")
        elif tape != ours and not self._same(tape, ours):
            raise Difference(f"{where}: {ours!r}, not {tape!r}")

    def _comparable(self, tape: list[Any], ours: list[Any], where: str) -> list[Any]:
        """Of the tape's list what ours can be expected to have."""
        if where.endswith(".spec.taints") and _NOT_READY in tape and _NOT_READY not in ours:
            # When the node is Ready the life-cycle controller takes the taint away: here it was faster.
            return [taint for taint in tape if taint != _NOT_READY]
        if self.served_part and where.endswith((".groups", ".resources", ".subresources")):
            served = {_name(item) for item in ours}
            return [item for item in tape if _name(item) in served]
        return tape

    def _learn_times(self, tape: dict[str, Any], ours: dict[str, Any]) -> None:
        for key in _SERVER_TIMES & tape.keys() & ours.keys():
            if self.times.setdefault((tape["uid"], key), ours[key]) != ours[key] and key == "creationTimestamp":
                raise Difference(f"creationTimestamp of {tape['uid']} was {self.times[tape['uid'], key]} before")
            self.times[tape["uid"], key] = ours[key]

    def _member(self, key: str, tape: Any, ours: Any, where: str) -> None:
        if key == "description" and ".columnDefinitions" in where:
            return
        if key in _CHOSEN and isinstance(tape, str) and isinstance(ours, str) and tape:
            if not ours:
                raise Difference(f"{where}: empty")
            if self.known.setdefault(tape, ours) != ours:
                raise Difference(f"{where}: {ours}, but {tape} was {self.known[tape]} before")
            return
        if key in _SERVER_TIMES and _is_time(tape) and _is_time(ours) and (key, tape) not in self.sent:
            return
        if key == "name" and isinstance(tape, str) and tape.startswith("tape-gen-"):
            if not re.fullmatch("tape-gen-[bcdfghjklmnpqrstvwxz2456789]{5}", ours):
                raise Difference(f"{where}: {ours!r} is no generated name")
            self.known.setdefault(tape, ours)
        if key in _BUILD and isinstance(ours, str) and where.startswith("body."):
            return
        if key == "gitVersion" and isinstance(ours, str):
            ours = ours.partition("+")[0]  # as distributions do, we add our name as build metadata
        if key == "hash" or (key == "serverRelativeURL" and isinstance(ours, str)):
            tape, ours = (re.sub(r"hash=[0-9A-F]+", "hash=x", text) for text in (tape, ours))
        self.compare(tape, ours, where)

    def _same(self, tape: Any, ours: Any) -> bool:
        """Strings that are the same but for what is ours in them."""
        if not isinstance(tape, str) or not isinstance(ours, str):
            return False
        if _AGE.match(tape) and _AGE.match(ours):
            return True
        for theirs, own in self.known.items():
            if len(theirs) > 4:
                tape = tape.replace(theirs, own)
        tape = re.sub(r"(too old resource version: \d+) \(\d+\)", r"\1 (n)", tape)
        ours = re.sub(r"(too old resource version: \d+) \(\d+\)", r"\1 (n)", ours)
        tape, ours = (re.sub(r"(JTI|X509SHA256)=[0-9a-f-]{36,64}", r"\1=x", text) for text in (tape, ours))
        tape, ours = (re.sub(r"X509SHA256=[0-9a-f]{64}", "X509SHA256=x", text) for text in (tape, ours))
        return bool(tape == ours)


def _name(item: dict[str, Any]) -> str:
    name = item.get("name") or item.get("metadata", {}).get("name")
    return str(name or item.get("resource") or item.get("subresource"))


def _is_time(value: Any) -> bool:
    return isinstance(value, str) and _TIME.match(value) is not None


async def replay_all(
    session: aiohttp.ClientSession,
    url: str,
    folder: Path,
    *,
    tapes: Sequence[str] = TAPES,
    served_part: frozenset[Key] = frozenset(),
    instead: Mapping[Key, dict[str, Any]],
) -> dict[Key, str]:
    """Every row of ``tapes``, in order: how it differs; empty: it does not.

    Args:
        served_part: rows whose lists of what is served are compared only as far as it is served here.
        instead: requests that follow a row which cannot do here what it did there, for the rows after it.
    """
    replay = Replay(session, url)
    result: dict[Key, str] = {}
    for row in rows(folder, tapes):
        result[row.key] = ""
        try:
            async with asyncio.timeout(30):
                await replay.play(row, served_part=row.key in served_part)
        except Difference as difference:
            result[row.key] = str(difference)
        except TimeoutError:
            result[row.key] = "no answer within 30 s"
        if row.key in instead:
            await replay.perform(instead[row.key])
    return result
