"""Random pods: plain ones with a few features, good and bad, and changes of them. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from tests.contract.random_draw import Draw, Json

__all__ = ["change_of_pod", "random_pod"]


def random_pod(some: Draw, name: str) -> Json:
    containers: list[Json] = [{"name": "main", "image": some.one("busybox", "busybox:1", "x/y@sha256:1", "r:5000/x")}]
    if some.chance(25):
        containers.append({"name": "side", "image": "busybox:latest"})
    spec: Json = {"containers": containers, "automountServiceAccountToken": False}
    if some.chance(60):
        spec["nodeName"] = some.one(some.node, some.node, "other-" + some.node)
    # One that nobody runs: what a scheduler does comes at a time of its own.
    spec["schedulerName"] = "nobody"
    for _ in range(some.one(0, 1, 1, 2, 2, 3)):
        some.random.choice(POD_FEATURES)(some, spec, some.one(*containers))
    return {
        "metadata": some.metadata(name),
        "spec": spec,
        **({"status": {"phase": "Running"}} if some.chance(8) else {}),
    }


def _probe(some: Draw) -> Json:
    handler = some.one({"exec": {"command": ["x"]}}, {"httpGet": {"port": 80}}, {"tcpSocket": {"port": "http"}}, {},
                       {"httpGet": {"port": 0, "scheme": "x"}}, {"exec": {}})  # fmt: skip
    more = some.one(
        {}, {"periodSeconds": 3}, {"initialDelaySeconds": -1}, {"successThreshold": 2}, {"timeoutSeconds": 0}
    )
    return {**handler, **more}


def _volume(some: Draw) -> Json:
    name = some.one("v", "v", "w", "Bad_", "")
    return {"name": name, **some.one(
        {}, {"emptyDir": {}}, {"emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}, {"hostPath": {"path": "/x"}},
        {"configMap": {"name": "a"}}, {"secret": {"secretName": "a", "defaultMode": 0o600}}, {"configMap": {}},
        {"secret": {"secretName": "a", "items": [{"key": "k", "path": some.one("p", "../p", "/p", "")}]}},
        {"downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": some.one("metadata.labels", "zzz")}}]}},
        {"projected": {"sources": [{"secret": {"name": "a"}}, {"configMap": {"name": "b"}}]}},
        {"emptyDir": {}, "hostPath": {"path": "/"}}, {"hostPath": {"path": "", "type": "Wrong"}},
        {"persistentVolumeClaim": {"claimName": some.one("c", "")}}, {"nfs": {"server": "s", "path": some.one("/p",
        "p")}},
        {"secret": {"secretName": "a", "defaultMode": 0o7777}},
    )}  # fmt: skip


def _resources(some: Draw) -> Json:
    return some.one(  # type: ignore[no-any-return]
        {"requests": {"cpu": "100m"}}, {"limits": {"cpu": "1", "memory": "1Gi"}}, {"limits": {"memory": "1024Mi"}},
        {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}, {"requests": {"cpu": "-1"}}, {"limits": {"cpu": 0.5}},
        {"requests": {"x.y/gpu": "1"}, "limits": {"x.y/gpu": "1"}}, {"requests": {"x.y/gpu": "1"}},
        {"limits": {"zzz": "1"}},
        {"limits": {"x.y/gpu": "500m"}}, {"limits": {"cpu": "abc"}}, {"requests": {"memory": "1e3"}}, {},
        {"requests": {"ephemeral-storage": "1Gi"}}, {"limits": {"cpu": "0.1", "memory": "128974848"}},
    )  # fmt: skip


def _tolerations(some: Draw) -> list[Json]:
    return [some.one(
        {"operator": "Exists"}, {"key": "a", "operator": "Exists"}, {"key": "a", "value": "b"}, {"key": "a",
        "effect": "NoExecute"},
        {"key": "a", "operator": "Exists", "value": "b"}, {"key": "a", "operator": "Wrong"}, {"key": "",
        "operator": "Equal"},
        {"key": "a", "effect": "Wrong"}, {"key": "a", "effect": "NoSchedule", "tolerationSeconds": 5},
        {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5},
        {"key": "bad key!", "operator": "Exists"},
    ) for _ in range(some.one(1, 1, 2))]  # fmt: skip


def _affinity(some: Draw) -> Json:
    expression = some.one(
        {"key": "a", "operator": "In", "values": ["b"]}, {"key": "a", "operator": "Exists"}, {"key": "a",
        "operator": "In"},
        {"key": "a", "operator": "Exists", "values": ["x"]}, {"key": "a", "operator": "Gt", "values": ["1"]},
        {"key": "bad key!", "operator": "Exists"}, {"key": "a", "operator": "Wrong"},
    )  # fmt: skip
    terms = [{"matchExpressions": [expression]}]
    return some.one(  # type: ignore[no-any-return]
        {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": some.one(terms,
        [])}}},
        {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": some.one(1, 100, 0, 101), "preference": terms[0]}
        ]}},
        {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"labelSelector": {"matchLabels": {"a": "b"}}, "topologyKey": some.one("kubernetes.io/hostname", "")}
        ]}},
    )  # fmt: skip


def _env(some: Draw) -> list[Json]:
    return [some.one(
        {"name": "A", "value": "1"}, {"name": "A"}, {"name": ""}, {"name": "1=2", "value": ""},
        {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": some.one("metadata.name", "spec.nodeName", "zzz", "")}}},
        {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "a", "key": "k"}}}, {"name": "D", "valueFrom": {}},
        {"name": "E", "value": "x", "valueFrom": {"secretKeyRef": {"name": "a", "key": "k", "optional": True}}},
        {"name": "F", "valueFrom": {"resourceFieldRef": {"resource": some.one("limits.cpu", "zzz")}}},
    )]  # fmt: skip


def _security(some: Draw) -> Json:
    return some.one(  # type: ignore[no-any-return]
        {"runAsUser": 1}, {"runAsUser": -1}, {"privileged": True}, {"privileged": True,
        "allowPrivilegeEscalation": False},
        {"capabilities": {"add": ["NET_ADMIN"]}}, {"readOnlyRootFilesystem": True}, {"runAsNonRoot": True},
        {"seccompProfile": {"type": some.one("RuntimeDefault", "Localhost", "Wrong")}}, {},
    )  # fmt: skip


def _pod_security(some: Draw) -> Json:
    return some.one(  # type: ignore[no-any-return]
        {"fsGroup": 5}, {"fsGroup": -5}, {"runAsUser": 1, "runAsGroup": 2}, {"sysctls": [{"name": "a.b",
        "value": "1"}]},
        {"supplementalGroups": [1, -1]}, {"seccompProfile": {"type": "RuntimeDefault"}}, {"sysctls": [{"name": "A",
        "value": ""}]},
    )  # fmt: skip


Feature = Callable[[Draw, Json, Json], None]


def _in_spec(**fields: Callable[[Draw], Any]) -> Feature:
    def put(some: Draw, spec: Json, _: Json) -> None:
        for field, value in fields.items():
            spec[field] = value(some)

    return put


def _in_container(**fields: Callable[[Draw], Any]) -> Feature:
    def put(some: Draw, _: Json, container: Json) -> None:
        for field, value in fields.items():
            container[field] = value(some)

    return put


def _mounted(some: Draw, spec: Json, container: Json) -> None:
    spec["volumes"] = [_volume(some) for _ in range(some.one(1, 1, 2))]
    if some.chance(60):
        container["volumeMounts"] = [
            {"name": some.one("v", "v", "nosuch", ""), "mountPath": some.one("/v", "/v", "", "relative")}
            for _ in range(some.one(1, 1, 2))
        ]


POD_FEATURES: Final[tuple[Feature, ...]] = (
    _mounted,
    _mounted,
    _in_container(resources=_resources),
    _in_container(resources=_resources),
    _in_container(env=_env),
    _in_container(env=_env),
    _in_container(securityContext=_security),
    _in_container(livenessProbe=_probe),
    _in_container(readinessProbe=_probe),
    _in_container(imagePullPolicy=lambda some: some.one("Always", "Never", "Wrong", "")),
    _in_container(terminationMessagePolicy=lambda some: some.one("File", "FallbackToLogsOnError", "Wrong", "")),
    _in_container(name=lambda some: some.one("other", "Bad_Name", "", "main", "a" * 64)),
    _in_container(image=lambda some: some.one("", " ", "x ", None)),
    _in_container(command=lambda some: some.one(["x"], [], None), args=lambda some: some.one(["y"], [])),
    _in_container(workingDir=lambda some: some.one("/x", "")),
    _in_container(stdin=lambda some: True, tty=lambda some: some.one(True, False)),
    _in_container(
        ports=lambda some: [
            some.one(
                {"containerPort": 80},
                {"containerPort": 80, "name": "http", "protocol": "UDP"},
                {"containerPort": 0},
                {"containerPort": 70000},
                {"containerPort": 80, "hostPort": 80},
                {"containerPort": 80, "name": "Bad_"},
                {"containerPort": 80, "protocol": "Wrong"},
                {"name": "x"},
                {"containerPort": 80, "name": "a" * 16},
            )
            for _ in range(some.one(1, 1, 2))
        ]
    ),
    _in_container(
        lifecycle=lambda some: some.one(
            {"preStop": {"exec": {"command": ["x"]}}}, {"postStart": {}}, {"preStop": None}, {}
        )
    ),
    _in_container(envFrom=lambda some: [some.one({"configMapRef": {"name": "a"}}, {"secretRef": {"name": ""}}, {})]),
    _in_spec(restartPolicy=lambda some: some.one("Always", "OnFailure", "Never", "Wrong", "")),
    _in_spec(restartPolicy=lambda some: some.one("OnFailure", "Never")),
    _in_spec(dnsPolicy=lambda some: some.one("Default", "None", "ClusterFirstWithHostNet", "Wrong")),
    _in_spec(
        dnsConfig=lambda some: some.one(
            {"nameservers": ["1.1.1.1"]}, {"nameservers": ["x"]}, {"searches": ["a.b", "A_"]}, {}
        )
    ),
    _in_spec(terminationGracePeriodSeconds=lambda some: some.one(0, 1, 5, 100)),
    _in_spec(activeDeadlineSeconds=lambda some: some.one(1, 100, 0, -1)),
    _in_spec(hostNetwork=lambda some: some.one(True, False)),
    _in_spec(hostPID=lambda some: True, shareProcessNamespace=lambda some: some.one(True, False)),
    _in_spec(tolerations=_tolerations),
    _in_spec(tolerations=_tolerations),
    _in_spec(affinity=_affinity),
    _in_spec(nodeSelector=lambda some: some.one({"a": "b"}, {"bad key!": "b"}, {"a": "bad value!"}, {})),
    _in_spec(nodeName=lambda some: some.one("Bad_Node", "", some.node + ".x")),
    _in_spec(hostname=lambda some: some.one("h", "Bad_"), subdomain=lambda some: some.one("s", "s.t")),
    _in_spec(serviceAccountName=lambda some: some.one("default", "nosuch", "Bad_")),
    _in_spec(priorityClassName=lambda some: some.one("system-node-critical", "nosuch")),
    _in_spec(priority=lambda some: some.one(0, 5)),
    _in_spec(securityContext=_pod_security),
    _in_spec(hostAliases=lambda some: [{"ip": some.one("1.2.3.4", "x"), "hostnames": [some.one("h", "Bad_")]}]),
    _in_spec(imagePullSecrets=lambda some: [{"name": "a"}]),
    _in_spec(readinessGates=lambda some: [{"conditionType": some.one("a.b/c", "bad type!")}]),
    _in_spec(initContainers=lambda some: [{"name": some.one("init", "main", ""), "image": some.one("i:1", "")}]),
    _in_spec(containers=lambda some: some.one([], None)),
    _in_spec(
        topologySpreadConstraints=lambda some: [
            {
                "maxSkew": some.one(1, 0),
                "topologyKey": some.one("k", ""),
                "whenUnsatisfiable": some.one("DoNotSchedule", "x"),
                "labelSelector": {"matchLabels": {"a": "b"}},
            }
        ]
    ),
    _in_spec(enableServiceLinks=lambda some: some.one(True, False)),
    _in_spec(preemptionPolicy=lambda some: some.one("Never", "PreemptLowerPriority", "Wrong")),
    _in_spec(runtimeClassName=lambda some: some.one("nosuch")),
)


def change_of_pod(some: Draw) -> Json:
    return some.one(  # type: ignore[no-any-return]
        {"spec": {"activeDeadlineSeconds": some.one(5, 50, None, 0)}}, {"spec": {"tolerations": _tolerations(some)}},
        {"spec": {"tolerations": None}}, {"spec": {"nodeName": some.one("other-" + some.node, None)}},
        {"spec": {"hostNetwork": True}},
        {"spec": {"containers": [{"name": "main", "image": some.one("new:1", "new:2", "", " x")}]}},
        {"spec": {"containers": [{"name": "main", "image": "new:1"}, {"name": "side", "image": "new:2"}]}},
        {"spec": {"terminationGracePeriodSeconds": some.one(1, 5)}}, {"spec": {"restartPolicy": some.one("Never",
        "Wrong")}},
        {"spec": {"containers": []}}, {"spec": None}, {"spec": {"priority": 3}}, {"spec": {"serviceAccountName": "x"}},
        {"status": {"phase": some.one("Running", "Failed", "Succeeded", "Odd", None)}}, {"status": None},
        {"status": {"podIP": some.one("10.1.2.3", "x", "")}}, {"status": {"message": "hello", "reason": "Why"}},
        {"status": {"podIPs": [{"ip": "10.1.2.3"}, {"ip": some.one("fd00::1", "10.1.2.4")}]}},
        {"status": {"conditions": [{"type": some.one("Ready", "x.y/z", "bad type!"), "status": some.one("True",
        "False")}]}},
        {"status": {"conditions": None}}, {"status": {"hostIP": "10.0.0.1", "startTime": "2024-01-01T00:00:00Z"}},
        {"status": {"containerStatuses": [_container_status(some)]}}, {"status": {"qosClass": "Guaranteed"}},
        {"status": {"nominatedNodeName": some.one("n", "Bad_")}},
        {"status": {"containerStatuses": [_container_status(some)]}}, {},
    )  # fmt: skip


def _container_status(some: Draw) -> Json:
    return {
        "name": some.one("main", "main", "side"), "image": "x", "imageID": "", "ready": some.one(True, False),
        "restartCount": some.one(0, 1), "started": some.one(True, None),
        "state": some.one(
            {"running": {"startedAt": "2024-01-01T00:00:00Z"}}, {"waiting": {"reason": "Why"}}, {},
            {"terminated": {"exitCode": some.one(0, 1), "reason": "Completed"}},
        ),
    }  # fmt: skip
