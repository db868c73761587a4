"""Certificates and client CAs that change while a server runs."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509

from tests.server.raw_http_client import RawClient
from tests.server.recorded_node import FixedClock
from virtual_kubelet.errors import ConfigurationError
from virtual_kubelet.server.certificates import self_signed
from virtual_kubelet.server.connection import HttpServer, Request, Response
from virtual_kubelet.server.serving_tls import ServingTls

pytestmark = pytest.mark.may_block  # files are written


class Files:
    """A serving certificate, its key, and a client CA."""

    def __init__(self, folder: Path) -> None:
        self.certificate, self.key, self.client_ca = folder / "tls.crt", folder / "tls.key", folder / "ca.crt"
        self.authority = trustme.CA()
        self.clients = trustme.CA(organization_name="old clients")
        self.serve(self.authority)
        self.trust(self.clients)

    def serve(self, authority: trustme.CA) -> None:
        leaf = authority.issue_cert("node.example")
        self.certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        self.key.write_bytes(leaf.private_key_pem.bytes())

    def trust(self, authority: trustme.CA) -> None:
        self.client_ca.write_bytes(authority.cert_pem.bytes())

    def tls(self, **options: object) -> ServingTls:
        return ServingTls(self.certificate, self.key, client_ca=self.client_ca, interval=0.01, **options)  # type: ignore[arg-type]


def client(authority: trustme.CA, certified_by: trustme.CA | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if certified_by is not None:
        certified_by.issue_cert("ada.example", common_name="ada").configure_cert(context)
    return context


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


async def who(request: Request) -> Response:
    peer = request.peer_certificate
    return Response(200, [], b"nobody" if peer is None else peer.common_name.encode())


Run = Callable[[ServingTls], Awaitable[tuple[HttpServer, tuple[str, int]]]]


@pytest.fixture
async def run(nothing_left: None) -> AsyncIterator[Run]:
    """Serves with a set-up that is kept up to date."""
    running: list[asyncio.Task[None]] = []
    servers: list[HttpServer] = []

    async def start(tls: ServingTls) -> tuple[HttpServer, tuple[str, int]]:
        server = HttpServer(who, ssl_context=tls.context)
        tls.on_change = lambda context, trust_changed: server.replace_context(context, retire=trust_changed)
        (address,) = await server.start("127.0.0.1", 0)
        servers.append(server)
        running.append(asyncio.create_task(tls.run()))
        return server, address

    yield start
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    for server in servers:
        await server.aclose(grace=0)


async def until(attempt: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await attempt():
            await asyncio.sleep(0.01)


async def answers(address: tuple[str, int], context: ssl.SSLContext, body: bytes = b"nobody") -> bool:
    """Whether a new connection is made, and answered so."""
    try:
        async with await RawClient.open(address, context) as one:
            return (await one.ask("GET", "/")).body == body
    except (ssl.SSLError, ConnectionError, asyncio.IncompleteReadError):
        return False


async def test_a_new_certificate_is_shown_to_new_connections_while_open_ones_go_on(run: Run, files: Files) -> None:
    _, address = await run(files.tls())
    async with await RawClient.open(address, client(files.authority)) as old:
        assert (await old.ask("GET", "/")).status == 200
        other = trustme.CA()
        files.serve(other)
        await until(lambda: answers(address, client(other)))
        assert not await answers(address, client(files.authority))
        assert (await old.ask("GET", "/")).status == 200


async def test_a_client_ca_that_is_replaced_counts_no_more_on_open_connections_either(run: Run, files: Files) -> None:
    _, address = await run(files.tls())
    async with await RawClient.open(address, client(files.authority, files.clients)) as old:
        assert (await old.ask("GET", "/")).body == b"ada"
        new = trustme.CA(organization_name="new clients")
        files.trust(new)
        await until(lambda: answers(address, client(files.authority, new), b"ada"))
        assert await old.ended() == b""
    assert not await answers(address, client(files.authority, files.clients), b"ada")


async def test_files_that_cannot_be_used_are_logged_once_and_the_old_stay(
    run: Run, files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    _, address = await run(files.tls())
    good = files.key.read_bytes()
    _, wrong = self_signed(["node.example"])
    for said in ("does not belong to", "cannot read"):
        caplog.clear()
        if said == "cannot read":
            files.certificate.unlink()
        else:
            files.key.write_bytes(wrong)

        async def logged(said: str = said) -> bool:
            return said in caplog.text

        await until(logged)
        await asyncio.sleep(0.1)  # some more looks
        assert caplog.text.count("the HTTPS API goes on with what it had") == 1
        assert str(files.certificate) in caplog.text
        assert good.decode() not in caplog.text
        assert await answers(address, client(files.authority))
    other = trustme.CA()
    files.serve(other)
    await until(lambda: answers(address, client(other)))


async def test_what_is_not_a_file_is_not_looked_at_again(files: Files) -> None:
    pair = files.certificate.read_bytes(), files.key.read_bytes()
    tls = ServingTls(*pair, client_ca=files.client_ca.read_bytes(), interval=0.001)
    files.serve(trustme.CA())
    files.trust(trustme.CA())
    context = tls.context
    task = asyncio.create_task(tls.run())
    await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert tls.context is context


async def test_a_self_signed_certificate_is_made_anew_before_it_ends(run: Run) -> None:
    clock = FixedClock(datetime.now(UTC))
    tls = ServingTls(None, None, names=["node.example"], ips=["127.0.0.1"], interval=0.01, clock=clock)
    first = x509.load_pem_x509_certificate(tls._pair[0])
    context = tls.context
    _, address = await run(tls)
    clock.moment = first.not_valid_after_utc - timedelta(days=60)

    async def renewed() -> bool:
        return tls.context is not context

    await until(renewed)
    second = x509.load_pem_x509_certificate(tls._pair[0])
    assert second.not_valid_after_utc > first.not_valid_after_utc + timedelta(days=200)
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname = False
    anybody.verify_mode = ssl.CERT_NONE
    async with await RawClient.open(address, anybody) as one:
        shown = one.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    assert x509.load_der_x509_certificate(shown) == second
    context = tls.context
    await asyncio.sleep(0.1)
    assert tls.context is context  # once is enough


async def test_a_certificate_shown_by_somebody_else_is_not_replaced(run: Run, files: Files) -> None:
    clock = FixedClock(datetime.now(UTC))
    tls = ServingTls(None, None, client_ca=files.client_ca, names=["node.example"], interval=0.01, clock=clock)
    _, address = await run(tls)
    tls.show(files.certificate.read_bytes(), files.key.read_bytes())
    assert await answers(address, client(files.authority))
    clock.moment += timedelta(days=1000)
    new = trustme.CA(organization_name="new clients")
    files.trust(new)
    await until(lambda: answers(address, client(files.authority, new), b"ada"))


@pytest.mark.parametrize("damaged", ["certificate", "key", "client_ca"])
def test_what_is_wrong_from_the_start_is_an_error(files: Files, damaged: str) -> None:
    path: Path = getattr(files, damaged)
    path.write_bytes(b"nonsense")
    with pytest.raises(ConfigurationError, match=str(path)):
        files.tls()
