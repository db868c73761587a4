"""What a node's identity may write (admission plugin NodeRestriction of 1.36): its own Node, Lease and pods. Pure but for
the index of pods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from virtual_kubelet.devcluster.certificate_requests import (
    KUBELET_CLIENT_SIGNER,
    KUBELET_SERVING_SIGNER,
    parse_request,
)
from virtual_kubelet.devcluster.pod_index import PodIndex, references
from virtual_kubelet.devcluster.request_info import RequestInfo
from virtual_kubelet.devcluster.statuses import StatusError, forbidden, not_found
from virtual_kubelet.devcluster.storage import StoredObject
from virtual_kubelet.devcluster.users import NODE_PREFIX, User

__all__ = ["NodeRestriction"]

_MIRROR: Final = "kubernetes.io/config.mirror"
_RESTRICTED: Final = "node-restriction.kubernetes.io"
#: Labels below kubernetes.io and k8s.io that a node may set on itself.
_OWN_LABELS: Final = frozenset(
    {
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "node.kubernetes.io/instance-type",
        "beta.kubernetes.io/instance-type",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
    }
)
_OWN_PREFIXES: Final = ("kubelet.kubernetes.io", "node.kubernetes.io")


class NodeRestriction:
    """Refuses with 403. Callers that are no node pass."""

    def __init__(self, pods: PodIndex) -> None:
        self._pods = pods

    def check(
        self, user: User, info: RequestInfo, new: dict[str, Any] | None, old: dict[str, Any] | None = None
    ) -> None:
        """``new``: the object as it is to be (None for a deletion); ``old``: as it is. Raises ``StatusError`` 403."""
        node = user.node
        if not node:
            return
        if info.resource.plural == "nodes":
            self._node(node, info, new, old)
        elif info.resource.plural == "pods":
            self._pod(node, info, new, old)
        elif info.resource.plural == "certificatesigningrequests":
            self._request(node, info, new)
        elif info.resource.plural == "leases":
            name = info.name or (new or {"metadata": {}})["metadata"].get("name", "")
            if name != node:
                why = "can only access node lease with the same name as the requesting node"
                raise forbidden("leases", name, why, info.resource.group)

    def _node(self, node: str, info: RequestInfo, new: dict[str, Any] | None, old: dict[str, Any] | None) -> None:
        name = info.name or (new["metadata"].get("name", "") if new is not None else "")
        if name != node:
            raise _refusal("nodes", name, node, f'is not allowed to modify node "{name}"')
        if new is None:
            return
        if info.verb == "create":
            restricted = [key for key in sorted(new["metadata"].get("labels") or {}) if not _may_set(key)]
            if restricted:
                labels = ", ".join(restricted)
                raise _refusal("nodes", name, node, f"is not allowed to set the following labels: {labels}")
            return
        assert old is not None
        if (new["spec"].get("taints") or []) != (old["spec"].get("taints") or []):
            raise _refusal("nodes", name, node, "is not allowed to modify taints")
        if (new["metadata"].get("ownerReferences") or []) != (old["metadata"].get("ownerReferences") or []):
            raise _refusal("nodes", name, node, "is not allowed to modify ownerReferences")
        before, after = old["metadata"].get("labels") or {}, new["metadata"].get("labels") or {}
        changed = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
        restricted = [key for key in changed if not _may_set(key)]
        if restricted:
            raise _refusal("nodes", name, node, f"is not allowed to modify labels: {', '.join(restricted)}")

    def _pod(self, node: str, info: RequestInfo, new: dict[str, Any] | None, old: dict[str, Any] | None) -> None:
        name = info.name or (new["metadata"].get("name", "") if new is not None else "")
        if info.subresource == "eviction":
            if not self._pods.is_bound(node, (info.namespace, info.name)):
                raise _refusal("pods", name, node, "can only evict pods with spec.nodeName set to itself")
        elif info.verb == "create":
            assert new is not None
            if _MIRROR not in (new["metadata"].get("annotations") or {}):
                why = f'pod does not have "{_MIRROR}" annotation, node "{node}" can only create mirror pods'
                raise forbidden("pods", name, why)
            if new["spec"].get("nodeName") != node:
                raise _refusal("pods", name, node, "can only create pods with spec.nodeName set to itself")
            for kind, what in (
                ("ServiceAccount", "a service account"),
                ("Secret", "secrets"),
                ("ConfigMap", "configmaps"),
            ):
                if references(new["spec"], kind):
                    raise _refusal("pods", name, node, f"can not create pods that reference {what}")
        elif info.verb == "delete":
            if not self._pods.is_bound(node, (info.namespace, info.name)):
                raise _refusal("pods", name, node, "can only delete pods with spec.nodeName set to itself")
        elif info.subresource == "status":
            assert new is not None
            assert old is not None
            if old["spec"].get("nodeName") != node:
                why = "can only update pod status for pods with spec.nodeName set to itself"
                raise _refusal("pods", name, node, why)
            if (new["metadata"].get("labels") or {}) != (old["metadata"].get("labels") or {}):
                raise _refusal("pods", name, node, "cannot update labels through pod status")

    @staticmethod
    def _request(node: str, info: RequestInfo, new: dict[str, Any] | None) -> None:
        if info.verb != "create" or new is None:
            return
        spec, name = new["spec"], new["metadata"].get("name", "")
        if spec.get("signerName") not in (KUBELET_SERVING_SIGNER, KUBELET_CLIENT_SIGNER):
            return
        try:
            request = parse_request(spec.get("request", ""))
        except ValueError as error:
            raise forbidden(info.resource.plural, name, f"unable to parse csr: {error}", info.resource.group) from None
        if request.common_name != f"{NODE_PREFIX}{node}":
            why = f"can only create a node CSR with CN={NODE_PREFIX}{node}"
            raise forbidden(info.resource.plural, name, why, info.resource.group)

    def check_deletion(self, user: User, info: RequestInfo, stored: StoredObject) -> None:
        """Of one object."""
        if user.node:
            self.check(user, info, None)

    def check_token(
        self, user: User, namespace: str, account: str, bound: dict[str, Any] | None, audiences: Sequence[str] = ()
    ) -> None:
        """A node gets tokens only for its own pods, and only for audiences that the pod's volumes name."""
        node = user.node
        if not node:
            return
        if bound is None or bound.get("kind") != "Pod" or bound.get("apiVersion") != "v1" or not bound.get("name"):
            raise forbidden("serviceaccounts", account, "node requested token not bound to a pod")
        if not bound.get("uid"):
            why = "node requested token with a pod binding without a uid"
            raise forbidden("serviceaccounts", account, why)
        pod = self._pods.find(namespace, bound["name"])
        if pod is None:
            raise not_found("pods", bound["name"])
        if pod.uid != bound["uid"]:
            why = (
                f"the UID in the bound object reference ({bound['uid']}) does not match the UID in record. The object "
                "might have been deleted and then recreated"
            )
            raise forbidden("serviceaccounts", account, why)
        if pod.fields["spec.nodeName"] != node:
            why = "node requested token bound to a pod scheduled on a different node"
            raise forbidden("serviceaccounts", account, why)
        if len(audiences) > 1:
            raise forbidden("serviceaccounts", account, "node may only request 0 or 1 audiences")
        for audience in audiences:
            if audience not in _audiences(pod.decode()["spec"]):
                raise forbidden("serviceaccounts", account, f'audience "{audience}" not found in pod spec volume')


def _audiences(spec: dict[str, Any]) -> set[str]:
    """For which a pod's volumes ask for tokens."""
    return {
        source["serviceAccountToken"].get("audience", "")
        for volume in spec.get("volumes") or ()
        for source in (volume.get("projected") or {}).get("sources") or ()
        if "serviceAccountToken" in source
    }


def _refusal(resource: str, name: str, node: str, why: str) -> StatusError:
    return forbidden(resource, name, f'node "{node}" {why}')


def _may_set(label: str) -> bool:
    """Whether a node may set this label on itself."""
    namespace, slash, _ = label.rpartition("/")
    if not slash:
        return True
    if namespace == _RESTRICTED or namespace.endswith("." + _RESTRICTED):
        return False
    reserved = any(namespace == domain or namespace.endswith("." + domain) for domain in ("kubernetes.io", "k8s.io"))
    if not reserved or label in _OWN_LABELS:
        return True
    return any(namespace == prefix or namespace.endswith("." + prefix) for prefix in _OWN_PREFIXES)
