"""Three roles: cluster administrators may all, a node what the node authorizer of 1.36 allows, a service account may
look at its own namespace. Everybody who is known may ask about themselves and read the discovery documents."""

from __future__ import annotations

from typing import Final

from virtual_kubelet.devcluster.pod_index import PodIndex
from virtual_kubelet.devcluster.storage import Key
from virtual_kubelet.devcluster.users import BOOTSTRAPPERS, MASTERS, Attributes, Decision, User

__all__ = ["VIEWED", "Authorizer", "denial"]

_READ: Final = frozenset({"get", "list", "watch"})
_REQUEST: Final = _READ | {"create"}
_PUBLIC_PATHS: Final = ("/api", "/apis", "/openapi", "/version", "/healthz", "/livez", "/readyz")
_REVIEWS: Final = frozenset(
    {
        ("authentication.k8s.io", "tokenreviews"),
        ("authorization.k8s.io", "subjectaccessreviews"),
        ("authorization.k8s.io", "localsubjectaccessreviews"),
    }
)
_SELF_REVIEWS: Final = frozenset({"selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"})
#: What a service account may read in its own namespace, of the core group.
VIEWED: Final = frozenset(
    ["configmaps", "events", "pods", "pods/log", "pods/status", "serviceaccounts", "services", "services/status"]
)
_LEASES: Final = "kube-node-lease"
_GROUPS: Final = {"leases": "coordination.k8s.io", "certificatesigningrequests": "certificates.k8s.io"}
_ALLOWED: Final = Decision(True)


class Authorizer:
    """Decides; the three roles are all there is."""

    def __init__(self, pods: PodIndex) -> None:
        self._pods = pods

    def authorize(self, user: User, attributes: Attributes) -> Decision:
        """Whether ``user`` may do this."""
        if MASTERS in user.groups:
            return _ALLOWED
        if attributes.path:
            public = any(attributes.path == p or attributes.path.startswith(p + "/") for p in _PUBLIC_PATHS)
            return Decision(attributes.verb == "get" and public)
        if attributes.resource in _SELF_REVIEWS and attributes.verb == "create":
            return _ALLOWED
        if user.node:
            return self._node(user.node, attributes)
        if BOOTSTRAPPERS in user.groups and attributes.group == _GROUPS["certificatesigningrequests"]:
            return Decision(
                attributes.resource == "certificatesigningrequests" and _may_request(attributes, "nodeclient")
            )
        namespace, _ = user.service_account
        if namespace and attributes.namespace == namespace and attributes.verb in _READ:
            subresource = f"/{attributes.subresource}" if attributes.subresource else ""
            return Decision(not attributes.group and attributes.resource + subresource in VIEWED)
        if (attributes.group, attributes.resource, attributes.subresource) == ("", "nodes", "proxy"):
            return Decision(False, "proxy subresource changed to unsafeproxy")  # as 1.36 says it
        return Decision(False)

    def _node(self, node: str, a: Attributes) -> Decision:
        group = _GROUPS.get(a.resource, "")
        rule = getattr(self, f"_node_{a.resource}", None) if a.group == group else None
        if rule is not None:
            decision: Decision = rule(node, a)
            return decision
        if (a.group, a.resource) in _REVIEWS:
            return Decision(a.verb == "create")
        return Decision(False)

    @staticmethod
    def _node_certificatesigningrequests(node: str, a: Attributes) -> Decision:
        return Decision(_may_request(a, "selfnodeclient"))

    @staticmethod
    def _node_services(node: str, a: Attributes) -> Decision:
        return Decision(a.verb in _READ and not a.subresource)

    @staticmethod
    def _node_events(node: str, a: Attributes) -> Decision:
        return Decision(a.verb in ("create", "update", "patch") and not a.subresource)

    @staticmethod
    def _node_nodes(node: str, a: Attributes) -> Decision:
        if a.subresource not in ("", "status"):
            return Decision(False)
        if a.verb in _READ:
            if a.name == node:
                return _ALLOWED
            which = f"'{a.name}'" if a.name else "all nodes"
            return Decision(False, f"node '{node}' cannot read {which}, only its own Node object")
        # Whose node it is, is for NodeRestriction to see.
        return Decision(a.verb in ("update", "patch") or (a.verb == "create" and not a.subresource))

    def _node_pods(self, node: str, a: Attributes) -> Decision:
        if a.subresource == "status":
            return Decision(a.verb in ("update", "patch"))
        if a.subresource == "eviction":
            return Decision(a.verb == "create")
        if a.subresource:
            return Decision(False)
        if a.verb == "get":
            return self._related(node, self._pods.is_bound(node, _key(a)))
        if a.verb in ("list", "watch"):
            if a.node_selector == node:
                return _ALLOWED
            if a.name and a.namespace:
                return self._related(node, self._pods.is_bound(node, _key(a)))
            return Decision(False, "can only list/watch pods with spec.nodeName field selector")
        return Decision(a.verb in ("create", "delete"))

    def _node_configmaps(self, node: str, a: Attributes) -> Decision:
        return self._read(node, a, "ConfigMap")

    def _node_secrets(self, node: str, a: Attributes) -> Decision:
        return self._read(node, a, "Secret")

    def _read(self, node: str, a: Attributes, kind: str) -> Decision:
        if a.verb not in _READ:
            return Decision(False, "can only read resources of this type")
        if a.subresource:
            return Decision(False, "cannot read subresource")
        if not a.namespace:
            return Decision(False, "can only read namespaced object of this type")
        if not a.name:
            return Decision(False, "No Object name found")
        return self._related(node, self._pods.refers(node, kind, a.namespace, a.name))

    def _node_serviceaccounts(self, node: str, a: Attributes) -> Decision:
        if a.subresource == "token":
            if a.verb != "create" or not a.name:
                return Decision(False, "can only create tokens for individual service accounts")
        elif a.verb != "get" or a.subresource:
            return Decision(False, "can only get individual service accounts")
        return self._related(node, self._pods.refers(node, "ServiceAccount", a.namespace, a.name))

    @staticmethod
    def _node_leases(node: str, a: Attributes) -> Decision:
        if a.verb not in ("get", "create", "update", "patch", "delete"):
            return Decision(False, "can only get, create, update, patch, or delete a node lease")
        if a.namespace != _LEASES:
            return Decision(False, f'can only access leases in the "{_LEASES}" system namespace')
        if a.verb != "create" and a.name != node:
            return Decision(False, "can only access node lease with the same name as the requesting node")
        return _ALLOWED

    @staticmethod
    def _related(node: str, related: bool) -> Decision:
        if related:
            return _ALLOWED
        return Decision(False, f"no relationship found between node '{node}' and this object")


def _may_request(a: Attributes, subresource: str) -> bool:
    """``subresource`` stands for what is approved without asking anybody."""
    return a.verb == "create" if a.subresource == subresource else not a.subresource and a.verb in _REQUEST


def _key(a: Attributes) -> Key:
    return (a.namespace, a.name)


def denial(user: User, a: Attributes, reason: str) -> str:
    """The sentence after ``… is forbidden: ``."""
    because = f": {reason}" if reason else ""
    if a.path:
        return f'User "{user.name}" cannot {a.verb} path "{a.path}"{because}'
    resource = f"{a.resource}/{a.subresource}" if a.subresource else a.resource
    where = f'in the namespace "{a.namespace}"' if a.namespace else "at the cluster scope"
    return f'User "{user.name}" cannot {a.verb} resource "{resource}" in API group "{a.group}" {where}{because}'
