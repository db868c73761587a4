"""Kubeconfig files and the in-cluster configuration to a ``ClientConfig``.

The rules are client-go's (tools/clientcmd): files of ``KUBECONFIG`` are merged, the first to set a value wins, relative
paths are relative to the file that names them. Everything is read here, before anything else runs; only what rotates is
asked again later: token files, files of the CA and of a client certificate and its key, exec plugins.
"""

from __future__ import annotations

import base64
import binascii
import os
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import yaml

from virtual_kubelet.errors import KubeconfigError
from virtual_kubelet.kube.authority import AuthorityFile, trusting
from virtual_kubelet.kube.client_certificate import RENEWAL_HINT, CertificateFiles, ClientCertificate
from virtual_kubelet.kube.config import ClientConfig
from virtual_kubelet.kube.credentials import Anonymous, BasicAuth, Credentials, StaticToken, TokenFile
from virtual_kubelet.kube.exec_plugin import ExecPlugin, ExecSpec
from virtual_kubelet.kube.proxies import proxy_for

__all__ = ["find_config", "in_cluster_config", "load_kubeconfig"]

_SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def find_config(kubeconfig: str | None) -> ClientConfig:
    """The configuration a program is meant to use.

    ``kubeconfig`` if given (a missing file is an error), else ``$KUBECONFIG`` (likewise), else ``~/.kube/config`` if it is
    there, else the in-cluster configuration. Raises ``KubeconfigError``, with a hint.
    """
    if kubeconfig:
        return load_kubeconfig(kubeconfig)
    if os.environ.get("KUBECONFIG"):
        return load_kubeconfig()
    home = Path.home() / ".kube" / "config"
    if home.exists():
        return load_kubeconfig(home)
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        return in_cluster_config()
    raise KubeconfigError(
        "no kubeconfig was given, there is no ~/.kube/config, and this is not a pod of a cluster",
        hint="pass --kubeconfig FILE or set KUBECONFIG",
    )


def in_cluster_config(*, directory: Path = _SERVICE_ACCOUNT) -> ClientConfig:
    """What a pod's service account gives; its token file is read again as it rotates. Raises ``KubeconfigError``."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise KubeconfigError("KUBERNETES_SERVICE_HOST is not set: this is not a pod of a cluster")
    token, authority = directory / "token", directory / "ca.crt"
    if not token.exists():
        raise KubeconfigError(
            f"the service account's token {token} is missing",
            hint="does the pod set automountServiceAccountToken: false?",
        )
    ca = _read(authority, "the cluster's CA") if authority.exists() else None
    namespace = directory / "namespace"
    return ClientConfig(
        server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        ssl_context=trusting(ca, source=str(directory)),
        credentials=TokenFile(token),
        certificate_authority=ca,
        authority_file=None if ca is None else AuthorityFile(authority, ca, source=str(directory)),
        proxy=proxy_for(None, "https", host),
        namespace=_read(namespace, "the namespace").decode().strip() if namespace.exists() else "default",
        source="the pod's service account",
    )


def load_kubeconfig(path: str | os.PathLike[str] | None = None, *, context: str | None = None) -> ClientConfig:
    """Read a kubeconfig: ``path``, or the files ``$KUBECONFIG`` lists, or ``~/.kube/config``.

    Args:
        context: instead of the file's current-context.

    Raises:
        KubeconfigError: a file is missing or malformed, or refers to what is not there; the certificate has expired.
    """
    if path is not None:
        paths, needed = [Path(path)], True
    elif os.environ.get("KUBECONFIG"):
        paths, needed = [Path(p) for p in os.environ["KUBECONFIG"].split(os.pathsep) if p], False
    else:
        paths, needed = [Path.home() / ".kube" / "config"], True
    found = [p for p in paths if needed or p.exists()]
    if not found:
        raise KubeconfigError(
            f"no file of KUBECONFIG is there: {os.pathsep.join(map(str, paths))}", hint="correct KUBECONFIG or unset it"
        )
    return _Kubeconfig([(p, _parse(p)) for p in found]).resolve(context)


def _parse(path: Path) -> dict[str, Any]:
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise KubeconfigError(f"the kubeconfig {path} is not there", hint="pass --kubeconfig FILE") from None
    except OSError as error:
        raise KubeconfigError(f"cannot read the kubeconfig {path}: {error.strerror}") from None
    try:
        content = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        # The error's own text quotes the file, which holds keys and tokens.
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark is not None else ""
        raise KubeconfigError(f"the kubeconfig {path} is not YAML{where}") from None
    if content is None:
        content = {}
    if not isinstance(content, dict) or content.get("kind", "Config") != "Config":
        raise KubeconfigError(f"{path} is not a kubeconfig: its kind is not Config")
    return content


class _Kubeconfig:
    """Some files, merged."""

    def __init__(self, files: Sequence[tuple[Path, dict[str, Any]]]) -> None:
        self.source = os.pathsep.join(str(path) for path, _ in files)
        self.current = next((str(c["current-context"]) for _, c in files if c.get("current-context")), "")
        self.entries: dict[str, dict[str, tuple[Path, dict[str, Any]]]] = {}
        for kind, key in (("clusters", "cluster"), ("users", "user"), ("contexts", "context")):
            entries = self.entries[kind] = {}
            for path, content in files:
                listed = content.get(kind) or []
                if not isinstance(listed, list):
                    raise KubeconfigError(f"the kubeconfig {path} has no list as its {kind}")
                for entry in listed:
                    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
                        raise KubeconfigError(f"the kubeconfig {path} has an entry without a name in {kind}")
                    value = entry.get(key)
                    entries.setdefault(
                        entry["name"], (path.absolute().parent, value if isinstance(value, dict) else {})
                    )

    def entry(self, kind: str, name: str, why: str) -> tuple[Path, dict[str, Any]]:
        try:
            return self.entries[kind][name]
        except KeyError:
            known = ", ".join(sorted(self.entries[kind])) or "none"
            raise KubeconfigError(
                f"the kubeconfig {self.source} has no {kind[:-1]} {name!r}{why}", hint=f"its {kind} are: {known}"
            ) from None

    def resolve(self, context: str | None) -> ClientConfig:
        name = context or self.current
        if not name:
            raise KubeconfigError(
                f"the kubeconfig {self.source} has no current-context", hint="kubectl config use-context NAME sets it"
            )
        _, chosen = self.entry("contexts", name, "")
        why = f", which its context {name!r} names"
        cluster_folder, cluster = self.entry("clusters", str(chosen.get("cluster", "")), why)
        user_name = str(chosen.get("user", ""))
        user_folder, user = self.entry("users", user_name, why) if user_name else (cluster_folder, {})
        server = str(cluster.get("server") or "")
        try:
            parts = urlsplit(server)
            usable = parts.scheme in ("https", "http") and parts.hostname and parts.port != 0
        except ValueError:
            usable = False
        if not usable or not parts.hostname:
            raise KubeconfigError(
                f"the kubeconfig {self.source} names no server that is a URL", hint="such as https://10.0.0.1:6443"
            )
        if "@" in parts.netloc:
            raise KubeconfigError(
                f"the server of the kubeconfig {self.source} has a user or password in its URL",
                hint="put username and password into the kubeconfig's user",
            )
        ca = _content(cluster, "certificate-authority", cluster_folder)
        insecure = cluster.get("insecure-skip-tls-verify") or False
        if not isinstance(insecure, bool):
            raise KubeconfigError(f"insecure-skip-tls-verify of {self.source} is neither true nor false")
        if insecure and ca is not None:
            raise KubeconfigError(
                f"the kubeconfig {self.source} has a certificate-authority and insecure-skip-tls-verify",
                hint="remove one of them",
            )
        server_name = cluster.get("tls-server-name")
        certificate = _content(user, "client-certificate", user_folder)
        key = _content(user, "client-key", user_folder)
        if (certificate is None) != (key is None):
            raise KubeconfigError(
                f"user {user_name!r} of {self.source} has only one of client-certificate and client-key"
            )
        tls = shown = renewed = None
        if parts.scheme == "https":
            if ca is not None and not cluster.get("certificate-authority-data"):
                path = cluster_folder / str(cluster["certificate-authority"])
                renewed = AuthorityFile(path, ca, source=self.source)
            tls = trusting(ca, insecure=insecure, source=self.source)
            shown = self.client_certificate(tls, user, f"user {user_name!r} of {self.source}", user_folder)
            if certificate is not None and key is not None:
                shown.show(certificate, key)
            if shown.problem:
                raise KubeconfigError(shown.problem, hint=RENEWAL_HINT)
        return ClientConfig(
            server=server.rstrip("/"),
            ssl_context=tls,
            credentials=self.credentials(user, user_name, user_folder, cluster, ca, shown),
            client_certificate=shown,
            certificate_authority=ca,
            authority_file=renewed,
            tls_server_name=str(server_name) if server_name else None,
            proxy=proxy_for(cluster.get("proxy-url"), parts.scheme, parts.hostname),
            namespace=str(chosen.get("namespace") or "default"),
            source=self.source,
        )

    @staticmethod
    def client_certificate(tls: ssl.SSLContext, user: Mapping[str, Any], whose: str, folder: Path) -> ClientCertificate:
        files = None
        if (
            user.get("client-certificate")
            and not user.get("client-certificate-data")
            and not user.get("client-key-data")
        ):
            files = CertificateFiles(folder / str(user["client-certificate"]), folder / str(user.get("client-key")))
        return ClientCertificate(tls, whose, files=files)

    def credentials(
        self,
        user: Mapping[str, Any],
        name: str,
        folder: Path,
        cluster: Mapping[str, Any],
        ca: bytes | None,
        shown: ClientCertificate | None,
    ) -> Credentials:
        if user.get("as") or user.get("as-uid") or user.get("as-groups") or user.get("as-user-extra"):
            raise KubeconfigError(
                f"user {name!r} of {self.source} impersonates another, which is not supported",
                hint="a node needs credentials of its own: system:node:NAME in the group system:nodes",
            )
        if user.get("tokenFile"):  # before token, as in client-go: the file rotates
            return TokenFile(folder / str(user["tokenFile"]))
        if user.get("token"):
            try:
                return StaticToken(str(user["token"]))
            except KubeconfigError as error:
                raise KubeconfigError(f"user {name!r} of {self.source}: {error}") from None
        if user.get("username"):
            return BasicAuth(str(user["username"]), str(user.get("password") or ""))
        if user.get("auth-provider"):
            raise KubeconfigError(
                f"user {name!r} of {self.source} has an auth-provider: Kubernetes 1.26 removed them",
                hint="use the exec plugin of your cloud, such as gke-gcloud-auth-plugin or kubelogin",
            )
        if user.get("exec"):
            return ExecPlugin(
                ExecSpec.parse(user["exec"], folder, cluster, ca, f"user {name!r} of {self.source}"), shown
            )
        return Anonymous()


def _content(entry: Mapping[str, Any], key: str, folder: Path) -> bytes | None:
    """The bytes of ``key``: inline as ``key-data`` (which wins, as in client-go), or a file."""
    inline = entry.get(f"{key}-data")
    if inline:
        try:
            return base64.b64decode("".join(inline.split()), validate=True)
        except (binascii.Error, ValueError, TypeError, AttributeError):
            raise KubeconfigError(f"{key}-data is not base64") from None
    path = entry.get(key)
    return _read(folder / str(path), key) if path else None


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise KubeconfigError(f"cannot read {what} from {path}: {error.strerror}") from None
