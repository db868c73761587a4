"""What Kubernetes accepts as names, labels and keys, with its own sentences (apimachinery's ``validation``). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from virtual_kubelet.devcluster.statuses import FieldError, field_invalid, too_long

__all__ = [
    "config_map_key_problems",
    "dns_label_problems",
    "dns_service_name_problems",
    "dns_subdomain_problems",
    "environment_name_problems",
    "http_header_problems",
    "label_value_problems",
    "port_name_problems",
    "qualified_name_problems",
    "validate_labels",
]

_LABEL_TEXT: Final = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN_TEXT: Final = rf"{_LABEL_TEXT}(\.{_LABEL_TEXT})*"
_LABEL: Final = re.compile(_LABEL_TEXT + r"\Z")
_SUBDOMAIN: Final = re.compile(_SUBDOMAIN_TEXT + r"\Z")
_SERVICE: Final = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?\Z")
_QUALIFIED_TEXT: Final = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_QUALIFIED: Final = re.compile(_QUALIFIED_TEXT + r"\Z")
_VALUE: Final = re.compile(rf"({_QUALIFIED_TEXT})?\Z")
_KEY_RULE: Final = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
)
_ENVIRONMENT_NAME: Final = re.compile(r"[ -<>-~]+\Z")
_HTTP_HEADER: Final = re.compile(r"[-A-Za-z0-9]+\Z")
_PORT_NAME: Final = re.compile(r"[-a-z0-9]+\Z")
_KEY: Final = re.compile(r"[-._a-zA-Z0-9]+\Z")


def _regex(message: str, text: str, *examples: str) -> str:
    shown = ", ".join(f"'{e}'" if i == 0 else f" or '{e}'" for i, e in enumerate(examples))
    return f"{message} (e.g. {shown}, regex used for validation is '{text}')"


def dns_label_problems(value: str) -> list[str]:
    """RFC 1123 labels: names of containers and namespaces."""
    problems = [_too_long(63)] if len(value) > 63 else []
    if not _LABEL.match(value):
        problems.append(
            _regex(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start "
                "and end with an alphanumeric character",
                _LABEL_TEXT,
                "my-name",
                "123-abc",
            )
        )
    return problems


def dns_service_name_problems(value: str) -> list[str]:
    """RFC 1035 labels: names of Services."""
    problems = [_too_long(63)] if len(value) > 63 else []
    if not _SERVICE.match(value):
        problems.append(
            _regex(
                "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic "
                "character, and end with an alphanumeric character",
                "[a-z]([-a-z0-9]*[a-z0-9])?",
                "my-name",
                "abc-123",
            )
        )
    return problems


def dns_subdomain_problems(value: str) -> list[str]:
    """RFC 1123 subdomains: names of most objects."""
    problems = [_too_long(253)] if len(value) > 253 else []
    if not _SUBDOMAIN.match(value):
        problems.append(
            _regex(
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and "
                "must start and end with an alphanumeric character",
                _SUBDOMAIN_TEXT,
                "example.com",
            )
        )
    return problems


def qualified_name_problems(value: str) -> list[str]:
    """``[prefix/]name``: keys of labels and annotations, taints, finalizers."""
    return list(_qualified_name_problems(value))


@lru_cache(maxsize=4096)
def _qualified_name_problems(value: str) -> list[str]:
    prefix, slash, name = value.rpartition("/")
    problems: list[str] = []
    if slash:
        if "/" in prefix:
            return [
                _regex(f"a valid label key {_KEY_RULE}", _QUALIFIED_TEXT, "MyName", "my.name", "123-abc")
                + " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            ]
        if not prefix:
            problems.append("prefix part must be non-empty")
        else:
            problems += [f"prefix part {problem}" for problem in dns_subdomain_problems(prefix)]
    if not name:
        problems.append("name part must be non-empty")
    elif len(name) > 63:
        problems.append(f"name part {_too_long(63)}")
    if not _QUALIFIED.match(name):
        problems.append(
            _regex(
                f"name part {_KEY_RULE}",
                _QUALIFIED_TEXT,
                "MyName",
                "my.name",
                "123-abc",
            )
        )
    return problems


def label_value_problems(value: str) -> list[str]:
    """Values of labels and of selectors."""
    problems = [_too_long(63)] if len(value) > 63 else []
    if not _VALUE.match(value):
        problems.append(
            _regex(
                "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must "
                "start and end with an alphanumeric character",
                f"({_QUALIFIED_TEXT})?",
                "MyValue",
                "my_value",
                "12345",
            )
        )
    return problems


def config_map_key_problems(value: str) -> list[str]:
    """Keys of ConfigMaps and Secrets."""
    problems = [_too_long(253)] if len(value) > 253 else []
    if not _KEY.match(value):
        problems.append(
            _regex(
                "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
                "[-._a-zA-Z0-9]+",
                "key.name",
                "KEY_NAME",
                "key-name",
            )
        )
    if value == ".":
        problems.append("must not be '.'")
    elif value == "..":
        problems.append("must not be '..'")
    elif value.startswith(".."):
        problems.append("must not start with '..'")
    return problems


def environment_name_problems(value: str) -> list[str]:
    """Names of environment variables, and prefixes of those of a whole ConfigMap or Secret."""
    if _ENVIRONMENT_NAME.match(value):
        return []
    return ["a valid environment variable name must consist only of printable ASCII characters other than '='"]


def http_header_problems(value: str) -> list[str]:
    """Names of a probe's headers."""
    if _HTTP_HEADER.match(value):
        return []
    rule = "a valid HTTP header must consist of alphanumeric characters or '-'"
    return [_regex(rule, "[-A-Za-z0-9]+", "X-Header-Name")]


def port_name_problems(value: str) -> list[str]:
    """Names of ports (IANA_SVC_NAME)."""
    problems = [_too_long(15)] if len(value) > 15 else []
    if not _PORT_NAME.match(value):
        problems.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not any("a" <= c <= "z" for c in value):
        problems.append("must contain at least one letter (a-z)")
    if "--" in value:
        problems.append("must not contain consecutive hyphens")
    if value.startswith("-") or value.endswith("-"):
        problems.append("must not begin or end with a hyphen")
    return problems


def validate_labels(labels: Mapping[str, Any] | None, field: str) -> list[FieldError]:
    """Keys and values of labels."""
    errors: list[FieldError] = []
    for key, value in (labels or {}).items():
        errors += [field_invalid(field, key, problem) for problem in qualified_name_problems(key)]
        errors += [field_invalid(field, value, problem) for problem in label_value_problems(value)]
    return errors


def validate_annotations(annotations: Mapping[str, str] | None, field: str) -> list[FieldError]:
    """Keys, and the size of all together."""
    errors: list[FieldError] = []
    size = 0
    for key, value in (annotations or {}).items():
        errors += [field_invalid(field, key, problem) for problem in qualified_name_problems(key.lower())]
        size += len(key.encode()) + len(value.encode())
    if size > 256 * 1024:
        errors.append(too_long(field, 256 * 1024))
    return errors


def _too_long(limit: int) -> str:
    return f"must be no more than {limit} bytes"
