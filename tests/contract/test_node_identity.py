"""What a node's identity may touch: its own Node, Lease and pods, and what these refer to."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.contract.api_servers import ApiServer
from virtual_kubelet.errors import ApiError
from virtual_kubelet.kube.client import ApiClient

Json = dict[str, Any]
MERGE = "application/merge-patch+json"


@dataclass
class World:
    """Two nodes, each with a pod that refers to a Secret of its own."""

    admin: ApiClient
    node: ApiClient
    mine: str
    other: str
    namespace: str

    @property
    def user(self) -> str:
        return f"system:node:{self.mine}"

    async def ask(self, client: ApiClient, method: str, path: str, body: Json | None = None) -> tuple[int, str]:
        """Status and message."""
        data = None if body is None else json.dumps(body).encode()
        kind = MERGE if method == "PATCH" else "application/json"
        try:
            answer = await client.request(method, path, body=data, headers={"Content-Type": kind})
        except ApiError as error:
            return error.code or 0, str(error)
        return answer.status, ""

    async def must(self, method: str, path: str, body: Json | None = None) -> None:
        status, message = await self.ask(self.admin, method, path, body)
        assert status < 300, (method, path, message)

    async def uid(self, path: str) -> str:
        answer = await self.admin.request("GET", path)
        return str(json.loads(answer.body)["metadata"]["uid"])

    async def may(self, method: str, path: str, body: Json | None = None) -> bool:
        """Whether the node may; what is no 403 is allowed."""
        status, _ = await self.ask(self.node, method, path, body)
        return status != 403

    async def refused(self, method: str, path: str, body: Json | None, *words: str) -> None:
        status, message = await self.ask(self.node, method, path, body)
        assert status == 403, (method, path, status, message)
        for word in words:
            assert word in message, message


def pod(name: str, node: str, secret: str) -> Json:
    env = [{"name": "A", "valueFrom": {"secretKeyRef": {"name": secret, "key": "k"}}}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"nodeName": node, "containers": [{"name": "main", "image": "x", "env": env}]},
    }


@pytest.fixture
async def world(admin: ApiClient, node_client: ApiClient, node_name: str, namespace: str) -> Any:
    other = f"other-{uuid.uuid4().hex[:8]}"
    world = World(admin, node_client, node_name, other, namespace)
    core = f"/api/v1/namespaces/{namespace}"
    for node, name in ((node_name, "mine"), (other, "other")):
        await world.must("POST", "/api/v1/nodes", {"metadata": {"name": node}})
        lease = {"metadata": {"name": node}, "spec": {"holderIdentity": node}}
        await world.must("POST", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", lease)
        await world.must("POST", f"{core}/secrets", {"metadata": {"name": name}, "data": {"k": "dg=="}})
        await world.must("POST", f"{core}/pods", pod(name, node, name))
    # The node authorizer of a real server learns of new pods from its own watch.
    for _ in range(100):
        if await world.may("GET", f"{core}/secrets/mine"):
            break
    yield world
    for path in (f"{core}/pods/other?gracePeriodSeconds=0", f"/api/v1/nodes/{other}"):
        await world.ask(admin, "DELETE", path)
    await world.ask(admin, "DELETE", f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{other}")


async def test_a_node_may_write_its_own_node_and_no_other(world: World) -> None:
    patch = {"metadata": {"annotations": {"a": "b"}}}
    assert await world.may("GET", f"/api/v1/nodes/{world.mine}")
    assert await world.may("PATCH", f"/api/v1/nodes/{world.mine}", patch)
    assert await world.may("PATCH", f"/api/v1/nodes/{world.mine}/status", {"status": {"phase": "Running"}})
    why = f'nodes "{world.other}" is forbidden: node "{world.mine}" is not allowed to modify node "{world.other}"'
    await world.refused("PATCH", f"/api/v1/nodes/{world.other}", patch, why)
    await world.refused("PATCH", f"/api/v1/nodes/{world.other}/status", {"status": {"phase": "Running"}}, why)
    await world.refused("POST", "/api/v1/nodes", {"metadata": {"name": "a-third"}}, "is not allowed to modify node")
    await world.refused("DELETE", f"/api/v1/nodes/{world.mine}", None, f'User "{world.user}" cannot delete resource')


async def test_a_node_may_not_change_what_others_decide_about_it(world: World, api_server: ApiServer) -> None:
    path = f"/api/v1/nodes/{world.mine}"
    taints = {"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}}
    await world.refused("PATCH", path, taints, f'node "{world.mine}" is not allowed to modify taints')
    restricted = {"metadata": {"labels": {"node-restriction.kubernetes.io/x": "y"}}}
    words = "is not allowed to modify labels: node-restriction.kubernetes.io/x"
    await world.refused("PATCH", path, restricted, words)
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "1"}
    if api_server.kind == "dev":  # younger than the Debian control plane
        owned = {"metadata": {"ownerReferences": [owner]}}
        await world.refused("PATCH", path, owned, "ownerReferences")
    assert await world.may(
        "PATCH", path, {"metadata": {"labels": {"example.com/mine": "y", "kubernetes.io/os": "linux"}}}
    )


async def test_a_node_may_write_its_own_lease_and_no_other(world: World) -> None:
    leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
    renewed = {"spec": {"leaseDurationSeconds": 41}}
    assert await world.may("GET", f"{leases}/{world.mine}")
    assert await world.may("PATCH", f"{leases}/{world.mine}", renewed)
    words = "can only access node lease with the same name as the requesting node"
    await world.refused("GET", f"{leases}/{world.other}", None, words)
    await world.refused("PATCH", f"{leases}/{world.other}", renewed, words)
    await world.refused("POST", leases, {"metadata": {"name": "third"}}, words)
    await world.refused("GET", leases, None, f'User "{world.user}" cannot list resource "leases"')
    words = 'can only access leases in the "kube-node-lease" system namespace'
    await world.refused("GET", leases.replace("kube-node-lease", "default") + f"/{world.mine}", None, words)


async def test_a_node_may_report_on_its_own_pods_and_end_them_and_no_others(world: World) -> None:
    pods = f"/api/v1/namespaces/{world.namespace}/pods"
    status = {"status": {"message": "m"}}
    assert await world.may("GET", f"{pods}/mine")
    assert await world.may("PATCH", f"{pods}/mine/status", status)
    words = f'node "{world.mine}" can only update pod status for pods with spec.nodeName set to itself'
    await world.refused("PATCH", f"{pods}/other/status", status, words)
    labels = {"metadata": {"labels": {"a": "b"}}}
    await world.refused("PATCH", f"{pods}/mine/status", labels, "cannot update labels through pod status")
    await world.refused("PATCH", f"{pods}/mine", labels, f'User "{world.user}" cannot patch resource "pods"')
    words = f'node "{world.mine}" can only delete pods with spec.nodeName set to itself'
    await world.refused("DELETE", f"{pods}/other", None, words)
    eviction = {"apiVersion": "policy/v1beta1", "kind": "Eviction", "metadata": {"name": "other"}}
    await world.refused(
        "POST", f"{pods}/other/eviction", eviction, "can only evict pods with spec.nodeName set to itself"
    )
    assert await world.may("DELETE", f"{pods}/mine?gracePeriodSeconds=0")


async def test_a_node_may_create_mirror_pods_only_and_none_that_read_secrets(world: World) -> None:
    pods = f"/api/v1/namespaces/{world.namespace}/pods"
    plain: Json = {
        "metadata": {"name": "new"},
        "spec": {"nodeName": world.mine, "containers": [{"name": "m", "image": "x"}]},
    }
    words = (
        f'pod does not have "kubernetes.io/config.mirror" annotation, node "{world.mine}" can only create mirror pods'
    )
    await world.refused("POST", pods, plain, words)
    mirror = {"metadata": {"name": "new", "annotations": {"kubernetes.io/config.mirror": "x"}}, "spec": plain["spec"]}
    elsewhere = {**mirror, "spec": {**plain["spec"], "nodeName": world.other}}
    await world.refused("POST", pods, elsewhere, "can only create pods with spec.nodeName set to itself")


async def test_a_node_may_read_what_its_pods_refer_to_one_by_one(world: World) -> None:
    secrets = f"/api/v1/namespaces/{world.namespace}/secrets"
    assert await world.may("GET", f"{secrets}/mine")
    words = f"no relationship found between node '{world.mine}' and this object"
    await world.refused("GET", f"{secrets}/other", None, f'User "{world.user}" cannot get resource "secrets"', words)
    await world.refused("GET", secrets, None, "No Object name found")
    await world.refused("PATCH", f"{secrets}/mine", {"data": {"k": "eA=="}}, "can only read resources of this type")
    await world.must("DELETE", f"/api/v1/namespaces/{world.namespace}/pods/mine?gracePeriodSeconds=0")
    for _ in range(1000):
        if not await world.may("GET", f"{secrets}/mine"):
            break
    else:
        pytest.fail("a Secret could still be read when its pod was gone")


async def test_a_node_gets_tokens_for_its_own_pods_only(world: World) -> None:
    accounts = f"/api/v1/namespaces/{world.namespace}/serviceaccounts"
    core = f"/api/v1/namespaces/{world.namespace}/pods"
    mine = {**pod("with-account", world.mine, "mine")}
    mine["spec"]["serviceAccountName"] = "default"
    await world.must("POST", core, mine)
    uid = await world.uid(f"{core}/with-account")
    request = _request("with-account", uid)
    for _ in range(1000):
        if await world.may("POST", f"{accounts}/default/token", request):
            break
    else:
        pytest.fail(f"{await world.ask(world.node, 'POST', f'{accounts}/default/token', request)}")
    words = "token not bound to a pod"
    await world.refused("POST", f"{accounts}/default/token", {"spec": {"audiences": None}}, words)
    for asked, words in (
        (_request("other", await world.uid(f"{core}/other")), "bound to a pod scheduled on a different node"),
        (_request("with-account", ""), "with a pod binding without a uid"),
        (_request("with-account", "another"), "the UID in the bound object reference (another) does not match"),
    ):
        await world.refused("POST", f"{accounts}/default/token", asked, words)
    await world.ask(world.admin, "DELETE", f"{core}/with-account?gracePeriodSeconds=0")


def _request(name: str, uid: str) -> Json:
    reference = {"kind": "Pod", "apiVersion": "v1", "name": name, "uid": uid}
    return {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"audiences": None, "boundObjectRef": reference},
    }


async def test_reviews_answer_for_any_user_what_the_server_would(world: World, api_server: ApiServer) -> None:
    def asked(user: str, groups: list[str], attributes: Json | None = None, **more: str) -> Json:
        attributes = {**(attributes or {}), **more}
        spec = {"user": user, "groups": groups, "resourceAttributes": attributes}
        return {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}

    async def allowed(review: Json) -> bool:
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        answer = await world.node.request(
            "POST", path, body=json.dumps(review).encode(), headers={"Content-Type": "application/json"}
        )
        return bool(json.loads(answer.body)["status"].get("allowed"))

    node = (world.user, ["system:nodes"])
    assert await allowed(asked("root", ["system:masters"], verb="delete", resource="pods"))
    assert not await allowed(asked("jane", [], verb="get", resource="pods", namespace="default"))
    assert await allowed(asked(*node, verb="create", resource="events", namespace="default"))
    assert not await allowed(asked(*node, verb="delete", resource="nodes", name=world.mine))
    where = {"resource": "secrets", "namespace": world.namespace}
    assert await allowed(asked(*node, where, verb="get", name="mine"))
    assert not await allowed(asked(*node, where, verb="get", name="other"))
    assert not await allowed(asked(world.user, [], where, verb="get", name="mine"))


async def test_nobody_gets_in_without_credentials(
    api_server: ApiServer, kubeconfig_file: Callable[[str], Path]
) -> None:
    from virtual_kubelet.kube.kubeconfig import load_kubeconfig

    content = json.loads(api_server.admin_kubeconfig())
    content["users"][0]["user"] = {}
    async with ApiClient(load_kubeconfig(kubeconfig_file(json.dumps(content)))) as client:
        with pytest.raises(ApiError) as raised:
            await client.request("GET", "/api/v1/namespaces/default/pods")
    # The Debian control plane knows an anonymous user, who may nothing.
    assert raised.value.code == (401 if api_server.kind == "dev" else 403)


async def test_a_node_requests_its_client_certificate_and_gets_it(world: World) -> None:
    name = f"csr-{uuid.uuid4().hex[:8]}"
    subject = [("O", "system:nodes"), ("CN", world.user)]
    path = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
    body = certificate_request(
        name, "kubernetes.io/kube-apiserver-client-kubelet", ["digital signature", "client auth"], subject
    )
    await world.must("GET", path)
    assert await world.may("POST", path, body)
    answer = await world.node.request("GET", f"{path}/{name}")
    spec = json.loads(answer.body)["spec"]
    assert spec["username"] == world.user
    assert spec["groups"] == ["system:nodes", "system:authenticated"]
    await world.refused("DELETE", f"{path}/{name}", None, "cannot delete resource")
    await world.must("DELETE", f"{path}/{name}")


def certificate_request(name: str, signer: str, usages: list[str], subject: list[tuple[str, str]]) -> Json:
    oids = {"O": NameOID.ORGANIZATION_NAME, "CN": NameOID.COMMON_NAME}
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.Name([x509.NameAttribute(oids[kind], value) for kind, value in subject])
    request = x509.CertificateSigningRequestBuilder().subject_name(names).sign(key, hashes.SHA256())
    pem = base64.b64encode(request.public_bytes(serialization.Encoding.PEM)).decode()
    spec = {"request": pem, "signerName": signer, "usages": usages}
    return {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": name},
        "spec": spec,
    }
