"""Certificate signing requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from virtual_kubelet.devcluster.certificate_requests import parse_request
from virtual_kubelet.devcluster.names import dns_subdomain_problems
from virtual_kubelet.devcluster.registry.resource import (
    NAME_COLUMN,
    Resource,
    Subresource,
    age,
    column,
    human_duration,
)
from virtual_kubelet.devcluster.statuses import (
    FieldError,
    duplicate,
    field_forbidden,
    field_invalid,
    required,
    unsupported_value,
)
from virtual_kubelet.objects.times import format_time

__all__ = ["CertificateSigningRequests", "prepare_approval"]

_LEAST_SECONDS: Final = 600
_DECISIONS: Final = ("Approved", "Denied")
_KNOWN: Final = ("Approved", "Denied", "Failed")
_STATUSES: Final = ("True",)
#: As the API server lists them: sorted.
_USAGES: Final = (
    "any", "cert sign", "client auth", "code signing", "content commitment", "crl sign", "data encipherment",
    "decipher only", "digital signature", "email protection", "encipher only", "ipsec end system", "ipsec tunnel",
    "ipsec user", "key agreement", "key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime",
    "server auth", "signing", "timestamping",
)  # fmt: skip


class CertificateSigningRequests(Resource):
    group = "certificates.k8s.io"
    kind = "CertificateSigningRequest"
    plural = "certificatesigningrequests"
    singular = "certificatesigningrequest"
    namespaced = False
    short_names = ("csr",)
    storage_version_hash = "95fRKMXA+00="
    subresources = (
        Subresource("approval", "CertificateSigningRequest", ("get", "patch", "update")),
        Subresource("status", "CertificateSigningRequest", ("get", "patch", "update")),
    )
    columns = (
        NAME_COLUMN,
        column("Age"),
        column("SignerName"),
        column("Requestor"),
        column("RequestedDuration"),
        column("Condition"),
    )
    selectable = frozenset({"spec.signerName"})
    #: As long as the cleaner leaves a pending one; those that are decided it would remove after an hour.
    time_to_live = 24 * 3600.0

    def __init__(self, now: Callable[[], datetime]) -> None:
        """``now``: conditions get their times when they are written."""
        self._now = now

    def name_problems(self, name: str) -> list[str]:
        return []

    def fields(self, obj: dict[str, Any]) -> Mapping[str, str]:
        return {"spec.signerName": obj["spec"].get("signerName", "")}

    def created_by(self, obj: dict[str, Any], user: Mapping[str, Any]) -> None:
        spec = obj["spec"]
        for name in ("username", "uid", "groups", "extra"):
            spec.pop(name, None)
            if user.get(name):
                spec[name] = user[name]

    def prepare_create(self, obj: dict[str, Any]) -> None:
        obj["status"] = {}

    def validate_create(self, obj: dict[str, Any]) -> list[FieldError]:
        spec = obj["spec"]
        errors: list[FieldError] = []
        try:
            parse_request(spec.get("request", ""))
        except ValueError as error:
            # What was sent is not quoted.
            errors.append(field_invalid("spec.request", "", str(error)))
        usages = spec.get("usages") or []
        if not usages:
            errors.append(required("spec.usages", "usages must be provided"))
        for index, usage in enumerate(usages):
            if usage not in _USAGES:
                errors.append(unsupported_value(f"spec.usages[{index}]", usage, _USAGES))
            elif usage in usages[:index]:
                errors.append(duplicate(f"spec.usages[{index}]", usage))
        errors += _signer_errors(spec.get("signerName", ""))
        seconds = spec.get("expirationSeconds")
        if seconds is not None and seconds < _LEAST_SECONDS:
            detail = "may not specify a duration less than 600 seconds (10 minutes)"
            errors.append(field_invalid("spec.expirationSeconds", seconds, detail))
        return errors

    def validate_update(self, new: dict[str, Any], old: dict[str, Any]) -> list[FieldError]:
        return []

    def prepare_update(self, new: dict[str, Any], old: dict[str, Any]) -> None:
        new["spec"], new["status"] = old["spec"], old["status"]

    def prepare_status_update(self, new: dict[str, Any], old: dict[str, Any]) -> None:
        """Decisions are the approval's to change."""
        new["spec"] = old["spec"]
        before = [c for c in old["status"].get("conditions") or () if c.get("type") in _DECISIONS]
        after = [c for c in new["status"].get("conditions") or () if c.get("type") not in _DECISIONS]
        if before or after:
            new["status"]["conditions"] = [*before, *after]
        _stamp_conditions(new, old, self._now())

    def validate_status_update(self, new: dict[str, Any], old: dict[str, Any]) -> list[FieldError]:
        return _validate_conditions(new, old)

    def cells(self, obj: dict[str, Any], now: datetime) -> list[Any]:
        spec = obj["spec"]
        seconds = spec.get("expirationSeconds")
        return [
            obj["metadata"]["name"],
            age(obj, now),
            spec.get("signerName", ""),
            spec.get("username", ""),
            "<none>" if seconds is None else human_duration(seconds),
            _state(obj["status"]),
        ]


def prepare_approval(new: dict[str, Any], old: dict[str, Any], now: datetime) -> list[FieldError]:
    """Of the approval subresource: only conditions count."""
    conditions = new["status"].get("conditions")
    new["spec"] = old["spec"]
    new["status"] = dict(old["status"])
    new["status"].pop("conditions", None)
    if conditions:
        new["status"]["conditions"] = conditions
    _stamp_conditions(new, old, now)
    return _validate_conditions(new, old)


def _validate_conditions(new: dict[str, Any], old: dict[str, Any]) -> list[FieldError]:
    errors: list[FieldError] = []
    where = "status.conditions"
    conditions = new["status"].get("conditions") or []
    present = [c.get("type", "") for c in conditions]
    for index, found in enumerate(conditions):
        kind, status = found.get("type", ""), found.get("status", "")
        if not kind:
            errors.append(required(f"{where}[{index}].type"))
        elif kind in present[:index]:
            errors.append(duplicate(f"{where}[{index}].type", kind))
        if not status:
            errors.append(required(f"{where}[{index}].status"))
        elif kind in _KNOWN and status not in _STATUSES:
            errors.append(unsupported_value(f"{where}[{index}].status", status, _STATUSES))
    if all(kind in present for kind in _DECISIONS):
        errors.append(field_invalid(where, "Denied", "Approved and Denied conditions are mutually exclusive"))
    for known in old["status"].get("conditions") or ():
        if known.get("type") in _KNOWN and known["type"] not in present:
            detail = f"updates may not remove a condition of type {known['type']!r}".replace("'", '"')
            errors.append(field_forbidden(where, detail))
    return errors


def _stamp_conditions(new: dict[str, Any], old: dict[str, Any], moment: datetime) -> None:
    """Times of conditions: a transition is a new status of the same type."""
    now = format_time(moment)
    before = {(c.get("type"), c.get("status")): c for c in old["status"].get("conditions") or ()}
    for found in new["status"].get("conditions") or ():
        known = before.get((found.get("type"), found.get("status")), {})
        if not found.get("lastUpdateTime"):
            found["lastUpdateTime"] = now
        if not found.get("lastTransitionTime"):
            found["lastTransitionTime"] = known.get("lastTransitionTime") or now


def _signer_errors(name: str) -> list[FieldError]:
    if not name:
        return [required("spec.signerName")]
    domain, slash, path = name.partition("/")
    if not slash or not path or "/" in path:
        return [
            field_invalid(
                "spec.signerName",
                name,
                "must be a fully qualified domain and path of the form 'example.com/signer-name'",
            )
        ]
    errors = [field_invalid("spec.signerName", domain, found) for found in dns_subdomain_problems(domain)]
    if "." not in domain:
        errors.append(
            field_invalid("spec.signerName", domain, "should be a domain with at least two segments separated by dots")
        )
    return errors


def _state(status: dict[str, Any]) -> str:
    """As kubectl shows it: ``Pending``, ``Approved,Issued`` …"""
    present = {c.get("type") for c in status.get("conditions") or ()}
    if not present & set(_DECISIONS):
        state = "Pending"
    else:
        state = "Denied" if "Denied" in present else "Approved"
    if "Failed" in present:
        state += ",Failed"
    if status.get("certificate"):
        state += ",Issued"
    return state
