"""What a real 1.20 answers otherwise than a real 1.36, and why: ``in_step`` sets it aside, or compares what it comes to.

Where there is a recording of 1.36 (``../shared/kubernetes-1.36/tapes``),
its row is the reason; else the change of Kubernetes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tests.contract.random_operations import Step

__all__ = ["KNOWN", "Exchange", "Known", "without_disruption"]

Json = dict[str, Any]


@dataclass
class Exchange:
    """One step's answers: ``new`` of the dev cluster (1.36), ``old`` of the real 1.20. What is known changes them."""

    step: Step
    new_status: int
    old_status: int
    new_warnings: list[str]
    old_warnings: list[str]
    new: Any
    old: Any
    #: They cannot be compared, and may have left different things behind.
    unlike: bool = False
    #: One of them wrote an object that the other has left as it is.
    another_write: bool = False
    #: There is nothing more to be compared.
    settled: bool = False

    def objects(self, side: str) -> list[Json]:
        """The objects of an answer: itself, or a list's items."""
        body = getattr(self, side)
        if not isinstance(body, dict) or body.get("kind") == "Status":
            return []
        return body["items"] if isinstance(body.get("items"), list) else [body]

    @property
    def message(self) -> tuple[str, str]:
        return tuple(  # type: ignore[return-value]
            body.get("message", "") if isinstance(body, dict) and body.get("kind") == "Status" else ""
            for body in (self.new, self.old)
        )


@dataclass(frozen=True)
class Known:
    """One difference. ``apply`` changes an exchange that has it, and says whether it did."""

    reason: str
    apply: Callable[[Exchange], bool]


def _each(exchange: Exchange, change: Callable[[Json, str], bool]) -> bool:
    """Apply ``change`` (object, side) to all objects of both answers."""
    changed = [change(obj, side) for side in ("new", "old") for obj in exchange.objects(side)]  # all of them
    return any(changed)


def _drop(obj: Json, *path: str) -> bool:
    """Remove what is at ``path``; empty objects that are left go, too."""
    *above, last = path
    places = [obj]
    for key in above:
        inner = places[-1].get(key)
        if not isinstance(inner, dict):
            return False
        places.append(inner)
    return places[-1].pop(last, None) is not None


def _kind(exchange: Exchange, *plurals: str) -> bool:
    path = exchange.step.path.partition("?")[0].removesuffix("/status").rstrip("/").split("/")
    return any(plural in path[-2:] for plural in plurals)


def _namespace_first(exchange: Exchange) -> bool:
    new, _ = exchange.message
    exchange.settled |= "namespace of the provided object does not match" in new and exchange.old_status >= 400
    return exchange.settled


def _namespace_of_namespace(exchange: Exchange) -> bool:
    if not _kind(exchange, "namespaces") or exchange.old_status != 400 or exchange.new_status == 400:
        return False
    exchange.unlike = "namespace of the" in exchange.message[1]
    return exchange.unlike


def _seccomp(exchange: Exchange) -> bool:
    found = False
    for obj in exchange.objects("old"):
        annotations = obj.get("metadata", {}).get("annotations") or {}
        for key in [key for key in annotations if "seccomp." in key]:
            del annotations[key]
            found = True
        if found and not annotations:
            obj["metadata"].pop("annotations", None)
    return found


def _quality(exchange: Exchange) -> bool:
    def change(obj: Json, _: str) -> bool:
        return _drop(obj, "status", "qosClass")

    return _kind(exchange, "pods") and _each(exchange, change)


def _order_of_probes(exchange: Exchange) -> bool:
    if exchange.new_status != 422 or exchange.old_status != 422:
        return False
    new, old = exchange.new["details"].get("causes", []), exchange.old["details"].get("causes", [])
    if not any("Probe" in cause["field"] or "lifecycle" in cause["field"] for cause in new):
        return False
    exchange.settled = sorted(cause["field"] for cause in new) == sorted(cause["field"] for cause in old)
    return exchange.settled


def _restless_kind(exchange: Exchange) -> bool:
    return _kind(exchange, "nodes", "namespaces", "serviceaccounts")


def _revisions_differ(exchange: Exchange) -> bool:
    for body in (exchange.new, exchange.old):
        if isinstance(body, dict) and "message" in body and "Too large resource version" in str(body["message"]):
            body["message"] = re.sub(r"current: \d+", "current: n", body["message"])
        if isinstance(body, dict) and body.get("reason") == "Conflict" and _restless_kind(exchange):
            body["message"] = re.sub(
                r"(in record \(|object meta: |\) does|precondition[: (]+)\d+", r"\1n", body["message"]
            )
    return False


def _go_values(exchange: Exchange) -> bool:
    _, old = exchange.message
    exchange.settled |= exchange.new_status == exchange.old_status and bool(
        re.search(r"(v1|core|resource)\.\w+\{|\[\]\w+\.?\w*\{|0x0|UTC: ", old)
    )
    return exchange.settled


def _status_makes(exchange: Exchange) -> bool:
    subresource = exchange.step.path.partition("?")[0].endswith("/status") and _kind(exchange, "services")
    exchange.unlike |= subresource and exchange.new_status == 404 != exchange.old_status
    return exchange.unlike


def _service_fields(exchange: Exchange) -> bool:
    new, old = exchange.message
    exchange.settled |= _kind(exchange, "services") and "field label not supported" in new and "not a known" in old
    return exchange.settled


def _put_makes_service(exchange: Exchange) -> bool:
    if exchange.step.method != "PUT" or "/services/" not in exchange.step.path or exchange.old_status != 404:
        return False
    exchange.unlike |= exchange.new_status in (201, 403, 409, 422)
    return exchange.unlike


def _quoted_object(exchange: Exchange) -> bool:
    new, old = exchange.message
    quoted = '"" is invalid: patch: Invalid value: "{'
    if quoted not in new or quoted not in old:
        return False
    exchange.settled = True
    return True


def _quality_stays(exchange: Exchange) -> bool:
    exchange.unlike |= "status.qosClass: Invalid value" in exchange.message[0] and exchange.old_status == 200
    return exchange.unlike


def _account_moves(exchange: Exchange) -> bool:
    if not _kind(exchange, "serviceaccounts") and "/serviceaccounts/" not in exchange.step.path:
        return False
    exchange.unlike |= (
        exchange.old_status == 409
        and "has been modified" not in exchange.message[1]
        and ("ResourceVersion in the precondition" in exchange.message[1])
    )
    return exchange.unlike


def without_disruption(pod: Json) -> bool:
    """Take away the condition that an eviction writes."""
    status = pod.get("status", {})
    conditions = status.get("conditions") or []
    kept = [condition for condition in conditions if condition.get("type") != "DisruptionTarget"]
    if len(kept) == len(conditions):
        return False
    status["conditions"] = kept
    if not kept:
        del status["conditions"]
    return True


def _disruption(exchange: Exchange) -> bool:
    return _kind(exchange, "pods") and any([without_disruption(pod) for pod in exchange.objects("new")])  # noqa: C419


def _shared_grace(exchange: Exchange) -> bool:
    step = exchange.step
    if (
        step.method != "DELETE"
        or not step.path.partition("?")[0].endswith("/pods")
        or "gracePeriodSeconds" in step.path
    ):
        return False
    exchange.unlike = exchange.new_status == exchange.old_status == 200 and len(exchange.objects("new")) > 1
    return exchange.unlike


def _unmatched_nulls(exchange: Exchange) -> bool:
    step = exchange.step
    if "strategic" not in step.content_type or ": null" not in (step.body or "") or exchange.old_status != 200:
        return False
    maps = [exchange.old.get("data"), *(exchange.old["metadata"].get(key) for key in ("labels", "annotations"))]
    exchange.unlike = any(f'"{key}": null' in (step.body or "") for found in maps for key in found or ())
    return exchange.unlike


def _old_revision(exchange: Exchange) -> bool:
    step = exchange.step
    asks = "{{old:" in (step.body or "") or "{{rv:" in (step.body or "")
    exchange.unlike |= asks and exchange.old_status == 409 != exchange.new_status
    return exchange.unlike


def _service_update(exchange: Exchange) -> bool:
    _, old = exchange.message
    if not _kind(exchange, "services") or exchange.step.method != "PUT" or exchange.old_status != 422:
        return False
    exchange.unlike = "must be specified for an update" in old or "can not be unset" in old
    return exchange.unlike


def _from_cache(exchange: Exchange) -> bool:
    """How long to wait before the next try is not said by etcd."""
    for body in (exchange.new, exchange.old):
        if isinstance(body, dict) and "Too large resource version" in str(body.get("message")):
            body["details"].pop("retryAfterSeconds", None)
    return False


def _managed(exchange: Exchange) -> bool:
    return _each(exchange, lambda obj, _: _drop(obj, "metadata", "managedFields"))


def _pod_generation(exchange: Exchange) -> bool:
    return _kind(exchange, "pods") and _each(exchange, lambda obj, _: _drop(obj, "metadata", "generation"))


def _service(exchange: Exchange) -> bool:
    def change(obj: Json, side: str) -> bool:
        found = False
        for field in ("internalTrafficPolicy", "ipFamilies", "ipFamilyPolicy", "allocateLoadBalancerNodePorts"):
            found |= side == "new" and _drop(obj, "spec", field)
        for field in ("clusterIP", "clusterIPs"):
            value = obj.get("spec", {}).get(field)
            if "dryRun=All" in exchange.step.path:
                _drop(obj, "spec", field)
                continue
            if value and value not in ("None", ["None"]):
                obj["spec"][field] = "some"
        for port in obj.get("spec", {}).get("ports") or ():
            if port.get("nodePort", 0) >= 30000:
                port["nodePort"] = 30000
        return found

    return _kind(exchange, "services") and _each(exchange, change)


def _name_label(exchange: Exchange) -> bool:
    def change(obj: Json, _: str) -> bool:
        found = _drop(obj, "metadata", "labels", "kubernetes.io/metadata.name")
        if obj["metadata"].get("labels") == {}:
            del obj["metadata"]["labels"]
        return found

    return _kind(exchange, "namespaces") and _each(exchange, change)


def _root_certificate(exchange: Exchange) -> bool:
    def change(obj: Json, _: str) -> bool:
        if obj["metadata"].get("name") != "kube-root-ca.crt":
            return False
        obj.pop("data", None)
        obj["metadata"].pop("annotations", None)
        obj["metadata"].pop("resourceVersion", None)
        return True

    return _each(exchange, change)


def _token_secrets(exchange: Exchange) -> bool:
    found = _kind(exchange, "serviceaccounts") and _each(exchange, lambda obj, _: _drop(obj, "secrets"))
    for body in (exchange.new, exchange.old):
        if _kind(exchange, "secrets") and isinstance(body, dict) and isinstance(body.get("items"), list):
            kept = [item for item in body["items"] if item.get("type") != "kubernetes.io/service-account-token"]
            found |= len(kept) < len(body["items"])
            body["items"] = kept
    return found


def _restless(exchange: Exchange) -> bool:
    def change(obj: Json, _: str) -> bool:
        metadata, spec, status = obj["metadata"], obj.get("spec", {}), obj.get("status", {})
        _drop(obj, "metadata", "annotations", "node.alpha.kubernetes.io/ttl")
        if metadata.get("annotations") == {}:
            del metadata["annotations"]
        taints = [t for t in spec.get("taints") or () if not t.get("key", "").startswith("node.kubernetes.io/")]
        if taints:
            spec["taints"] = taints
        else:
            spec.pop("taints", None)
        if status.get("phase") == "Terminating":
            spec.pop("finalizers", None)
            status.pop("conditions", None)
        return False

    return _kind(exchange, "nodes", "namespaces") and _each(exchange, change)


def _decoding(exchange: Exchange) -> bool:
    new, old = exchange.message
    head = re.match(r"\w+ in version \"\w+\" cannot be handled as a \w+: ", new)
    if (
        head is None
        or not old.startswith(head[0])
        or not re.search(r"error found in #|ReadString|Decoder|ReadObject", old)
    ):
        return False
    exchange.old["message"] = new
    return True


#: Of a ConfigMap it still reads so: both do.
SELECTOR: Final = r'"\1" is not a known field selector: only "metadata.name", "metadata.namespace"'
POD_UPDATE: Final = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def _messages(*pairs: tuple[str, str]) -> Callable[[Exchange], bool]:
    """Sentences of 1.20 (patterns) that read otherwise in 1.36."""
    patterns = [(re.compile(old), new) for old, new in pairs]

    def renewed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: renewed(item) for key, item in value.items()}
        if isinstance(value, list):
            return [renewed(item) for item in value]
        if isinstance(value, str):
            for pattern, new in patterns:
                value = pattern.sub(new, value)
        return value

    def apply(exchange: Exchange) -> bool:
        before = exchange.old
        if isinstance(before, dict) and before.get("kind") == "Status":
            exchange.old = renewed(before)
        return bool(exchange.old != before)

    return apply


def _empty_patch(exchange: Exchange) -> bool:
    exchange.settled |= exchange.step.method == "PATCH" and exchange.old_status == 500 and exchange.new_status == 400
    return exchange.settled


def _refusals(new: tuple[int, str], old: tuple[int, str]) -> Callable[[Exchange], bool]:
    """Refused by both, with another status; patterns of the messages."""

    def apply(exchange: Exchange) -> bool:
        if (exchange.new_status, exchange.old_status) != (new[0], old[0]):
            return False
        said = exchange.message
        if not re.search(new[1], said[0]) or not re.search(old[1], said[1]):
            return False
        exchange.settled = True
        return True

    return apply


def _gone_with_an_object(exchange: Exchange) -> bool:
    if exchange.step.method != "DELETE" or not _kind(exchange, "services"):
        return False
    if exchange.old.get("kind") != "Status" or exchange.new.get("kind") != "Service":
        return False
    exchange.settled = True
    return True


def _no_collection(exchange: Exchange) -> bool:
    path = exchange.step.path.partition("?")[0]
    exchange.unlike |= exchange.step.method == "DELETE" and path.endswith("/services") and exchange.old_status == 405
    return exchange.unlike


def _ignored_status(exchange: Exchange) -> bool:
    step = exchange.step
    if step.method not in ("PUT", "PATCH") or "/status" in step.path or not re.search("status|spec", step.body or ""):
        return False
    exchange.another_write = exchange.new_status == exchange.old_status == 200
    return exchange.another_write


def _other_types(exchange: Exchange) -> bool:
    """Go's values of its own types."""
    _, old = exchange.message
    exchange.settled |= "core.SecurityContext{" in old and exchange.new_status == exchange.old_status
    return exchange.settled


def _secrets_unquoted(exchange: Exchange) -> bool:
    new, _ = exchange.message
    if not new.startswith(' "" is invalid: patch: Invalid value: "": ') or not _kind(exchange, "secrets"):
        return False
    exchange.settled = True
    return True


def _long_name(exchange: Exchange) -> bool:
    """The label of its name is invalid, too."""
    exchange.settled |= _kind(exchange, "namespaces") and exchange.new_status == exchange.old_status == 422
    return exchange.settled


def _message_policy(exchange: Exchange) -> bool:
    new, old = exchange.message
    exchange.settled |= "must be 'File' or 'FallbackToLogsOnError'" in old and "terminationMessagePolicy: Unsup" in new
    return exchange.settled


KNOWN: Final = (
    Known("an eviction writes the condition DisruptionTarget since 1.26; tape pods 37", _disruption),
    Known("the grace period of one pod of a collection was that of the next, until 1.22", _shared_grace),
    Known("nulls in a strategic patch of what is not there are dropped since 1.27", _unmatched_nulls),
    Known("writes of managedFields alone (above) make revisions old", _old_revision),
    Known("a PUT of a Service may leave out revision and address since 1.23", _service_update),
    Known("lists that are not older than a revision are the cache's to answer since 1.31", _from_cache),
    Known("invalid names of namespaces are invalid in their label, too: 1.21", _long_name),
    Known("terminationMessagePolicy is one of a set since 1.27", _message_policy),
    Known("DELETE of a Service answers with it since 1.23 (ReturnDeletedObject)", _gone_with_an_object),
    Known("Services have a deletecollection since 1.23", _no_collection),
    Known("what an update ignores is in managedFields, so it is written: reset fields since 1.22", _ignored_status),
    Known("values of internal types are shown as JSON since 1.33 (field.Error)", _other_types),
    Known("a refused patch of a Secret: the dev cluster quotes nothing of it (docs/dev-cluster.md)", _secrets_unquoted),
    Known(
        "a revision that is no number is 400 for a list since 1.34 (ValidateListOptions before the cache)",
        _refusals((400, "invalid resource version: "), (500, "strconv.ParseUint")),
    ),
    Known(
        "PUT of what is not there is 404 whatever its UID, since 1.27 (ignoreNotFound)",
        _refusals((404, "not found"), (409, "Precondition failed: UID in precondition")),
    ),
    Known(
        "DeleteOptions that cannot be read are 400 since 1.22",
        _refusals((400, "couldn't get version/kind|no kind|cannot unmarshal|strconv"), (500, ".")),
    ),
    Known(
        "json-patch 4.12 replaces the whole document, 4.9 does not",
        _refusals((400, "undeterminable"), (422, "the server rejected our request")),
    ),
    Known(
        "micro times",
        _refusals((400, "as ..2006-01-02T15:04:05.000000"), (400, "unmarshalerDecoder")),
    ),
    Known("the dev cluster keeps no managedFields: server-side apply is not served", _managed),
    Known("generation of pods: PodObservedGenerationTracking, 1.33; tape pods 0", _pod_generation),
    Known("internalTrafficPolicy 1.22, ipFamilies and ipFamilyPolicy 1.20 to 1.23 (dual stack)", _service),
    Known("label kubernetes.io/metadata.name of namespaces: NamespaceDefaultLabelName, 1.21", _name_label),
    Known("kube-root-ca.crt: another CA, an annotation since 1.21", _root_certificate),
    Known("token Secrets of service accounts: not made since 1.24", _token_secrets),
    Known("what controllers write to nodes and namespaces comes at a time of its own", _restless),
    Known("json-iterator's words for what it cannot decode: kjson since 1.24; tape pods 6", _decoding),
    Known("the namespace of an object is looked at first since 1.22; tape pods 9", _namespace_first),
    Known("a Namespace's own namespace is dropped since 1.22", _namespace_of_namespace),
    Known("seccomp annotations follow the fields until 1.27", _seccomp),
    Known("qosClass is filled in again since 1.31 (backfill for old kubelets)", _quality),
    Known(
        "revisions of the future are a time-out for every list since 1.34",
        _refusals((504, "Too large"), (500, "future")),
    ),
    Known("how far the servers are", _revisions_differ),
    Known("fields of Services are selected by a list of their own since 1.29", _service_fields),
    Known("a PUT creates a Service since 1.23 (its storage became the generic one)", _put_makes_service),
    Known("a refused merge quotes managedFields, and what a patch has not touched in Go's order", _quoted_object),
    Known("a merge patch of no bytes is 400 since 1.27 (strict decoding)", _empty_patch),
    Known("qosClass cannot be changed since 1.31", _quality_stays),
    Known("token Secrets are written into service accounts at a time of its own until 1.24", _account_moves),
    Known("admission: a pod's values of Go", _go_values),
    Known("a Service that a status makes has no address before 1.23", _status_makes),
    Known(
        "sentences that read otherwise since: RFC 1123 1.22, bytes 1.33, label keys 1.34, environment names 1.34 (relaxed), "
        "owner references 1.21, list elements 1.33 (field.Error's JSON)",
        _messages(
            ("a DNS-1123 (label|subdomain) must", r"a lowercase RFC 1123 \1 must"),
            (r"must be no more than (\d+) characters", r"must be no more than \1 bytes"),
            (r'\[\]string\{((?:"\w*",? ?)*)\}: supported', r"[\1]: supported"),
            (r'requirement: invalid label key (".*?"): ', r"requirement: <nil>: Invalid value: \1: "),
            ("a qualified name must consist", "a valid label key must consist"),
            (r"data\[%s\]", "data"),
            (r"(kind|name|uid) must not be empty", "must not be empty"),
            ("k8s.io/kubernetes/pkg/api/legacyscheme", "pkg/api/legacyscheme"),
            (r"hostAliases\.hostnames", "hostAliases[0].hostnames[0]"),
            ("`configMapKeyRef` or `secretKeyRef`", "`configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"),
            (r"must be less than or equal to (\w+) limit(?! of)", r"must be less than or equal to \1 limit of 1"),
            (r'"([\w.]+)" is not a known field selector: only "metadata.name", "metadata.namespace"', SELECTOR),
            (r"loopback range \(127.0.0.0/8\)", "loopback range (127.0.0.0/8, ::1/128)"),
            (
                r"match regex \(\[a-z0-9\]\(\[-_a-z0-9\]\*\[a-z0-9\]\)\?\\\.\)\*.*?\)\?(?=[,\]]|$)",
                r"match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$",
            ),
            (
                "^json: cannot unmarshal (.*) jsonpatch.Patch",
                r"error decoding patch: json: cannot unmarshal \1 []handlers.jsonPatchOp",
            ),
            ("^unexpected EOF$", "unexpected end of JSON input"),
            ("must to greater or equal than 0", "must be greater than or equal to 0"),
            ("(?s)pod updates may not change fields other than.*", POD_UPDATE),
            (
                "found '(.*?)', expected: '=', '!=', '==', 'in', notin'",
                r"found '\1', expected: in, notin, =, ==, !=, gt, lt",
            ),
            ("must be valid IP address", "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
            ("reportingController", "reportingComponent"),
            (r"hostAliases\.ip", "hostAliases[0].ip"),
            (
                "a valid environment variable name must consist of alphabetic characters.*?[*]'\\)",
                "a valid environment variable name must consist only of printable ASCII characters other than '='",
            ),
            (
                "the namespace of the object .* does not match the namespace on the request [^ ]*\\)",
                "the namespace of the provided object does not match the namespace sent on the request",
            ),
            (
                "requirement: for 'Gt', 'Lt' operators",
                """requirement: values[0]: Invalid value: "x": for 'Gt', 'Lt' operators""",
            ),
        ),
    ),
    Known("containers' probes are validated after what all containers have, since 1.25", _order_of_probes),
)
