"""Kubeconfig files and the in-cluster configuration: client-go's rules, and errors that say what to do."""

from __future__ import annotations

import base64
import json
import os
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from tests.kube.api_stand_in import SECRET, key_pair
from tests.kube.test_client import everything_said
from virtual_kubelet.errors import KubeconfigError
from virtual_kubelet.kube.credentials import Anonymous, BasicAuth, TokenFile
from virtual_kubelet.kube.exec_plugin import ExecPlugin
from virtual_kubelet.kube.kubeconfig import find_config, in_cluster_config, load_kubeconfig

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def content(user: Any = None, cluster: Any = None, **more: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": "https://api.example:6443", **(cluster or {})}}],
        "users": [{"name": "u", "user": user or {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
        **more,
    }


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: Any, name: str = "config") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text if isinstance(text, str) else yaml.safe_dump(text))
        return path

    return write


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


# Which file


def test_the_named_file_counts_and_must_be_there(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(write(content(cluster={"server": "https://other.example"}), "other")))
    named = write(content())
    assert find_config(str(named)).server == "https://api.example:6443"
    with pytest.raises(KubeconfigError, match="missing is not there") as caught:
        find_config(str(tmp_path / "missing"))
    assert caught.value.hint


def test_without_one_the_variable_counts_then_home_then_the_pod(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KubeconfigError, match="this is not a pod") as caught:
        find_config(None)
    assert "--kubeconfig" in caught.value.hint
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    with pytest.raises(KubeconfigError, match=r"token .* is missing"):
        find_config(None)
    write(content(cluster={"server": "https://home.example"}), "home/.kube/config")
    assert find_config(None).server == "https://home.example"
    monkeypatch.setenv("KUBECONFIG", str(write(content(cluster={"server": "https://variable.example"}))))
    assert find_config(None).server == "https://variable.example"
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "gone"))
    with pytest.raises(KubeconfigError, match="no file of KUBECONFIG is there"):
        find_config(None)


def test_the_files_of_the_variable_are_merged_and_the_first_to_set_a_value_wins(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "token").write_text("t")
    one = write({"users": [{"name": "u", "user": {"tokenFile": "token"}}], "current-context": "x"}, "a/one")
    two = write(content({"token": SECRET}, **{"current-context": "other"}), "b/two")
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join([str(tmp_path / "missing"), str(one), "", str(two)]))
    config = load_kubeconfig()
    assert config.server == "https://api.example:6443"
    assert isinstance(config.credentials, TokenFile)
    assert config.credentials.path == tmp_path / "a" / "token", "relative to the file that names it"
    assert config.source == f"{one}:{two}"


def test_a_context_can_be_chosen(write: Write) -> None:
    both = content()
    both["clusters"].append({"name": "d", "cluster": {"server": "http://127.0.0.1:8080/base/"}})
    both["contexts"].append({"name": "y", "context": {"cluster": "d", "namespace": "ns"}})
    config = load_kubeconfig(write(both), context="y")
    assert (config.server, config.namespace, config.ssl_context) == ("http://127.0.0.1:8080/base", "ns", None)
    assert load_kubeconfig(write(both)).namespace == "default"


def test_json_is_a_kubeconfig_too(write: Write) -> None:
    assert load_kubeconfig(write(json.dumps(content()))).server == "https://api.example:6443"


# What is wrong with it


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"users: [{SECRET}", "is not YAML"),
        (f"token: {SECRET}\n\tx", r"is not YAML \(line 2\)"),
        ("[1]", "is not a kubeconfig"),
        ({"kind": "Pod"}, "is not a kubeconfig: its kind is not Config"),
        ("", "has no current-context"),
        (content(**{"current-context": "nope"}), "has no context 'nope'"),
        (content(contexts=[{"name": "x", "context": {"cluster": "nope"}}]), "has no cluster 'nope', which its context"),
        (content(contexts=[{"name": "x", "context": {"cluster": "c", "user": "z"}}]), "has no user 'z', which"),
        (content(users={"u": SECRET}), "has no list as its users"),
        (content(users=[{"user": {"token": SECRET}}]), "has an entry without a name in users"),
        (content(cluster={"server": ""}), "names no server that is a URL"),
        (content(cluster={"server": "ftp://x"}), "names no server that is a URL"),
        (content(cluster={"server": "https://x:port"}), "names no server that is a URL"),
        (content(cluster={"server": f"https://u:{SECRET}@x"}), "has a user or password in its URL"),
        (content(cluster={"certificate-authority-data": "!"}), "certificate-authority-data is not base64"),
        (content(cluster={"certificate-authority-data": b64(SECRET.encode())}), "is not a PEM certificate"),
        (content(cluster={"certificate-authority-data": b64(b" ")}), "is empty"),
        (content(cluster={"certificate-authority": "/nowhere"}), "cannot read certificate-authority from /nowhere"),
        (content(cluster={"insecure-skip-tls-verify": "yes please"}), "is neither true nor false"),
        (content({"client-certificate-data": b64(b"x")}), "has only one of client-certificate and client-key"),
        (content({"client-certificate-data": b64(b"x"), "client-key-data": b64(SECRET.encode())}),
         "the client certificate of user 'u' of .* is not a PEM certificate"),
        (content({"token": SECRET + "\n"}), "user 'u' of .*: the token holds characters"),
        (content({"as": "root"}), "impersonates another, which is not supported"),
        (content({"auth-provider": {"name": "gcp"}}), "has an auth-provider"),
        (content({"exec": {"command": "x", "apiVersion": "client.authentication.k8s.io/v1alpha1"}}), "v1 and v1beta1"),
        (content({"exec": [SECRET]}), "the exec section of user 'u' of .* is malformed"),
        (content(cluster={"proxy-url": "socks5://x"}), "only http and https proxies"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_an_error_that_says_what_and_quotes_nothing(write: Write, text: Any, message: str) -> None:
    with pytest.raises(KubeconfigError, match=message) as caught:
        load_kubeconfig(write(text))
    assert SECRET not in everything_said(caught.value)


def test_a_file_that_may_not_be_read_says_so(write: Write, tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match=r"cannot read the kubeconfig .*: Is a directory"):
        load_kubeconfig(tmp_path)


# TLS


def test_the_clusters_authority_is_trusted_alone_and_without_it_the_systems(
    write: Write, authority: trustme.CA, tmp_path: Path
) -> None:
    pem = authority.cert_pem.bytes()
    (tmp_path / "ca.crt").write_bytes(pem)
    for cluster in ({"certificate-authority-data": b64(pem), "certificate-authority": "/nowhere"},
                    {"certificate-authority": "ca.crt"}):  # fmt: skip
        config = load_kubeconfig(write(content(cluster=cluster)))
        assert config.certificate_authority == pem
        assert config.ssl_context is not None
        assert len(config.ssl_context.get_ca_certs()) == 1
        assert config.ssl_context.verify_mode is ssl.CERT_REQUIRED
    assert load_kubeconfig(write(content())).certificate_authority is None


def test_authorities_that_go_accepts_are_accepted(write: Write) -> None:
    """Python 3.13 would refuse a CA without keyUsage."""
    context = load_kubeconfig(write(content())).ssl_context
    assert context is not None
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT


def test_insecure_verifies_nothing_and_does_not_go_with_an_authority(write: Write, authority: trustme.CA) -> None:
    config = load_kubeconfig(write(content(cluster={"insecure-skip-tls-verify": True})))
    assert config.ssl_context is not None
    assert config.ssl_context.verify_mode is ssl.CERT_NONE
    both = {"insecure-skip-tls-verify": True, "certificate-authority-data": b64(authority.cert_pem.bytes())}
    with pytest.raises(KubeconfigError, match="has a certificate-authority and insecure-skip-tls-verify"):
        load_kubeconfig(write(content(cluster=both)))


def test_a_server_name_and_a_proxy_are_handed_on(write: Write) -> None:
    cluster = {"tls-server-name": "kubernetes", "proxy-url": f"http://u:{SECRET}@proxy.example"}
    config = load_kubeconfig(write(content(cluster=cluster)))
    assert (config.tls_server_name, config.proxy) == ("kubernetes", f"http://u:{SECRET}@proxy.example")
    assert SECRET not in repr(config)


# Users


def test_a_client_certificate_comes_inline_or_from_files(write: Write, authority: trustme.CA, tmp_path: Path) -> None:
    certificate, key = key_pair(authority.issue_cert("me.example"))
    (tmp_path / "me.crt").write_bytes(certificate)
    (tmp_path / "me.key").write_bytes(key)
    inline = {"client-certificate-data": b64(certificate), "client-key-data": b64(key)}
    files = {"client-certificate": "me.crt", "client-key": "me.key"}
    for user, again in ((inline, False), (files, True), ({**files, **inline}, False)):
        shown = load_kubeconfig(write(content(user))).client_certificate
        assert shown is not None
        assert (shown.changes, shown.problem) == (1, "")
        shown.reject()
        assert shown.due is again, "files are read again, what is inline is not"


def test_an_expired_client_certificate_is_refused_with_its_end(write: Write, authority: trustme.CA) -> None:
    end = datetime.now(UTC) - timedelta(days=2)
    certificate, key = key_pair(authority.issue_cert("me.example", not_after=end))
    path = write(content({"client-certificate-data": b64(certificate), "client-key-data": b64(key)}))
    with pytest.raises(KubeconfigError, match=f"user 'u' of {path} expired on {end:%Y-%m-%d %H:%M} UTC") as caught:
        load_kubeconfig(path)
    assert "get a new kubeconfig" in caught.value.hint


def test_a_certificate_and_the_key_of_another_do_not_work(write: Write, authority: trustme.CA) -> None:
    certificate, _ = key_pair(authority.issue_cert("me.example"))
    _, key = key_pair(authority.issue_cert("you.example"))
    with pytest.raises(KubeconfigError, match="do not work: are both PEM, and of one pair") as caught:
        load_kubeconfig(write(content({"client-certificate-data": b64(certificate), "client-key-data": b64(key)})))
    assert "PRIVATE KEY" not in everything_said(caught.value)


@pytest.mark.may_block
async def test_a_token_a_password_a_plugin_or_nothing(write: Write, tmp_path: Path) -> None:
    async def header(user: dict[str, Any]) -> str | None:
        return await load_kubeconfig(write(content(user))).credentials.authorization()

    assert await header({"token": "t"}) == "Bearer t"
    (tmp_path / "token").write_text("from-a-file\n")
    assert await header({"token": "t", "tokenFile": "token"}) == "Bearer from-a-file", "the file rotates, so it wins"
    assert await header({"username": "u", "password": "p"}) == "Basic dTpw"
    assert await header({}) is None
    plugin = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "x", "interactiveMode": "Never"}}
    kinds = {Anonymous: {}, BasicAuth: {"username": "u"}, ExecPlugin: plugin}
    for kind, user in kinds.items():
        assert type(load_kubeconfig(write(content(user))).credentials) is kind


def test_no_secret_is_in_a_repr(write: Write) -> None:
    for user in ({"token": SECRET}, {"username": "u", "password": SECRET}):
        assert SECRET not in repr(load_kubeconfig(write(content(user))))


# In a pod


def test_a_pods_own_account(tmp_path: Path, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KubeconfigError, match="KUBERNETES_SERVICE_HOST is not set"):
        in_cluster_config(directory=tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    with pytest.raises(KubeconfigError, match=r"token .* is missing") as caught:
        in_cluster_config(directory=tmp_path)
    assert "automountServiceAccountToken" in caught.value.hint
    (tmp_path / "token").write_text("t")
    (tmp_path / "ca.crt").write_bytes(authority.cert_pem.bytes())
    (tmp_path / "namespace").write_text("ns\n")
    config = in_cluster_config(directory=tmp_path)
    assert (config.server, config.namespace) == ("https://[fd00::1]:443", "ns")
    assert isinstance(config.credentials, TokenFile)
    assert config.credentials.path == tmp_path / "token"
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    assert in_cluster_config(directory=tmp_path).server == "https://10.0.0.1:6443"
