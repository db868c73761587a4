"""Who a client is to an API server: tokens and certificates that are renewed under it, plugins, in-cluster, TLS names."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.contract.api_servers import ApiServer
from tests.contract.scenarios import eventually
from virtual_kubelet.errors import ApiConnectionError, ForbiddenError, KubeconfigError, UnauthorizedError
from virtual_kubelet.kube.client import ApiClient
from virtual_kubelet.kube.credentials import TokenFile
from virtual_kubelet.kube.kubeconfig import in_cluster_config, load_kubeconfig
from virtual_kubelet.kube.resources import CONFIG_MAPS, SECRETS, SERVICE_ACCOUNTS, TOKEN_REQUESTS
from virtual_kubelet.objects.authentication_v1 import TokenRequest, TokenRequestSpec
from virtual_kubelet.objects.core_v1 import ServiceAccount
from virtual_kubelet.objects.meta_v1 import ObjectMeta

WriteKubeconfig = Callable[[str], Path]


async def who(client: ApiClient) -> str:
    """Whom the server takes the client for: as its refusal says, since none of them may list secrets."""
    with pytest.raises(ForbiddenError) as caught:
        await client.list(SECRETS, "kube-system")
    found = re.search('User "([^"]+)" cannot list', str(caught.value))
    assert found, caught.value
    return found.group(1)


async def token_of(admin: ApiClient, namespace: str, account: str) -> str:
    """A token for a service account, which is made if it is not there."""
    if account not in [a.metadata.name for a in (await admin.list(SERVICE_ACCOUNTS, namespace)).items]:
        await admin.create(SERVICE_ACCOUNTS, ServiceAccount(metadata=ObjectMeta(name=account)), namespace)
    request = TokenRequest(spec=TokenRequestSpec(audiences=["https://kubernetes.default.svc"], expiration_seconds=600))
    made = await admin.create(TOKEN_REQUESTS, request, namespace, name=account, subresource="token")
    assert made.status is not None
    assert made.status.token
    return made.status.token


def user_of(namespace: str, account: str) -> str:
    return f"system:serviceaccount:{namespace}:{account}"


def kubeconfig_for(api_server: ApiServer, user: dict[str, Any], **cluster: Any) -> str:
    """The admin's kubeconfig with another user, and with some of its cluster changed (None: left out)."""
    content = json.loads(api_server.admin_kubeconfig())
    changed = {**content["clusters"][0]["cluster"], **cluster}
    content["clusters"][0]["cluster"] = {key: value for key, value in changed.items() if value is not None}
    content["users"][0]["user"] = user
    return json.dumps(content)


def write_pair(folder: Path, pair: tuple[bytes, bytes]) -> dict[str, Any]:
    """A certificate and its key as files, and the kubeconfig's user that names them."""
    (folder / "me.crt").write_bytes(pair[0])
    (folder / "me.key").write_bytes(pair[1])
    return {"client-certificate": "me.crt", "client-key": "me.key"}  # relative to the kubeconfig


# Tokens


async def test_a_token_file_that_rotates_is_followed(
    api_server: ApiServer, admin: ApiClient, namespace: str, kubeconfig_file: WriteKubeconfig, tmp_path: Path
) -> None:
    path = tmp_path / "token"
    path.write_text(await token_of(admin, namespace, "one"))
    config = load_kubeconfig(kubeconfig_file(kubeconfig_for(api_server, {"tokenFile": "token"})))
    assert isinstance(config.credentials, TokenFile)
    assert config.credentials.path == path
    async with ApiClient(replace(config, credentials=TokenFile(path, period=0))) as client:
        assert await who(client) == user_of(namespace, "one")
        path.write_text(await token_of(admin, namespace, "two") + "\n")
        assert await who(client) == user_of(namespace, "two")


async def test_a_token_that_the_server_no_longer_takes_is_read_anew_at_once(
    api_server: ApiServer, admin: ApiClient, namespace: str, kubeconfig_file: WriteKubeconfig, tmp_path: Path
) -> None:
    """A real server remembers for ten seconds that a token was good."""
    path = tmp_path / "token"
    path.write_text(await token_of(admin, namespace, "one"))
    config = load_kubeconfig(kubeconfig_file(kubeconfig_for(api_server, {"tokenFile": str(path)})))
    async with ApiClient(replace(config, credentials=TokenFile(path, period=3600))) as client:
        assert await who(client) == user_of(namespace, "one")
        path.write_text(await token_of(admin, namespace, "two"))
        await admin.delete(SERVICE_ACCOUNTS, "one", namespace)

        async def is_the_other() -> bool:
            return await who(client) == user_of(namespace, "two")

        await eventually(is_the_other, seconds=40)


async def test_a_token_that_is_none_is_refused_and_not_shown(
    api_server: ApiServer, kubeconfig_file: WriteKubeconfig
) -> None:
    config = load_kubeconfig(kubeconfig_file(kubeconfig_for(api_server, {"token": "planted-secret"})))
    async with ApiClient(config) as client:
        with pytest.raises(UnauthorizedError) as caught:
            await client.list(SECRETS, "kube-system")
        assert "planted-secret" not in repr(caught.value) + repr(config)
        with pytest.raises(UnauthorizedError):
            await anext(client.watch(CONFIG_MAPS, "kube-system"))


async def test_a_pods_own_configuration(
    api_server: ApiServer,
    admin: ApiClient,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = json.loads(api_server.admin_kubeconfig())
    host, port = content["clusters"][0]["cluster"]["server"].removeprefix("https://").split(":")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
    (tmp_path / "ca.crt").write_bytes(api_server.ca_certificate)
    (tmp_path / "namespace").write_text(namespace)
    (tmp_path / "token").write_text(await token_of(admin, namespace, "default"))
    config = in_cluster_config(directory=tmp_path)
    assert config.namespace == namespace
    async with ApiClient(config) as client:
        assert await who(client) == user_of(namespace, "default")


# Client certificates


async def test_a_client_certificate_that_is_renewed_is_shown_without_a_restart(
    api_server: ApiServer, kubeconfig_file: WriteKubeconfig, tmp_path: Path
) -> None:
    user = write_pair(tmp_path, api_server.client_certificate("alice"))
    config = load_kubeconfig(kubeconfig_file(kubeconfig_for(api_server, user)))
    assert config.client_certificate is not None
    async with ApiClient(config) as client:
        assert await who(client) == "alice"
        write_pair(tmp_path, api_server.client_certificate("bob"))
        config.client_certificate.reject()  # or a minute passes
        assert await who(client) == "bob"


async def test_an_expired_client_certificate_says_so_until_it_is_renewed(
    api_server: ApiServer, kubeconfig_file: WriteKubeconfig, tmp_path: Path
) -> None:
    user = write_pair(tmp_path, api_server.client_certificate("alice"))
    path = kubeconfig_file(kubeconfig_for(api_server, user))
    config = load_kubeconfig(path)
    assert config.client_certificate is not None
    async with ApiClient(config) as client:
        assert await who(client) == "alice"
        write_pair(tmp_path, api_server.client_certificate("alice", days=-1))
        config.client_certificate.reject()
        for call in (client.list(SECRETS, "kube-system"), anext(client.watch(SECRETS, "kube-system"))):
            with pytest.raises((UnauthorizedError, ApiConnectionError)) as caught:
                await call
            assert re.search("the client certificate of user '.*' of .* expired on 20", str(caught.value))
        with pytest.raises(KubeconfigError, match="expired on 20"):
            load_kubeconfig(path)
        write_pair(tmp_path, api_server.client_certificate("alice"))
        assert await who(client) == "alice"


# Exec plugins


def exec_plugin(folder: Path, status: dict[str, str]) -> dict[str, Any]:
    """A program that prints this status, from a file that can be changed; each run adds a line to ``runs``."""
    credential = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}
    (folder / "credential").write_text(json.dumps(credential))
    program = folder / "plugin"
    program.write_text(f'#!/bin/sh\necho run >> "{folder}/runs"\nexec cat "{folder}/credential"\n')
    program.chmod(0o700)
    return {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": str(program),
            "interactiveMode": "Never",
        }
    }


def runs(folder: Path) -> int:
    return len((folder / "runs").read_text().splitlines())


async def test_an_exec_plugins_token_is_used_until_the_server_refuses_it(
    api_server: ApiServer, admin: ApiClient, namespace: str, kubeconfig_file: WriteKubeconfig, tmp_path: Path
) -> None:
    user = exec_plugin(tmp_path, {"token": await token_of(admin, namespace, "one")})
    async with ApiClient(load_kubeconfig(kubeconfig_file(kubeconfig_for(api_server, user)))) as client:
        assert [await who(client) for _ in range(3)] == [user_of(namespace, "one")] * 3
        assert runs(tmp_path) == 1
        exec_plugin(tmp_path, {"token": await token_of(admin, namespace, "two")})
        await admin.delete(SERVICE_ACCOUNTS, "one", namespace)

        async def is_the_other() -> bool:
            try:
                return await who(client) == user_of(namespace, "two")
            except UnauthorizedError:  # it is not run again within seconds
                return False

        await eventually(is_the_other, seconds=40)
        assert runs(tmp_path) == 2


async def test_an_exec_plugins_client_certificate_is_shown_and_a_new_one_on_new_connections(
    api_server: ApiServer, kubeconfig_file: WriteKubeconfig, tmp_path: Path
) -> None:
    def status(name: str) -> dict[str, str]:
        certificate, key = api_server.client_certificate(name)
        return {
            "clientCertificateData": certificate.decode(),
            "clientKeyData": key.decode(),
            "expirationTimestamp": "2020-01-01T00:00:00Z",  # so it is run at each request
        }

    user = exec_plugin(tmp_path, status("alice"))
    async with ApiClient(load_kubeconfig(kubeconfig_file(kubeconfig_for(api_server, user)))) as client:
        assert await who(client) == "alice"
        assert await who(client) == "alice"
        exec_plugin(tmp_path, status("bob"))
        assert await who(client) == "bob"


# TLS


async def test_nobody_is_refused(api_server: ApiServer, kubeconfig_file: WriteKubeconfig) -> None:
    async with ApiClient(load_kubeconfig(kubeconfig_file(kubeconfig_for(api_server, {})))) as client:
        with pytest.raises((UnauthorizedError, ForbiddenError)):
            await client.list(SECRETS, "kube-system")


async def test_the_servers_certificate_must_be_of_the_clusters_authority_and_name(
    api_server: ApiServer, kubeconfig_file: WriteKubeconfig
) -> None:
    user = json.loads(api_server.admin_kubeconfig())["users"][0]["user"]

    async def listed(**cluster: Any) -> None:
        text = kubeconfig_for(api_server, user, **cluster)
        async with ApiClient(load_kubeconfig(kubeconfig_file(text))) as client:
            await client.list(CONFIG_MAPS, "kube-system")
            async with aclosing(client.watch(CONFIG_MAPS, "kube-system", timeout_seconds=1)) as events:
                async for _ in events:
                    pass

    await listed()
    await listed(**{"tls-server-name": "kubernetes.default.svc"})
    with pytest.raises(ApiConnectionError, match="Hostname mismatch"):
        await listed(**{"tls-server-name": "elsewhere.example"})
    with pytest.raises(ApiConnectionError, match="its certificate is not trusted"):
        await listed(**{"certificate-authority-data": None})
    certificate, _ = api_server.client_certificate("no authority")
    with pytest.raises(ApiConnectionError, match="its certificate is not trusted"):
        await listed(**{"certificate-authority-data": base64.b64encode(certificate).decode()})
    await listed(**{"certificate-authority-data": None, "insecure-skip-tls-verify": True})
