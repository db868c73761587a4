"""imagePullSecrets on a real API server: read with the node's own rights, those of the service account among them."""

from __future__ import annotations

import base64
import json

import pytest

from tests.contract.scenarios import eventually, pod_on
from virtual_kubelet.errors import ForbiddenError
from virtual_kubelet.kube.client import ApiClient
from virtual_kubelet.kube.references import ReferenceCache
from virtual_kubelet.kube.resources import PODS, SECRETS, SERVICE_ACCOUNTS
from virtual_kubelet.objects.core_v1 import LocalObjectReference, Node, Pod, Secret, ServiceAccount
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.runtime.pull_secrets import read_keyring

Events = list[tuple[str, str, str]]


class Reader:
    """What a provider's context has."""

    def __init__(self, references: ReferenceCache) -> None:
        self._references = references

    async def get(self, namespace: str, name: str) -> Secret:
        return await self._references.get_secret(namespace, name)


def pull_secret(name: str, registry: str, password: str) -> Secret:
    auth = base64.b64encode(f"robot:{password}".encode()).decode()
    config = json.dumps({"auths": {registry: {"auth": auth}}})
    kind, key = "kubernetes.io/dockerconfigjson", ".dockerconfigjson"
    return Secret(metadata=ObjectMeta(name=name), type=kind, string_data={key: config})


async def passwords(node_client: ApiClient, pod: Pod, repository: str, told: Events) -> list[str]:
    reader = Reader(ReferenceCache(node_client, on_change=lambda *change: None, first_answer=0.0))
    keyring = await read_keyring(pod, reader, lambda *event: told.append(event))
    return [credentials.password for credentials in keyring.for_image(repository)]


async def test_what_a_pod_names_is_read_with_the_nodes_own_rights_and_what_is_missing_is_told(
    admin: ApiClient, node_client: ApiClient, registered_node: Node, namespace: str
) -> None:
    await admin.create(SECRETS, pull_secret("mine", "registry.example.com", "open sesame"), namespace)
    with pytest.raises(ForbiddenError):  # no pod of this node names it yet
        await node_client.get(SECRETS, "mine", namespace)
    names = [LocalObjectReference(name="mine"), LocalObjectReference(name="absent")]
    pod = await admin.create(
        PODS, pod_on(registered_node.metadata.name or "", "p", image_pull_secrets=names), namespace
    )
    told: Events = []

    async def read() -> list[str]:
        told.clear()
        return await passwords(node_client, pod, "registry.example.com/app", told)

    # The node authorizer hears of the pod a moment after us.
    assert await eventually(read) == ["open sesame"]
    message = "Unable to retrieve some image pull secrets (absent); attempting to pull the image may not succeed."
    assert told == [("Warning", "FailedToRetrieveImagePullSecret", message)]


@pytest.mark.only_on("debian")  # the dev cluster has the admission plugin as an option, with tests of its own
async def test_a_pod_has_those_of_its_service_account(
    admin: ApiClient, node_client: ApiClient, registered_node: Node, namespace: str
) -> None:
    await admin.create(SECRETS, pull_secret("team", "registry.example.com/team", "open sesame"), namespace)
    account = ServiceAccount(metadata=ObjectMeta(name="robot"), image_pull_secrets=[LocalObjectReference(name="team")])
    await admin.create(SERVICE_ACCOUNTS, account, namespace)
    name = registered_node.metadata.name or ""
    pod = await admin.create(
        PODS, pod_on(name, "p", service_account_name="robot", automount_service_account_token=False), namespace
    )
    told: Events = []
    found = await eventually(lambda: passwords(node_client, pod, "registry.example.com/team/app", told))
    assert found == ["open sesame"]
