"""What `kubectl describe` lists beside what it describes: quotas and limits of a namespace, endpoints of a Service."""

from __future__ import annotations

from typing import Any

import pytest
from yarl import URL

from tests.devcluster.clients import Api, pod
from virtual_kubelet.devcluster import DevCluster

DEFAULT = "/api/v1/namespaces/default"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
Json = dict[str, Any]


async def running(api: Api, name: str, ip: str, *, ready: bool = True, **changes: Any) -> None:
    await api.create(f"{DEFAULT}/pods", pod(name, metadata={"labels": {"app": "web"}}, **changes))
    conditions = [{"type": "Ready", "status": str(ready)}]
    status = {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": conditions}
    assert (await api.patch(f"{DEFAULT}/pods/{name}/status", {"status": status})).status == 200


async def slices(api: Api, service: str) -> list[tuple[list[tuple[str, int]], list[tuple[str, bool]]]]:
    """Ports, and addresses with whether they are ready, of each slice."""
    answer = await api.get(f"{SLICES}?labelSelector=kubernetes.io/service-name%3D{service}")
    return [
        (
            [(port["name"], port["port"]) for port in item["ports"]],
            [(endpoint["addresses"][0], endpoint["conditions"]["ready"]) for endpoint in item["endpoints"]],
        )
        for item in answer.body["items"]
    ]


@pytest.mark.parametrize("plural", ["resourcequotas", "limitranges"])
async def test_a_namespace_has_no_quotas_and_no_limits(api: Api, plural: str) -> None:
    answer = await api.get(f"{DEFAULT}/{plural}?limit=500")
    assert (answer.status, answer.body["items"]) == (200, [])


@pytest.mark.parametrize("path", [f"{DEFAULT}/resourcequotas", SLICES])
async def test_they_are_no_kinds_that_are_served(api: Api, path: str) -> None:
    assert (await api.post(path, {"metadata": {"name": "x"}})).status == 404
    assert (await api.get(f"{path}/x")).status == 404
    assert (await api.get(f"{path}?watch=1")).status == 404
    served = {resource["name"] for resource in (await api.get("/api/v1")).body["resources"]}
    assert "resourcequotas" not in served
    assert "discovery.k8s.io" not in {group["name"] for group in (await api.get("/apis")).body["groups"]}


async def test_a_services_endpoints_are_the_pods_it_selects(api: Api) -> None:
    ports = [{"name": "http", "port": 80, "targetPort": "web"}, {"name": "raw", "port": 81}]
    spec: Json = {"selector": {"app": "web"}, "ports": ports}
    await api.create(f"{DEFAULT}/services", {"metadata": {"name": "web"}, "spec": spec})
    assert await slices(api, "web") == [([], [])]
    container = {"name": "a", "image": "b", "ports": [{"name": "web", "containerPort": 8080}]}
    await running(api, "p1", "10.1.0.1", containers=[container])
    await running(api, "p2", "10.1.0.2", containers=[container], ready=False)
    await running(api, "p3", "10.1.0.3")
    await api.create(f"{DEFAULT}/pods", pod("other", metadata={"labels": {"app": "other"}}))
    assert await slices(api, "web") == [
        ([("http", 8080), ("raw", 81)], [("10.1.0.1", True), ("10.1.0.2", False)]),
        ([("raw", 81)], [("10.1.0.3", True)]),
    ]
    await api.patch(f"{DEFAULT}/services/web", {"spec": {"publishNotReadyAddresses": True}})
    assert (await slices(api, "web"))[0][1] == [("10.1.0.1", True), ("10.1.0.2", True)]


async def test_a_service_without_a_selector_has_none_but_for_the_api_servers_own(cluster: DevCluster, api: Api) -> None:
    await api.create(f"{DEFAULT}/services", {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}})
    external = {"type": "ExternalName", "externalName": "a.example", "selector": {"app": "web"}}
    await api.create(f"{DEFAULT}/services", {"metadata": {"name": "e"}, "spec": external})
    assert (await slices(api, "s"), await slices(api, "e")) == ([], [])
    assert await slices(api, "kubernetes") == [([("https", URL(cluster.url).port)], [("127.0.0.1", True)])]


async def test_the_api_servers_own_service_comes_back(api: Api) -> None:
    path = f"{DEFAULT}/services/kubernetes"
    before = (await api.get(path)).body
    async with api.watch(f"{DEFAULT}/services?watch=1&fieldSelector=metadata.name%3Dkubernetes") as watch:
        assert (await watch.take(1))[0]["type"] == "ADDED"
        await api.delete(path)
        gone, again = await watch.take(2)
    assert (gone["type"], again["type"]) == ("DELETED", "ADDED")
    assert again["object"]["spec"] == before["spec"]
    assert again["object"]["metadata"]["uid"] != before["metadata"]["uid"]
