"""Writes that are no plain update: binding, eviction, ephemeral containers, tokens, finalize."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Final

from virtual_kubelet.devcluster.call import Call
from virtual_kubelet.devcluster.cluster_state import ClusterState
from virtual_kubelet.devcluster.decoding import check_media_type, decode_object, report_unknown
from virtual_kubelet.devcluster.generic_registry import Preparation
from virtual_kubelet.devcluster.namespace_lifecycle import check_namespace
from virtual_kubelet.devcluster.node_restriction import NodeRestriction
from virtual_kubelet.devcluster.object_meta import is_deleting, validate_meta_update
from virtual_kubelet.devcluster.registry.certificate_signing_requests import prepare_approval
from virtual_kubelet.devcluster.registry.pod_resize import keep_metadata
from virtual_kubelet.devcluster.registry.pod_validation import validate_pod
from virtual_kubelet.devcluster.rendering import encode
from virtual_kubelet.devcluster.request_options import DeleteOptions, WriteOptions
from virtual_kubelet.devcluster.statuses import (
    StatusError,
    bad_request,
    conflict,
    field_forbidden,
    field_invalid,
    invalid,
    not_found,
    required,
    sentences_of,
    success,
    unsupported_value,
)
from virtual_kubelet.devcluster.storage import StoredObject
from virtual_kubelet.devcluster.tokens import AUDIENCE, ServiceAccountTokens
from virtual_kubelet.objects.times import format_time
from virtual_kubelet.server.connection import Response

__all__ = ["Subresources", "bind"]

_LEAST_TOKEN_SECONDS: Final = 600
_MOST_TOKEN_SECONDS: Final = 1 << 32


def bind(
    state: ClusterState,
    stored: StoredObject,
    node: str,
    annotations: Mapping[str, str] = MappingProxyType({}),
    *,
    dry_run: bool = False,
) -> StoredObject:
    """Put a pod on a node: the scheduler's write. Raises 409 if it is on one, on its way out, or behind a gate."""
    name = stored.key[1]

    def refuse(why: str) -> StatusError:
        return conflict("pods/binding", name, why)

    old = stored.decode()
    if is_deleting(old):
        raise refuse(f"pod {name} is being deleted, cannot be assigned to a host")
    current = stored.fields["spec.nodeName"]
    if current:
        raise refuse(f'pod {name} is already assigned to node "{current}"')
    if old["spec"].get("schedulingGates"):
        raise refuse(f"pod {name} has non-empty .spec.schedulingGates")
    now = format_time(state.clock.now())

    def mutate(pod: dict[str, Any]) -> None:
        pod["spec"]["nodeName"] = node
        if annotations:
            pod["metadata"].setdefault("annotations", {}).update(annotations)
        set_condition(pod, {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": now})

    return stored if dry_run else state.pods.change(stored, mutate)


def set_condition(obj: dict[str, Any], condition: dict[str, Any]) -> None:
    """Replace the condition of this type; its transition time moves only with its status."""
    conditions = obj["status"].setdefault("conditions", [])
    for index, known in enumerate(conditions):
        if known["type"] == condition["type"]:
            if known["status"] == condition["status"]:
                condition["lastTransitionTime"] = known.get("lastTransitionTime")
            conditions[index] = condition
            return
    conditions.append(condition)


class Subresources:
    """Answers what is done to pods, service accounts and namespaces beside plain reads and writes."""

    def __init__(self, state: ClusterState, restriction: NodeRestriction, tokens: ServiceAccountTokens) -> None:
        self._state = state
        self._restriction = restriction
        self._tokens = tokens

    async def binding(self, call: Call) -> Response:
        """Raises 404, 409, 422."""
        content, options = await self._body(call, "Binding", "v1")
        target = content["target"]
        errors = []
        if target.get("kind", "") not in ("", "Node"):
            errors.append(unsupported_value("target.kind", target["kind"], ("Node", "<empty>")))
        if not target.get("name"):
            errors.append(required("target.name"))
        if errors:
            raise StatusError(500, "", sentences_of(errors))  # the API server's own slip: this is no Status of its own
        stored = self._state.pods.get(call.info.namespace, call.info.name)
        annotations = content["metadata"].get("annotations") or {}
        bind(self._state, stored, target["name"], annotations, dry_run=options.dry_run)
        return call.respond(encode(success(201)), 201)

    async def eviction(self, call: Call) -> Response:
        """Raises 403, 404, 409. There are no disruption budgets here."""
        content, options = await self._body(call, "Eviction", "policy/v1", also=("policy/v1beta1",))
        stored = self._state.pods.get(call.info.namespace, call.info.name)
        self._restriction.check(call.user, call.info, content)
        wanted = DeleteOptions.parse(content.get("deleteOptions") or {}, call.request.query)
        if options.dry_run or wanted.dry_run:
            return call.respond(encode(success(201)), 201)
        now = format_time(self._state.clock.now())
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "lastProbeTime": None,
            "lastTransitionTime": now,
            "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting",
        }
        if stored.fields["status.phase"] not in ("Succeeded", "Failed"):
            stored = self._state.pods.change(stored, lambda pod: set_condition(pod, condition))
        self._state.pods.delete(stored, wanted)
        return call.respond(encode(success(201)), 201)

    def ephemeral_containers(self) -> Preparation:
        """Only what is added to ``spec.ephemeralContainers`` counts."""

        def prepare(new: dict[str, Any], old: dict[str, Any]) -> None:
            before = old["spec"].get("ephemeralContainers") or []
            after = new["spec"].get("ephemeralContainers") or []
            keep_metadata(new, old)
            new["status"] = old["status"]
            spec = {**old["spec"], "ephemeralContainers": after} if after else dict(old["spec"])
            new["spec"] = spec
            if spec != old["spec"]:
                new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
            errors = validate_meta_update(new["metadata"], old["metadata"]) + validate_pod(spec)
            where = "spec.ephemeralContainers"
            names = {container["name"]: container for container in after}
            for container in before:
                if container["name"] not in names:
                    detail = f'existing ephemeral containers "{container["name"]}" may not be removed\n'
                    errors.append(field_forbidden(where, detail))
                elif names[container["name"]] != container:
                    detail = f'existing ephemeral containers "{container["name"]}" may not be changed\n'
                    errors.append(field_forbidden(where, detail))
            if errors:
                raise invalid("Pod", old["metadata"]["name"], errors)

        return prepare

    def approval(self) -> Preparation:
        """Only the conditions of a certificate signing request count."""

        def prepare(new: dict[str, Any], old: dict[str, Any]) -> None:
            decided = prepare_approval(new, old, self._state.clock.now())
            errors = validate_meta_update(new["metadata"], old["metadata"]) + decided
            if errors:
                raise invalid("CertificateSigningRequest", old["metadata"]["name"], errors, "certificates.k8s.io")

        return prepare

    def finalize(self) -> Preparation:
        """Only ``spec.finalizers`` of a namespace counts."""

        def prepare(new: dict[str, Any], old: dict[str, Any]) -> None:
            new["status"] = old["status"]
            errors = validate_meta_update(new["metadata"], old["metadata"])
            if errors:
                raise invalid("Namespace", old["metadata"]["name"], errors)

        return prepare

    async def token(self, call: Call) -> Response:
        """A service account's token (TokenRequest). Raises 403, 404, 409, 422."""
        content, options = await self._body(call, "TokenRequest", "authentication.k8s.io/v1")
        spec = content["spec"]
        seconds = spec.setdefault("expirationSeconds", 3600)
        asked = spec.get("audiences") or []
        audiences = asked or [AUDIENCE]
        spec["audiences"] = audiences
        errors = []
        if seconds < _LEAST_TOKEN_SECONDS:
            detail = "may not specify a duration less than 10 minutes"
            errors.append(field_invalid("spec.expirationSeconds", seconds, detail))
        if seconds > _MOST_TOKEN_SECONDS:
            detail = "may not specify a duration larger than 2^32 seconds"
            errors.append(field_invalid("spec.expirationSeconds", seconds, detail))
        if errors:
            raise invalid("TokenRequest", "", errors, "authentication.k8s.io")
        account = self._state.service_accounts.get(call.info.namespace, call.info.name)
        reference = spec.get("boundObjectRef")
        self._restriction.check_token(call.user, call.info.namespace, call.info.name, reference, asked)
        bound = self._bound(call, reference) if reference else None
        token, expires = "", self._state.clock.now() + timedelta(seconds=seconds)
        if not options.dry_run:
            token, expires = self._tokens.issue(
                call.info.namespace,
                call.info.name,
                account.uid,
                audiences=audiences,
                seconds=seconds,
                bound=bound,
            )
        spec.setdefault("boundObjectRef", None)
        body = {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {
                "name": call.info.name,
                "namespace": call.info.namespace,
                "uid": account.uid,
                "creationTimestamp": format_time(self._state.clock.now()),
            },
            "spec": spec,
            "status": {"token": token, "expirationTimestamp": format_time(expires)},
        }
        return call.respond(encode(body), 201)

    def _bound(self, call: Call, reference: dict[str, Any]) -> dict[str, dict[str, str]]:
        """The claims of the object a token dies with."""
        kind, name = reference.get("kind", ""), reference.get("name", "")
        registry = {"Pod": self._state.pods, "Secret": self._state.secrets, "Node": self._state.nodes}.get(kind)
        if registry is None:
            raise bad_request(f'cannot bind token for serviceaccount "{call.info.name}" to object of kind "{kind}"')
        namespace = "" if kind == "Node" else call.info.namespace
        target = registry.objects.get(namespace, name)
        if target is None:
            raise not_found(registry.resource.plural, name)
        wanted = reference.get("uid")
        if wanted and wanted != target.uid:
            why = (
                f"the UID in the bound object reference ({wanted}) does not match the UID in record. "
                "The object might have been deleted and then recreated"
            )
            raise conflict(kind, name, why)
        claims = {kind.lower(): {"name": name, "uid": target.uid}}
        if kind == "Pod":
            account = target.fields["spec.serviceAccountName"]
            if account and account != call.info.name:
                raise bad_request(
                    f'cannot bind token for serviceaccount "{call.info.name}" to pod running with different '
                    "serviceaccount name."
                )
            node = target.fields["spec.nodeName"]
            known = self._state.nodes.objects.get("", node) if node else None
            if node:
                claims["node"] = {"name": node, "uid": known.uid if known is not None else ""}
        return claims

    async def _body(
        self, call: Call, kind: str, api_version: str, *, also: Collection[str] = ()
    ) -> tuple[dict[str, Any], WriteOptions]:
        options = WriteOptions.parse(call.request.query, "CreateOptions")
        media_type = check_media_type(call.request.headers.get("content-type"))
        unknown: list[str] = []
        data = await call.request.body()
        content = decode_object(data, self._state.schemas, kind, api_version, unknown, media_type, also=also)

        def refuse(problem: str) -> StatusError:
            version = api_version.rpartition("/")[2]
            return bad_request(f'{kind} in version "{version}" cannot be handled as a {kind}: {problem}')

        report_unknown(unknown, options.validation, call.warnings, refuse)
        check_namespace(self._state, call.info, content.get("metadata", {}))
        name = content.get("metadata", {}).get("name", "")
        if name != call.info.name and kind != "TokenRequest":
            raise bad_request(f"name in URL does not match name in {kind} object")
        return content, options
