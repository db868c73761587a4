"""What the API itself says of a pod's fields. The causes of fields that 1.20 knows were compared with its API server's."""

from __future__ import annotations

from typing import Any

import pytest

from virtual_kubelet.clock import SystemClock
from virtual_kubelet.devcluster.cluster_state import ClusterState
from virtual_kubelet.devcluster.registry.pod_update_validation import validate_pod_update
from virtual_kubelet.devcluster.statuses import StatusError

Json = dict[str, Any]
STATE = ClusterState(clock=SystemClock(), history=1)
PLAIN: Json = {"name": "a", "image": "b"}
TERM = "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0]"


def _causes(spec: Json) -> set[str]:
    pod: Json = {"metadata": {"name": "p", "namespace": "default"}, "spec": {"containers": [PLAIN], **spec}}
    pod = STATE.schemas.regular(pod, "Pod", [])
    STATE.pods.resource.default(pod)
    with pytest.raises(StatusError) as refused:
        STATE.pods.create(pod, dry_run=True)
    assert (refused.value.code, refused.value.reason) == (422, "Invalid")
    causes = (refused.value.details or {})["causes"]
    return {f"{cause['reason'].removeprefix('FieldValue')} {cause['field'].removeprefix('spec.')}" for cause in causes}


CONTAINER: dict[str, tuple[Json, set[str]]] = {
    "policies": (
        {"imagePullPolicy": "Z", "terminationMessagePolicy": "Z"},
        {"NotSupported imagePullPolicy", "NotSupported terminationMessagePolicy"},
    ),
    "env": (
        {
            "env": [
                {"name": ""},
                {"name": "a=b"},
                {"name": "X", "value": "1", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "Y", "valueFrom": {}},
                {"name": "Z", "valueFrom": {"fieldRef": {"fieldPath": "zzz"}}},
            ]
        },
        {
            "Invalid env[4].valueFrom.fieldRef.fieldPath",
            "Invalid env[2].valueFrom",
            "Invalid env[3].valueFrom",
            "Invalid env[1].name",
            "Required env[0].name",
        },
    ),
    "env references": (
        {
            "env": [
                {"name": "X", "valueFrom": {"configMapKeyRef": {"name": "x", "key": ""}}},
                {"name": "Y", "valueFrom": {"secretKeyRef": {"name": "A_", "key": "a b"}}},
                {"name": "R", "valueFrom": {"resourceFieldRef": {"resource": "zzz"}}},
                {"name": "W", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "7"}}},
                {"name": "L", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a b']"}}},
                {"name": "P", "valueFrom": {"fieldRef": {"fieldPath": "status.phase"}}},
            ]
        },
        {
            "Invalid env[1].valueFrom.secretKeyRef.name",
            "NotSupported env[5].valueFrom.fieldRef.fieldPath",
            "Required env[0].valueFrom.configMapKeyRef.key",
            "NotSupported env[2].valueFrom.resourceFieldRef.resource",
            "Invalid env[4].valueFrom.fieldRef",
            "Invalid env[3].valueFrom.resourceFieldRef.divisor",
            "Invalid env[1].valueFrom.secretKeyRef.key",
        },
    ),
    "env from": (
        {
            "envFrom": [
                {},
                {"prefix": "a=", "configMapRef": {"name": "x"}},
                {"configMapRef": {}},
                {"configMapRef": {"name": "a"}, "secretRef": {"name": "b"}},
            ]
        },
        {"Required envFrom[2].configMapRef.name", "Invalid envFrom", "Invalid envFrom[1].prefix"},
    ),
    "resources": (
        {"resources": {"requests": {"cpu": "2", "memory": "-1", "zzz": "1"}, "limits": {"cpu": "1", "storage": "1"}}},
        {
            "Invalid resources.requests",
            "Invalid resources.limits[storage]",
            "Invalid resources.requests[zzz]",
            "Invalid resources.requests[memory]",
            "Invalid resources.requests[storage]",
        },
    ),
    "extended resources": ({"resources": {"requests": {"a.b/c": "1"}}}, {"Required resources.limits"}),
    "extended resources apart": (
        {"resources": {"requests": {"a.b/c": "1"}, "limits": {"a.b/c": "2"}}},
        {"Invalid resources.requests"},
    ),
    "fractions of extended resources": (
        {"resources": {"limits": {"a.b/c": "500m"}}},
        {"Invalid resources.requests[a.b/c]", "Invalid resources.limits[a.b/c]"},
    ),
    "huge pages alone": ({"resources": {"limits": {"hugepages-2Mi": "2Mi"}}}, {"Forbidden resources"}),
    "probes": (
        {
            "livenessProbe": {},
            "readinessProbe": {"exec": {"command": []}, "httpGet": {"port": 0}},
            "startupProbe": {"tcpSocket": {"port": "zzz_"}, "periodSeconds": -1, "successThreshold": 2},
        },
        {
            "Required livenessProbe",
            "Forbidden readinessProbe.httpGet",
            "Invalid startupProbe.periodSeconds",
            "Required readinessProbe.exec.command",
            "Invalid startupProbe.tcpSocket.port",
            "Invalid startupProbe.successThreshold",
        },
    ),
    "http probes": (
        {"livenessProbe": {"httpGet": {"port": 80, "scheme": "ZZ", "httpHeaders": [{"name": "a b"}]}}},
        {"Invalid livenessProbe.httpGet.httpHeaders", "NotSupported livenessProbe.httpGet.scheme"},
    ),
    "hooks": (
        {"lifecycle": {"preStop": {}, "postStart": {"exec": {}}}},
        {"Required lifecycle.preStop", "Required lifecycle.postStart.exec.command"},
    ),
    "sleep": ({"lifecycle": {"preStop": {"sleep": {"seconds": 31}}}}, {"Invalid lifecycle.preStop.sleep"}),
    "ports": (
        {
            "ports": [
                {"containerPort": 0},
                {"containerPort": 80, "name": "A"},
                {"containerPort": 80, "name": "aaaaaaaaaaaaaaaa"},
                {"containerPort": 80, "name": "x", "protocol": "Z"},
                {"containerPort": 80, "name": "x", "hostPort": 99999},
                {"containerPort": 81, "hostPort": 80},
                {"containerPort": 81, "hostPort": 80},
            ]
        },
        {
            "Invalid ports[4].hostPort",
            "NotSupported ports[3].protocol",
            "Invalid ports[1].name",
            "Duplicate ports[4].name",
            "Required ports[0].containerPort",
            "Invalid ports[2].name",
            "Duplicate ports[6].hostPort",
        },
    ),
}
POD: dict[str, tuple[Json, set[str]]] = {
    "sysctls": (
        {
            "hostIPC": True,
            "securityContext": {
                "sysctls": [
                    {"name": "", "value": "1"},
                    {"name": "A b", "value": "1"},
                    {"name": "net/ipv4.x", "value": "1"},
                    {"name": "net/ipv4.x", "value": "1"},
                    {"name": "kernel.shmmax", "value": "1"},
                ]
            },
        },
        {
            "Required securityContext.sysctls[0].name",
            "Invalid securityContext.sysctls[1].name",
            "Duplicate securityContext.sysctls[3].name",
            "Invalid securityContext.sysctls[4].name",
        },
    ),
    "policies of the security context": (
        {"securityContext": {"supplementalGroupsPolicy": "Z", "seLinuxChangePolicy": "Z"}},
        {
            "NotSupported securityContext.supplementalGroupsPolicy",
            "NotSupported securityContext.seLinuxChangePolicy",
        },
    ),
    "AppArmor": (
        {
            "securityContext": {"appArmorProfile": {"type": "Z"}},
            "containers": [
                {**PLAIN, "securityContext": {"appArmorProfile": {"type": "Localhost"}}},
                {
                    "name": "c",
                    "image": "i",
                    "securityContext": {"appArmorProfile": {"type": "Localhost", "localhostProfile": " " + "a" * 5000}},
                },
                {
                    "name": "d",
                    "image": "i",
                    "securityContext": {"appArmorProfile": {"type": "Unconfined", "localhostProfile": "x"}},
                },
                {"name": "e", "image": "i", "securityContext": {"appArmorProfile": {"type": ""}}},
            ],
        },
        {
            "NotSupported securityContext.appArmorProfile.type",
            "Required containers[0].securityContext.appArmorProfile.localhostProfile",
            "Invalid containers[1].securityContext.appArmorProfile.localhostProfile",
            "TooLong containers[1].securityContext.appArmorProfile.localhostProfile",
            "Invalid containers[2].securityContext.appArmorProfile.localhostProfile",
            "Required containers[3].securityContext.appArmorProfile.type",
        },
    ),
    "Windows options of a Linux pod": (
        {
            "os": {"name": "linux"},
            "securityContext": {"windowsOptions": {"runAsUserName": "x"}},
            "containers": [{**PLAIN, "securityContext": {"windowsOptions": {"runAsUserName": "x"}}}],
        },
        {
            "Forbidden securityContext.windowsOptions",
            "Forbidden containers[0].securityContext.windowsOptions",
        },
    ),
    "what Windows has not": (
        {
            "os": {"name": "windows"},
            "hostPID": True,
            "securityContext": {"fsGroup": 1, "runAsUser": 1},
            "containers": [{**PLAIN, "securityContext": {"privileged": False, "runAsUser": 1}}],
        },
        {
            "Forbidden hostPID",
            "Forbidden securityContext.fsGroup",
            "Forbidden securityContext.runAsUser",
            "Forbidden containers[0].securityContext.privileged",
            "Forbidden containers[0].securityContext.runAsUser",
        },
    ),
    "another system": ({"os": {"name": "Z"}}, {"NotSupported os"}),
    "no system": ({"os": {"name": ""}}, {"Required os.name"}),
    "resources of the pod": (
        {
            "resources": {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"cpu": "500m", "memory": "3Gi"}},
            "containers": [{**PLAIN, "resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "4Gi"}}}],
            "initContainers": [
                {"name": "i", "image": "i", "resources": {"requests": {"cpu": "2"}}},
                {"name": "s", "image": "i", "restartPolicy": "Always", "resources": {"requests": {"memory": "1Mi"}}},
            ],
        },
        {
            "Invalid resources.requests",
            "Invalid resources.requests[cpu]",
            "Invalid resources.requests[memory]",
            "Invalid resources.containers[0][memory].limits",
        },
    ),
    "resources that no pod has": (
        {"resources": {"limits": {"ephemeral-storage": "1Gi"}, "claims": [{"name": "x"}]}},
        {"Forbidden resources.claims", "NotSupported resources.limits[ephemeral-storage]"},
    ),
    "no containers": ({"containers": []}, {"Required containers"}),
    "an empty container": ({"containers": [{}]}, {"Required containers[0].image", "Required containers[0].name"}),
    "two of one name": (
        {"containers": [{"name": "a", "image": "b"}, {"name": "a", "image": "b"}]},
        {"Duplicate containers[1].name"},
    ),
    "an init container of a container's name": (
        {"initContainers": [{"name": "a", "image": "b"}]},
        {"Duplicate initContainers[0].name"},
    ),
    "a name": ({"containers": [{"name": "A", "image": "b"}]}, {"Invalid containers[0].name"}),
    "an image with a space": ({"containers": [{"name": "a", "image": " b"}]}, {"Invalid containers[0].image"}),
    "pod policies": (
        {"restartPolicy": "Zz", "dnsPolicy": "Zz"},
        {"NotSupported dnsPolicy", "NotSupported restartPolicy"},
    ),
    "dns without config": ({"dnsPolicy": "None"}, {"Required dnsConfig"}),
    "dns config": (
        {"dnsConfig": {"nameservers": ["z"], "searches": ["A*"], "options": [{"name": ""}]}},
        {"Invalid dnsConfig.nameservers[0]", "Invalid dnsConfig.searches[0]", "Required dnsConfig.options[0]"},
    ),
    "deadline": ({"activeDeadlineSeconds": 0}, {"Invalid activeDeadlineSeconds"}),
    "node selector": ({"nodeSelector": {"a b": "c d"}}, {"Invalid nodeSelector"}),
    "names": (
        {"nodeName": "A_", "hostname": "A_", "subdomain": "A_", "serviceAccountName": "A_"},
        {"Invalid hostname", "Invalid subdomain", "Invalid serviceAccountName", "Invalid nodeName"},
    ),
    "volumes": (
        {
            "volumes": [
                {"name": "A", "emptyDir": {}},
                {"name": "b", "emptyDir": {}},
                {"name": "b", "emptyDir": {}},
                {"name": "c", "emptyDir": {}, "hostPath": {"path": "/x"}},
                {"name": "d", "configMap": {}},
                {"name": "e", "secret": {}},
                {"name": "f", "hostPath": {"path": ""}},
                {"name": "g", "hostPath": {"path": "/a/../b", "type": "Zzz"}},
                {"name": "h", "emptyDir": {"sizeLimit": "-1"}},
                {"name": "n", "nfs": {"server": "s", "path": "x"}},
                {"name": "", "emptyDir": {}},
            ]
        },
        {
            "Invalid volumes[0].name",
            "Required volumes[10].name",
            "Required volumes[4].configMap.name",
            "Invalid volumes[7].hostPath.path",
            "Forbidden volumes[3].hostPath",
            "NotSupported volumes[7].hostPath.type",
            "Required volumes[6].hostPath.path",
            "Invalid volumes[9].nfs.path",
            "Duplicate volumes[2].name",
            "Required volumes[5].secret.secretName",
            "Forbidden volumes[8].emptyDir.sizeLimit",
        },
    ),
    "projected volumes": (
        {
            "volumes": [
                {
                    "name": "b",
                    "projected": {
                        "sources": [
                            {"secret": {}},
                            {"serviceAccountToken": {"path": "", "expirationSeconds": 1}},
                            {
                                "configMap": {
                                    "name": "x",
                                    "items": [{"key": "a", "path": "p"}, {"key": "b", "path": "p"}],
                                }
                            },
                        ]
                    },
                },
                {
                    "name": "c",
                    "downwardAPI": {
                        "items": [{"path": "../x", "fieldRef": {"fieldPath": "spec.nodeName"}}, {"path": ""}]
                    },
                },
                {"name": "d", "configMap": {"name": "x", "items": [{"key": "", "path": "/a"}], "defaultMode": 9999}},
            ]
        },
        {
            "Required volumes[1].downwardAPI.path",
            "Invalid volumes[2].configMap.defaultMode",
            "Required volumes[1].downwardAPI",
            "Required volumes[0].projected.sources[0].secret.name",
            "Required volumes[2].configMap.items[0].key",
            "Invalid volumes[2].configMap.items[0].path",
            "Invalid volumes[0].projected",
            "Invalid volumes[0].projected.sources[1].serviceAccountToken.expirationSeconds",
            "Required volumes[0].projected.path",
            "Forbidden volumes[0].projected.sources[1].serviceAccountToken",
            "NotSupported volumes[1].downwardAPI.fieldRef.fieldPath",
            "Invalid volumes[1].downwardAPI.path",
        },
    ),
    "mounts": (
        {
            "containers": [
                {
                    "name": "a",
                    "image": "b",
                    "volumeMounts": [
                        {"name": "z", "mountPath": ""},
                        {"name": "", "mountPath": "/a"},
                        {"name": "v", "mountPath": "/b", "subPath": "/x"},
                        {"name": "v", "mountPath": "/b", "subPath": "../x"},
                        {"name": "v", "mountPath": "/c", "mountPropagation": "Bidirectional"},
                    ],
                }
            ],
            "volumes": [{"name": "v", "emptyDir": {}}],
        },
        {
            "Required containers[0].volumeMounts[1].name",
            "Invalid containers[0].volumeMounts[3].mountPath",
            "NotFound containers[0].volumeMounts[1].name",
            "Required containers[0].volumeMounts[0].mountPath",
            "Invalid containers[0].volumeMounts.subPath",
            "NotFound containers[0].volumeMounts[0].name",
            "Forbidden containers[0].volumeMounts.mountPropagation",
        },
    ),
    "tolerations": (
        {
            "tolerations": [
                {"operator": "Equal", "value": "x"},
                {"key": "a b", "operator": "Exists", "value": "z"},
                {"key": "a", "operator": "Zz"},
                {"key": "a", "effect": "Zz"},
                {"key": "a", "tolerationSeconds": 5},
                {"key": "a", "value": "a b"},
            ]
        },
        {
            "Invalid tolerations[1].operator",
            "NotSupported tolerations[2].operator",
            "Invalid tolerations[0].operator",
            "Invalid tolerations[5].operator",
            "NotSupported tolerations[3].effect",
            "Invalid tolerations[4].effect",
            "Invalid tolerations[1].key",
        },
    ),
    "ports of the host": (
        {
            "containers": [{"name": "a", "image": "b", "ports": [{"containerPort": 80, "hostPort": 81}]}],
            "hostNetwork": True,
        },
        {"Invalid containers[0].ports[0].hostPort"},
    ),
    "node affinity": (
        {
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []},
                    "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 0, "preference": {}}],
                }
            }
        },
        {
            "Required affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms",
            "Invalid affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight",
        },
    ),
    "node affinity terms": (
        {
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [
                            {
                                "matchExpressions": [
                                    {"key": "a", "operator": "In"},
                                    {"key": "a", "operator": "Zz"},
                                    {"key": "a", "operator": "Exists", "values": ["x"]},
                                    {"key": "a", "operator": "Gt", "values": ["1", "2"]},
                                ],
                                "matchFields": [
                                    {"key": "zzz", "operator": "In", "values": ["a"]},
                                    {"key": "metadata.name", "operator": "Exists"},
                                ],
                            }
                        ]
                    }
                }
            }
        },
        {
            f"Invalid {TERM}.matchFields[0].key",
            f"Required {TERM}.matchExpressions[3].values",
            f"Required {TERM}.matchExpressions[0].values",
            f"Forbidden {TERM}.matchExpressions[2].values",
            f"Invalid {TERM}.matchExpressions[1].operator",
            f"Invalid {TERM}.matchFields[1].operator",
        },
    ),
    "pod affinity": (
        {
            "affinity": {
                "podAntiAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "a"}],
                    "preferredDuringSchedulingIgnoredDuringExecution": [
                        {"weight": 101, "podAffinityTerm": {"topologyKey": "a"}}
                    ],
                }
            }
        },
        {"Invalid affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight"},
    ),
    "security": (
        {
            "containers": [
                {
                    "name": "a",
                    "image": "b",
                    "securityContext": {
                        "runAsGroup": -1,
                        "privileged": True,
                        "allowPrivilegeEscalation": False,
                        "seccompProfile": {"type": "Localhost"},
                    },
                }
            ],
            "securityContext": {"runAsUser": -1, "supplementalGroups": [-1], "fsGroup": -2, "fsGroupChangePolicy": "Z"},
        },
        {
            "Invalid containers[0].securityContext.runAsGroup",
            "Invalid securityContext.fsGroup",
            "NotSupported securityContext.fsGroupChangePolicy",
            "Invalid securityContext.supplementalGroups[0]",
            "Invalid containers[0].securityContext",
            "Invalid securityContext.runAsUser",
            "Required containers[0].securityContext.seccompProfile.localhostProfile",
        },
    ),
    "processes of the host": (
        {"hostPID": True, "shareProcessNamespace": True},
        {"Invalid securityContext.shareProcessNamespace"},
    ),
    "topology": (
        {"topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "", "whenUnsatisfiable": "Z"}]},
        {
            "Invalid topologySpreadConstraints[0].maxSkew",
            "Required topologySpreadConstraints[0].topologyKey",
            "NotSupported topologySpreadConstraints[0].whenUnsatisfiable",
        },
    ),
    "gates": (
        {
            "readinessGates": [{"conditionType": "a b"}],
            "schedulingGates": [{"name": "a"}, {"name": "a"}],
            "nodeName": "n",
        },
        {"Forbidden nodeName", "Invalid readinessGates[0].conditionType", "Duplicate schedulingGates[1]"},
    ),
    "host aliases": (
        {"hostAliases": [{"ip": "zz", "hostnames": ["A_"]}]},
        {"Invalid hostAliases[0].hostnames[0]", "Invalid hostAliases[0].ip"},
    ),
    "resize policies": (
        {
            "containers": [
                {
                    "name": "a",
                    "image": "b",
                    "resizePolicy": [
                        {"resourceName": "cpu", "restartPolicy": "RestartContainer"},
                        {"resourceName": "zz", "restartPolicy": "NotRequired"},
                    ],
                }
            ],
            "restartPolicy": "Never",
        },
        {"NotSupported containers[0].resizePolicy", "Invalid containers[0].resizePolicy"},
    ),
}


@pytest.mark.parametrize("case", CONTAINER)
def test_what_is_wrong_with_a_container(case: str) -> None:
    fields, causes = CONTAINER[case]
    assert {cause.replace("containers[0].", "") for cause in _causes({"containers": [PLAIN | fields]})} == causes


@pytest.mark.parametrize("case", POD)
def test_what_is_wrong_with_a_pod(case: str) -> None:
    fields, causes = POD[case]
    assert _causes(fields) == causes


def test_what_a_pod_as_a_whole_leaves_open_is_that_of_its_containers_or_its_limits() -> None:
    containers = [{**PLAIN, "resources": {"requests": {"cpu": "100m"}}}, {"name": "c", "image": "i"}]
    spec: Json = {"containers": containers, "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}
    pod = STATE.schemas.regular({"metadata": {"name": "p", "namespace": "default"}, "spec": spec}, "Pod", [])
    STATE.pods.resource.default(pod)
    created = STATE.pods.create(pod, dry_run=True)
    assert isinstance(created, dict)
    assert created["spec"]["resources"]["requests"] == {"cpu": "100m", "memory": "1Gi"}
    assert created["status"]["qosClass"] == "Burstable"


NODE_TERM = {"matchExpressions": [{"key": "a", "operator": "Exists"}]}
MORE = {"matchExpressions": [*NODE_TERM["matchExpressions"], {"key": "b", "operator": "Exists"}]}


def _needs(*terms: Json) -> Json:
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}}


@pytest.mark.parametrize(
    ("before", "after", "gated", "reasons"),
    [
        ({}, {"nodeSelector": {"a": "b"}}, True, set()),
        ({}, {"nodeSelector": {"a": "b"}}, False, {"Forbidden"}),
        ({"nodeSelector": {"a": "b"}}, {"nodeSelector": {"a": "c"}}, True, {"Invalid"}),
        ({"nodeSelector": {"a": "b"}}, {}, True, {"Invalid"}),
        ({}, {"affinity": _needs(NODE_TERM)}, True, set()),
        ({}, {"affinity": _needs(NODE_TERM)}, False, {"Forbidden"}),
        ({"affinity": _needs(NODE_TERM)}, {"affinity": _needs(MORE)}, True, set()),
        ({"affinity": _needs(MORE)}, {"affinity": _needs(NODE_TERM)}, True, {"Invalid"}),
        ({"affinity": _needs(NODE_TERM)}, {"affinity": _needs(NODE_TERM, MORE)}, True, {"Invalid"}),
        ({}, {"hostname": "h"}, True, {"Forbidden"}),
    ],
)
def test_where_a_pod_may_run_may_be_narrowed_while_it_is_behind_gates(
    before: Json, after: Json, gated: bool, reasons: set[str]
) -> None:
    gates = {"schedulingGates": [{"name": "x/y"}]} if gated else {}
    old, new = (
        {"metadata": {"name": "p"}, "spec": {"containers": [dict(PLAIN)], **gates, **spec}} for spec in (before, after)
    )
    for pod in (old, new):
        STATE.pods.resource.default(pod)
    found = validate_pod_update(new["spec"], old["spec"])
    assert {error.reason.removeprefix("FieldValue") for error in found} == reasons
