"""The node's HTTPS API in a cluster: who may call it is the API server's answer (TokenReview, SubjectAccessReview)."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest

from tests.contract.api_servers import ApiServer
from tests.contract.commands import Kubectl, NodeProcess, running_node
from tests.contract.scenarios import eventually, pod_on
from virtual_kubelet.kube.client import ApiClient
from virtual_kubelet.kube.resources import PODS, TOKEN_REQUESTS
from virtual_kubelet.objects.authentication_v1 import TokenRequest, TokenRequestSpec
from virtual_kubelet.objects.core_v1 import Container, ResourceRequirements

WriteKubeconfig = Callable[[str], Path]


@pytest.fixture
def serving(api_server: ApiServer, tmp_path: Path) -> list[str]:
    """Options of a mock node with a certificate of the cluster's CA."""
    certificate, key = api_server.serving_certificate("127.0.0.1")
    (tmp_path / "tls.crt").write_bytes(certificate)
    (tmp_path / "tls.key").write_bytes(key)
    options = ["--provider", "mock", "--listen", "127.0.0.1:0", "--node-ip", "127.0.0.1"]
    return [*options, "--tls-cert-file", str(tmp_path / "tls.crt"), "--tls-private-key-file", str(tmp_path / "tls.key")]


@pytest.fixture
async def node(
    api_server: ApiServer, node_name: str, kubeconfig_file: WriteKubeconfig, serving: list[str]
) -> AsyncIterator[NodeProcess]:
    """A mock node, started with the node's own credentials."""
    path = kubeconfig_file(api_server.node_kubeconfig(node_name))
    async with running_node(path, node_name, *serving) as process:
        yield process


class Caller:
    """Somebody who speaks HTTPS to the node."""

    def __init__(self, url: str, context: ssl.SSLContext, token: str | None = None) -> None:
        self.url, self.context = url, context
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    async def __call__(self, path: str, method: str = "GET") -> tuple[int, str]:
        async with aiohttp.ClientSession() as session:
            async with session.request(method, self.url + path, ssl=self.context, headers=self.headers) as answer:
                return answer.status, await answer.text()


def trusting(ca_certificate: bytes, kubeconfig: str | None, folder: Path) -> ssl.SSLContext:
    """Trusts the cluster's CA; with a kubeconfig, shows its client certificate."""
    context = ssl.create_default_context(cadata=ca_certificate.decode())
    context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
    if kubeconfig is not None:
        user = json.loads(kubeconfig)["users"][0]["user"]
        pem = folder / "client.pem"
        pem.write_bytes(
            base64.b64decode(user["client-certificate-data"]) + b"\n" + base64.b64decode(user["client-key-data"])
        )
        context.load_cert_chain(pem)
    return context


@pytest.fixture
def administrator(api_server: ApiServer, node: NodeProcess, tmp_path: Path) -> Caller:
    return Caller(node.url, trusting(api_server.ca_certificate, api_server.admin_kubeconfig(), tmp_path))


@pytest.fixture
def stranger(api_server: ApiServer, node: NodeProcess, tmp_path: Path) -> Caller:
    return Caller(node.url, trusting(api_server.ca_certificate, None, tmp_path))


async def test_nobody_without_credentials_is_answered(stranger: Caller) -> None:
    for path in ("/pods", "/runningpods/", "/healthz", "/metrics", "/containerLogs/a/b/c", "/exec/a/b/c"):
        assert await stranger(path) == (401, "Unauthorized"), path
    stranger.headers = {"Authorization": "Bearer planted-nonsense"}
    assert await stranger("/pods") == (401, "Unauthorized")


async def test_a_token_without_rights_is_forbidden(stranger: Caller, admin: ApiClient, namespace: str) -> None:
    request = TokenRequest(spec=TokenRequestSpec(audiences=[]))
    answer = await admin.create(TOKEN_REQUESTS, request, namespace, name="default", subresource="token")
    assert answer.status is not None
    assert answer.status.token
    stranger.headers = {"Authorization": f"Bearer {answer.status.token}"}
    status, text = await stranger("/pods")
    assert status == 403
    assert f"user=system:serviceaccount:{namespace}:default" in text
    assert answer.status.token not in text


@pytest.mark.only_on("debian")  # the dev cluster has no RBAC
async def test_each_subresource_is_a_right_of_its_own(
    api_server: ApiServer,
    stranger: Caller,
    admin: ApiClient,
    namespace: str,
    node_name: str,
    kubeconfig_file: WriteKubeconfig,
) -> None:
    kubectl = Kubectl(kubeconfig_file(api_server.admin_kubeconfig()))
    role = f"reads-{node_name}"
    await kubectl("create", "clusterrole", role, "--verb=get", "--resource=nodes/metrics,nodes/pods")
    try:
        await kubectl(
            "create", "clusterrolebinding", role, f"--clusterrole={role}", f"--serviceaccount={namespace}:default"
        )
        request = TokenRequest(spec=TokenRequestSpec(audiences=[]))
        answer = await admin.create(TOKEN_REQUESTS, request, namespace, name="default", subresource="token")
        assert answer.status is not None
        stranger.headers = {"Authorization": f"Bearer {answer.status.token}"}

        async def allowed() -> bool:  # RBAC sees its objects a moment later
            return (await stranger("/metrics"))[0] == 200

        await eventually(allowed, seconds=45)  # a no is kept for half a minute
        assert (await stranger("/pods"))[0] == 200
        assert (await stranger("/runningpods/"))[0] == 200
        for path, method, verb, asked in (
            ("/pods", "POST", "create", "pods proxy"),
            ("/healthz", "GET", "get", "healthz proxy"),
            ("/stats/summary", "GET", "get", "stats"),
            (f"/containerLogs/{namespace}/p/main", "GET", "get", "proxy"),
            (f"/exec/{namespace}/p/main?command=id&output=1", "GET", "create", "proxy"),
        ):
            status, text = await stranger(path, method)
            user = f"system:serviceaccount:{namespace}:default"
            words = f"Forbidden (user={user}, verb={verb}, resource=nodes, subresource(s)=[{asked}])\n"
            assert (status, text) == (403, words)
    finally:
        await kubectl("delete", "clusterrolebinding", role, "--ignore-not-found")
        await kubectl("delete", "clusterrole", role)


async def test_an_administrators_certificate_opens_all_that_there_is(
    administrator: Caller, admin: ApiClient, node_name: str, namespace: str
) -> None:
    await admin.create(PODS, pod_on(node_name, "p"), namespace)

    async def running() -> bool:
        return (await admin.get(PODS, "p", namespace)).status.phase == "Running"

    await eventually(running)
    assert await administrator("/healthz") == (200, "ok")
    for path in ("/", "/nope", "/containerLogs/", "/containerLogs/%2e%2e/%2e%2e/etc", "//pods"):
        assert (await administrator(path))[0] == 404, path
    status, text = await administrator("/pods")
    assert status == 200
    assert [p["metadata"]["name"] for p in json.loads(text)["items"]] == ["p"]
    status, text = await administrator("/runningpods/")
    assert [p["metadata"]["name"] for p in json.loads(text)["items"]] == ["p"]
    status, text = await administrator("/metrics")
    assert status == 200
    assert "virtual_kubelet_pods 1.0" in text
    for counted in (
        "pod_queue_duration_seconds_count",
        'pod_sync_duration_seconds_count{result="ok"}',
        'provider_call_duration_seconds_count{call="create_pod",result="ok"}',
        'api_requests_total{code="200",resource="pods",verb="patch"}',
        'api_request_duration_seconds_count{resource="pods",verb="patch"}',
        'http_requests_total{code="200",method="GET",path="pods"}',
        "lease_renewals_total",
        "node_status_updates_total",
        "ping_duration_seconds_count",
    ):
        assert re.search(rf"^virtual_kubelet_{re.escape(counted)}\S* [1-9]", text, re.MULTILINE), counted
    assert "# TYPE virtual_kubelet_watch_restarts_total counter" in text
    assert (await administrator(f"/containerLogs/{namespace}/p/main"))[0] == 200
    status, text = await administrator(f"/containerLogs/{namespace}/p/other")
    assert (status, text) == (404, 'container "other" not found in pod "p"')


async def test_with_always_allow_whoever_the_cluster_knows_may_all_and_a_warning_says_so(
    api_server: ApiServer,
    admin: ApiClient,
    node_name: str,
    namespace: str,
    kubeconfig_file: WriteKubeconfig,
    serving: list[str],
    tmp_path: Path,
) -> None:
    request = TokenRequest(spec=TokenRequestSpec(audiences=[]))
    answer = await admin.create(TOKEN_REQUESTS, request, namespace, name="default", subresource="token")
    assert answer.status is not None
    path = kubeconfig_file(api_server.node_kubeconfig(node_name))
    async with running_node(path, node_name, *serving, "--authorization-mode=AlwaysAllow") as node:
        known = Caller(node.url, trusting(api_server.ca_certificate, None, tmp_path), answer.status.token)
        unknown = Caller(node.url, known.context, "nonsense")
        assert (await known("/pods"))[0] == 200
        assert await unknown("/pods") == (401, "Unauthorized")
        assert any("AlwaysAllow" in line and "WARN" in line for line in node.errors)


async def test_statistics_and_configuration_are_shown(
    api_server: ApiServer,
    administrator: Caller,
    admin: ApiClient,
    node_name: str,
    namespace: str,
    kubeconfig_file: WriteKubeconfig,
) -> None:
    resources = ResourceRequirements(requests={"cpu": "250m", "memory": "64Mi"})
    container = Container(name="main", image="busybox", resources=resources)
    await admin.create(PODS, pod_on(node_name, "p", containers=[container]), namespace)
    labels = f'container="main",namespace="{namespace}",pod="p"'

    async def scraped() -> bool:
        return f"container_cpu_usage_seconds_total{{{labels}}} " in (await administrator("/metrics/resource"))[1]

    await eventually(scraped)
    status, text = await administrator("/metrics/resource")
    assert status == 200
    assert re.search(rf"^container_memory_working_set_bytes{{{labels}}} 6.7108864e\+07 \d{{13}}$", text, re.MULTILINE)
    assert text.endswith("\nresource_scrape_error 0\n")
    status, text = await administrator("/stats/summary?only_cpu_and_memory=true")
    assert status == 200
    summary = json.loads(text)
    assert summary["node"]["nodeName"] == node_name
    assert [pod["podRef"]["name"] for pod in summary["pods"]] == ["p"]
    assert summary["pods"][0]["cpu"]["usageNanoCores"] == 250_000_000
    assert 'image="busybox"' in (await administrator("/metrics/cadvisor"))[1]
    assert "process_start_time_seconds" in (await administrator("/metrics/probes"))[1]
    configured = json.loads((await administrator("/configz"))[1])["kubeletconfig"]
    assert configured["authentication"]["anonymous"] == {"enabled": False}
    assert administrator.url.endswith(f":{configured['port']}")
    status, text = await administrator(f"/checkpoint/{namespace}/p/main", "POST")
    assert (status, text) == (501, "this node does not offer checkpoint")
    if api_server.kind == "debian":  # the dev cluster does not proxy to nodes yet
        kubectl = Kubectl(kubeconfig_file(api_server.admin_kubeconfig()))
        proxied = await kubectl("get", "--raw", f"/api/v1/nodes/{node_name}/proxy/stats/summary")
        assert [pod["podRef"]["name"] for pod in json.loads(proxied.out)["pods"]] == ["p"]


async def test_a_certificate_that_changes_is_shown_without_a_restart(
    api_server: ApiServer, administrator: Caller, node: NodeProcess, tmp_path: Path
) -> None:
    port = int(node.url.rpartition(":")[2])

    async def shown() -> str:
        return await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port))

    before = await shown()
    certificate, key = api_server.serving_certificate("127.0.0.1")
    (tmp_path / "tls.crt").write_bytes(certificate)
    (tmp_path / "tls.key").write_bytes(key)

    async def changed() -> bool:
        return await shown() != before

    await eventually(changed, seconds=40)
    assert (await shown()).split() == certificate.decode().split()
    assert (await administrator("/healthz"))[0] == 200
    assert node.process.returncode is None


async def test_a_request_for_streams_that_is_no_upgrade_is_refused(
    administrator: Caller, admin: ApiClient, node_name: str, namespace: str
) -> None:
    await admin.create(PODS, pod_on(node_name, "p"), namespace)

    async def known() -> bool:
        return "p" in (await administrator("/pods"))[1]

    await eventually(known)
    status, text = await administrator(f"/exec/{namespace}/p/main?command=id&output=1", "POST")
    assert (status, text.strip()) == (500, "Upgrade request required")
