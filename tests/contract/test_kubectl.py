"""What kubectl prints of a server: transcripts of whole sessions, line by line, nothing on stderr that is not there."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.contract.api_servers import ApiServer
from tests.contract.commands import command, running_node
from tests.contract.transcript import fill, mismatch, parse

TRANSCRIPTS = Path(__file__).parent / "transcripts"
#: Those of a group share a cluster and a node, which cost as much as twenty commands; all groups take about as long.
GROUPS = (("pods",), ("nodes", "objects"), ("certificates", "discovery.dev"))
NAMES = [name for group in GROUPS for name in group]


@pytest.fixture
async def node(
    api_server: ApiServer, node_name: str, kubeconfig_file: Callable[[str], Path], tmp_path: Path
) -> AsyncIterator[str]:
    """A node with the mock provider that takes every pod."""
    certificate, key = api_server.serving_certificate("127.0.0.1")
    (tmp_path / "node.crt").write_bytes(certificate)
    (tmp_path / "node.key").write_bytes(key)
    options = ["--provider", "mock", "--disable-taint", "--listen", "127.0.0.1:0", "--node-ip", "127.0.0.1"]
    options += ["--tls-cert-file", str(tmp_path / "node.crt"), "--tls-private-key-file", str(tmp_path / "node.key")]
    async with running_node(kubeconfig_file(api_server.node_kubeconfig(node_name)), node_name, *options):
        yield node_name


def test_each_transcript_is_in_a_group() -> None:
    assert sorted(NAMES) == sorted(path.stem for path in TRANSCRIPTS.glob("*.txt"))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("names", GROUPS, ids="+".join)
async def test_kubectl_prints_what_the_transcripts_say(
    names: tuple[str, ...],
    api_server: ApiServer,
    namespace: str,
    node: str,
    kubeconfig_file: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    content = json.loads(api_server.admin_kubeconfig())
    content["contexts"][0]["context"]["namespace"] = namespace
    environment = {
        "KUBECONFIG": str(kubeconfig_file(json.dumps(content))),
        "HOME": str(tmp_path),
        # The test environment's own kubectl, whatever else this machine has; or another version, from the folder named.
        "PATH": f"{os.environ.get('KUBECTL_FOLDER') or Path(sys.executable).parent}:{os.environ['PATH']}",
        "TMPDIR": str(tmp_path),
        "LC_ALL": "C.UTF-8",
    }
    values = {"ns": namespace, "node": node, "files": os.fspath(TRANSCRIPTS), "context": content["current-context"]}
    told = await command("kubectl", "version", "--client", "--output=json", environment=environment, seconds=90)
    version = json.loads(told.out)["clientVersion"]
    kinds = (api_server.kind, f"v{version['major']}{version['minor']}")
    wrong: list[str] = []
    for name in names:
        if name.endswith(".dev") and api_server.kind != "dev":
            continue  # what else a real server serves is not ours to say
        for step in parse((TRANSCRIPTS / f"{name}.txt").read_text(), *kinds):
            done = await command("sh", "-c", fill(step.command, values), environment=environment, seconds=90)
            found = [mismatch(step.out, done.out, values), mismatch(step.err, done.err, values)]
            if done.code != step.code:
                found.append(f"exit code {done.code}, not {step.code}")
            if any(found):
                wrong += [f"{name}.txt:{step.line}: {step.command}", *filter(None, found)]
    assert not wrong, "\n" + "\n".join(wrong)
