"""The TLS set-up of the node's HTTPS API while it runs: files that change are read again, a self-signed certificate is
renewed."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final, NamedTuple

from virtual_kubelet.clock import Clock, SystemClock
from virtual_kubelet.errors import ConfigurationError
from virtual_kubelet.server.certificates import Pem, load_certificate, read_pem, self_signed, server_context
from virtual_kubelet.telemetry.logs import get_logger

__all__ = ["ServingTls"]

log = get_logger(__name__)

_LIFETIME: Final = timedelta(days=365)
#: After which a self-signed certificate is made anew.
_RENEWED_AFTER: Final = _LIFETIME * 0.8


class _Found(NamedTuple):
    context: ssl.SSLContext
    pair: tuple[bytes, bytes]
    authority: bytes | None


class ServingTls:
    """One SSL context after the other. Making one reads files and compute: before the loop runs, or in a thread.

    Attributes:
        context: for new connections.
        on_change: called in the loop with a new context, and whether other client certificates count from now on.
    """

    def __init__(
        self,
        certificate: Pem | None,
        key: Pem | None,
        *,
        client_ca: Pem | None = None,
        names: Sequence[str] = (),
        ips: Sequence[str] = (),
        interval: float = 10.0,
        clock: Clock | None = None,
    ) -> None:
        """
        Args:
            certificate, key: PEM, or files that are read again when they change; both None: self-signed, for a year,
                and renewed in time.
            client_ca: see ``server_context``; a file is read again, too.
            names, ips: what a self-signed certificate is good for; the first name is its common name.
            interval: seconds between two looks at files.
            clock: tells when to renew.

        Raises ``ConfigurationError``.
        """
        self._files = (certificate, key)
        self._client_ca = client_ca
        self._names, self._ips = names, ips
        self._interval = interval
        self._clock = clock or SystemClock()
        self._renew_at = None if certificate is not None else self._clock.now() + _RENEWED_AFTER
        self._refused = ""  # what was wrong with the files is said once
        self._pair = self._read_pair() or self._sign()
        self._authority = None if client_ca is None else read_pem(client_ca)
        self.context = self._make(self._pair)
        self.on_change: Callable[[ssl.SSLContext, bool], None] = lambda context, trust_changed: None

    def show(self, certificate: bytes, key: bytes) -> None:
        """From now on this certificate, which somebody else renews. Raises ``ConfigurationError``."""
        load_certificate(self.context, certificate, key)
        self._pair = (certificate, key)
        self._renew_at = None

    async def run(self) -> None:
        """Look at the files again and again, until cancelled. What cannot be used is logged, and the old stays."""
        while True:
            await asyncio.sleep(self._interval)
            before = self._pair
            try:
                found = await asyncio.to_thread(self._look, before, self._authority)
            except ConfigurationError as error:
                if str(error) != self._refused:
                    self._refused = str(error)
                    log.error("the HTTPS API goes on with what it had: %s", error)
                continue
            self._refused = ""
            if found is None or self._pair is not before:  # somebody has shown another meanwhile: look again
                continue
            trust_changed = found.authority != self._authority
            self.context, self._pair, self._authority = found.context, found.pair, found.authority
            if self._renew_at is not None and found.pair != before:
                self._renew_at = self._clock.now() + _RENEWED_AFTER
            what = "client CA" if trust_changed else "serving certificate"
            log.info("the HTTPS API has a new %s", what)
            self.on_change(self.context, trust_changed)

    def _look(self, pair: tuple[bytes, bytes], authority: bytes | None) -> _Found | None:
        """What is to take the place of these; None if nothing is. A new context: a handshake may be using the old."""
        new = self._read_pair()
        if new is None and self._renew_at is not None and self._clock.now() >= self._renew_at:
            new = self._sign()
        new = new or pair
        trusted = None if self._client_ca is None else read_pem(self._client_ca)
        if (new, trusted) == (pair, authority):
            return None
        return _Found(self._make(new), new, trusted)

    def _make(self, pair: tuple[bytes, bytes]) -> ssl.SSLContext:
        # Files by their names, so that errors say them; what is written meanwhile is seen at the next look.
        certificate, key = self._files
        shown: tuple[Pem, Pem] = pair if certificate is None or key is None else (certificate, key)
        return server_context(*shown, client_ca=self._client_ca)

    def _read_pair(self) -> tuple[bytes, bytes] | None:
        certificate, key = self._files
        if certificate is None or key is None:
            return None
        return read_pem(certificate), read_pem(key)

    def _sign(self) -> tuple[bytes, bytes]:
        name = self._names[0]
        return self_signed(self._names, self._ips, common_name=name, lifetime=_LIFETIME, now=self._clock.now())
