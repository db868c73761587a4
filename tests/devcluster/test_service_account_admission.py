"""New pods of a cluster with the admission plugin ServiceAccount."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from tests.contract.scenarios import eventually
from tests.devcluster.clients import Api, pod
from virtual_kubelet.devcluster import DevCluster
from virtual_kubelet.devcluster.registry.service_account_admission import MOUNT_PATH

PODS: Final = "/api/v1/namespaces/default/pods"
ACCOUNTS: Final = "/api/v1/namespaces/default/serviceaccounts"
#: As a real 1.36 with its default plugins adds it.
SOURCES: Final = [
    {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
    {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
    {
        "downwardAPI": {
            "items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]
        }
    },
]


@pytest.fixture
async def admitting() -> AsyncIterator[Api]:
    async with DevCluster(scheduler=False, service_account_admission=True) as cluster:
        async with await Api.of(cluster) as api:
            yield api


def of(account: str, **spec: Any) -> dict[str, Any]:
    made = pod()
    made["spec"] |= {"serviceAccountName": account, **spec}
    return made


async def test_a_pod_gets_the_default_account_its_token_and_the_clusters_ca(admitting: Api) -> None:
    created = await admitting.create(PODS, pod())
    spec = created["spec"]
    assert (spec["serviceAccountName"], spec["serviceAccount"]) == ("default", "default")
    (volume,) = spec["volumes"]
    assert volume == {"name": volume["name"], "projected": {"sources": SOURCES, "defaultMode": 420}}
    assert volume["name"].startswith("kube-api-access-")
    mount = {"name": volume["name"], "readOnly": True, "mountPath": MOUNT_PATH}
    assert [c["volumeMounts"] for c in spec["containers"]] == [[mount]] * len(spec["containers"])


async def test_every_namespace_has_what_the_volume_refers_to(admitting: Api) -> None:
    await admitting.create("/api/v1/namespaces", {"metadata": {"name": "other"}})

    async def published() -> bool:
        return (await admitting.get("/api/v1/namespaces/other/configmaps/kube-root-ca.crt")).status == 200

    await eventually(published)


@pytest.mark.parametrize("where", ["pod", "account"])
async def test_a_pod_that_wants_no_token_gets_none(admitting: Api, where: str) -> None:
    refusal = {"automountServiceAccountToken": False}
    await admitting.create(ACCOUNTS, {"metadata": {"name": "quiet"}, **(refusal if where == "account" else {})})
    created = await admitting.create(PODS, of("quiet", **(refusal if where == "pod" else {})))
    assert "volumes" not in created["spec"]


async def test_what_the_pod_says_counts_before_what_its_account_says(admitting: Api) -> None:
    await admitting.create(ACCOUNTS, {"metadata": {"name": "quiet"}, "automountServiceAccountToken": False})
    created = await admitting.create(PODS, of("quiet", automountServiceAccountToken=True))
    assert len(created["spec"]["volumes"]) == 1


async def test_a_container_that_mounts_something_there_keeps_it(admitting: Api) -> None:
    mount = {"name": "mine", "mountPath": MOUNT_PATH}
    container = {"name": "main", "image": "i", "volumeMounts": [mount]}
    made = of("default", volumes=[{"name": "mine", "emptyDir": {}}], containers=[container])
    created = await admitting.create(PODS, made)
    assert created["spec"]["containers"][0]["volumeMounts"] == [mount]
    assert [volume["name"] for volume in created["spec"]["volumes"]] == ["mine"]


async def test_the_accounts_pull_secrets_are_those_of_a_pod_that_has_none(admitting: Api) -> None:
    account = {"metadata": {"name": "puller"}, "imagePullSecrets": [{"name": "registry"}]}
    await admitting.create(ACCOUNTS, account)
    created = await admitting.create(PODS, of("puller"))
    assert created["spec"]["imagePullSecrets"] == [{"name": "registry"}]
    own = of("puller", imagePullSecrets=[{"name": "own"}])
    own["metadata"] = {"name": "another"}
    created = await admitting.create(PODS, own)
    assert created["spec"]["imagePullSecrets"] == [{"name": "own"}]


async def test_a_pod_of_an_account_that_is_not_there_is_refused(admitting: Api) -> None:
    answer = await admitting.post(PODS, of("nobody"))
    name = pod()["metadata"]["name"]
    assert (answer.status, answer.message) == (
        403,
        f'pods "{name}" is forbidden: error looking up service account default/nobody: serviceaccount "nobody" not found',
    )
