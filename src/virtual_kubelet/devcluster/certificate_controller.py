"""Approves what nodes ask for themselves, and signs what is approved.

Kubernetes source: ``pkg/controller/certificates`` of 1.36 (csrapproving, csrsigning). A cluster leaves serving certificates
to an administrator or an add-on; here those are approved whose names are the addresses in the status of the node that
asks, which is what such add-ons look at.
"""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any, Final

from virtual_kubelet.devcluster.authorization import Authorizer
from virtual_kubelet.devcluster.certificate_requests import (
    KUBELET_CLIENT_SIGNER,
    KUBELET_SERVING_SIGNER,
    SIGNERS,
    CertificateRequest,
    parse_request,
    problem,
)
from virtual_kubelet.devcluster.certificates import CertificateAuthority
from virtual_kubelet.devcluster.cluster_state import ClusterState
from virtual_kubelet.devcluster.controller import Controller
from virtual_kubelet.devcluster.storage import Change
from virtual_kubelet.devcluster.users import Attributes, User
from virtual_kubelet.objects.times import format_time

__all__ = ["CertificateController"]

#: kube-controller-manager's --cluster-signing-duration.
_MOST: Final = timedelta(days=365)
_LEAST: Final = timedelta(minutes=10)
_SELF: Final = "Auto approving self kubelet client certificate after SubjectAccessReview."
_OTHER: Final = "Auto approving kubelet client certificate after SubjectAccessReview."
_SERVING: Final = "Auto approving kubelet serving certificate for the addresses of its node."


class CertificateController(Controller[str]):
    """Keys are certificate signing requests."""

    def __init__(self, state: ClusterState, authority: CertificateAuthority, authorizer: Authorizer) -> None:
        super().__init__()
        self._state = state
        self._authority = authority
        self._authorizer = authorizer
        #: Requests for serving certificates that wait for their node to have the addresses they name.
        self._waiting: dict[str, set[str]] = {}
        state.certificate_requests.objects.listen(lambda change: self.enqueue(change.last.key[1]))
        state.nodes.objects.listen(self._on_node)

    def _on_node(self, change: Change) -> None:
        for name in self._waiting.pop(change.last.key[1], ()):
            self.enqueue(name)

    def reconcile(self, key: str) -> None:
        stored = self._state.certificate_requests.objects.get("", key)
        if stored is None:
            return
        obj = stored.decode()
        spec, status = obj["spec"], obj["status"]
        if status.get("certificate") or spec["signerName"] not in SIGNERS:
            return
        decided = {c["type"] for c in status.get("conditions") or () if c.get("status") == "True"}
        if decided & {"Denied", "Failed"}:
            return
        request = parse_request(spec["request"])
        why = problem(spec["signerName"], request, spec["usages"])
        if "Approved" in decided:
            self._sign(key, spec, request, why)
        elif not why:
            message = self._approval(key, spec, request)
            if message:
                self._set_condition(key, "Approved", "AutoApproved", message)

    def _sign(self, name: str, spec: dict[str, Any], request: CertificateRequest, why: str) -> None:
        if why:
            self._set_condition(name, "Failed", "SignerValidationFailure", why)
            return
        lifetime = _MOST
        if "expirationSeconds" in spec:
            lifetime = max(_LEAST, min(_MOST, timedelta(seconds=spec["expirationSeconds"])))
        pem = self._authority.sign_request(request.request, spec["usages"], lifetime)
        encoded = base64.b64encode(pem).decode()
        stored = self._state.certificate_requests.get("", name)
        self._state.certificate_requests.change(stored, lambda obj: obj["status"].update(certificate=encoded))

    def _approval(self, name: str, spec: dict[str, Any], request: CertificateRequest) -> str:
        """Why it is approved without asking; empty: it is not."""
        user = User(spec.get("username", ""), tuple(spec.get("groups") or ()))
        own = user.name == request.common_name
        if spec["signerName"] == KUBELET_CLIENT_SIGNER:
            if own and self._may(user, "selfnodeclient"):
                return _SELF
            return _OTHER if self._may(user, "nodeclient") else ""
        if spec["signerName"] == KUBELET_SERVING_SIGNER and own and user.node:
            return self._serving_approval(name, user.node, request)
        return ""

    def _may(self, user: User, subresource: str) -> bool:
        attributes = Attributes("create", "certificates.k8s.io", "certificatesigningrequests", subresource)
        return self._authorizer.authorize(user, attributes).allowed

    def _serving_approval(self, name: str, node_name: str, request: CertificateRequest) -> str:
        node = self._state.nodes.objects.get("", node_name)
        addresses = node.decode()["status"].get("addresses") or () if node is not None else ()
        known = {address.get("address", "") for address in addresses}
        if {*request.dns_names, *request.ip_addresses} <= known:
            return _SERVING
        self._waiting.setdefault(node_name, set()).add(name)
        return ""

    def _set_condition(self, name: str, kind: str, reason: str, message: str) -> None:
        now = format_time(self._state.clock.now())
        condition = {
            "type": kind,
            "status": "True",
            "reason": reason,
            "message": message,
            "lastUpdateTime": now,
            "lastTransitionTime": now,
        }
        stored = self._state.certificate_requests.get("", name)
        self._state.certificate_requests.change(
            stored, lambda obj: obj["status"].setdefault("conditions", []).append(condition)
        )
