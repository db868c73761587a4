"""Query parameters and DeleteOptions of requests, checked. Pure."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from virtual_kubelet.devcluster.go_json import NotJson, decode_go_json
from virtual_kubelet.devcluster.registry.resource import Resource
from virtual_kubelet.devcluster.selectors import (
    FieldSelector,
    LabelSelector,
    check_fields,
    parse_field_selector,
    parse_label_selector,
)
from virtual_kubelet.devcluster.statuses import (
    FieldError,
    StatusError,
    bad_request,
    field_forbidden,
    field_invalid,
    invalid,
    too_long,
    unsupported_value,
)
from virtual_kubelet.server.connection import QueryParameters

__all__ = ["DeleteOptions", "ListOptions", "WriteOptions", "is_true", "parse_revision"]

_VALIDATION: Final = ("Ignore", "Warn", "Strict")
#: Finalizers that the garbage collector takes away, by the policy that puts them there.
_COLLECTOR: Final = {"Orphan": "orphan", "Foreground": "foregroundDeletion"}
_TOKEN_VERSION: Final = "meta.k8s.io/v1"
_LONGEST_MANAGER: Final = 128
#: What a query's numbers may look like (Go's ``ParseInt``).
_NUMBER: Final = re.compile(r"[+-]?[0-9]+")


def is_true(text: str) -> bool:
    """As Go's conversion of query parameters: present and neither false nor 0."""
    return text.lower() not in ("", "false", "0")


def _number(query: QueryParameters, name: str) -> int:
    text = query.get(name)
    if not text:
        return 0
    if _NUMBER.fullmatch(text) is None:
        raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    value = int(text[:30])
    if not -(1 << 63) <= value < 1 << 63:
        raise bad_request(f'strconv.ParseInt: parsing "{text}": value out of range')
    return value


def parse_revision(text: str) -> int | None:
    """A ``resourceVersion``; None: not given. Raises ``StatusError`` 500, as the API server."""
    if not text:
        return None
    if not text.isascii() or not text.isdigit():
        why = "invalid syntax"
    elif int(text[:21]) >= 1 << 64:
        why = "value out of range"
    else:
        return int(text)
    raise StatusError(500, "", f'resourceVersion: Invalid value: "{text}": strconv.ParseUint: parsing "{text}": {why}')


@dataclass(frozen=True, slots=True)
class Continue:
    """Where the next page starts: at ``revision``, after the object with this key."""

    revision: int
    namespace: str
    name: str

    def encode(self) -> str:
        start = f"{self.namespace}/{self.name}\0"
        text = msgspec.json.encode({"v": _TOKEN_VERSION, "rv": self.revision, "start": start})
        return base64.urlsafe_b64encode(text).rstrip(b"=").decode()

    @classmethod
    def decode(cls, token: str) -> Continue:
        try:
            return cls._read(token)
        except ValueError as error:
            raise bad_request(f"invalid continue token: continue key is not valid: {error}") from None

    @classmethod
    def _read(cls, token: str) -> Continue:
        try:
            content = decode_go_json(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        except NotJson as problem:
            raise ValueError(str(problem)) from None
        if not isinstance(content, dict) or content.get("v") != _TOKEN_VERSION:
            version = content.get("v", "") if isinstance(content, dict) else ""
            raise ValueError(f'server does not recognize this encoded version "{version}"')
        revision, start = content.get("rv"), content.get("start")
        if type(revision) is not int or revision <= 0:
            raise ValueError("incorrect encoded start resourceVersion (version meta.k8s.io/v1)")
        if not isinstance(start, str) or not start.rstrip("\0").rpartition("/")[2]:
            raise ValueError("encoded start key empty (version meta.k8s.io/v1)")
        namespace, _, name = start.rstrip("\0").rpartition("/")
        return cls(revision, namespace, name)


@dataclass(frozen=True, slots=True)
class ListOptions:
    """Options of list, watch and deletecollection.

    Attributes:
        continue_: a continue token.
        revision: ``resourceVersion``; empty: not given.
        match: ``resourceVersionMatch``.
    """

    labels: LabelSelector
    fields: FieldSelector
    limit: int
    continue_: str
    revision: str
    match: str
    timeout: int
    bookmarks: bool
    initial_events: bool | None

    @classmethod
    def parse(cls, query: QueryParameters, resource: Resource, *, watch: bool) -> ListOptions:
        """Raises ``StatusError`` 400 and 422; tokens and revisions are looked at by those who need them."""
        timeout, limit = _number(query, "timeoutSeconds"), _number(query, "limit")
        initial = query.get("sendInitialEvents")
        options = cls(
            parse_label_selector(query.get("labelSelector")),
            parse_field_selector(query.get("fieldSelector")),
            limit,
            query.get("continue"),
            query.get("resourceVersion"),
            query.get("resourceVersionMatch"),
            timeout,
            is_true(query.get("allowWatchBookmarks")),
            is_true(initial) if initial else None,
        )
        errors = options._watch_problems() if watch else options._list_problems()
        if errors:
            raise invalid("ListOptions", "", errors, "meta.k8s.io")
        check_fields(options.fields, resource.selectable, namespaced=resource.namespaced)
        return options

    def _watch_problems(self) -> list[FieldError]:
        errors: list[FieldError] = []
        where, given = "resourceVersionMatch", self.initial_events is not None
        if given and self.match != "NotOlderThan":
            errors.append(
                field_forbidden(where, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")
            )
        if not self.match:
            return errors
        if not given:
            detail = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
            errors.append(field_forbidden(where, detail))
        if self.match != "NotOlderThan":
            errors.append(unsupported_value(where, self.match, ("NotOlderThan",)))
        if self.continue_:
            errors.append(field_forbidden(where, "resourceVersionMatch is forbidden when continue is provided"))
        return errors

    def _list_problems(self) -> list[FieldError]:
        errors: list[FieldError] = []
        where = "resourceVersionMatch"
        if self.match:
            if not self.revision:
                detail = "resourceVersionMatch is forbidden unless resourceVersion is provided"
                errors.append(field_forbidden(where, detail))
            if self.continue_:
                errors.append(field_forbidden(where, "resourceVersionMatch is forbidden when continue is provided"))
            if self.match not in ("Exact", "NotOlderThan"):
                errors.append(unsupported_value(where, self.match, ("Exact", "NotOlderThan", "")))
            if self.match == "Exact" and self.revision == "0":
                detail = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
                errors.append(field_forbidden(where, detail))
        if self.initial_events is not None:
            errors.append(field_forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"))
        return errors


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """Options of create, update and patch."""

    dry_run: bool
    validation: str

    @classmethod
    def parse(cls, query: QueryParameters, kind: str) -> WriteOptions:
        """``kind``: CreateOptions, UpdateOptions or PatchOptions. Raises ``StatusError`` 422."""
        if not len(query):
            return _USUAL
        errors: list[FieldError] = []
        if kind == "PatchOptions" and "force" in query:
            errors.append(field_forbidden("force", "may not be specified for non-apply patch"))
        if manager := query.get("fieldManager"):
            errors += _manager_problems(manager)
        errors += _dry_run_problems(dry_run := query.get_all("dryRun"))
        validation = query.get("fieldValidation") or "Warn"
        if validation not in _VALIDATION:
            errors.append(unsupported_value("fieldValidation", validation, ("", *_VALIDATION)))
        if errors:
            raise invalid(kind, "", errors, "meta.k8s.io")
        return cls(any(dry_run), validation)


def _manager_problems(manager: str) -> list[FieldError]:
    errors = [too_long("fieldManager", _LONGEST_MANAGER)] if len(manager.encode()) > _LONGEST_MANAGER else []
    at = 0
    for character in manager:
        if not character.isprintable():
            detail = f"invalid character U+{ord(character):04X} (at position {at})"
            errors.append(field_invalid("fieldManager", manager, detail))
        at += len(character.encode())
    return errors


_USUAL: Final = WriteOptions(dry_run=False, validation="Warn")


def _dry_run_problems(values: list[str]) -> list[FieldError]:
    return [unsupported_value("dryRun", values, ("All",))] if any(value != "All" for value in values) else []


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """Options of delete, from the body or, if there is none, from the query.

    Attributes:
        orphan: the old ``orphanDependents``.
    """

    grace: int | None = None
    uid: str | None = None
    revision: str | None = None
    propagation: str | None = None
    dry_run: bool = False
    orphan: bool | None = None

    @classmethod
    def parse(cls, body: dict[str, Any] | None, query: QueryParameters) -> DeleteOptions:
        """``body``: decoded DeleteOptions, or None. Raises ``StatusError`` 422."""
        if body is not None:
            preconditions = body.get("preconditions") or {}
            orphan = body.get("orphanDependents")
            options = cls(
                body.get("gracePeriodSeconds"),
                preconditions.get("uid"),
                preconditions.get("resourceVersion"),
                body.get("propagationPolicy"),
                any(dry_run := body.get("dryRun") or []),
            )
        else:
            grace = _number(query, "gracePeriodSeconds") if query.get("gracePeriodSeconds") else None
            policy = query.get("propagationPolicy") or None
            given = query.get("orphanDependents")
            orphan = is_true(given) if given else None
            options = cls(grace, None, None, policy, any(dry_run := query.get_all("dryRun")))
        errors: list[FieldError] = []
        if orphan is not None and options.propagation is not None:
            detail = "orphanDependents and deletionPropagation cannot be both set"
            errors.append(field_invalid("propagationPolicy", options.propagation, detail))
        if options.propagation not in (None, "Orphan", "Background", "Foreground"):
            shown = '"Foreground", "Background", "Orphan", "nil"'
            message = f'Unsupported value: "{options.propagation}": supported values: {shown}'
            errors.append(FieldError("propagationPolicy", "FieldValueNotSupported", message))
        errors += _dry_run_problems(dry_run)
        if errors:
            raise invalid("DeleteOptions", "", errors, "meta.k8s.io")
        if orphan is not None:
            options = replace(options, propagation="Orphan" if orphan else "Background", orphan=orphan)
        return options

    def finalizers(self, before: list[str]) -> list[str]:
        """An object's finalizers once its deletion begins: those of the garbage collector follow the policy."""
        policy = self.propagation
        if policy is None:
            policy = next((name for name, f in _COLLECTOR.items() if f in before), "Background")
        kept = [finalizer for finalizer in before if finalizer not in _COLLECTOR.values()]
        return [*kept, _COLLECTOR[policy]] if policy in _COLLECTOR else kept
