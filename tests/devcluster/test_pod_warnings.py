"""What a real API server takes with a warning is taken with the same one."""

from __future__ import annotations

from typing import Any, Final

import pytest

from tests.devcluster.clients import MERGE, Api
from virtual_kubelet.devcluster.registry.pod_warnings import pod_warnings

PODS: Final = "/api/v1/namespaces/default/pods"
MAPS: Final = "/api/v1/namespaces/default/configmaps"
TERM: Final = {"matchExpressions": [{"key": "beta.kubernetes.io/arch", "operator": "In", "values": ["a b"]}]}
ARCH: Final = 'beta.kubernetes.io/arch is deprecated since v1.14; use "kubernetes.io/arch" instead'
NULL: Final = "a null labelSelector results in matching no pod"


def pod(spec: dict[str, Any] | None = None, container: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    """A pod as it is after defaulting, as far as warnings look at it."""
    whole = {"securityContext": {}, "containers": [{"name": "c", **(container or {})}], **(spec or {})}
    return {"metadata": {"name": "p", **metadata}, "spec": whole}


@pytest.mark.parametrize(
    ("given", "warnings"),
    [
        (pod(), []),
        (
            pod(name="a.b"),
            [
                "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is "
                "recommended: [a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and "
                "must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for "
                "validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')]"
            ],
        ),
        (
            pod({"nodeSelector": {"beta.kubernetes.io/os": "linux"}}),
            ['spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead'],
        ),
        (
            pod(
                {
                    "affinity": {
                        "nodeAffinity": {
                            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [TERM]},
                            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": TERM}],
                        },
                        "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "x"}]},
                    }
                }
            ),
            [
                "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0]."
                f"matchExpressions[0].key: {ARCH}",
                "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference."
                f"matchExpressions[0].key: {ARCH}",
                "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference."
                "matchExpressions[0].values[0]: a b is invalid, a valid label must be an empty string or consist of "
                "alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. "
                "'MyValue',  or 'my_value',  or '12345', regex used for validation is "
                "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
                f"spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector: {NULL}",
            ],
        ),
        (
            pod({"topologySpreadConstraints": [{"topologyKey": "zone"}]}),
            [f"spec.topologySpreadConstraints[0].labelSelector: {NULL}"],
        ),
        (
            pod(annotations={"scheduler.alpha.kubernetes.io/critical-pod": ""}),
            [
                "metadata.annotations[scheduler.alpha.kubernetes.io/critical-pod]: non-functional in v1.16+; use the "
                '"priorityClassName" field instead'
            ],
        ),
        (
            pod(
                annotations={
                    "seccomp.security.alpha.kubernetes.io/pod": "x",
                    "container.seccomp.security.alpha.kubernetes.io/c": "x",
                    "container.apparmor.security.beta.kubernetes.io/c": "x",
                }
            ),
            [
                "metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]: deprecated since v1.30; use the "
                '"appArmorProfile" field instead',
                "metadata.annotations[seccomp.security.alpha.kubernetes.io/pod]: non-functional in v1.27+; use the "
                '"seccompProfile" field instead',
                "metadata.annotations[container.seccomp.security.alpha.kubernetes.io/c]: non-functional in v1.27+; use the "
                '"seccompProfile" field instead',
            ],
        ),
        (
            pod({"volumes": [{"name": "a", "gitRepo": {}}, {"name": "b", "storageos": {}}]}),
            [
                "spec.volumes[0].gitRepo: deprecated in v1.11",
                "spec.volumes[1].storageOS: deprecated in v1.22, non-functional in v1.25+",
            ],
        ),
        (
            pod(
                {
                    "volumes": [
                        {
                            "projected": {
                                "sources": [
                                    {"serviceAccountToken": {"path": "token"}},
                                    {"secret": {"items": [{"key": "k", "path": "token"}]}},
                                ]
                            }
                        }
                    ]
                }
            ),
            ['spec.volumes[0].projected.sources.secrets[0]: has duplicated path with ServiceAccountToken "token"'],
        ),
        (
            pod(
                {
                    "hostAliases": [{"ip": "1.1.1.1"}, {"ip": "1.1.1.1"}],
                    "imagePullSecrets": [{"name": "a"}, {"name": "a"}, {}],
                }
            ),
            [
                'spec.hostAliases[1].ip: duplicate ip "1.1.1.1"',
                'spec.imagePullSecrets[1].name: duplicate name "a"',
                'spec.imagePullSecrets[2].name: invalid empty name ""',
            ],
        ),
        (
            pod(container={"resources": {"limits": {"memory": "1500m"}, "requests": {"memory": "1Mi", "cpu": "1m"}}}),
            [
                'spec.containers[0].resources.limits[memory]: fractional byte value "1500m" is invalid, must be an integer'
            ],
        ),
        (
            pod(
                container={
                    "env": [
                        {"name": "A", "value": "1"},
                        {"name": "A", "value": "$(A)2"},
                        {"name": "A", "value": "3"},
                        {"name": "A", "valueFrom": {}},
                    ]
                }
            ),
            [
                'spec.containers[0].env[2]: hides previous definition of "A", which may be dropped when using apply',
                'spec.containers[0].env[3]: hides previous definition of "A", which may be dropped when using apply',
            ],
        ),
        (
            pod(
                container={
                    "ports": [
                        {"containerPort": 80, "protocol": "TCP"},
                        {"containerPort": 80, "protocol": "TCP"},
                        {"containerPort": 80, "protocol": "UDP"},
                        {"containerPort": 80, "protocol": "TCP", "hostPort": 1},
                        {"containerPort": 80, "protocol": "TCP", "hostPort": 1, "hostIP": "::1"},
                        {"containerPort": 81, "protocol": "TCP", "hostIP": "::1"},
                    ]
                }
            ),
            [
                "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
                "spec.containers[0].ports[3]: overlapping port definition with spec.containers[0].ports[0]",
                "spec.containers[0].ports[3]: overlapping port definition with spec.containers[0].ports[1]",
                "spec.containers[0].ports[4]: overlapping port definition with spec.containers[0].ports[0]",
                "spec.containers[0].ports[4]: overlapping port definition with spec.containers[0].ports[1]",
                "spec.containers[0].ports[4]: dangerously ambiguous port definition with spec.containers[0].ports[3]",
                "spec.containers[0].ports[5]: hostIP set without hostPort: {Name: HostPort:0 ContainerPort:81 Protocol:TCP "
                "HostIP:::1}",
            ],
        ),
        (
            pod({"terminationGracePeriodSeconds": -1}),
            ["spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"],
        ),
    ],
)
def test_the_sentences_are_those_of_1_36(given: dict[str, Any], warnings: list[str]) -> None:
    assert pod_warnings(given) == warnings


async def test_a_new_pod_is_taken_with_warnings_and_a_later_change_without(api: Api) -> None:
    container = {"name": "c", "image": "i", "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}
    created = await api.post(PODS, {"metadata": {"name": "p"}, "spec": {"containers": [container]}})
    said = 'spec.containers[0].env[1]: hides previous definition of \\"A\\", which may be dropped when using apply'
    assert (created.status, created.warnings) == (201, [f'299 - "{said}"'])
    changed = await api.patch(f"{PODS}/p", {"metadata": {"labels": {"a": "b"}}})
    assert (changed.status, changed.warnings) == (200, [])
    refused = await api.post(PODS, {"metadata": {"name": "q"}, "spec": {"containers": [{**container, "image": ""}]}})
    assert (refused.status, refused.warnings) == (422, [])


async def test_owner_references_that_are_there_twice_are_kept_once_and_named(api: Api) -> None:
    one = await api.create(MAPS, {"metadata": {"name": "owner"}})
    uid = one["metadata"]["uid"]
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}
    other = {**owner, "name": "gone", "uid": "v"}
    created = await api.post(MAPS, {"metadata": {"name": "m", "ownerReferences": [other, owner, owner, other]}})
    assert created.body["metadata"]["ownerReferences"] == [other, owner]
    assert len(created.warnings) == 1
    assert created.warnings[0].endswith(f'please fix your requests; duplicate UID(s) observed: {uid}, v"')
    patched = await api.patch(f"{MAPS}/m", {"metadata": {"ownerReferences": [owner, owner]}}, MERGE)
    assert "contains duplicate entries after mutating admission happens;" in patched.warnings[0]
    assert (await api.get(f"{MAPS}/m")).body["metadata"]["ownerReferences"] == [owner]
