"""Credentials from an exec plugin: a program that prints an ExecCredential (client.authentication.k8s.io)."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from virtual_kubelet.errors import CredentialsError, KubeconfigError
from virtual_kubelet.kube.client_certificate import ClientCertificate
from virtual_kubelet.kube.credentials import bearer
from virtual_kubelet.objects.times import parse_time

__all__ = ["ExecPlugin", "ExecSpec"]

_GROUP: Final = "client.authentication.k8s.io/"
#: A credential is renewed this long before it expires, or after half of its life if that is short.
_MARGIN: Final = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class ExecSpec:
    """A kubeconfig's ``exec`` section."""

    command: str
    arguments: tuple[str, ...] = field(repr=False)
    environment: dict[str, str] = field(repr=False)
    api_version: str
    cluster: dict[str, Any] | None = field(repr=False)
    interactive: bool
    hint: str
    source: str

    @classmethod
    def parse(
        cls, section: Mapping[str, Any], folder: Path, cluster: Mapping[str, Any], ca: bytes | None, source: str
    ) -> ExecSpec:
        """Raises ``KubeconfigError`` if the section is malformed."""
        try:
            return cls._parse(section, folder, cluster, ca, source)
        except (AttributeError, KeyError, TypeError):
            raise KubeconfigError(f"the exec section of {source} is malformed") from None

    @classmethod
    def _parse(
        cls, section: Mapping[str, Any], folder: Path, cluster: Mapping[str, Any], ca: bytes | None, source: str
    ) -> ExecSpec:
        command, version = str(section.get("command") or ""), str(section.get("apiVersion") or "")
        if not command:
            raise KubeconfigError(f"the exec plugin of {source} names no command")
        if version not in (_GROUP + "v1", _GROUP + "v1beta1"):
            raise KubeconfigError(
                f"the exec plugin of {source} has the apiVersion {version!r}: v1 and v1beta1 are known"
            )
        info: dict[str, Any] | None = None
        if section.get("provideClusterInfo"):
            info = {"server": cluster.get("server")}
            if ca is not None:
                info["certificate-authority-data"] = base64.b64encode(ca).decode()
            for key in ("tls-server-name", "insecure-skip-tls-verify", "proxy-url"):
                if cluster.get(key):
                    info[key] = cluster[key]
            for extension in cluster.get("extensions") or ():
                if extension.get("name") == "client.authentication.k8s.io/exec":
                    info["config"] = extension.get("extension")
        mode = section.get("interactiveMode", "IfAvailable")
        if mode == "Always" and not sys.stdin.isatty():
            raise KubeconfigError(f"the exec plugin of {source} wants a terminal, and there is none")
        return cls(
            # A path with a slash is relative to the kubeconfig; a bare name is looked up in PATH (client-go).
            command=str(folder / command) if "/" in command else command,
            arguments=tuple(str(a) for a in section.get("args") or ()),
            environment={str(e["name"]): str(e.get("value", "")) for e in section.get("env") or ()},
            api_version=version,
            cluster=info,
            interactive=mode != "Never" and sys.stdin.isatty(),
            hint=str(section.get("installHint") or ""),
            source=source,
        )


class ExecPlugin:
    """Runs the plugin when there is no credential, when it expires and after a 401. What it prints is never shown.

    Args:
        certificate: what shows a client certificate that the plugin gives; None without TLS.
        time_limit: seconds the plugin may take.
        rest: seconds after a run in which a 401 does not make it run again: what it gave then is no better now.
    """

    def __init__(
        self,
        spec: ExecSpec,
        certificate: ClientCertificate | None,
        *,
        time_limit: float = 60.0,
        rest: float = 5.0,
    ) -> None:
        self._spec = spec
        self._certificate = certificate
        self._time_limit = time_limit
        self._rest = rest
        self._ran_at = float("-inf")
        self._header: str | None = None
        self._valid = False
        self._renew_at: datetime | None = None
        self._lock = asyncio.Lock()

    async def authorization(self) -> str | None:
        if not self._current():
            async with self._lock:  # one run for all who wait
                if not self._current():
                    await self._run()
        return self._header

    def reject(self, used: str | None) -> None:
        if used == self._header and time.monotonic() - self._ran_at >= self._rest:
            self._valid = False

    def _current(self) -> bool:
        return self._valid and (self._renew_at is None or datetime.now(UTC) < self._renew_at)

    async def _run(self) -> None:
        spec = self._spec
        request: dict[str, Any] = {"interactive": spec.interactive}
        if spec.cluster is not None:
            request["cluster"] = spec.cluster
        info = {"apiVersion": spec.api_version, "kind": "ExecCredential", "spec": request}
        environment = {**os.environ, **spec.environment, "KUBERNETES_EXEC_INFO": json.dumps(info, default=str)}
        try:
            child = await asyncio.create_subprocess_exec(
                spec.command,
                *spec.arguments,
                env=environment,
                stdin=None if spec.interactive else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            raise CredentialsError(
                f"the exec plugin {spec.command!r} of {spec.source} cannot be run: {error.strerror}", hint=spec.hint
            ) from None
        try:
            async with asyncio.timeout(self._time_limit):
                output, _ = await child.communicate()
        except TimeoutError:
            raise CredentialsError(
                f"the exec plugin {spec.command!r} of {spec.source} did not end in {self._time_limit:g} s",
                hint="does it wait for somebody to type something?",
            ) from None
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        if child.returncode != 0:
            raise CredentialsError(
                f"the exec plugin {spec.command!r} of {spec.source} failed with exit code {child.returncode}",
                hint=spec.hint,
            )
        await self._take(output)

    async def _take(self, output: bytes) -> None:
        name = f"the exec plugin {self._spec.command!r} of {self._spec.source}"
        try:
            credential = json.loads(output)
            status = credential["status"]
            version, token = credential.get("apiVersion"), status.get("token")
            certificate, key = status.get("clientCertificateData"), status.get("clientKeyData")
            expires = parse_time(status["expirationTimestamp"]) if status.get("expirationTimestamp") else None
            header = bearer(token.strip()) if token else None
            pair = (certificate.encode(), key.encode()) if certificate and key else None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            # The error's own text quotes what was printed.
            raise CredentialsError(f"{name} did not print an ExecCredential") from None
        if version != self._spec.api_version:
            raise CredentialsError(f"{name} answered with another apiVersion than {self._spec.api_version}")
        if header is None and (token or pair is None):
            raise CredentialsError(f"{name} gave neither a token nor a client certificate and key")
        if pair is not None and self._certificate is not None:
            try:
                await self._certificate.renew(*pair)
            except KubeconfigError:
                raise CredentialsError(f"{name} gave a client certificate and key that do not work") from None
        self._header = header
        self._renew_at = None
        if expires is not None:
            now = datetime.now(UTC)
            self._renew_at = expires - min(_MARGIN, (expires - now) / 2)
        self._ran_at = time.monotonic()
        self._valid = True
