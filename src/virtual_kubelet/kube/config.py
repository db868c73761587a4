"""How to reach and convince an API server: URL, TLS, credentials, proxy."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field

from virtual_kubelet.kube.authority import Authority, AuthorityFile
from virtual_kubelet.kube.client_certificate import ClientCertificate
from virtual_kubelet.kube.credentials import Credentials

__all__ = ["ClientConfig"]


@dataclass(slots=True)
class ClientConfig:
    """What ``ApiClient`` needs. Made by ``kubeconfig``; secrets are inside ``credentials`` and never shown.

    Attributes:
        server: base URL, such as ``https://10.0.0.1:6443``.
        ssl_context: None for plain HTTP.
        credentials: what proves who we are.
        client_certificate: what ``ssl_context`` shows, if it is read again or comes from an exec plugin, or if it is to be
            said when it has expired.
        certificate_authority: PEM of the cluster's CA, if the configuration names one.
        authority_file: where that is read again, if it is a file.
        tls_server_name: name to expect in the server's certificate instead of the URL's host.
        proxy: URL of an HTTP proxy.
        namespace: the context's default namespace.
        source: where this comes from, for error messages.
    """

    server: str
    ssl_context: ssl.SSLContext | None = field(repr=False)
    credentials: Credentials
    client_certificate: ClientCertificate | None = field(default=None, repr=False, kw_only=True)
    certificate_authority: bytes | None = field(default=None, repr=False)
    authority_file: AuthorityFile | None = field(default=None, repr=False, kw_only=True)
    tls_server_name: str | None = None
    proxy: str | None = field(default=None, repr=False)  # its URL may hold a password
    namespace: str = "default"
    source: str = ""

    def trust(self, authority: Authority) -> None:
        """Trust this CA from now on, in the place of the last one. Blocks."""
        if self.client_certificate is not None:
            self.client_certificate.move_to(authority.context)
        self.ssl_context = authority.context
        self.certificate_authority = authority.pem
