"""``Status`` bodies with the API server's own words: what every refusal is. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

__all__ = [
    "FieldError",
    "StatusError",
    "already_exists",
    "bad_request",
    "conflict",
    "duplicate",
    "expired",
    "field_forbidden",
    "field_invalid",
    "forbidden",
    "invalid",
    "method_not_allowed",
    "name_not_generated",
    "not_acceptable",
    "not_found",
    "quoted",
    "required",
    "resource_not_found",
    "sentences_of",
    "success",
    "too_large",
    "too_long",
    "unauthorized",
    "undeterminable_name",
    "unsupported_media_type",
    "unsupported_value",
]


class FieldError(NamedTuple):
    """One thing wrong with one field, as ``field.Error`` of apimachinery.

    ``message`` is the whole sentence, as it stands in ``causes``: ``Required value``, ``Invalid value: "x": must be …``.
    """

    field: str
    reason: str
    message: str

    def __str__(self) -> str:
        return f"{self.field or '[]'}: {self.message}"


def required(field: str, detail: str = "") -> FieldError:
    return FieldError(field, "FieldValueRequired", f"Required value: {detail}" if detail else "Required value")


def field_invalid(field: str, value: Any, detail: str) -> FieldError:
    return FieldError(field, "FieldValueInvalid", f"Invalid value: {_shown(value)}: {detail}")


def field_forbidden(field: str, detail: str) -> FieldError:
    return FieldError(field, "FieldValueForbidden", f"Forbidden: {detail}")


def duplicate(field: str, value: Any) -> FieldError:
    return FieldError(field, "FieldValueDuplicate", f"Duplicate value: {_shown(value)}")


def unsupported_value(field: str, value: Any, supported: Sequence[str]) -> FieldError:
    listed = ", ".join(_shown(item) for item in supported)
    return FieldError(
        field, "FieldValueNotSupported", f"Unsupported value: {_shown(value)}: supported values: {listed}"
    )


def too_long(field: str, limit: int, unit: str = "bytes") -> FieldError:
    return FieldError(field, "FieldValueTooLong", f"Too long: may not be more than {limit} {unit}")


def quoted(text: str) -> str:
    """As Go's ``%q`` shows text that is plain."""
    return msgspec.json.encode(text).decode()


def _shown(value: Any) -> str:
    return msgspec.json.encode(value).decode()


class StatusError(Exception):
    """A refusal: becomes a ``Status`` object and an HTTP status.

    Attributes:
        code: HTTP status.
        reason: machine-readable, such as ``NotFound``; empty leaves it out.
        message: for people.
        details: the ``details`` of the Status, or None to leave them out.
        headers: more response headers (``Retry-After``).
        metadata: of the Status; only an expired continue token has something there.
    """

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        details: dict[str, Any] | None = None,
        headers: Sequence[tuple[str, str]] = (),
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.headers = headers
        self.metadata = metadata or {}

    def to_object(self) -> dict[str, Any]:
        """The Status, as it is sent."""
        body: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": self.metadata}
        body["status"] = "Failure"
        body["message"] = self.message
        if self.reason:
            body["reason"] = self.reason
        if self.details is not None:
            body["details"] = self.details
        body["code"] = self.code
        return body


def success(code: int | None = None, details: dict[str, Any] | None = None) -> dict[str, Any]:
    """The Status of something that worked and has no object to show."""
    body: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    if details is not None:
        body["details"] = details
    if code is not None:
        body["code"] = code
    return body


def qualified(resource: str, group: str) -> str:
    return f"{resource}.{group}" if group else resource


def _details(resource: str, group: str, name: str, **more: Any) -> dict[str, Any]:
    details: dict[str, Any] = {"name": name} if name else {}
    if group:
        details["group"] = group
    if resource:
        details["kind"] = resource
    return {**details, **more}


def not_found(resource: str, name: str, group: str = "") -> StatusError:
    message = f'{qualified(resource, group)} "{name}" not found'
    return StatusError(404, "NotFound", message, _details(resource, group, name))


def resource_not_found() -> StatusError:
    return StatusError(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(resource: str, name: str, group: str = "") -> StatusError:
    message = f'{qualified(resource, group)} "{name}" already exists'
    return StatusError(409, "AlreadyExists", message, _details(resource, group, name))


def name_not_generated(resource: str, name: str, group: str = "") -> StatusError:
    """409 for an object that says how to make a name, whether its name was made or given."""
    why = "already exists, the server was not able to generate a unique name for the object"
    message = f'{qualified(resource, group)} "{name}" {why}'
    return StatusError(409, "AlreadyExists", message, _details(resource, group, name, retryAfterSeconds=1))


def conflict(resource: str, name: str, why: str, group: str = "") -> StatusError:
    message = f'Operation cannot be fulfilled on {qualified(resource, group)} "{name}": {why}'
    return StatusError(409, "Conflict", message, _details(resource, group, name))


def bad_request(message: str) -> StatusError:
    return StatusError(400, "BadRequest", message)


def undeterminable_name(wanted: str) -> StatusError:
    """400: the object has no name, and the URL asks for ``wanted``."""
    why = "name must be provided"
    return bad_request(f"the name of the object ({wanted} based on URL) was undeterminable: {why}")


def unauthorized() -> StatusError:
    return StatusError(401, "Unauthorized", "Unauthorized")


def forbidden(resource: str, name: str, why: str, group: str = "") -> StatusError:
    """``why`` is all that comes after ``… is forbidden: ``."""
    of = f'{qualified(resource, group)} "{name}"' if name else qualified(resource, group)
    return StatusError(403, "Forbidden", f"{of} is forbidden: {why}", _details(resource, group, name))


def sentences_of(errors: Iterable[FieldError]) -> str:
    """All in one, each said once: Go's aggregate of errors."""
    sentences = list(dict.fromkeys(str(error) for error in errors))
    return sentences[0] if len(sentences) == 1 else f"[{', '.join(sentences)}]"


def invalid(kind: str, name: str, errors: Iterable[FieldError], group: str = "") -> StatusError:
    """422 with a cause for each error."""
    found = list(errors)
    text = sentences_of(found)
    causes = [{"reason": e.reason, "message": e.message, "field": e.field or "[]"} for e in found]
    message = f'{qualified(kind, group)} "{name}" is invalid: {text}'
    return StatusError(422, "Invalid", message, _details(kind, group, name, causes=causes))


def method_not_allowed(code: int = 405) -> StatusError:
    message = "the server does not allow this method on the requested resource"
    return StatusError(code, "MethodNotAllowed", message, {})


def too_large(message: str) -> StatusError:
    return StatusError(413, "RequestEntityTooLarge", message)


def expired(message: str) -> StatusError:
    return StatusError(410, "Expired", message)


def unsupported_media_type(message: str, *, details: dict[str, Any] | None = None) -> StatusError:
    return StatusError(415, "UnsupportedMediaType", message, details)


def not_acceptable(accepted: Sequence[str]) -> StatusError:
    message = f"only the following media types are accepted: {', '.join(accepted)}"
    return StatusError(406, "NotAcceptable", message, {})
