"""Keeps one of a node's certificates valid: asks the cluster's signer, waits for approval, renews in time.

The pair lies in one private file, so that a restart asks nobody. As client-go's util/certificate manager, but level-
triggered: whatever happened, the pair at hand either fits what is wanted now, or another one is asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

from virtual_kubelet.clock import Clock, SystemClock
from virtual_kubelet.errors import ApiConnectionError, ApiError, CertificateRefusedError, GoneError
from virtual_kubelet.kube.backoff import Backoff
from virtual_kubelet.kube.certificate_requests import (
    CertificateKeyPair,
    CertificateTemplate,
    fits,
    new_request,
    outcome_of,
    renewal_time,
)
from virtual_kubelet.kube.client import ApiClient
from virtual_kubelet.kube.resources import CERTIFICATE_SIGNING_REQUESTS
from virtual_kubelet.private_file import write_privately
from virtual_kubelet.telemetry.logs import get_logger

__all__ = ["CertificateRotation", "obtain_certificate"]

log = get_logger(__name__)


class CertificateRotation:
    """``run`` until cancelled; ``wait_current`` for the first pair.

    Args:
        template: what the certificate is to be for just now.
        path: where the pair is kept, mode 0600.
        on_change: told of each pair, the first too; must not block.
        on_waiting: told what is waited for, for people, whenever that changes.
        approval_timeout: seconds to wait for one request before another is made (client-go: 15 minutes).
        look: seconds between looks at the wall clock, which may jump, and at ``template``.
    """

    def __init__(
        self,
        client: ApiClient,
        template: Callable[[], CertificateTemplate],
        path: Path,
        *,
        on_change: Callable[[CertificateKeyPair], None],
        on_waiting: Callable[[str], None] | None = None,
        approval_timeout: float = 900.0,
        look: float = 60.0,
        backoff: Backoff | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._client = client
        self._template = template
        self._path = path
        self._on_change = on_change
        self._on_waiting = on_waiting
        self._approval_timeout = approval_timeout
        self._look = look
        self._backoff = backoff or Backoff(initial=2.0, cap=300.0)
        self._clock = clock or SystemClock()
        self._ready = asyncio.Event()
        self._renew_at = self._clock.now()
        self.current: CertificateKeyPair | None = None
        #: What is waited for, for people; empty if nothing.
        self.waiting_for = ""

    async def wait_current(self) -> CertificateKeyPair:
        """The pair, as soon as there is one."""
        await self._ready.wait()
        assert self.current is not None
        return self.current

    async def run(self) -> None:
        """Until cancelled. Raises ``OSError`` only if a pair cannot be kept."""
        await self._load()
        while True:
            template = self._template()
            good = self.current is not None and fits(template, self.current, self._clock.now())
            left = (self._renew_at - self._clock.now()).total_seconds() if good else 0.0
            if left > 0:
                await asyncio.sleep(min(left, self._look))
                continue
            try:
                pair = await obtain_certificate(
                    self._client, template, approval_timeout=self._approval_timeout, on_waiting=self._waits
                )
            except TimeoutError:
                problem = f"nobody approved it within {self._approval_timeout:g} s"
            except (ApiError, ApiConnectionError, CertificateRefusedError) as error:
                problem = str(error)
            else:
                self._backoff.healthy()
                await asyncio.to_thread(write_privately, self._path, pair.pem)
                self._take(pair)
                continue
            delay = self._backoff.next()
            self._waits(f"no certificate from signer {template.signer}: {problem}")
            log.warning("%s; trying again in %.0f s", self.waiting_for, delay)
            await asyncio.sleep(delay)

    async def _load(self) -> None:
        try:
            pair = CertificateKeyPair.of(await asyncio.to_thread(self._path.read_bytes))
        except FileNotFoundError:
            return
        if pair is not None and fits(self._template(), pair, self._clock.now()):
            self._take(pair)

    def _waits(self, what: str) -> None:
        self.waiting_for = what
        if self._on_waiting is not None:
            self._on_waiting(what)

    def _take(self, pair: CertificateKeyPair) -> None:
        self.current = pair
        self._renew_at = renewal_time(pair)
        self.waiting_for = ""
        self._on_change(pair)
        self._ready.set()


async def obtain_certificate(
    client: ApiClient,
    template: CertificateTemplate,
    *,
    approval_timeout: float = 900.0,
    on_waiting: Callable[[str], None] | None = None,
) -> CertificateKeyPair:
    """Make one request and wait until it is approved and signed; ``on_waiting`` is told what is waited for.

    Raises ``CertificateRefusedError``, ``ApiError``, ``ApiConnectionError``, and ``TimeoutError`` after
    ``approval_timeout`` seconds.
    """
    request, key = await asyncio.to_thread(new_request, template)  # the library takes 0.1 s to import
    name = (await client.create(CERTIFICATE_SIGNING_REQUESTS, request)).metadata.name or ""
    waiting = f"certificate signing request {name} waits for approval (kubectl certificate approve {name})"
    log.info("%s", waiting)
    if on_waiting is not None:
        on_waiting(waiting)
    async with asyncio.timeout(approval_timeout):
        while True:
            found = await client.get(CERTIFICATE_SIGNING_REQUESTS, name)
            certificate = outcome_of(found) or await _follow(client, name, found.metadata.resource_version or "")
            if certificate is not None:
                pair = CertificateKeyPair.of(certificate + b"\n" + key)
                if pair is None:
                    raise CertificateRefusedError(f"what was signed for request {name} is no certificate")
                log.info("certificate signing request %s was approved and signed", name)
                return pair


async def _follow(client: ApiClient, name: str, resource_version: str) -> bytes | None:
    """The certificate, or None if the watch ended before there was one."""
    events = client.watch(
        CERTIFICATE_SIGNING_REQUESTS,
        field_selector=f"metadata.name={name}",
        resource_version=resource_version,
        timeout_seconds=60,
        inactivity=90.0,
    )
    try:
        async with aclosing(events):
            async for event in events:
                if event.type == "DELETED":
                    raise CertificateRefusedError(f"certificate signing request {name} was deleted")
                if event.object is not None and (certificate := outcome_of(event.object)) is not None:
                    return certificate
    except GoneError:
        return None
    return None
