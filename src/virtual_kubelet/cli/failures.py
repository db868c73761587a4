"""Errors as people see them: what is wrong, what to do, and an exit code. Tracebacks only with --log-level debug."""

from __future__ import annotations

import sys
import traceback
from typing import NamedTuple

from virtual_kubelet.cli.exit_codes import ExitCode
from virtual_kubelet.errors import (
    ApiConnectionError,
    ApiError,
    ConfigurationError,
    ForbiddenError,
    StartupTimeoutError,
    UnauthorizedError,
    VirtualKubeletError,
)

__all__ = ["Failure", "explain", "report"]


class Failure(NamedTuple):
    code: ExitCode
    message: str
    hint: str


def explain(error: BaseException) -> Failure:
    """What to say about an error that ended the command."""
    error = first_cause(error)
    notes = " ".join(getattr(error, "__notes__", ()))
    if isinstance(error, StartupTimeoutError):
        return Failure(ExitCode.TIMEOUT, str(error), notes or "the log above says what it waited for")
    if isinstance(error, ConfigurationError):
        hint = error.hint or notes or "correct it, or name another one; --help lists the options"
        return Failure(ExitCode.CONFIGURATION, str(error), hint)
    if isinstance(error, ApiConnectionError):
        return Failure(
            ExitCode.UNREACHABLE,
            str(error),
            notes or "is the cluster up, and is the server in the kubeconfig (clusters, server) the right one?",
        )
    if isinstance(error, UnauthorizedError):
        return Failure(
            ExitCode.REFUSED,
            f"the API server does not accept the credentials: {error}",
            notes or "has the token or certificate expired, and is it of this cluster?",
        )
    if isinstance(error, ForbiddenError):
        return Failure(
            ExitCode.REFUSED,
            f"the API server forbids it: {error}",
            notes
            or "the node needs a kubelet's rights: the user system:node:NODENAME in the group system:nodes has them",
        )
    if isinstance(error, ApiError):
        return Failure(ExitCode.FAILURE, f"the API server answered {error.code}: {error}", notes)
    if isinstance(error, VirtualKubeletError):
        return Failure(ExitCode.FAILURE, str(error), notes)
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return Failure(ExitCode.FAILURE, said, notes or "--log-level debug shows where it comes from")


def first_cause(error: BaseException) -> BaseException:
    """The first error inside a group of errors."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def report(program: str, error: BaseException, *, show_traceback: bool) -> ExitCode:
    """Say on stderr what is wrong and what to do; gives the exit code."""
    failure = explain(error)
    text = "".join(traceback.format_exception(error)) if show_traceback else ""
    text += f"{program}: error: {failure.message}\n"
    if failure.hint:
        text += f"  hint: {failure.hint}\n"
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except BrokenPipeError:  # nobody reads any more; the exit code remains
        sys.stderr = None
    return failure.code
