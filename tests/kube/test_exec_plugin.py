"""Exec plugins: real programs that print credentials, or do not."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.kube.api_stand_in import SECRET, key_pair
from tests.kube.test_client import everything_said
from virtual_kubelet.errors import CredentialsError, KubeconfigError
from virtual_kubelet.kube.client_certificate import ClientCertificate
from virtual_kubelet.kube.exec_plugin import ExecPlugin, ExecSpec

V1 = "client.authentication.k8s.io/v1"
Plugin = Callable[..., ExecPlugin]


def credential(version: str = V1, **status: Any) -> str:
    return json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": status})


@pytest.fixture
def plugin(tmp_path: Path) -> Plugin:
    """A plugin that is a shell script; each run adds a line to ``runs``."""

    def make(
        script: str,
        *,
        shows: ClientCertificate | None = None,
        time_limit: float = 10.0,
        rest: float = 0.0,
        cluster: dict[str, Any] | None = None,
        ca: bytes | None = None,
        **section: Any,
    ) -> ExecPlugin:
        path = tmp_path / "plugin"
        path.write_text(f"#!/bin/sh\necho run >> {tmp_path}/runs\n{script}\n")
        path.chmod(0o700)
        given = {"command": "./plugin", "apiVersion": V1, "interactiveMode": "Never", **section}
        spec = ExecSpec.parse(given, tmp_path, cluster or {}, ca, "user 'u' of here")
        return ExecPlugin(spec, shows, time_limit=time_limit, rest=rest)

    return make


def prints(text: str) -> str:
    return f"cat <<'END'\n{text}\nEND"


def runs(tmp_path: Path) -> int:
    return len((tmp_path / "runs").read_text().splitlines())


async def test_its_token_is_used_until_it_is_refused(plugin: Plugin, tmp_path: Path) -> None:
    tested = plugin(prints(credential(token=SECRET)))
    assert [await tested.authorization() for _ in range(3)] == [f"Bearer {SECRET}"] * 3
    assert runs(tmp_path) == 1
    tested.reject(f"Bearer {SECRET}")
    await tested.authorization()
    assert runs(tmp_path) == 2
    assert SECRET not in repr(tested) + repr(vars(tested)["_spec"])


async def test_many_who_wait_share_one_run(plugin: Plugin, tmp_path: Path) -> None:
    tested = plugin("sleep 0.1\n" + prints(credential(token="t")))
    for _ in range(2):
        assert set(await asyncio.gather(*(tested.authorization() for _ in range(20)))) == {"Bearer t"}
        for _ in range(20):
            tested.reject("Bearer t")
    assert runs(tmp_path) == 2


async def test_a_late_refusal_of_an_earlier_token_does_not_run_it_again(plugin: Plugin, tmp_path: Path) -> None:
    tested = plugin(
        f"""cat <<END\n{credential(token="t")}\nEND""".replace('"t"', '"t$(wc -l < ' + f'{tmp_path}/runs)"')
    )
    first = await tested.authorization()
    tested.reject(first)
    second = await tested.authorization()
    assert second != first
    tested.reject(first)
    assert await tested.authorization() == second
    assert runs(tmp_path) == 2


async def test_a_server_that_refuses_whatever_it_gives_does_not_make_it_run_at_every_request(
    plugin: Plugin, tmp_path: Path
) -> None:
    tested = plugin(prints(credential(token="t")), rest=3600)
    for _ in range(5):
        tested.reject(await tested.authorization())
    assert runs(tmp_path) == 1


@pytest.mark.parametrize(("seconds", "expected"), [(3600, 1), (30, 1), (-30, 2)])
async def test_it_runs_again_when_its_credential_expires(
    plugin: Plugin, tmp_path: Path, seconds: int, expected: int
) -> None:
    at = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(timespec="seconds").replace("+00:00", "Z")
    tested = plugin(prints(credential(token="t", expirationTimestamp=at)))
    await tested.authorization()
    await tested.authorization()
    assert runs(tmp_path) == expected


async def test_it_is_told_of_the_cluster_and_has_its_arguments_and_environment(plugin: Plugin) -> None:
    ca = b"-----BEGIN"
    cluster = {
        "server": "https://s", "tls-server-name": "n",
        "extensions": [{"name": "client.authentication.k8s.io/exec", "extension": {"audience": "a"}}],
    }  # fmt: skip
    tested = plugin(
        f"""exec {sys.executable} -c 'import json, os, sys
info = json.loads(os.environ["KUBERNETES_EXEC_INFO"])
spec, cluster = info["spec"], info["spec"]["cluster"]
token = ".".join([cluster["config"]["audience"], cluster["tls-server-name"], cluster["certificate-authority-data"],
    str(spec["interactive"]), os.environ["MINE"], *sys.argv[1:]])
print(json.dumps(dict(apiVersion=info["apiVersion"], kind=info["kind"], status=dict(token=token))))' "$@" """,
        cluster=cluster,
        ca=ca,
        provideClusterInfo=True,
        args=["one", 2],
        env=[{"name": "MINE", "value": "m"}],
    )
    assert await tested.authorization() == "Bearer a.n.LS0tLS1CRUdJTg==.False.m.one.2"


async def test_v1beta1_is_spoken(plugin: Plugin) -> None:
    version = "client.authentication.k8s.io/v1beta1"
    tested = plugin(prints(credential(version, token="t")), apiVersion=version)
    assert await tested.authorization() == "Bearer t"


async def test_its_client_certificate_is_put_into_the_context(plugin: Plugin, authority: trustme.CA) -> None:
    certificate, key = (part.decode() for part in key_pair(authority.issue_cert("me.example")))
    shown = ClientCertificate(ssl.create_default_context(), "the plugin")
    tested = plugin(prints(credential(clientCertificateData=certificate, clientKeyData=key)), shows=shown)
    assert await tested.authorization() is None
    assert shown.changes == 1
    assert shown.expires is not None
    tested.reject(None)
    await tested.authorization()
    assert shown.changes == 1, "the same one again needs no new connections"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (f"echo {SECRET}", "did not print an ExecCredential"),
        (prints(json.dumps([SECRET])), "did not print an ExecCredential"),
        (prints(credential(token={"a": SECRET})), "did not print an ExecCredential"),
        (prints(credential(token=SECRET, expirationTimestamp=SECRET)), "did not print an ExecCredential"),
        ("printf '\\377'", "did not print an ExecCredential"),
        (prints(credential("other/v1", token=SECRET)), "answered with another apiVersion than client.authentication"),
        (prints(credential()), "neither a token nor a client certificate"),
        (prints(credential(token=f"{SECRET} x")), "neither a token nor a client certificate"),
        (prints(credential(clientCertificateData=SECRET)), "neither a token nor a client certificate"),
        (
            prints(credential(clientCertificateData=SECRET, clientKeyData=SECRET)),
            "certificate and key that do not work",
        ),
        (f"echo {SECRET}; exit 3", "failed with exit code 3"),
        ("kill -9 $$", "failed with exit code -9"),
    ],
)
async def test_what_goes_wrong_is_said_without_what_was_printed(plugin: Plugin, script: str, message: str) -> None:
    tested = plugin(script, shows=ClientCertificate(ssl.create_default_context(), "us"), installHint="get it there")
    with pytest.raises(CredentialsError, match=message) as caught:
        await tested.authorization()
    assert SECRET not in everything_said(caught.value)
    assert "user 'u' of here" in str(caught.value)
    if "exit code" in message:
        assert caught.value.hint == "get it there"


async def test_a_failure_is_not_remembered(plugin: Plugin, tmp_path: Path) -> None:
    tested = plugin(f"test -e {tmp_path}/ok || exit 1\n" + prints(credential(token="t")))
    with pytest.raises(CredentialsError):
        await tested.authorization()
    (tmp_path / "ok").touch()
    assert await tested.authorization() == "Bearer t"


async def test_a_plugin_that_is_not_there_says_how_to_install_it(tmp_path: Path) -> None:
    section = {"command": "no-such-plugin", "apiVersion": V1, "installHint": "get it there", "interactiveMode": "Never"}
    tested = ExecPlugin(ExecSpec.parse(section, tmp_path, {}, None, "user 'u' of here"), None)
    with pytest.raises(CredentialsError, match="'no-such-plugin' of user 'u' of here cannot be run: No such") as caught:
        await tested.authorization()
    assert caught.value.hint == "get it there"


async def test_a_plugin_that_does_not_end_is_killed(plugin: Plugin, tmp_path: Path) -> None:
    tested = plugin(f"echo $$ > {tmp_path}/pid\nexec sleep 600", time_limit=0.3)
    with pytest.raises(CredentialsError, match=r"did not end in 0\.3 s") as caught:
        await tested.authorization()
    assert "type" in caught.value.hint
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


async def test_a_cancelled_caller_leaves_no_process(plugin: Plugin, tmp_path: Path) -> None:
    tested = plugin(f"echo $$ > {tmp_path}/pid\nexec sleep 600")
    task = asyncio.create_task(tested.authorization())
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"apiVersion": V1}, "names no command"),
        ({"command": "c"}, "has the apiVersion ''"),
        ({"command": "c", "apiVersion": "client.authentication.k8s.io/v1alpha1"}, "v1 and v1beta1 are known"),
        ({"command": "c", "apiVersion": V1, "env": [{"value": SECRET}]}, "is malformed"),
        ({"command": "c", "apiVersion": V1, "env": SECRET}, "is malformed"),
        ({"command": "c", "apiVersion": V1, "args": 3}, "is malformed"),
        ("text", "is malformed"),
    ],
)
def test_a_section_that_cannot_work_is_refused_when_it_is_read(tmp_path: Path, section: Any, message: str) -> None:
    with pytest.raises(KubeconfigError, match=message) as caught:
        ExecSpec.parse(section, tmp_path, {}, None, "user 'u' of here")
    assert SECRET not in everything_said(caught.value)


def test_a_plugin_that_needs_a_terminal_is_refused_without_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull) as nothing, pytest.raises(KubeconfigError, match="wants a terminal"):
        monkeypatch.setattr("sys.stdin", nothing)
        ExecSpec.parse({"command": "c", "apiVersion": V1, "interactiveMode": "Always"}, tmp_path, {}, None, "u")


def test_a_command_with_a_slash_is_relative_to_the_kubeconfig_and_a_name_is_not(tmp_path: Path) -> None:
    def command(given: str) -> str:
        return ExecSpec.parse({"command": given, "apiVersion": V1}, tmp_path, {}, None, "u").command

    assert [command("c"), command("./c"), command("/bin/c")] == ["c", str(tmp_path / "c"), "/bin/c"]
