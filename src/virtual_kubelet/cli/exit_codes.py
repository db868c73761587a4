"""What the command ends with. Documented in ``--help`` and docs/command-line.md."""

from __future__ import annotations

import enum
from typing import Final

__all__ = ["MEANINGS", "ExitCode"]


class ExitCode(enum.IntEnum):
    """Each kind of failure has its own code, so that scripts and service managers can tell them apart."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    CONFIGURATION = 3
    UNREACHABLE = 4
    REFUSED = 5
    TIMEOUT = 124
    INTERRUPTED = 130


MEANINGS: Final = {
    ExitCode.OK: "it did what it should; SIGINT and SIGTERM end `run` and `up` with it, too",
    ExitCode.FAILURE: "it failed while it ran; `up --run`: a pod failed",
    ExitCode.USAGE: "an option or an environment variable is wrong",
    ExitCode.CONFIGURATION: "a file or provider that was named is wrong: kubeconfig, certificate, provider, manifest",
    ExitCode.UNREACHABLE: "the API server could not be reached when the node started",
    ExitCode.REFUSED: "the API server refused the credentials, or they lack a right the node needs",
    ExitCode.TIMEOUT: "`up --run`: --timeout was over; `run`: --startup-timeout was over",
    ExitCode.INTERRUPTED: "`up --run` was interrupted before its pods had finished",
}
