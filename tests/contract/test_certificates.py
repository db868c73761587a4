"""A node's certificates from the cluster's signers, with the node's own rights."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from tests.contract.api_servers import ApiServer
from tests.contract.commands import Kubectl, running_node, virtual_kubelet
from tests.contract.scenarios import eventually
from virtual_kubelet.errors import ApiNotFoundError
from virtual_kubelet.kube.backoff import Backoff
from virtual_kubelet.kube.certificate_requests import CertificateKeyPair, CertificateTemplate, serving_template
from virtual_kubelet.kube.certificate_rotation import CertificateRotation
from virtual_kubelet.kube.client import ApiClient, PatchType
from virtual_kubelet.kube.kubeconfig import load_kubeconfig
from virtual_kubelet.kube.resources import CERTIFICATE_SIGNING_REQUESTS, NODES
from virtual_kubelet.node_certificates import client_rotation
from virtual_kubelet.objects.certificates_v1 import CertificateSigningRequest
from virtual_kubelet.objects.core_v1 import Node


class JumpingClock:
    """The machine's, and a jump."""

    ahead = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


async def requests_of(admin: ApiClient, node_name: str) -> list[CertificateSigningRequest]:
    """This node's, oldest first."""
    found = [
        r
        for r in (await admin.list(CERTIFICATE_SIGNING_REQUESTS)).items
        if r.spec.username == f"system:node:{node_name}"
    ]
    return sorted(found, key=lambda r: int(r.metadata.resource_version or "0"))


async def decide(admin: ApiClient, request: CertificateSigningRequest, decision: str) -> None:
    condition = {"type": decision, "status": "True", "reason": "Tested", "message": "by a test"}
    await admin.patch(
        CERTIFICATE_SIGNING_REQUESTS,
        request.metadata.name or "",
        {"status": {"conditions": [condition]}},
        patch_type=PatchType.MERGE,
        subresource="approval",
    )


class Rotations:
    """Rotations of one node, and what they brought."""

    def __init__(self, admin: ApiClient, client: ApiClient, node_name: str, path: Path) -> None:
        self.admin, self.client, self.node_name, self.path = admin, client, node_name, path
        self.addresses: tuple[str, ...] = ("10.1.2.3",)
        self.pairs: list[CertificateKeyPair] = []
        self.clock = JumpingClock()
        self.decided: set[str] = set()

    def template(self) -> CertificateTemplate:
        return serving_template(self.node_name, (self.node_name,), self.addresses)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[CertificateRotation]:
        rotation = CertificateRotation(
            self.client,
            self.template,
            self.path,
            on_change=self.pairs.append,
            backoff=Backoff(initial=0.05, cap=0.1),
            clock=self.clock,
            look=0.05,
        )
        task = asyncio.create_task(rotation.run())
        try:
            yield rotation
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def pending(self) -> CertificateSigningRequest:
        async def newest() -> CertificateSigningRequest | None:
            found = await requests_of(self.admin, self.node_name)
            return found[-1] if found and found[-1].metadata.name not in self.decided else None

        request = await eventually(newest)
        assert isinstance(request, CertificateSigningRequest)
        return request

    async def decide(self, decision: str) -> CertificateSigningRequest:
        request = await self.pending()
        self.decided.add(request.metadata.name or "")
        await decide(self.admin, request, decision)
        return request

    async def certificate(self, number: int) -> x509.Certificate:
        async def there() -> bool:
            return len(self.pairs) > number

        await eventually(there)
        return x509.load_pem_x509_certificate(self.pairs[number].certificate)


def rotations(admin: ApiClient, node_client: ApiClient, node: Node, tmp_path: Path) -> Rotations:
    return Rotations(admin, node_client, node.metadata.name or "", tmp_path / "pki" / "kubelet-server-current.pem")


async def test_a_serving_certificate_is_asked_for_waited_for_and_kept(
    admin: ApiClient, node_client: ApiClient, registered_node: Node, tmp_path: Path
) -> None:
    node = rotations(admin, node_client, registered_node, tmp_path)
    async with node.running() as rotation:
        request = await node.pending()
        assert request.spec.signer_name == "kubernetes.io/kubelet-serving"
        # The server has it a moment before the node has read its answer.
        assert request.metadata.name
        await eventually(lambda: rotation.waiting_for)
        assert request.metadata.name in rotation.waiting_for
        assert rotation.current is None
        await node.decide("Approved")
        certificate = await node.certificate(0)
        assert rotation.waiting_for == ""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [node.node_name]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["10.1.2.3"]
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert [a.value for a in common] == [f"system:node:{node.node_name}"]
    assert node.path.stat().st_mode & 0o777 == 0o600
    # A restart asks nobody.
    async with node.running() as rotation:
        assert await rotation.wait_current() == node.pairs[0]
    assert len(await requests_of(admin, node.node_name)) == 1


async def test_a_denied_request_is_said_and_another_one_made(
    admin: ApiClient, node_client: ApiClient, registered_node: Node, tmp_path: Path
) -> None:
    node = rotations(admin, node_client, registered_node, tmp_path)
    async with node.running():
        denied = await node.decide("Denied")
        second = await node.pending()
        assert second.metadata.name != denied.metadata.name
        await node.decide("Approved")
        await node.certificate(0)


async def test_it_is_renewed_before_it_expires_and_when_the_nodes_addresses_change(
    admin: ApiClient, node_client: ApiClient, registered_node: Node, tmp_path: Path
) -> None:
    node = rotations(admin, node_client, registered_node, tmp_path)
    async with node.running():
        await node.decide("Approved")
        first = await node.certificate(0)
        node.addresses = ("10.1.2.3", "10.9.9.9")
        await node.decide("Approved")
        second = await node.certificate(1)
        names = second.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["10.1.2.3", "10.9.9.9"]
        node.clock.ahead = (first.not_valid_after_utc - first.not_valid_before_utc) * 0.92
        await node.decide("Approved")
        third = await node.certificate(2)
        assert third.serial_number != second.serial_number


async def test_a_deleted_request_is_made_anew(
    admin: ApiClient, node_client: ApiClient, registered_node: Node, tmp_path: Path
) -> None:
    node = rotations(admin, node_client, registered_node, tmp_path)
    async with node.running():
        request = await node.pending()
        node.decided.add(request.metadata.name or "")
        await admin.delete(CERTIFICATE_SIGNING_REQUESTS, request.metadata.name or "")
        await node.decide("Approved")
        await node.certificate(0)


BOOTSTRAP = """
apiVersion: v1
kind: Secret
metadata: {{name: bootstrap-token-{id}, namespace: kube-system}}
type: bootstrap.kubernetes.io/token
stringData: {{token-id: "{id}", token-secret: "{secret}", usage-bootstrap-authentication: "true"}}
"""


@pytest.fixture
async def bootstrap_kubeconfig(
    api_server: ApiServer, kubectl: Kubectl, kubeconfig_file: Callable[[str], Path]
) -> AsyncIterator[Path]:
    """Credentials that may ask for a node's client certificate and nothing else."""
    identity, secret = uuid.uuid4().hex[:6], uuid.uuid4().hex[:16]
    await kubectl("apply", "-f", "-", stdin=BOOTSTRAP.format(id=identity, secret=secret))
    if api_server.kind == "debian":  # what kubeadm sets up
        for role, group in (
            ("system:node-bootstrapper", "system:bootstrappers"),
            ("system:certificates.k8s.io:certificatesigningrequests:nodeclient", "system:bootstrappers"),
            ("system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", "system:nodes"),
        ):
            name = f"test-{role.rpartition(':')[2]}"
            await kubectl("create", "clusterrolebinding", name, f"--clusterrole={role}", f"--group={group}", code=None)
    config = json.loads(api_server.admin_kubeconfig())
    config["users"][0]["user"] = {"token": f"{identity}.{secret}"}
    yield kubeconfig_file(json.dumps(config))
    await kubectl("delete", "secret", "-n", "kube-system", f"bootstrap-token-{identity}")


@pytest.fixture
def kubectl(api_server: ApiServer, kubeconfig_file: Callable[[str], Path]) -> Kubectl:
    return Kubectl(kubeconfig_file(api_server.admin_kubeconfig()))


async def test_a_node_joins_with_a_bootstrap_token_and_has_its_serving_certificate_signed(
    api_server: ApiServer,
    admin: ApiClient,
    node_name: str,
    bootstrap_kubeconfig: Path,
    kubectl: Kubectl,
    tmp_path: Path,
) -> None:
    own = tmp_path / "own" / "kubeconfig"
    options = [
        "--provider", "mock", "--listen", "127.0.0.1:0", "--node-ip", "127.0.0.1", "--state-dir", str(tmp_path / "state"),
        "--bootstrap-kubeconfig", str(bootstrap_kubeconfig), "--rotate-server-certificates",
    ]  # fmt: skip
    async with running_node(own, node_name, *options, ready=False) as process:

        async def serving_request() -> CertificateSigningRequest | None:
            assert process.process.returncode is None, "".join(process.errors)
            found = await requests_of(admin, node_name)
            return next((r for r in found if r.spec.signer_name == "kubernetes.io/kubelet-serving"), None)

        request = await eventually(serving_request)
        assert isinstance(request, CertificateSigningRequest)

        async def message() -> str:
            try:
                node = await admin.get(NODES, node_name)
            except ApiNotFoundError:
                return ""
            text = next((c.message for c in node.status.conditions or () if c.type == "Ready"), "") or ""
            return text if "approve" in text else ""

        if api_server.kind == "debian":  # the dev cluster approves it itself
            assert (request.metadata.name or "-") in str(await eventually(message))
            await kubectl("certificate", "approve", request.metadata.name or "")
        await eventually(lambda: any("node is Ready" in line for line in process.errors))
        # The API server trusts the certificate, and the node the API server's.
        assert (await kubectl("get", "--raw", f"/api/v1/nodes/{node_name}/proxy/healthz")).out == "ok"
    assert own.stat().st_mode & 0o777 == 0o600
    assert own.with_name(f"{node_name}-client-current.pem").stat().st_mode & 0o777 == 0o600
    # The bootstrap token is not needed any more, and nobody is asked again.
    before = len(await requests_of(admin, node_name))
    async with running_node(own, node_name, *options[:-3], "--rotate-server-certificates"):
        assert len(await requests_of(admin, node_name)) == before > 0


async def test_a_bootstrap_token_that_is_not_good_is_a_clear_error(
    bootstrap_kubeconfig: Path, node_name: str, tmp_path: Path
) -> None:
    config = json.loads(bootstrap_kubeconfig.read_text())
    config["users"][0]["user"]["token"] = "abcdef.0123456789abcdef"
    bootstrap_kubeconfig.write_text(json.dumps(config))
    ended = await virtual_kubelet(
        "run", "--kubeconfig", str(tmp_path / "own"), "--bootstrap-kubeconfig", str(bootstrap_kubeconfig),
        "--nodename", node_name, "--provider", "mock",
    )  # fmt: skip
    assert ended.code == 5
    assert "does not accept the credentials" in ended.err
    assert "0123456789abcdef" not in ended.err
    assert not (tmp_path / "own").exists()


async def test_a_renewed_client_certificate_is_shown_without_a_restart(
    api_server: ApiServer, admin: ApiClient, registered_node: Node, tmp_path: Path
) -> None:
    name = registered_node.metadata.name or ""
    certificate, key = api_server.client_certificate(f"system:node:{name}", ["system:nodes"])
    path = tmp_path / "client-current.pem"
    path.write_bytes(certificate + key)
    config = json.loads(api_server.node_kubeconfig(name))
    config["users"][0]["user"] = {"client-certificate": str(path), "client-key": str(path)}
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    loaded = load_kubeconfig(tmp_path / "kubeconfig")
    shown = loaded.client_certificate
    assert shown is not None
    clock = JumpingClock()
    async with ApiClient(loaded) as client:
        await client.get(NODES, name)
        changes = shown.changes
        rotation = client_rotation(client, name, shown, path, clock=clock)
        clock.ahead = timedelta(hours=23)  # of its one day
        task = asyncio.create_task(rotation.run())
        try:

            async def request() -> CertificateSigningRequest | None:
                return next(iter(await requests_of(admin, name)), None)

            asked = await eventually(request)
            assert isinstance(asked, CertificateSigningRequest)
            assert asked.spec.signer_name == "kubernetes.io/kube-apiserver-client-kubelet"
            if api_server.kind == "debian":  # the dev cluster approves it itself
                await decide(admin, asked, "Approved")

            async def renewed() -> bool:
                await client.get(NODES, name)
                return shown.changes > changes

            await eventually(renewed)
            assert path.read_bytes() != certificate + key
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
