"""ClientCertificate: shown from memory or from files that are renewed under it, and known to have expired."""

from __future__ import annotations

import logging
import ssl
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from tests.kube.api_stand_in import key_pair
from virtual_kubelet.errors import KubeconfigError
from virtual_kubelet.kube.client_certificate import CertificateFiles, ClientCertificate


@pytest.fixture
def files(tmp_path: Path) -> CertificateFiles:
    return CertificateFiles(tmp_path / "tls.crt", tmp_path / "tls.key")


def write(files: CertificateFiles, pair: tuple[bytes, bytes]) -> None:
    files.certificate.write_bytes(pair[0])
    files.key.write_bytes(pair[1])


def reading(files: CertificateFiles, *, period: float = 0.0) -> ClientCertificate:
    return ClientCertificate(ssl.create_default_context(), "us", files=files, period=period)


def test_its_end_is_known_and_said_when_it_has_come(authority: trustme.CA) -> None:
    shown = ClientCertificate(ssl.create_default_context(), "user 'u' of a file")
    assert (shown.expires, shown.problem) == (None, "")
    shown.show(*key_pair(authority.issue_cert("me.example")))
    assert shown.problem == ""
    end = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    shown.show(*key_pair(authority.issue_cert("me.example", not_after=end)))
    assert shown.expires == end
    assert shown.problem == f"the client certificate of user 'u' of a file expired on {end:%Y-%m-%d %H:%M} UTC"


def test_the_same_pair_again_is_no_change(authority: trustme.CA) -> None:
    shown = ClientCertificate(ssl.create_default_context(), "us")
    pair = key_pair(authority.issue_cert("me.example"))
    shown.show(*pair)
    shown.show(*pair)
    assert shown.changes == 1


@pytest.mark.skipif(sys.platform != "linux", reason="needs files in memory")
def test_the_key_never_is_on_a_disk(authority: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**options: str) -> None:
        raise AssertionError("a file on a disk")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", refuse)
    shown = ClientCertificate(ssl.create_default_context(), "us")
    pair = key_pair(authority.issue_cert("me.example"))
    shown.show(*pair)
    assert shown.changes == 1


@pytest.mark.parametrize("broken", [0, 1], ids=["certificate", "key"])
def test_a_pair_that_does_not_work_is_refused_and_not_quoted(authority: trustme.CA, broken: int) -> None:
    shown = ClientCertificate(ssl.create_default_context(), "us")
    pair = list(key_pair(authority.issue_cert("me.example")))
    pair[broken] = b"planted-secret"
    with pytest.raises(KubeconfigError, match="the client certificate") as caught:
        shown.show(pair[0], pair[1])
    assert "planted-secret" not in str(caught.value)
    assert shown.changes == 0


async def test_renewed_files_are_shown_when_it_is_time_and_after_a_refusal(
    authority: trustme.CA, files: CertificateFiles
) -> None:
    write(files, key_pair(authority.issue_cert("one.example")))
    slow, fast = reading(files, period=3600), reading(files)
    assert (slow.due, fast.due) == (False, True)
    await fast.refresh()
    await fast.refresh()
    assert fast.changes == 1
    write(files, key_pair(authority.issue_cert("two.example")))
    await fast.refresh()
    assert fast.changes == 2
    slow.reject()
    assert slow.due
    await slow.refresh()
    assert (slow.changes, slow.due) == (1, False)


async def test_while_files_are_being_replaced_the_last_pair_stays_and_that_is_said_once(
    authority: trustme.CA, files: CertificateFiles, caplog: pytest.LogCaptureFixture
) -> None:
    pair = key_pair(authority.issue_cert("one.example"))
    write(files, pair)
    shown = reading(files)
    await shown.refresh()
    files.certificate.write_bytes(key_pair(authority.issue_cert("two.example"))[0])
    with caplog.at_level(logging.WARNING):
        await shown.refresh()
        files.key.unlink()
        await shown.refresh()
    assert shown.changes == 1
    assert [r.getMessage().partition(": ")[0] for r in caplog.records] == [
        f"cannot renew the client certificate from {files.certificate}"
    ]
    write(files, key_pair(authority.issue_cert("two.example")))
    await shown.refresh()
    assert shown.changes == 2


async def test_without_files_nothing_is_ever_due(authority: trustme.CA) -> None:
    shown = ClientCertificate(ssl.create_default_context(), "us")
    await shown.renew(*key_pair(authority.issue_cert("one.example")))
    shown.reject()
    assert not shown.due
    await shown.refresh()
    assert shown.changes == 1


async def test_certificate_and_key_may_be_in_one_file(authority: trustme.CA, tmp_path: Path) -> None:
    """As a kubelet keeps them, and as ``--bootstrap-kubeconfig`` does."""
    path = tmp_path / "node-client-current.pem"
    path.write_bytes(b"".join(key_pair(authority.issue_cert("one.example"))))
    shown = reading(CertificateFiles(path, path))
    await shown.refresh()
    assert shown.changes == 1
    path.write_bytes(b"".join(key_pair(authority.issue_cert("two.example"))))
    await shown.refresh()
    assert shown.changes == 2
