"""The three roles, tokens that die with what they are bound to, and what everybody may ask about themselves."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.devcluster.clients import Api, pod
from virtual_kubelet.devcluster import DevCluster

Json = dict[str, Any]
DEFAULT = "/api/v1/namespaces/default"
TOKEN = f"{DEFAULT}/serviceaccounts/default/token"
REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
ACCESS = "/apis/authorization.k8s.io/v1"


async def token(api: Api, bound: Json | None = None, audiences: list[str] | None = None) -> str:
    spec: Json = {"expirationSeconds": 600}
    if bound is not None:
        spec["boundObjectRef"] = bound
    if audiences is not None:
        spec["audiences"] = audiences
    return str((await api.create(TOKEN, {"spec": spec}))["status"]["token"])


async def review(api: Api, text: str, audiences: list[str] | None = None) -> Json:
    spec: Json = {"token": text} if audiences is None else {"token": text, "audiences": audiences}
    status: Json = (await api.create(REVIEWS, {"spec": spec}))["status"]
    return status


@pytest.fixture
async def bare(cluster: DevCluster) -> AsyncIterator[Api]:
    """A client without a certificate of its own: one would count before a token."""
    async with Api(cluster.url, ssl.create_default_context(cadata=cluster.ca_pem.decode())) as client:
        yield client


def bearer(text: str) -> Json:
    return {"headers": {"Authorization": f"Bearer {text}"}}


async def test_a_token_bound_to_a_pod_names_it_and_its_node_and_dies_with_it(api: Api) -> None:
    await api.create("/api/v1/nodes", {"metadata": {"name": "n1"}})
    created = await api.create(f"{DEFAULT}/pods", pod("p", nodeName="n1", serviceAccountName="default"))
    uid = created["metadata"]["uid"]
    text = await token(api, {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": uid})
    status = await review(api, text)
    assert status["user"]["username"] == "system:serviceaccount:default:default"
    extra = status["user"]["extra"]
    assert extra["authentication.kubernetes.io/pod-name"] == ["p"]
    assert extra["authentication.kubernetes.io/pod-uid"] == [uid]
    assert extra["authentication.kubernetes.io/node-name"] == ["n1"]
    await api.delete(f"{DEFAULT}/pods/p?gracePeriodSeconds=0")
    await api.create(f"{DEFAULT}/pods", pod("p", nodeName="n1", serviceAccountName="default"))
    assert await review(api, text) == {"user": {}, "error": "invalid bearer token"}


async def test_a_token_dies_with_its_account(api: Api, bare: Api) -> None:
    text = await token(api)
    assert (await review(api, text))["authenticated"]
    await api.delete(f"{DEFAULT}/serviceaccounts/default")
    assert "authenticated" not in await review(api, text)
    assert (await bare.get(f"{DEFAULT}/pods", **bearer(text))).status == 401


async def test_a_token_is_good_for_its_audiences_only(api: Api, bare: Api) -> None:
    text = await token(api, audiences=["vault"])
    assert (await review(api, text, ["vault", "other"]))["audiences"] == ["vault"]
    assert "authenticated" not in await review(api, text)
    assert (await bare.get(f"{DEFAULT}/pods", **bearer(text))).status == 401


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "e30.e30.e30", "\u00e4", "." * 20_000])
async def test_a_token_of_nobody_is_refused(api: Api, text: str) -> None:
    if text:
        assert await review(api, text) == {"user": {}, "error": "invalid bearer token"}
    else:
        assert (await api.post(REVIEWS, {"spec": {"token": text}})).status in (400, 422)


async def test_a_service_account_looks_at_its_own_namespace_and_changes_nothing(api: Api, bare: Api) -> None:
    await api.create("/api/v1/namespaces", {"metadata": {"name": "other"}})
    mine = bearer(await token(api))
    for path, status in (
        (f"{DEFAULT}/pods", 200),
        (f"{DEFAULT}/configmaps/kube-root-ca.crt", 200),
        (f"{DEFAULT}/secrets", 403),
        ("/api/v1/namespaces/other/pods", 403),
        ("/api/v1/pods", 403),
        ("/api/v1/nodes", 403),
        ("/apis", 200),
    ):
        assert (await bare.get(path, **mine)).status == status, path
    answer = await bare.post(f"{DEFAULT}/pods", pod("p"), **mine)
    assert answer.status == 403
    assert answer.message == (
        'pods is forbidden: User "system:serviceaccount:default:default" cannot create resource "pods" in API group "" '
        'in the namespace "default"'
    )


async def test_what_one_may_do_is_listed_for_each_role(cluster: DevCluster, api: Api, bare: Api) -> None:
    body = {"spec": {"namespace": "default"}}
    path = f"{ACCESS}/selfsubjectrulesreviews"
    all_rights = (await api.create(path, body))["status"]
    assert all_rights["resourceRules"][0] == {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
    assert all_rights["incomplete"] is False
    mine = (await bare.post(path, body, **bearer(await token(api)))).body["status"]
    assert ["get", "list", "watch"] in [rule["verbs"] for rule in mine["resourceRules"]]
    elsewhere = (await bare.post(path, {"spec": {"namespace": "other"}}, **bearer(await token(api)))).body["status"]
    assert [rule["verbs"] for rule in elsewhere["resourceRules"]] == [["create"], ["create"]]
    async with await Api.of(cluster, cluster.node_kubeconfig("n1")) as node:
        status = (await node.create(path, body))["status"]
    assert status["incomplete"] is True
    assert status["evaluationError"] == "node authorizer does not support user rule resolution"
    answer = await api.post(path, {"spec": {}})
    assert (answer.status, answer.message) == (400, "no namespace on request")


async def test_what_is_listed_is_what_is_allowed(api: Api, bare: Api) -> None:
    mine = bearer(await token(api))
    status = (await bare.post(f"{ACCESS}/selfsubjectrulesreviews", {"spec": {"namespace": "default"}}, **mine)).body
    for rule in status["status"]["resourceRules"]:
        for verb in rule["verbs"]:
            for resource in rule["resources"]:
                plural, _, subresource = resource.partition("/")
                asked = {"verb": verb, "group": rule["apiGroups"][0], "resource": plural, "subresource": subresource}
                spec = {"spec": {"resourceAttributes": {**asked, "namespace": "default"}}}
                answer = await bare.post(f"{ACCESS}/selfsubjectaccessreviews", spec, **mine)
                assert answer.body["status"]["allowed"], asked


async def test_a_certificate_without_a_role_may_ask_about_itself_and_no_more(cluster: DevCluster) -> None:
    async with await Api.of(cluster, cluster.kubeconfig("jane", ["developers"])) as jane:
        who = (await jane.create("/apis/authentication.k8s.io/v1/selfsubjectreviews", {}))["status"]["userInfo"]
        assert (who["username"], who["groups"]) == ("jane", ["developers", "system:authenticated"])
        assert (await jane.get(f"{DEFAULT}/pods")).status == 403
        assert (await jane.get("/version")).status == 200
        assert (await jane.get("/logs/")).message == 'forbidden: User "jane" cannot get path "/logs/"'


async def test_only_an_administrator_impersonates(cluster: DevCluster, api: Api) -> None:
    headers = {"Impersonate-User": "system:node:n1", "Impersonate-Group": "system:nodes"}
    answer = await api.get(f"{DEFAULT}/secrets", headers=headers)
    assert answer.status == 403
    assert 'User "system:node:n1"' in answer.message
    async with await Api.of(cluster, cluster.node_kubeconfig("n1")) as node:
        answer = await node.get(
            "/version", headers={"Impersonate-User": "admin", "Impersonate-Group": "system:masters"}
        )
        assert answer.status == 403
        assert 'cannot impersonate resource "users"' in answer.message


async def test_all_of_a_user_can_be_impersonated(api: Api) -> None:
    headers = {"Impersonate-User": "jane", "Impersonate-Uid": "u1", "Impersonate-Extra-Example.com%2Fteam": "red"}
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    answer = await api.send("POST", path, {}, headers=headers)
    assert answer.body["status"]["userInfo"] == {
        "username": "jane",
        "uid": "u1",
        "groups": ["system:authenticated"],
        "extra": {"example.com/team": ["red"]},
    }
    answer = await api.get("/api", headers={"Impersonate-Group": "g", "Impersonate-Uid": "u1"})
    assert (answer.status, answer.message) == (
        400,
        "requested [{Group  g    } {UID  u1  authentication.k8s.io/v1  }] without impersonating a user",
    )


LOCAL_REVIEWS = "/apis/authorization.k8s.io/v1/namespaces/default/localsubjectaccessreviews"


@pytest.mark.parametrize(
    ("namespaces", "status", "problem"),
    [
        ((None, "default"), 201, ""),
        (("default", "default"), 201, ""),
        (
            ("other", "default"),
            400,
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            (None, "other"),
            422,
            'spec.resourceAttributes.namespace: Invalid value: "other": must match metadata.namespace',
        ),
        ((None, None), 422, 'spec.resourceAttributes.namespace: Invalid value: "": must match metadata.namespace'),
    ],
)
async def test_a_local_review_is_about_its_own_namespace(
    api: Api, namespaces: tuple[str | None, str | None], status: int, problem: str
) -> None:
    of_review, of_resource = namespaces
    attributes = {"verb": "get", "resource": "pods", **({"namespace": of_resource} if of_resource else {})}
    metadata = {"namespace": of_review} if of_review else {}
    answer = await api.post(
        LOCAL_REVIEWS, {"metadata": metadata, "spec": {"user": "x", "resourceAttributes": attributes}}
    )
    assert answer.status == status
    assert problem == "" or answer.message.endswith(problem)
