"""What ``virtual-kubelet rbac`` prints is enough for a node that uses a service account."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.api_servers import ApiServer
from tests.contract.commands import Kubectl, running_node, virtual_kubelet
from tests.contract.scenarios import eventually, pod_on
from virtual_kubelet.errors import ApiNotFoundError
from virtual_kubelet.kube.client import ApiClient
from virtual_kubelet.kube.resources import CONFIG_MAPS, EVENTS, PODS, TOKEN_REQUESTS
from virtual_kubelet.objects.authentication_v1 import TokenRequest, TokenRequestSpec
from virtual_kubelet.objects.core_v1 import ConfigMap, ConfigMapKeySelector, Container, EnvVar, EnvVarSource
from virtual_kubelet.objects.meta_v1 import ObjectMeta

pytestmark = pytest.mark.only_on("debian")  # the dev cluster has no RBAC


async def test_a_node_that_is_a_service_account_does_its_work_with_the_printed_rights_alone(
    api_server: ApiServer,
    admin: ApiClient,
    kubeconfig_file: Callable[[str], Path],
    node_name: str,
    namespace: str,
    tmp_path: Path,
) -> None:
    kubectl = Kubectl(kubeconfig_file(api_server.admin_kubeconfig()))
    printed = await virtual_kubelet("rbac", "--nodename", node_name, "--namespace", namespace)
    assert printed.code == 0
    await kubectl("apply", "-f", "-", stdin=printed.out)
    try:
        request = TokenRequest(spec=TokenRequestSpec(audiences=[]))
        answer = await admin.create(TOKEN_REQUESTS, request, namespace, name=node_name, subresource="token")
        assert answer.status is not None
        config = json.loads(api_server.admin_kubeconfig())
        config["users"][0]["user"] = {"token": answer.status.token}
        certificate, key = api_server.serving_certificate("127.0.0.1")
        (tmp_path / "tls.crt").write_bytes(certificate)
        (tmp_path / "tls.key").write_bytes(key)
        options = [
            "--provider", "process", "--allow-host-processes", "--state-dir", str(tmp_path / "state"),
            "--listen", "127.0.0.1:0", "--node-ip", "127.0.0.1",
            "--tls-cert-file", str(tmp_path / "tls.crt"), "--tls-private-key-file", str(tmp_path / "tls.key"),
        ]  # fmt: skip
        async with running_node(kubeconfig_file(json.dumps(config)), node_name, *options) as process:
            await admin.create(
                CONFIG_MAPS, ConfigMap(metadata=ObjectMeta(name="words"), data={"word": "granted"}), namespace
            )
            word = EnvVarSource(config_map_key_ref=ConfigMapKeySelector(name="words", key="word"))
            container = Container(
                name="main",
                image="busybox",
                command=["sh", "-c", "echo $WORD; exec sleep 1000"],
                env=[EnvVar(name="WORD", value_from=word)],
            )
            await admin.create(PODS, pod_on(node_name, "p", containers=[container]), namespace)

            async def logged() -> bool:
                return (await kubectl("logs", "-n", namespace, "p", code=None)).out == "granted\n"

            await eventually(logged)

            async def event() -> bool:
                events = await admin.list(EVENTS, namespace, field_selector="involvedObject.name=p")
                return any(e.reason == "ProviderCreateSuccess" for e in events.items)

            await eventually(event)
            await admin.delete(PODS, "p", namespace, grace_period_seconds=1)

            async def gone() -> bool:
                try:
                    await admin.get(PODS, "p", namespace)
                except ApiNotFoundError:
                    return True
                return False

            await eventually(gone)
            assert not [line for line in process.errors if " cannot " in line]  # how RBAC refuses
    finally:
        await kubectl("delete", "-f", "-", "--ignore-not-found", stdin=printed.out)
