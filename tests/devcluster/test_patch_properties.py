"""Whatever patches are thrown at objects, what is stored is always valid, and a refused patch changes nothing.

The whole server is under test but for its sockets: bodies are decoded, applied, made regular, defaulted, validated and
stored as for a request.
"""

from __future__ import annotations

import copy
import json
from typing import Any, Final

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from tests.devcluster.clients import JSON_PATCH, MERGE, STRATEGIC, pod
from virtual_kubelet.clock import SystemClock
from virtual_kubelet.devcluster.bootstrap import create
from virtual_kubelet.devcluster.cluster_state import ClusterState
from virtual_kubelet.devcluster.decoding import decode_object
from virtual_kubelet.devcluster.generic_registry import GenericRegistry
from virtual_kubelet.devcluster.object_meta import validate_meta
from virtual_kubelet.devcluster.patching import apply_patch
from virtual_kubelet.devcluster.statuses import StatusError
from virtual_kubelet.devcluster.storage import StoredObject

CODES: Final = frozenset({400, 409, 413, 415, 422, 500})
#: Keys that mean something somewhere, so that patches hit.
KEYS: Final = [
    *["a", "metadata", "spec", "status", "name", "namespace", "uid", "labels", "annotations", "finalizers"],
    *["ownerReferences", "generation", "resourceVersion", "creationTimestamp", "deletionTimestamp", "containers"],
    *["initContainers", "ephemeralContainers", "image", "env", "value", "valueFrom", "ports", "containerPort"],
    *["resources", "limits", "requests", "cpu", "memory", "tolerations", "key", "operator", "effect", "nodeName"],
    *["tolerationSeconds", "volumes", "restartPolicy", "activeDeadlineSeconds", "data", "binaryData", "immutable"],
    *["type", "taints", "conditions", "addresses", "capacity", "phase", "containerStatuses", "state", "podIPs", "ip"],
    *["qosClass", "clusterIP", "selector", "port", "kind", "apiVersion", "$patch", "$retainKeys"],
    *["$setElementOrder/containers", "$deleteFromPrimitiveList/finalizers"],
]
WORDS: Final = (
    "", "a", "main", "b", "A b", "x.y/z", "Always", "Exists", "NoExecute", "1", "100m", "-1", "zz", "10.0.0.1", "merge",
    "replace", "delete", "2026-01-01T00:00:00Z", "Running", "None", "eA==", "!!",
)  # fmt: skip

keys = st.sampled_from(KEYS) | st.text(max_size=3)
scalars = (
    st.none() | st.booleans() | st.integers(-5, 2**40) | st.floats(-2, 2) | st.sampled_from(WORDS) | st.text(max_size=4)
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
)
wild = st.dictionaries(
    st.sampled_from(["metadata", "spec", "status", "data", "type", "immutable", "kind"]), values, max_size=3
)

# Near misses and hits: fields that exist, with values that may do.
words = st.sampled_from(WORDS)
pairs = st.dictionaries(words, words, max_size=2)
taints = st.fixed_dictionaries(
    {"key": words},
    optional={"effect": words, "operator": words, "value": words, "tolerationSeconds": st.integers(-1, 9)},
)
METADATA: Final[dict[str, st.SearchStrategy[Any]]] = {
    "metadata/labels": pairs,
    "metadata/annotations": pairs,
    "metadata/finalizers": st.lists(st.sampled_from(["x.y/z", "a.b/c", "orphan", "zz", "A b/c"]), max_size=2),
    "metadata/ownerReferences": st.lists(
        st.fixed_dictionaries({"apiVersion": words, "kind": words, "name": words, "uid": words}), max_size=2
    ),
}
NEAR: Final[dict[str, dict[str, st.SearchStrategy[Any]]]] = {
    "Pod": {
        "spec/activeDeadlineSeconds": st.integers(-1, 50),
        "spec/tolerations": st.lists(taints, max_size=2),
        "spec/terminationGracePeriodSeconds": st.sampled_from([30, 1, -1]),
        "status/phase": words,
        "status/podIP": words,
        "status/podIPs": st.lists(
            st.fixed_dictionaries({"ip": st.sampled_from(["10.0.0.1", "::1", "zz"])}), max_size=2
        ),
        "status/conditions": st.lists(st.fixed_dictionaries({"type": words, "status": words}), max_size=2),
        "status/containerStatuses": st.lists(
            st.fixed_dictionaries({"name": words, "state": st.sampled_from([{}, {"running": {}}, {"waiting": None}])}),
            max_size=2,
        ),
    },
    "ConfigMap": {"data": pairs, "binaryData": pairs},
    "Secret": {"data": pairs, "stringData": pairs, "type": st.sampled_from(["Opaque", "kubernetes.io/tls"])},
    "Service": {
        "spec/selector": pairs,
        "spec/ports": st.lists(
            st.fixed_dictionaries({"port": st.integers(0, 90), "name": words}, optional={"targetPort": values}),
            max_size=2,
        ),
        "spec/type": st.sampled_from(["ClusterIP", "NodePort", "ExternalName", "LoadBalancer", "zz"]),
        "spec/externalName": words,
        "spec/sessionAffinity": st.sampled_from(["None", "ClientIP", "zz"]),
    },
    "Node": {
        "spec/taints": st.lists(taints, max_size=2),
        "spec/unschedulable": st.booleans(),
        "spec/providerID": words,
        "status/capacity": pairs,
        "status/allocatable": pairs,
        "status/addresses": st.lists(st.fixed_dictionaries({"type": words, "address": words}), max_size=2),
        "status/conditions": st.lists(st.fixed_dictionaries({"type": words, "status": words}), max_size=2),
    },
    "Lease": {
        "spec/holderIdentity": words,
        "spec/leaseDurationSeconds": st.integers(-1, 9),
        "spec/renewTime": words,
    },
}


def _nested(fields: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for path, value in fields.items():
        *above, last = path.split("/")
        place = result
        for part in above:
            place = place.setdefault(part, {})
        place[last] = value
    return result


def _bodies(kind: str, media_type: str) -> st.SearchStrategy[Any]:
    fields = {**METADATA, **NEAR[kind]}
    chosen = st.lists(st.sampled_from(sorted(fields)), min_size=1, max_size=2, unique=True).flatmap(
        lambda paths: st.fixed_dictionaries({path: st.none() | fields[path] for path in paths})
    )
    if media_type == JSON_PATCH:
        near = chosen.map(lambda given: [{"op": "add", "path": f"/{path}", "value": v} for path, v in given.items()])
        return st.one_of(near, near, operations)
    return st.one_of(chosen.map(_nested), chosen.map(_nested), wild)


def _pointers(value: Any, path: str = "") -> list[str]:
    """Paths into an object, and some just beside it."""
    found = [path]
    if isinstance(value, dict):
        for key, item in value.items():
            found += _pointers(item, f"{path}/{key}")
        found.append(f"{path}/new")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found += _pointers(item, f"{path}/{index}")
        found.append(f"{path}/-")
    return found


OBJECTS: Final[dict[str, dict[str, Any]]] = {
    "Pod": {
        **pod(
            "o",
            metadata={"namespace": "default", "labels": {"a": "b"}, "finalizers": ["x.y/z"]},
            containers=[
                {
                    "name": "main",
                    "image": "b:1",
                    "env": [{"name": "A", "value": "1"}],
                    "ports": [{"containerPort": 80}],
                    "resources": {"limits": {"cpu": "1"}},
                },
                {"name": "b", "image": "b:1"},
            ],
            initContainers=[{"name": "i", "image": "b:1", "restartPolicy": "Always"}],
            volumes=[{"name": "v", "emptyDir": {}}],
        ),
    },
    "ConfigMap": {"metadata": {"name": "o", "namespace": "default"}, "data": {"a": "b"}, "binaryData": {"c": "eA=="}},
    "Secret": {"metadata": {"name": "o", "namespace": "default"}, "data": {"a": "eA=="}},
    "Service": {
        "metadata": {"name": "o", "namespace": "default"},
        "spec": {"ports": [{"port": 80, "name": "http"}], "selector": {"a": "b"}},
    },
    "Node": {"metadata": {"name": "o"}, "spec": {"taints": [{"key": "a", "effect": "NoExecute"}]}},
    "Lease": {"metadata": {"name": "o", "namespace": "default"}, "spec": {"holderIdentity": "x"}},
}
STATUS: Final = frozenset({"Pod", "Node", "Service"})

operations = st.lists(
    st.fixed_dictionaries(
        {
            "op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test", "zz"]),
            "path": st.sampled_from(sorted({p for o in OBJECTS.values() for p in _pointers(o)}))
            | st.text("/a0~-", max_size=6),
        },
        optional={"value": values, "from": st.sampled_from(sorted(_pointers(OBJECTS["Pod"])))},
    ),
    max_size=4,
)


@pytest.fixture(scope="module")
def registries() -> dict[str, GenericRegistry]:
    """One object of each kind, in a cluster without sockets."""
    state = ClusterState(clock=SystemClock(), history=100)
    create(state, state.namespaces, {"metadata": {"name": "default"}})
    found = {r.resource.kind: r for r in state.registries if r.resource.kind in OBJECTS}
    for kind, obj in OBJECTS.items():
        create(state, found[kind], copy.deepcopy(obj))
    return found


@pytest.fixture(scope="module")
def state() -> ClusterState:
    return ClusterState(clock=SystemClock(), history=1)


def _stored(registry: GenericRegistry) -> StoredObject:
    namespace = "default" if registry.resource.namespaced else ""
    stored = registry.objects.get(namespace, "o")
    assert stored is not None
    return stored


def _patch(state: ClusterState, registry: GenericRegistry, body: Any, media_type: str, *, status: bool) -> None:
    """What the server does with a PATCH. Raises ``StatusError``."""
    resource, stored = registry.resource, _stored(registry)
    old = stored.decode()
    current = {"kind": resource.kind, "apiVersion": resource.api_version, **stored.decode()}
    patched = apply_patch(json.dumps(body).encode(), media_type, current, resource.kind)
    new = patched.regular(state.schemas, resource, [], current)
    if new["metadata"].get("name") != "o" or new["metadata"].get("namespace", "") != stored.key[0]:
        raise StatusError(400, "BadRequest", "another name")
    resource.default(new)
    registry.check_revision(stored, new)
    prepare = registry.prepare_status_update if status else registry.prepare_update
    registry.update(stored, new, old, prepare)


def _check(state: ClusterState, registry: GenericRegistry) -> None:
    """What is stored could have been created as it is."""
    resource, stored = registry.resource, _stored(registry)
    obj = stored.decode()
    unknown: list[str] = []
    again = state.schemas.regular(stored.decode(), resource.kind, unknown)
    assert (again, unknown) == (obj, [])
    resource.default(again)
    assert again == obj, "defaults are stable"
    errors = validate_meta(obj["metadata"], resource.name_problems, namespaced=resource.namespaced)
    created = [error for error in resource.validate_create(again) if "cannot be set on create" not in error.message]
    assert errors + created == []
    assert stored.revision == int(obj["metadata"]["resourceVersion"])


@pytest.mark.parametrize("kind", sorted(OBJECTS))
@pytest.mark.parametrize("media_type", [MERGE, STRATEGIC, JSON_PATCH], ids=["merge", "strategic", "json"])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_what_is_stored_is_always_valid(
    registries: dict[str, GenericRegistry], state: ClusterState, kind: str, media_type: str, data: st.DataObject
) -> None:
    registry = registries[kind]
    body = data.draw(_bodies(kind, media_type))
    status = data.draw(st.booleans()) if kind in STATUS else False
    before = _stored(registry)
    refusal: StatusError | None = None
    try:
        _patch(state, registry, body, media_type, status=status)
    except StatusError as error:
        refusal = error
    if refusal is not None:
        event("refused")
        assert refusal.code in CODES
        json.dumps(refusal.to_object())
        assert _stored(registry) is before
    else:
        event("stored" if _stored(registry) is not before else "unchanged")
    _check(state, registry)


@settings(max_examples=60, deadline=None)
@given(body=st.binary(max_size=40) | values.map(lambda value: json.dumps(value).encode()))
@pytest.mark.parametrize("kind", sorted(OBJECTS))
def test_whatever_is_posted_is_valid_or_refused(
    registries: dict[str, GenericRegistry], state: ClusterState, kind: str, body: bytes
) -> None:
    resource = registries[kind].resource
    refusal: StatusError | None = None
    obj: dict[str, Any] = {}
    try:
        obj = decode_object(body, state.schemas, kind, resource.api_version, [])
        if resource.namespaced:
            obj["metadata"]["namespace"] = "default"
        resource.default(obj)
        registries[kind].create(obj, dry_run=True)
    except StatusError as error:
        refusal = error
    if refusal is None:
        assert state.schemas.regular(obj, kind, []) == obj
    else:
        assert refusal.code in CODES | {403}
        json.dumps(refusal.to_object())
