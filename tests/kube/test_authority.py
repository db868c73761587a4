"""The cluster's CA in a file: rotated without a restart, and never trusted beyond its time."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from tests.kube.api_stand_in import ApiStandIn, answers, config_map, key_pair
from tests.kube.conftest import NewClient
from virtual_kubelet.errors import ApiConnectionError
from virtual_kubelet.kube.authority import AuthorityFile
from virtual_kubelet.kube.kubeconfig import load_kubeconfig
from virtual_kubelet.kube.resources import CONFIG_MAPS


def new_authority() -> trustme.CA:
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Callable[..., Path]:
    """A kubeconfig whose CA, and client certificate, are files."""

    def write(server: ApiStandIn, authority: trustme.CA) -> Path:
        (tmp_path / "ca.crt").write_bytes(server.authority.cert_pem.bytes())
        certificate, key = key_pair(authority.issue_cert("me.example"))
        (tmp_path / "me.crt").write_bytes(certificate)
        (tmp_path / "me.key").write_bytes(key)
        path = tmp_path / "config"
        path.write_text(f"""{{"clusters": [{{"name": "c", "cluster": {{
            "server": "{server.url}", "certificate-authority": "ca.crt"}}}}],
            "users": [{{"name": "u", "user": {{"client-certificate": "me.crt", "client-key": "me.key"}}}}],
            "contexts": [{{"name": "x", "context": {{"cluster": "c", "user": "u"}}}}], "current-context": "x"}}""")
        return path

    return write


async def test_a_rotated_authority_is_trusted_and_the_last_one_no_longer(
    authority: trustme.CA, new_client: NewClient, kubeconfig: Callable[..., Path], tmp_path: Path
) -> None:
    """Both clients of one configuration; the client certificate is shown as before."""
    script = [answers(200, config_map("c"))]
    old = ApiStandIn(new_authority(), list(script), client_authority=authority)
    new = ApiStandIn(new_authority(), list(script), client_authority=authority)
    await old.start()
    config = load_kubeconfig(kubeconfig(old, authority))
    clients = [new_client(config=config), new_client(config=config)]
    for client in clients:
        await client.get(CONFIG_MAPS, "c", "ns")
    # The server comes back with a certificate of another CA.
    port = old.port
    await old.stop()
    await new.start(port)
    for client in clients:
        with pytest.raises(ApiConnectionError, match="its certificate is not trusted"):
            await client.get(CONFIG_MAPS, "c", "ns")
    (tmp_path / "ca.crt").write_bytes(new.authority.cert_pem.bytes())
    for client in clients:
        await client.get(CONFIG_MAPS, "c", "ns")
    assert config.certificate_authority == new.authority.cert_pem.bytes()
    # And back again: the old one is not trusted any more.
    await new.stop()
    await old.start(port)
    for client in clients:
        with pytest.raises(ApiConnectionError, match="its certificate is not trusted"):
            await client.get(CONFIG_MAPS, "c", "ns")
    await old.stop()


async def test_a_file_is_read_again_when_it_is_time(authority: trustme.CA, tmp_path: Path) -> None:
    path, pem = tmp_path / "ca.crt", authority.cert_pem.bytes()
    path.write_bytes(pem)
    slow, fast = (AuthorityFile(path, pem, source="here", period=period) for period in (3600.0, 0.0))
    assert (slow.due, fast.due) == (False, True)
    assert await fast.refresh() is None, "nothing new"
    other = new_authority().cert_pem.bytes()
    path.write_bytes(other)
    found = await fast.refresh()
    assert found is not None
    assert found.pem == other
    assert await fast.refresh() is None
    slow.reject()
    assert slow.due


async def test_while_a_file_is_being_replaced_what_was_in_it_counts_and_that_is_said_once(
    authority: trustme.CA, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, pem = tmp_path / "ca.crt", authority.cert_pem.bytes()
    file = AuthorityFile(path, pem, source="here", period=0)
    with caplog.at_level(logging.WARNING):
        for content in (b"", b"half a certif", None):
            path.write_bytes(content) if content is not None else path.unlink()
            assert await file.refresh() is None
    assert len([r for r in caplog.records if "cannot renew the cluster's CA" in r.getMessage()]) == 1
    path.write_bytes(pem)
    assert await file.refresh() is None
