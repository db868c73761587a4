"""Replays recorded requests on a server of our own, and compares what comes back but for what differs in every run."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

#: They share ``tape-node``: this order on one server.
TAPES = ("discovery", "nodes", "pods", "watch", "auth_events_csr")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z\Z")
_AGE = re.compile(r"\d+[smh]\Z")
#: Values that the server chooses anew in every run: mapped from the tape's to ours as they first appear.
_CHOSEN = frozenset({"uid", "resourceVersion", "continue", "token", "clusterIP"})
#: Times that the server sets.
_SERVER_TIMES = frozenset({"creationTimestamp", "deletionTimestamp", "lastTransitionTime", "expirationTimestamp"})
_HEADERS = ("Content-Type", "Cache-Control", "Warning", "Vary", "X-Content-Type-Options")


@dataclass(frozen=True)
class Row:
    """One recorded exchange."""

    tape: str
    index: int
    content: dict[str, Any]

    @property
    def key(self) -> tuple[str, int]:
        return (self.tape, self.index)

    def __str__(self) -> str:
        return f"{self.tape} {self.index} ({self.content['note']})"


def rows(folder: Path) -> Iterator[Row]:
    for tape in TAPES:
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

    async def play(self, row: Row) -> None:
        """Send the row's request and compare. Raises ``Difference``."""
        recorded = row.content["response"]
        if "events" in recorded:
            status, headers, events = await self._watch(row.content)
            self._status(recorded, status, headers)
            self.compare(recorded["events"], events, "events")
            return
        status, headers, body = await self._send(row.content["request"])
        self._status(recorded, status, headers)
        self.compare(recorded["body"], body, "body")

    def _status(self, recorded: dict[str, Any], status: int, headers: dict[str, str]) -> None:
        if recorded["status"] != status:
            raise Difference(f"status {status}, not {recorded['status']}")
        for name in _HEADERS:
            expected = recorded["headers"].get(name)
            if expected != headers.get(name):
                raise Difference(f"header {name}: {headers.get(name)!r}, not {expected!r}")
        if ("Etag" in recorded["headers"]) != ("ETag" in headers):
            raise Difference("ETag")

    async def _send(self, request: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        async with await self._open(request) as answer:
            text = await answer.text()
            try:
                body = json.loads(text)
            except ValueError:
                body = text
            return answer.status, dict(answer.headers), body

    async def _open(self, request: dict[str, Any]) -> aiohttp.ClientResponse:
        body = request.get("body")
        data = None
        headers = dict(request.get("headers") or {})
        if body is not None:
            data = body if isinstance(body, str) and body in ("{not json", "{}") else json.dumps(self.translate(body))
            headers.setdefault("Content-Type", "application/json")
        url = URL(self.url + self._translate_path(request["path"]), encoded=True)
        return await self.session.request(request["method"], url, data=data, headers=headers)

    def _translate_path(self, path: str) -> str:
        def replace(match: re.Match[str]) -> str:
            return match.group(1) + self.known.get(match.group(2), match.group(2))

        return re.sub(r"((?:resourceVersion|continue)=)([^&]+)", replace, path)

    async def _watch(self, content: dict[str, Any]) -> tuple[int, dict[str, str], list[Any]]:
        async with await self._open(_shortened(content["request"])) as answer:
            for write in content.get("meanwhile", ()):
                status, _, body = await self._send(write)
                assert status < 300, (write, body)
            text = await answer.text()
            return answer.status, dict(answer.headers), [json.loads(line) for line in text.splitlines()]

    def translate(self, value: Any) -> Any:
        """The tape's value with our own identities in it."""
        if isinstance(value, dict):
            return {k: self.translate(v) for k, v in value.items() if k != "managedFields"}
        if isinstance(value, list):
            return [self.translate(item) for item in value]
        return self.known.get(value, value) if isinstance(value, str) else value

    def compare(self, tape: Any, ours: Any, where: str) -> None:
        """Raise ``Difference`` at the first place where they differ."""
        if isinstance(tape, dict) and isinstance(ours, dict):
            expected = {k: v for k, v in tape.items() if k != "managedFields"}
            if expected.keys() != ours.keys():
                extra, missing = ours.keys() - expected.keys(), expected.keys() - ours.keys()
                raise Difference(f"{where}: has {sorted(extra)} too, lacks {sorted(missing)}")
            for key, value in expected.items():
                self._member(key, value, ours[key], f"{where}.{key}")
        elif isinstance(tape, list) and isinstance(ours, list):
            if len(tape) != len(ours):
                raise Difference(f"{where}: {len(ours)} items, not {len(tape)}: {json.dumps(ours)[:300]}")
            for index, (expected, item) in enumerate(zip(tape, ours, strict=True)):
                self.compare(expected, item, f"{where}[{index}]")
        elif tape != ours and not self._same(tape, ours):
            raise Difference(f"{where}: {ours!r}, not {tape!r}")

    def _member(self, key: str, tape: Any, ours: Any, where: str) -> None:
        if key == "description" and ".columnDefinitions" in where:
            return  # Kubernetes' prose, which we leave out
        if key in _CHOSEN and isinstance(tape, str) and isinstance(ours, str) and tape:
            if self.known.setdefault(tape, ours) != ours:
                raise Difference(f"{where}: {ours}, but {tape} was {self.known[tape]} before")
            return
        if key in _SERVER_TIMES and _is_time(tape) and _is_time(ours):
            return
        if key == "name" and isinstance(tape, str) and tape.startswith("tape-gen-"):
            self.known.setdefault(tape, ours)
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
        tape, ours = (re.sub(r"JTI=[0-9a-f-]{36}", "JTI=x", text) for text in (tape, ours))
        return bool(tape == ours)


def _is_time(value: Any) -> bool:
    return isinstance(value, str) and _TIME.match(value) is not None


def _shortened(request: dict[str, Any]) -> dict[str, Any]:
    """One second shows all that the tape's several do."""
    path = re.sub(r"timeoutSeconds=\d+", "timeoutSeconds=1", request["path"])
    return {**request, "path": path}


async def replay_all(session: aiohttp.ClientSession, url: str, folder: Path) -> dict[Row, str]:
    """Every row, in order; what differs, and how (empty: nothing)."""
    replay = Replay(session, url)
    found: dict[tuple[str, int], str] = {}
    result: dict[Row, str] = {}
    for row in rows(folder):
        try:
            async with asyncio.timeout(10):
                await replay.play(row)
        except Difference as difference:
            found[row.key] = str(difference)
            result[row] = str(difference)
    return result
