"""The dev cluster answers what a real API server 1.36 answered: each row of the tapes is replayed on it.

A row that is left out stands in ``LEFT_OUT`` with the reason; one that would hold all the same is a failure.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from tests.devcluster.clients import ssl_context
from tests.devcluster.tape_replay import TAPES, Key, Row, replay_all, rows
from tests.locations import SHARED
from virtual_kubelet.devcluster import DevCluster

FOLDER: Final = SHARED / "kubernetes-1.36" / "tapes"

#: Lists of what a server serves: ours is the shorter one. What it has is compared all the same.
SERVED_PART: Final[Mapping[Key, str]] = {
    ("discovery", 2): "the tape's server has 20 API groups, the dev cluster those that nodes and pods need",
    ("discovery", 3): "the tape's server has workloads, volumes and quotas in the core group",
    ("discovery", 6): "the same list, aggregated",
    ("discovery", 10): "the same list, of OpenAPI documents",
}
LEFT_OUT: Final[Mapping[Key, str]] = {
    **SERVED_PART,
    ("discovery", 4): "the group apps is not served: no Deployments here",
    ("nodes", 9): "server-side apply is answered 415, which says what to use instead",
    ("pods", 21): "the message ends in a diff of Go's internal structs, in which values of env would stand",
    (
        "auth_events_csr",
        8,
    ): "what the tape says was answered has the approval in it, which its recorder added only then",
}
#: What rows that are left out did to the cluster, done in another way for the rows after them.
INSTEAD: Final[Mapping[Key, dict[str, Any]]] = {
    ("nodes", 9): {
        "method": "PATCH",
        "path": "/api/v1/nodes/tape-node",
        "headers": {"Content-Type": "application/merge-patch+json"},
        "body": {"metadata": {"labels": {"ssa": "yes"}}},
    }
}

ROWS: Final = list(rows(FOLDER)) if FOLDER.is_dir() else []
NO_TAPES: Final = f"no recordings: {SHARED.name}/ is not beside the repository"
PARAMETERS: Final = [pytest.param(row, id=str(row)) for row in ROWS] or [
    pytest.param(None, id="no-tapes", marks=pytest.mark.skip(NO_TAPES))
]


async def _replay(tapes: Sequence[str] = TAPES, served_part: frozenset[Key] = frozenset()) -> dict[Key, str]:
    # Their scheduler did not know tape-node as Ready in time; here it would.
    async with DevCluster(scheduler=False) as cluster:
        connector = aiohttp.TCPConnector(ssl=await asyncio.to_thread(ssl_context, cluster))
        async with aiohttp.ClientSession(connector=connector) as session:
            return await replay_all(session, cluster.url, FOLDER, tapes=tapes, served_part=served_part, instead=INSTEAD)


@pytest.fixture(scope="module")
def differences() -> dict[Key, str]:
    """How each row differs, compared whole."""
    return asyncio.run(_replay())


@pytest.mark.recording
@pytest.mark.parametrize("row", PARAMETERS)
def test_row(row: Row, differences: dict[Key, str]) -> None:
    difference = differences[row.key]
    if row.key in LEFT_OUT:
        assert difference, f"{row} is left out, but holds: take it off the list"
    else:
        assert not difference, f"{row}: {difference}"


@pytest.mark.recording
def test_what_is_served_is_listed_as_the_recorded_server_lists_it(shared: Path) -> None:
    differences = asyncio.run(_replay(["discovery"], frozenset(SERVED_PART)))
    assert {key: differences[key] for key in SERVED_PART} == dict.fromkeys(SERVED_PART, "")


@pytest.mark.recording
def test_fewer_than_fifteen_of_the_107_rows_are_left_out(shared: Path) -> None:
    assert len(ROWS) == 107
    assert LEFT_OUT.keys() <= {row.key for row in ROWS}
    assert len(LEFT_OUT) < 15
