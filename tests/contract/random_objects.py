"""Random objects of the other kinds, changes of them, and what the kinds are. Pure."""

from __future__ import annotations

from typing import Final

from tests.contract.random_draw import Draw, Json, Kind
from tests.contract.random_pods import change_of_pod, random_pod

__all__ = ["KINDS", "PODS", "WEIGHTS"]


def _config_map(some: Draw, name: str) -> Json:
    made: Json = {"metadata": some.metadata(name)}
    if some.chance(80):
        made["data"] = {key: some.one("", "1", "text\n", "ü") for key in ("a", "b.c", "d") if some.chance(50)}
    if some.chance(10):
        made["binaryData"] = some.one({"bin": "AAE="}, {"a": "AAE="}, {"bin": "not base64"}, {})
    if some.chance(7):
        made["immutable"] = some.one(True, False)
    if some.chance(4):
        made["data"] = some.one({"bad key": "x"}, {"..": "x"}, {"..a": "x"}, {"": "x"}, {"a": 3}, [], {"a": None})
    return made


def _config_map_change(some: Draw) -> Json:
    return some.one(  # type: ignore[no-any-return]
        {"data": {"a": some.one("1", "2", None)}}, {"data": {"n": "new"}}, {"data": None},
        {"binaryData": {"x": "AAE="}},
        {"immutable": some.one(True, False, None)}, {"data": {"bad key": "x"}}, {"data": {"a": 3}}, {"data": "x"},
        {"binaryData": {"a": "AAE="}}, {},
    )  # fmt: skip


def _secret(some: Draw, name: str) -> Json:
    made: Json = {"metadata": some.metadata(name)}
    if some.chance(70):
        made["data"] = {key: some.one("", "AAE=", "eA==") for key in ("a", "b") if some.chance(50)}
    if some.chance(30):
        made["stringData"] = some.one({"s": "text"}, {"a": "over"}, {"s": ""}, {})
    if some.chance(35):
        made["type"] = some.one("Opaque", "my/type", "kubernetes.io/tls", "kubernetes.io/basic-auth", "",
                                "kubernetes.io/ssh-auth", "kubernetes.io/dockerconfigjson")  # fmt: skip
    if some.chance(10):
        made["data"] = some.one({"tls.crt": "", "tls.key": ""}, {".dockerconfigjson": "e30="}, {"username": "eA=="},
                                {".dockerconfigjson": "eA=="}, {"bad key": ""}, {"a": "???"}, {"a": 1})  # fmt: skip
    if some.chance(7):
        made["immutable"] = some.one(True, False)
    return made


def _secret_change(some: Draw) -> Json:
    return some.one(  # type: ignore[no-any-return]
        {"data": {"a": some.one("AAE=", "", None)}}, {"stringData": {"n": "new"}}, {"data": None}, {"type": "other"},
        {"immutable": some.one(True, False, None)}, {"data": {"bad key": ""}}, {"data": {"a": "???"}},
        {"type": None}, {},
    )  # fmt: skip


def _service(some: Draw, name: str) -> Json:
    spec: Json = {"ports": [{"port": 80, **({"name": "http"} if some.chance(30) else {})}], "selector": {"a": "b"}}
    if some.chance(40):
        spec |= some.one(
            {"type": "NodePort"}, {"type": "ExternalName", "externalName": some.one("a.b", "", "Bad_")},
            {"clusterIP": "None"},
            {"type": "LoadBalancer"}, {"type": "Wrong"}, {"sessionAffinity": some.one("ClientIP", "Wrong")},
            {"ports": []},
            {"ports": [{"port": 80}, {"port": 81}]}, {"ports": [{"port": 0}]}, {"ports": [{"port": 80,
            "targetPort": "x_"}]},
            {"ports": [{"port": 80, "protocol": some.one("UDP", "Wrong")}]}, {"selector": None}, {"clusterIP": "x"},
            {"externalIPs": [some.one("1.2.3.4", "x", "127.0.0.1")]}, {"ports": [{"port": 80, "nodePort": 5}]},
        )  # fmt: skip
    return {"metadata": some.metadata(name), "spec": spec}


def _service_change(some: Draw) -> Json:
    return some.one(  # type: ignore[no-any-return]
        {"spec": {"selector": {"a": some.one("c", None)}}}, {"spec": {"ports": [{"port": some.one(81, 0)}]}},
        {"spec": {"type": some.one("NodePort", "ClusterIP", "Wrong")}},
        {"spec": {"sessionAffinity": some.one("ClientIP", "None")}},
        {"spec": {"clusterIP": "10.0.0.77"}}, {"status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}}, {},
    )  # fmt: skip


def _node(some: Draw, name: str) -> Json:
    made: Json = {"metadata": some.metadata(name, namespaced=False)}
    made["metadata"].pop("finalizers", None)
    if some.chance(50):
        made["spec"] = some.one(
            {"unschedulable": True}, {"taints": [{"key": "a", "effect": "NoSchedule"}]}, {"providerID": "p://x"}, {},
            {"taints": [{"key": "a", "effect": "Wrong"}]}, {"taints": [{"key": "bad key!", "effect": "NoExecute"}]},
            {"taints": [{"key": "a", "effect": "NoExecute"}, {"key": "a", "effect": "NoExecute"}]},
            {"podCIDR": "10.9.0.0/24"},
        )  # fmt: skip
    if some.chance(40):
        made["status"] = some.one(
            {"capacity": {"cpu": "4", "memory": "1024Mi"}}, {"capacity": {"cpu": "4"}, "allocatable": {"cpu": "3"}},
            {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}, {"nodeInfo": {"kubeletVersion": "v1"}}, {},
        )  # fmt: skip
    return made


def _node_change(some: Draw) -> Json:
    return some.one(  # type: ignore[no-any-return]
        {"spec": {"providerID": some.one("p://x", "p://y", None)}}, {"status": {"capacity": {"pods": some.one("5",
        "-5")}}},
        {"status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.2"}]}},
        {"status": {"nodeInfo": {"kubeletVersion": "v2"}}}, {"status": {"allocatable": {"cpu": "1500m"}}}, {},
        {"spec": {"podCIDR": some.one("10.9.0.0/24", "10.8.0.0/24")}},
    )  # fmt: skip


def _lease(some: Draw, name: str) -> Json:
    spec: Json = {"holderIdentity": some.one("x", ""), "leaseDurationSeconds": some.one(1, 40, 0, -1)}
    if some.chance(60):
        spec["renewTime"] = some.one("2024-01-01T00:00:00.123456Z", "2024-01-01T00:00:00Z", "x", None)
    if some.chance(20):
        spec["leaseTransitions"] = some.one(0, 3, -1)
    return {"metadata": some.metadata(name), **({"spec": spec} if some.chance(90) else {})}


def _lease_change(some: Draw) -> Json:
    return some.one(  # type: ignore[no-any-return]
        {"spec": {"holderIdentity": some.one("y", None)}}, {"spec": {"leaseDurationSeconds": some.one(5, 0)}},
        {"spec": None},
        {"spec": {"renewTime": some.one("2024-02-01T00:00:00.000000Z", "x")}},
        {"spec": {"leaseTransitions": some.one(1, -1)}},
    )  # fmt: skip


def _event(some: Draw, name: str) -> Json:
    metadata = some.metadata(name)
    involved = {
        "kind": "Pod",
        "name": "a",
        "namespace": some.one(*some.namespaces, "", "other"),
        "uid": some.one("u", ""),
    }
    made: Json = {
        "metadata": metadata,
        "involvedObject": involved,
        "reason": "Why",
        "message": "hello",
        "type": "Normal",
    }
    if some.chance(40):
        made["source"] = {"component": "c", "host": "h"}
    if some.chance(40):
        made |= {"count": some.one(1, 5, 0), "firstTimestamp": "2024-01-01T00:00:00Z", "lastTimestamp": None}
    if some.chance(25):
        made |= {"eventTime": "2024-01-01T00:00:00.000000Z", "reportingComponent": some.one("c.d/e", "", "bad name!"),
                 "reportingInstance": some.one("i", ""), "action": some.one("Do", "")}  # fmt: skip
    return made


def _event_change(some: Draw) -> Json:
    return some.one(  # type: ignore[no-any-return]
        {"count": some.one(2, 3)}, {"message": "more"}, {"reason": None}, {"type": some.one("Warning", "Odd")},
        {"involvedObject": {"name": "b"}}, {"lastTimestamp": "2024-02-01T00:00:00Z"},
    )  # fmt: skip


def _account(some: Draw, name: str) -> Json:
    made: Json = {"metadata": some.metadata(name)}
    if some.chance(40):
        made |= some.one({"imagePullSecrets": [{"name": "a"}]}, {"automountServiceAccountToken": some.one(True, False)})
    return made


def _account_change(some: Draw) -> Json:
    return some.one(  # type: ignore[no-any-return]
        {"imagePullSecrets": some.one([{"name": "b"}], None)},
        {"automountServiceAccountToken": some.one(True, None)},
        {},
    )


def _namespace(some: Draw, name: str) -> Json:
    made: Json = {"metadata": some.metadata(name, namespaced=False)}
    made["metadata"]["finalizers"] = ["x.y/hold"]
    if some.chance(10):
        made["spec"] = {"finalizers": some.one(["kubernetes"], [], ["x.y/z"])}
    return made


def _namespace_change(some: Draw) -> Json:
    return some.one(  # type: ignore[no-any-return]
        {"metadata": {"labels": {"app": some.one("1", None)}}}, {"status": {"phase": some.one("Terminating", "Odd")}},
        {"metadata": {"annotations": {"a": some.one("1", None)}}}, {},
    )  # fmt: skip


PODS: Final = Kind("Pod", "pods", status=True, make=random_pod, change=change_of_pod)
KINDS: Final = (
    PODS,
    Kind("ConfigMap", "configmaps", make=_config_map, change=_config_map_change),
    Kind("Secret", "secrets", make=_secret, change=_secret_change),
    Kind("Service", "services", status=True, make=_service, change=_service_change),
    Kind("ServiceAccount", "serviceaccounts", make=_account, change=_account_change),
    Kind("Event", "events", make=_event, change=_event_change),
    Kind("Lease", "leases", "/apis/coordination.k8s.io/v1", api_version="coordination.k8s.io/v1", make=_lease,
         change=_lease_change),
    Kind("Node", "nodes", namespaced=False, status=True, make=_node, change=_node_change),
    Kind("Namespace", "namespaces", namespaced=False, status=True, make=_namespace, change=_namespace_change),
)  # fmt: skip
WEIGHTS: Final = (36, 20, 9, 8, 4, 5, 5, 7, 6)
