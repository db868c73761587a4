"""Certificate signing requests of nodes: what is approved, what is signed, what is refused."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.devcluster.clients import Api
from virtual_kubelet.devcluster import DevCluster
from virtual_kubelet.devcluster.certificate_requests import parse_request, problem

Json = dict[str, Any]
PATH = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
SERVING = "kubernetes.io/kubelet-serving"
CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
ANY_CLIENT = "kubernetes.io/kube-apiserver-client"
SERVER_USAGES = ("digital signature", "server auth")
CLIENT_USAGES = ("digital signature", "client auth")
KEY = ec.generate_private_key(ec.SECP256R1())


def encoded(
    common_name: str, organizations: Sequence[str] = ("system:nodes",), names: Sequence[x509.GeneralName] = ()
) -> str:
    """``spec.request``."""
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, o) for o in organizations]
    attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(attributes))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return base64.b64encode(builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)).decode()


def request(name: str, signer: str, usages: Sequence[str], text: str, **spec: Any) -> Json:
    return {"metadata": {"name": name}, "spec": {"request": text, "signerName": signer, "usages": [*usages], **spec}}


def dns(*names: str) -> list[x509.GeneralName]:
    return [x509.DNSName(name) for name in names]


async def decided(api: Api, name: str) -> Json:
    """The status, once there is a certificate or a refusal."""
    async with asyncio.timeout(30):
        while True:
            status: Json = (await api.get(f"{PATH}/{name}")).body["status"]
            kinds = {c["type"] for c in status.get("conditions", ())}
            if "certificate" in status or kinds & {"Failed", "Denied"}:
                return status
            await asyncio.sleep(0.01)


def certificate(status: Json) -> x509.Certificate:
    return x509.load_pem_x509_certificate(base64.b64decode(status["certificate"]))


async def approve(api: Api, name: str) -> None:
    condition = {"type": "Approved", "status": "True", "reason": "test", "message": "ok"}
    stored = (await api.get(f"{PATH}/{name}")).body
    stored["status"]["conditions"] = [condition]
    answer = await api.put(f"{PATH}/{name}/approval", stored)
    assert answer.status == 200, answer


async def test_a_node_gets_its_client_certificate_without_anybody_and_it_works(cluster: DevCluster, api: Api) -> None:
    async with await Api.of(cluster, cluster.node_kubeconfig("n1")) as node:
        await node.create(PATH, request("c", CLIENT, CLIENT_USAGES, encoded("system:node:n1"), expirationSeconds=3600))
        status = await decided(node, "c")
    (approved,) = status["conditions"]
    assert (approved["type"], approved["reason"]) == ("Approved", "AutoApproved")
    assert approved["message"] == "Auto approving self kubelet client certificate after SubjectAccessReview."
    issued = certificate(status)
    left = issued.not_valid_after_utc - datetime.now(UTC)
    assert timedelta(minutes=50) < left <= timedelta(hours=1)
    issued.verify_directly_issued_by(x509.load_pem_x509_certificate(cluster.ca_pem))
    usage = issued.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    content = json.loads(cluster.node_kubeconfig("n1"))
    key = KEY.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    content["users"][0]["user"] = {
        "client-certificate-data": status["certificate"],
        "client-key-data": base64.b64encode(key).decode(),
    }
    async with await Api.of(cluster, json.dumps(content)) as renewed:
        answer = await renewed.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", {})
        assert answer.body["status"]["userInfo"]["username"] == "system:node:n1"


async def test_a_serving_certificate_waits_until_its_names_are_the_nodes_addresses(
    cluster: DevCluster, api: Api
) -> None:
    await api.create("/api/v1/nodes", {"metadata": {"name": "n1"}})
    names = [*dns("n1"), x509.IPAddress(ip_address("192.0.2.7"))]
    async with await Api.of(cluster, cluster.node_kubeconfig("n1")) as node:
        await node.create(PATH, request("s", SERVING, SERVER_USAGES, encoded("system:node:n1", names=names)))
        stolen = encoded("system:node:n1", names=dns("kubernetes.default.svc"))
        await node.create(PATH, request("stolen", SERVING, SERVER_USAGES, stolen))
        addresses = [{"type": "Hostname", "address": "n1"}, {"type": "InternalIP", "address": "192.0.2.7"}]
        assert (await api.get(f"{PATH}/s")).body["status"] == {}
        answer = await node.patch("/api/v1/nodes/n1/status", {"status": {"addresses": addresses}})
        assert answer.status == 200, answer
        issued = certificate(await decided(node, "s"))
    assert issued.extensions.get_extension_for_class(x509.SubjectAlternativeName).value == x509.SubjectAlternativeName(
        names
    )
    assert list(issued.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.SERVER_AUTH
    ]
    assert (await api.get(f"{PATH}/stolen")).body["status"] == {}


async def test_what_an_administrator_approves_is_signed_only_if_it_is_a_nodes(api: Api) -> None:
    await api.create(PATH, request("good", SERVING, SERVER_USAGES, encoded("system:node:x", names=dns("x"))))
    await approve(api, "good")
    assert certificate(await decided(api, "good")).subject.rfc4514_string() == "CN=system:node:x,O=system:nodes"
    await api.create(PATH, request("bad", SERVING, SERVER_USAGES, encoded("system:node:x")))
    await approve(api, "bad")
    status = await decided(api, "bad")
    failed = next(c for c in status["conditions"] if c["type"] == "Failed")
    assert (failed["reason"], failed["message"]) == (
        "SignerValidationFailure",
        "DNS or IP subjectAltName is required",
    )
    assert "certificate" not in status


async def test_what_is_denied_is_never_signed(api: Api) -> None:
    await api.create(PATH, request("d", SERVING, SERVER_USAGES, encoded("system:node:x", names=dns("x"))))
    denied = {"status": {"conditions": [{"type": "Denied", "status": "True", "reason": "r", "message": "m"}]}}
    assert (await api.patch(f"{PATH}/d/approval", denied)).status == 200
    both = {"type": "Approved", "status": "True", "reason": "r", "message": "m"}
    answer = await api.patch(f"{PATH}/d/approval", {"status": {"conditions": [both, *denied["status"]["conditions"]]}})
    assert answer.status == 422
    assert "mutually exclusive" in answer.message
    answer = await api.patch(f"{PATH}/d/approval", {"status": {"conditions": []}})
    assert 'updates may not remove a condition of type "Denied"' in answer.message


async def test_signers_of_others_are_left_alone(api: Api) -> None:
    await api.create(PATH, request("o", "example.com/mine", SERVER_USAGES, encoded("x")))
    await approve(api, "o")
    await api.create(PATH, request("mine", SERVING, SERVER_USAGES, encoded("system:node:x", names=dns("x"))))
    await approve(api, "mine")
    await decided(api, "mine")
    assert "certificate" not in (await api.get(f"{PATH}/o")).body["status"]


async def test_a_node_cannot_ask_in_the_name_of_another(cluster: DevCluster) -> None:
    async with await Api.of(cluster, cluster.node_kubeconfig("n1")) as node:
        answer = await node.post(PATH, request("x", CLIENT, CLIENT_USAGES, encoded("system:node:n2")))
        assert answer.status == 403
        assert answer.message == (
            'certificatesigningrequests.certificates.k8s.io "x" is forbidden: can only create a node CSR with '
            "CN=system:node:n1"
        )
        assert (await node.put(f"{PATH}/x/approval", {"metadata": {"name": "x"}})).status == 403


async def test_a_new_node_that_may_bootstrap_gets_its_first_certificate(cluster: DevCluster) -> None:
    kubeconfig = cluster.kubeconfig("system:bootstrap:abcdef", ["system:bootstrappers"])
    async with await Api.of(cluster, kubeconfig) as newcomer:
        await newcomer.create(PATH, request("b", CLIENT, CLIENT_USAGES, encoded("system:node:new")))
        status = await decided(newcomer, "b")
        assert status["conditions"][0]["message"].startswith("Auto approving kubelet client certificate after")
        assert (await newcomer.get("/api/v1/nodes")).status == 403
        assert (await newcomer.delete(f"{PATH}/b")).status == 403


async def test_who_asks_is_what_the_server_knows_not_what_the_request_says(api: Api) -> None:
    body = request("w", SERVING, SERVER_USAGES, encoded("system:node:x", names=dns("x")), username="system:node:x")
    created = await api.create(PATH, body)
    assert created["spec"]["username"] == "admin"
    assert created["spec"]["groups"] == ["system:masters", "system:authenticated"]
    (credential,) = created["spec"]["extra"]["authentication.kubernetes.io/credential-id"]
    assert credential.startswith("X509SHA256=")
    assert len(credential) == len("X509SHA256=") + 64


@pytest.mark.parametrize(
    ("changed", "field", "reason"),
    [
        ({"request": "bm90aGluZw=="}, "spec.request", "FieldValueInvalid"),
        ({"usages": []}, "spec.usages", "FieldValueRequired"),
        ({"usages": ["flying"]}, "spec.usages[0]", "FieldValueNotSupported"),
        ({"usages": ["client auth", "client auth"]}, "spec.usages[1]", "FieldValueDuplicate"),
        ({"signerName": ""}, "spec.signerName", "FieldValueRequired"),
        ({"signerName": "mine"}, "spec.signerName", "FieldValueInvalid"),
        ({"signerName": "example.com/a/b"}, "spec.signerName", "FieldValueInvalid"),
        ({"expirationSeconds": 599}, "spec.expirationSeconds", "FieldValueInvalid"),
    ],
)
async def test_a_request_that_cannot_be_signed_is_not_stored(api: Api, changed: Json, field: str, reason: str) -> None:
    body = request("x", SERVING, SERVER_USAGES, encoded("system:node:x"))
    body["spec"].update(changed)
    answer = await api.post(PATH, body)
    assert answer.status == 422
    assert (field, reason) in answer.causes


async def test_the_spec_of_a_request_never_changes(api: Api) -> None:
    created = await api.create(PATH, request("x", SERVING, SERVER_USAGES, encoded("system:node:x")))
    answer = await api.patch(f"{PATH}/x", {"spec": {"signerName": CLIENT, "username": "system:node:x"}})
    assert answer.status == 200
    assert answer.body["spec"] == created["spec"]


@pytest.mark.parametrize(
    ("signer", "usages", "text", "expected"),
    [
        (SERVING, SERVER_USAGES, encoded("system:node:n", names=dns("n")), ""),
        (SERVING, (*SERVER_USAGES, "key encipherment"), encoded("system:node:n", names=dns("n")), ""),
        (CLIENT, CLIENT_USAGES, encoded("system:node:n"), ""),
        (SERVING, SERVER_USAGES, encoded("n", names=dns("n")), "subject common name does not begin with system:node:"),
        (CLIENT, CLIENT_USAGES, encoded("n"), "subject common name does not begin with system:node:"),
        (
            CLIENT,
            CLIENT_USAGES,
            encoded("system:node:n", ["system:masters"]),
            "subject organization is not system:nodes",
        ),
        (
            CLIENT,
            CLIENT_USAGES,
            encoded("system:node:n", ["system:nodes", "system:masters"]),
            "subject organization is not system:nodes",
        ),
        (CLIENT, CLIENT_USAGES, encoded("system:node:n", names=dns("n")), "DNS subjectAltNames are not allowed"),
        (
            SERVING,
            SERVER_USAGES,
            encoded("system:node:n", names=[*dns("n"), x509.RFC822Name("a@b.c")]),
            "Email subjectAltNames are not allowed",
        ),
        (
            SERVING,
            CLIENT_USAGES,
            encoded("system:node:n", names=dns("n")),
            "usages did not match [key encipherment digital signature server auth]",
        ),
        (
            CLIENT,
            (*CLIENT_USAGES, "server auth"),
            encoded("system:node:n"),
            "usages did not match [key encipherment digital signature client auth]",
        ),
        # As Kubernetes' own documentation has it, for a person.
        (ANY_CLIENT, ("client auth",), encoded("jane", ["people"]), ""),
        (ANY_CLIENT, (*CLIENT_USAGES, "key encipherment"), encoded("jane", ["people"]), ""),
        (
            ANY_CLIENT,
            ("client auth", "server auth"),
            encoded("jane"),
            "invalid usage for client certificate: server auth",
        ),
        (
            ANY_CLIENT,
            ("digital signature",),
            encoded("jane"),
            "missing required usage for client certificate: client auth",
        ),
    ],
)
def test_what_a_signer_signs(signer: str, usages: Sequence[str], text: str, expected: str) -> None:
    assert problem(signer, parse_request(text), usages) == expected
