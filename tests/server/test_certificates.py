"""Serving certificates, and TLS as clients meet it."""

from __future__ import annotations

import ssl
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from virtual_kubelet.errors import ConfigurationError
from virtual_kubelet.server.certificates import load_certificate, self_signed, server_context
from virtual_kubelet.server.http_messages import peer_identity


def shake_hands(
    server: ssl.SSLContext, client: ssl.SSLContext, name: str = "node-1"
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """A handshake in memory. Raises what either side has against it."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(to_server, to_client, server_side=True)
    theirs = client.wrap_bio(to_client, to_server, server_hostname=name)
    for _ in range(4):
        for side in (theirs, ours):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ours, theirs


def strict_client(ca: bytes) -> ssl.SSLContext:
    """As Python 3.13 makes them by default."""
    context = ssl.create_default_context(cadata=ca.decode())
    context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


@pytest.mark.parametrize("name", ["node-1", "node-1.example", "192.0.2.7", "2001:db8::7"])
def test_a_self_signed_certificate_passes_strict_verification_for_all_its_names(name: str) -> None:
    certificate, key = self_signed(["node-1", "node-1.example"], ["192.0.2.7", "2001:db8::7"])
    _, client = shake_hands(server_context(certificate, key), strict_client(certificate), name)
    assert client.version() == "TLSv1.3"
    assert client.selected_alpn_protocol() is None  # this client offered none


def test_a_self_signed_certificate_is_good_for_nothing_else() -> None:
    now = datetime(2026, 11, 24, tzinfo=UTC)
    pem, _ = self_signed(["node-1"], now=now, lifetime=timedelta(days=30), common_name="n" * 100)
    certificate = x509.load_pem_x509_certificate(pem)
    assert certificate.not_valid_after_utc == now + timedelta(days=30)
    assert certificate.not_valid_before_utc == now - timedelta(hours=1)
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature
    assert not usage.key_cert_sign
    assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)
    assert x509.load_pem_x509_certificate(self_signed(["node-1"])[0]).serial_number != certificate.serial_number


def test_a_name_that_is_not_in_the_certificate_is_refused() -> None:
    certificate, key = self_signed(["node-1"])
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(server_context(certificate, key), strict_client(certificate), "node-2")


def test_a_certificate_for_nobody_or_for_no_address_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="needs a name or an address"):
        self_signed([])
    with pytest.raises(ConfigurationError, match="nonsense"):
        self_signed([], ["nonsense"])


def test_tls_1_1_is_refused() -> None:
    certificate, key = self_signed(["node-1"])
    client = strict_client(certificate)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python's own, about versions as old as these
        client.minimum_version = ssl.TLSVersion.TLSv1
        client.maximum_version = ssl.TLSVersion.TLSv1_1
    client.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError, match=r"PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL"):
        shake_hands(server_context(certificate, key), client)


def test_http_1_1_is_chosen_and_sessions_are_not_resumed() -> None:
    certificate, key = self_signed(["node-1"])
    client = strict_client(certificate)
    client.set_alpn_protocols(["h2", "http/1.1"])
    _, connection = shake_hands(server_context(certificate, key), client)
    assert connection.selected_alpn_protocol() == "http/1.1"
    with pytest.raises(ssl.SSLWantReadError):
        connection.read()  # where tickets would come
    assert connection.session is None or not connection.session.has_ticket


def test_a_client_certificate_is_verified_but_not_demanded() -> None:
    certificate, key = self_signed(["node-1"])
    authority = trustme.CA()
    server = server_context(certificate, key, client_ca=authority.cert_pem.bytes())
    ours, _ = shake_hands(server, strict_client(certificate))
    assert not ours.getpeercert()

    client = strict_client(certificate)
    authority.issue_cert("x.example", common_name="ada", organization_name="engineers").configure_cert(client)
    ours, _ = shake_hands(server, client)
    identity = peer_identity(ours.getpeercert())
    assert identity is not None
    assert (identity.common_name, identity.organizations) == ("ada", ("engineers",))

    mallory = strict_client(certificate)
    trustme.CA().issue_cert("x.example", common_name="ada").configure_cert(mallory)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(server, mallory)


def test_without_a_client_ca_no_certificate_is_asked_for() -> None:
    certificate, key = self_signed(["node-1"])
    client = strict_client(certificate)
    trustme.CA().issue_cert("x.example", common_name="ada").configure_cert(client)
    ours, _ = shake_hands(server_context(certificate, key), client)
    assert not ours.getpeercert()


def test_files_are_as_good_as_bytes_and_can_be_loaded_again(tmp_path: Path) -> None:
    first, second = self_signed(["node-1"]), self_signed(["node-1"])
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    certificate.write_bytes(first[0])
    key.write_bytes(first[1])
    context = server_context(certificate, str(key), client_ca=certificate)
    shake_hands(context, strict_client(first[0]))

    certificate.write_bytes(second[0])
    key.write_bytes(second[1])
    load_certificate(context, certificate, key)
    shake_hands(context, strict_client(second[0]))
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(context, strict_client(first[0]))


def test_a_certificate_that_does_not_fit_leaves_the_old_one_in_place() -> None:
    first, second = self_signed(["node-1"]), self_signed(["node-1"])
    context = server_context(*first)
    with pytest.raises(ConfigurationError, match="does not belong to"):
        load_certificate(context, second[0], first[1])
    shake_hands(context, strict_client(first[0]))


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    certificate, key = self_signed(["node-1"])
    missing = tmp_path / "missing.pem"
    with pytest.raises(ConfigurationError, match=f"cannot read {missing}: No such file"):
        server_context(missing, key)
    with pytest.raises(ConfigurationError, match="cannot be used with its key"):
        server_context(b"nonsense", key)
    with pytest.raises(ConfigurationError, match="the client CA holds no usable certificate") as caught:
        server_context(certificate, key, client_ca=b"nonsense")
    assert caught.value.hint
    (tmp_path / "ca.pem").write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match=r"ca\.pem holds no usable certificate"):
        server_context(certificate, key, client_ca=tmp_path / "ca.pem")


def test_an_encrypted_key_is_an_error_and_no_question_on_the_terminal() -> None:
    certificate, key = self_signed(["node-1"])
    loaded = serialization.load_pem_private_key(key, None)
    encrypted = loaded.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"pass phrase"),
    )
    with pytest.raises(ConfigurationError) as caught:
        server_context(certificate, encrypted)
    assert "unencrypted" in caught.value.hint


async def test_it_can_be_done_inside_a_loop_when_pem_is_given_as_bytes() -> None:
    certificate, key = self_signed(["node-1"])
    assert server_context(certificate, key, client_ca=certificate).verify_mode is ssl.CERT_OPTIONAL
