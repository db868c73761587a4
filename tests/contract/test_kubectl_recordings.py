"""Row by row: what kubectl printed with a real kubelet (``../shared/kubelet-1.36/kubectl.jsonl``) it prints with ours."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.contract.api_servers import ApiServer
from tests.contract.commands import Finished, command
from tests.contract.recorded_pods import Logs
from tests.locations import SHARED

pytestmark = [pytest.mark.recording, pytest.mark.timeout(240)]

RECORDING = SHARED / "kubelet-1.36" / "kubectl.jsonl"
ROWS: list[dict[str, Any]] = (
    [json.loads(line) for line in RECORDING.read_text().splitlines()] if RECORDING.is_file() else []
)
SPDY: Final = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false", "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false"}


@dataclass(frozen=True)
class Otherwise:
    """What a node of ours does not say in the recording's words, why, and patterns of what it says."""

    why: str
    out: str = ""
    err: str = ""
    code: int = 0


_NO_SUCH: Final = Otherwise(
    "an OCI runtime is not at work here: it has an id for the command, and adds its own name",
    err=r"error: (Internal error occurred: ){1,2}error executing command in container: failed to exec in container: "
    r'failed to start exec: exec: "/no/such": stat /no/such: no such file or directory\n',
    code=1,
)
_DESCRIBED: Final = (
    "ids, images, times, mounts and events are those of a container runtime: what Kubernetes says is here"
)
_CONDITIONS: Final = r".*\nConditions:\n  Type +Status\n.*  Ready +{0} *\n  ContainersReady +{0} *\n.*"
_NO_IMAGE: Final = "without --command there is nothing to run: a process has no image, and so no entrypoint"
_ATTACHED: Final = (
    "All commands and output from this session will be recorded in container logs, including credentials and sensitive "
    "information passed through the command prompt.\nIf you don't see a command prompt, try pressing enter.\n"
)
OTHERWISE: Final = {
    "logs h3": Otherwise(
        "a process has no image that could be missing: the sentence is the same, the reason is another",
        err=r'Error from server \(BadRequest\): container "a" in pod "h3" is waiting to start: CreateContainerError\n',
        code=1,
    ),
    "logs h4 -p": Otherwise("the recorded kubelet had removed that container; ours has its log", out=r"run [0-9]+\n"),
    "exec h1 -c a -- id": Otherwise("a process is a user of this machine", out=r"uid=\d+.* gid=\d+.* groups=.*\n"),
    "exec h1 -c a -- /no/such": _NO_SUCH,
    "SPDY: exec h1 -c a -- /no/such": _NO_SUCH,
    "cp h1:/etc/passwd passwd.out -c a": Otherwise(
        "they are tar's words, in two writes, and kubectl does not wait for them once it has the file",
        out=r"(tar: (Removing leading `/' from .*\n)?)?",
    ),
    "get pods -o wide": Otherwise(
        "addresses and ages; and a reason of its own for h3",
        out=r"NAME +READY +STATUS +RESTARTS +AGE +IP +NODE +NOMINATED NODE +READINESS GATES\n"
        r"h1 +2/2 +Running +0 .*\nh2 +0/1 +Error +0 .*\nh3 +0/1 +CreateContainerError +0 .*\n"
        r"h4 +0/1 +(CrashLoopBackOff|Error) +\d+ .*\n",
    ),
    "describe pod h1": Otherwise(
        _DESCRIBED,
        out=r"Name: +h1\n.*\nStatus: +Running\n.*\n  a:\n.*    State: +Running\n      Started: .*\n    Ready: +True\n"
        r"    Restart Count: +0\n.*\n  b:\n.*    State: +Running\n" + _CONDITIONS.format("True"),
    ),
    "describe pod h3": Otherwise(
        _DESCRIBED,
        out=r"Name: +h3\n.*\nStatus: +Pending\n.*\n  a:\n    Container ID: *\n.*    State: +Waiting\n"
        r"      Reason: +CreateContainerError\n    Ready: +False\n    Restart Count: +0\n"
        + _CONDITIONS.format("False"),
    ),
    "describe pod h4": Otherwise(
        _DESCRIBED,
        out=r"Name: +h4\n.*\nStatus: +Running\n.*    Last State: +Terminated\n      Reason: +Error\n"
        r"      Exit Code: +1\n      Started: .*\n      Finished: .*\n    Ready: +False\n    Restart Count: +\d+\n"
        + _CONDITIONS.format("False"),
    ),
    "top node": Otherwise(
        "recorded without a metrics server; the dev cluster is its own",
        out=r"NAME .*\n.*",
    ),
    "run, attached, deleted after": Otherwise(
        _NO_IMAGE, out=r'attached\npod "h5" deleted from {namespace} namespace\n', err=re.escape(_ATTACHED)
    ),
    "run, exit code": Otherwise(
        _NO_IMAGE,
        out=r'pod "h6" deleted from {namespace} namespace\n',
        err=re.escape(_ATTACHED) + r"pod {namespace}/h6 terminated \(Error\)\n",
        code=9,
    ),
}


def test_the_recording_is_there_and_every_exception_is_one_of_its_rows(shared: Path) -> None:
    assert RECORDING.is_file()
    assert len(ROWS) == 36
    assert set(OTHERWISE) <= {row["note"] for row in ROWS}


@pytest.fixture
async def run(
    logs: Logs, node_name: str, kubeconfig_file: Callable[[str], Path], tmp_path: Path
) -> Callable[[dict[str, Any]], Any]:
    """Runs a row's kubectl in the pods' namespace."""

    async def run(row: dict[str, Any]) -> Finished:
        args = list(row["kubectl"])
        if args[0] == "run":
            placed = {"spec": {"nodeName": node_name, "tolerations": [{"operator": "Exists"}]}}
            args[args.index("--") : args.index("--")] = ["--command", f"--overrides={json.dumps(placed)}"]
        elif args[0] == "cp":
            args[args.index("passwd.out")] = str(tmp_path / "passwd.out")
        if "--since=1s" in args:
            await asyncio.sleep(1.1)  # the age of lines is the very thing this is about
        scope = [] if args[0] == "top" else ["--namespace", logs.namespace]
        return await command(
            "kubectl", "--kubeconfig", str(logs.kubectl.kubeconfig), *scope, *args,
            stdin=row.get("stdin", "" if "-i" in args else None),
            environment=SPDY if row["note"].startswith("SPDY: ") or "spdy" in row else {},
        )  # fmt: skip

    return run


@pytest.mark.usefixtures("recorded_pods")
async def test_kubectl_prints_what_it_printed_with_a_kubelet(
    run: Callable[[dict[str, Any]], Any], logs: Logs, api_server: ApiServer
) -> None:
    few = asyncio.Semaphore(3)

    async def differs(row: dict[str, Any]) -> str:
        async with few:
            result: Finished = await run(row)
        other = OTHERWISE.get(row["note"])
        if row["note"] == "top node" and api_server.kind != "dev":
            other = None
        out, err = (_of(logs.namespace, text) for text in (row["stdout"], row["stderr"]))
        code = row["rc"]
        if other is None:
            same = (result.out, result.err, result.code) == (out, err, code)
        else:
            out, err, code = (
                *(text.replace("{namespace}", logs.namespace) for text in (other.out, other.err)),
                other.code,
            )
            found = (re.fullmatch(p, t, re.DOTALL) for p, t in ((out, result.out), (err, result.err)))
            same = all(found) and result.code == code
        return "" if same else f"{row['note']}: {result}\nnot:\n{out}\n{err}\n{code}"

    # Streams once more over SPDY: recorded for a few rows only, and the same to who reads it.
    again = [{**row, "spdy": True} for row in ROWS if row["kubectl"][0] in ("exec", "attach", "cp")]
    wrong = list(filter(None, await asyncio.gather(*map(differs, ROWS + again))))
    assert not wrong, "\n\n".join(["", *wrong])


def _of(namespace: str, text: str) -> str:
    return text.replace('namespace "default"', f'namespace "{namespace}"').replace("h3_default", f"h3_{namespace}")
