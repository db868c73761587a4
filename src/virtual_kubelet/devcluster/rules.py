"""The roles of ``authorization`` spelt out as rules: what ``kubectl auth can-i --list`` shows. Pure.

Basic and discovery rules are those of the roles that a real cluster gives every user (system:basic-user,
system:discovery, system:public-info-viewer), in its order.
"""

from __future__ import annotations

from typing import Any, Final

from virtual_kubelet.devcluster.authorization import VIEWED
from virtual_kubelet.devcluster.users import MASTERS, User

__all__ = ["rules_status"]

_PUBLIC: Final = ("/healthz", "/livez", "/readyz", "/version", "/version/")
_DISCOVERY: Final = (
    "/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*", "/readyz", "/version",
    "/version/",
)  # fmt: skip
_NODE: Final = "node authorizer does not support user rule resolution"


def rules_status(user: User, namespace: str) -> dict[str, Any]:
    """``status`` of a SelfSubjectRulesReview."""
    resources: list[dict[str, Any]] = []
    paths: list[dict[str, Any]] = []
    if MASTERS in user.groups:
        resources.append(_rule(["*"], ["*"], ["*"]))
        paths.append({"verbs": ["*"], "nonResourceURLs": ["*"]})
    resources.append(
        _rule(["create"], ["authorization.k8s.io"], ["selfsubjectaccessreviews", "selfsubjectrulesreviews"])
    )
    resources.append(_rule(["create"], ["authentication.k8s.io"], ["selfsubjectreviews"]))
    if namespace and user.service_account[0] == namespace:
        resources.append(_rule(["get", "list", "watch"], [""], sorted(VIEWED)))
    paths += [
        {"verbs": ["get"], "nonResourceURLs": list(_DISCOVERY)},
        {"verbs": ["get"], "nonResourceURLs": list(_PUBLIC)},
    ]
    status: dict[str, Any] = {"resourceRules": resources, "nonResourceRules": paths, "incomplete": bool(user.node)}
    if user.node:
        status["evaluationError"] = _NODE
    return status


def _rule(verbs: list[str], groups: list[str], resources: list[str]) -> dict[str, Any]:
    return {"verbs": verbs, "apiGroups": groups, "resources": resources}
