"""Log lines that carry node, namespace, pod and UID by themselves, over stdlib ``logging``.

``get_logger`` gives an adapter that puts the fields bound in this context on every record, as attributes; ``bind`` adds
fields for the rest of a ``with`` block (tasks started inside inherit them). Nothing is installed on import: a program
that embeds us keeps its own handlers and may use ``%(pod)s`` and the rest, or our formatters. ``configure`` is for the
command line only.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping, MutableMapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Final, TextIO

import msgspec

__all__ = ["LOG_LEVELS", "JsonFormatter", "TextFormatter", "bind", "bound_fields", "configure", "get_logger"]

#: The Go command line's (logrus) level names.
LOG_LEVELS: Final = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
}
#: The record attribute that holds all fields of a line.
FIELDS: Final = "kubernetes_fields"

_bound: ContextVar[Mapping[str, str]] = ContextVar("virtual_kubelet_log_fields", default=MappingProxyType({}))


def bound_fields() -> Mapping[str, str]:
    """The fields bound in this context."""
    return _bound.get()


class bind:  # reads as the function that it is; a generator would cost twice as much for each sync of a pod
    """Put ``fields`` on every line logged inside the ``with`` block, and in tasks started there."""

    __slots__ = ("_fields", "_token")

    def __init__(self, **fields: str) -> None:
        self._fields = fields

    def __enter__(self) -> None:
        self._token = _bound.set({**_bound.get(), **self._fields})

    def __exit__(self, *exc_info: object) -> None:
        _bound.reset(self._token)


class ContextLogger(logging.LoggerAdapter[logging.Logger]):
    """Adds the bound fields, and those given as ``extra``, to every record."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        fields = dict(_bound.get())
        extra = kwargs.get("extra")
        if extra:
            fields.update(extra)
        # Names that LogRecord has already would raise a KeyError in makeRecord.
        attributes = {k: v for k, v in fields.items() if k not in _RECORD_ATTRIBUTES}
        kwargs["extra"] = {**attributes, FIELDS: fields}
        return msg, kwargs


_RECORD_ATTRIBUTES = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {"message", "asctime"}


def get_logger(name: str) -> ContextLogger:
    """The logger of a module: ``log = get_logger(__name__)``."""
    return ContextLogger(logging.getLogger(name), None)


class TextFormatter(logging.Formatter):
    """``2026-01-01T00:00:00.000Z INFO  message key=value …``."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)-7s %(message)s", "%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime

    def formatMessage(self, record: logging.LogRecord) -> str:
        line = super().formatMessage(record)
        fields = getattr(record, FIELDS, None)
        return line + "".join(f" {k}={_quoted(v)}" for k, v in fields.items()) if fields else line


def _quoted(value: object) -> str:
    text = str(value)
    return msgspec.json.encode(text).decode() if not text or any(c in text for c in ' "\n=') else text


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``time``, ``level``, ``logger``, ``message``, the fields, ``exception``."""

    def format(self, record: logging.LogRecord) -> str:
        row: dict[str, object] = {
            "time": f"{self.formatTime(record, '%Y-%m-%dT%H:%M:%S')}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        row.update({k: str(v) for k, v in getattr(record, FIELDS, {}).items() if k not in row})
        if record.exc_info:
            row["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(row).decode()

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return time.strftime(datefmt or "%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))


def configure(level: str = "info", log_format: str = "text", stream: TextIO | None = None) -> None:
    """Log to ``stream`` (stderr). For programs, never called by the library itself."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(level=LOG_LEVELS[level], handlers=[handler], force=True)
