"""Reviews: whose token this is, who may do what, who I am."""

from __future__ import annotations

from typing import Any, Final

from virtual_kubelet.devcluster.authorization import Authorizer
from virtual_kubelet.devcluster.call import Call
from virtual_kubelet.devcluster.cluster_state import ClusterState
from virtual_kubelet.devcluster.decoding import check_media_type, decode_object
from virtual_kubelet.devcluster.rendering import encode
from virtual_kubelet.devcluster.rules import rules_status
from virtual_kubelet.devcluster.statuses import bad_request, field_invalid, invalid
from virtual_kubelet.devcluster.tokens import AUDIENCE, ServiceAccountTokens
from virtual_kubelet.devcluster.users import Attributes, User
from virtual_kubelet.objects.times import format_time
from virtual_kubelet.server.connection import Response

__all__ = ["Reviews"]


#: The API server names no kind when it refuses reviews of this group.
_GROUP: Final = "authorization.k8s.io"


class Reviews:
    """Answers reviews; none is stored."""

    def __init__(self, state: ClusterState, tokens: ServiceAccountTokens, authorizer: Authorizer) -> None:
        self._state = state
        self._tokens = tokens
        self._authorizer = authorizer

    async def answer(self, call: Call) -> Response:
        """Raises 400, 415, 422."""
        resource = call.info.resource
        media_type = check_media_type(call.request.headers.get("content-type"))
        body = await call.request.body()
        content = decode_object(body, self._state.schemas, resource.kind, resource.api_version, [], media_type)
        content.setdefault("metadata", {})
        if resource.kind == "SelfSubjectReview":
            created = {"creationTimestamp": format_time(self._state.clock.now())}
            content = {"metadata": {**content["metadata"], **created}, "status": {"userInfo": call.user.to_object()}}
        elif resource.kind == "SelfSubjectRulesReview":
            namespace = content["spec"].get("namespace", "")
            if not namespace:
                raise bad_request("no namespace on request")
            # As a real server answers: what was asked is not repeated.
            content = {**content, "spec": {}, "status": rules_status(call.user, namespace)}
        elif resource.kind == "TokenReview":
            content["status"] = self._token(content["spec"])
        else:
            content["status"] = self._access(call, resource.kind, content)
        whole = {"kind": resource.kind, "apiVersion": resource.api_version, **content}
        return call.respond(encode(whole), 201)

    def _token(self, spec: dict[str, Any]) -> dict[str, Any]:
        token = spec.get("token", "")
        if not token:
            error = field_invalid("spec.token", "", "token is required for TokenReview in authentication")
            raise invalid("TokenReview", "", [error], "authentication.k8s.io")
        found = self._tokens.authenticate(token, spec.get("audiences") or [AUDIENCE])
        if found is None:
            return {"user": {}, "error": "invalid bearer token"}
        user, audiences = found
        return {"authenticated": True, "user": user.to_object(), "audiences": audiences}

    def _access(self, call: Call, kind: str, content: dict[str, Any]) -> dict[str, Any]:
        spec = content["spec"]
        resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
        if kind == "LocalSubjectAccessReview":
            _check_local(call.info.namespace, content, resource, path)
        if (resource is None) == (path is None):
            detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
            error = field_invalid("spec.resourceAttributes", resource, detail)
            raise invalid("", "", [error], _GROUP)
        if kind == "SelfSubjectAccessReview":
            user = call.user
        else:
            if not spec.get("user") and not spec.get("groups"):
                error = field_invalid("spec.user", "", "at least one of user or group must be specified")
                raise invalid("", "", [error], _GROUP)
            user = User(spec.get("user", ""), tuple(spec.get("groups") or ()), spec.get("uid", ""))
        decision = self._authorizer.authorize(user, _attributes(resource, path))
        status: dict[str, Any] = {"allowed": decision.allowed}
        if decision.reason:
            status["reason"] = decision.reason
        return status


def _check_local(
    namespace: str, content: dict[str, Any], resource: dict[str, Any] | None, path: dict[str, Any] | None
) -> None:
    """It is about one namespace. Raises 400, 422."""
    if content["metadata"].setdefault("namespace", namespace) != namespace:
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
    errors = []
    if resource is not None and resource.get("namespace", "") != namespace:
        where = "spec.resourceAttributes.namespace"
        errors.append(field_invalid(where, resource.get("namespace", ""), "must match metadata.namespace"))
    if path is not None:
        errors.append(field_invalid("spec.nonResourceAttributes", path, "disallowed on this kind of request"))
    if errors:
        raise invalid("", "", errors, _GROUP)


def _attributes(resource: dict[str, Any] | None, path: dict[str, Any] | None) -> Attributes:
    if path is not None:
        return Attributes(path.get("verb", ""), path=path.get("path", "") or "/")
    assert resource is not None
    selector = (resource.get("fieldSelector") or {}).get("requirements") or []
    node = ""
    for requirement in selector:
        if requirement.get("key") == "spec.nodeName" and requirement.get("operator") == "In":
            values = requirement.get("values") or []
            node = values[0] if len(values) == 1 else ""
    return Attributes(
        resource.get("verb", ""),
        resource.get("group", ""),
        resource.get("resource", ""),
        resource.get("subresource", ""),
        resource.get("namespace", ""),
        resource.get("name", ""),
        node_selector=node,
    )
