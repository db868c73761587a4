"""How a remote command ended, as its error stream says it: a ``Status`` from version 4 on, plain text before. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["CommandStatus"]

_FIRST_WITH_STATUS: Final = 4
_NON_ZERO_EXIT_CODE: Final = "NonZeroExitCode"
_EXIT_CODE: Final = "ExitCode"


@dataclass(frozen=True, slots=True)
class CommandStatus:
    """The end of a command.

    Attributes:
        exit_code: 0 is success; None if the command did not end by itself, or could not be started.
        message: what kubectl prints if it was no success.
    """

    exit_code: int | None
    message: str = ""

    @classmethod
    def success(cls) -> CommandStatus:
        """Exit code 0, or the end of an attached stream."""
        return cls(0)

    @classmethod
    def exited(cls, code: int) -> CommandStatus:
        """The command ended with this code; 128 and the signal's number if a signal killed it."""
        if not code:
            return cls(0)
        return cls(code, f"command terminated with non-zero exit code: command terminated with exit code {code}")

    @classmethod
    def failed(cls, message: str) -> CommandStatus:
        """An internal error, as ``error executing command in container: …``."""
        return cls(None, message)

    def encode(self, version: int) -> bytes:
        """The bytes for the error stream of this version of the protocol; none if there is nothing to say."""
        if version >= _FIRST_WITH_STATUS:
            return json.dumps(self._status(), ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
        return b"" if self.exit_code == 0 else self._text().encode(errors="replace")

    @classmethod
    def decode(cls, data: bytes, version: int) -> CommandStatus:
        """What an error stream says. Raises ``ValueError`` for what is no ``Status``, from version 4 on."""
        if version < _FIRST_WITH_STATUS:
            return cls.failed(data.decode(errors="replace")) if data else cls.success()
        status = json.loads(data)
        if not isinstance(status, dict):
            raise ValueError("not a Status")
        if status.get("status") == "Success":
            return cls.success()
        message = str(status.get("message", ""))
        if status.get("reason") != _NON_ZERO_EXIT_CODE:
            return cls.failed(message)
        details = status.get("details")
        causes = details.get("causes") if isinstance(details, dict) else None
        for cause in causes if isinstance(causes, list) else ():
            if isinstance(cause, dict) and cause.get("reason") == _EXIT_CODE:
                return cls(int(cause.get("message", "")), message)
        raise ValueError("a Status of a command that failed has no exit code")

    def _text(self) -> str:
        return f"Internal error occurred: {self.message}" if self.exit_code is None else self.message

    def _status(self) -> dict[str, Any]:
        if self.exit_code == 0:
            return {"metadata": {}, "status": "Success"}
        failure: dict[str, Any] = {"metadata": {}, "status": "Failure", "message": self._text()}
        if self.exit_code is None:
            causes = [{"message": self.message}]
            return failure | {"reason": "InternalError", "details": {"causes": causes}, "code": 500}
        causes = [{"reason": _EXIT_CODE, "message": str(self.exit_code)}]
        return failure | {"reason": _NON_ZERO_EXIT_CODE, "details": {"causes": causes}}
