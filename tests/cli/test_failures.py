"""Each kind of failure: its exit code, what is said, what to do."""

from __future__ import annotations

import pytest

from virtual_kubelet.cli.exit_codes import MEANINGS, ExitCode
from virtual_kubelet.cli.failures import explain, report
from virtual_kubelet.errors import (
    ApiConnectionError,
    ApiTimeoutError,
    ConfigurationError,
    ConflictError,
    ForbiddenError,
    KubeconfigError,
    ProviderConfigError,
    StartupTimeoutError,
    UnauthorizedError,
    VirtualKubeletError,
)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ConfigurationError("bad", hint="mend it"), ExitCode.CONFIGURATION, "bad"),
        (KubeconfigError("no file"), ExitCode.CONFIGURATION, "no file"),
        (ProviderConfigError("unknown"), ExitCode.CONFIGURATION, "unknown"),
        (ApiConnectionError("connection refused"), ExitCode.UNREACHABLE, "connection refused"),
        (ApiTimeoutError("no answer"), ExitCode.UNREACHABLE, "no answer"),
        (UnauthorizedError(401, "Unauthorized", "Unauthorized"), ExitCode.REFUSED, "does not accept the credentials"),
        (ForbiddenError(403, "Forbidden", "pods is forbidden"), ExitCode.REFUSED, "pods is forbidden"),
        (StartupTimeoutError("not Ready within 3 s"), ExitCode.TIMEOUT, "not Ready within 3 s"),
        (ConflictError(409, "Conflict", "again"), ExitCode.FAILURE, "answered 409: again"),
        (VirtualKubeletError("something"), ExitCode.FAILURE, "something"),
        (KeyError("x"), ExitCode.FAILURE, "KeyError: 'x'"),
        (RuntimeError(), ExitCode.FAILURE, "RuntimeError"),
    ],
)
def test_every_kind_has_its_code_and_its_sentence(error: Exception, code: ExitCode, said: str) -> None:
    failure = explain(error)
    assert failure.code == code
    assert said in failure.message


def test_the_first_error_of_a_group_counts() -> None:
    group = ExceptionGroup("a", [ExceptionGroup("b", [ApiConnectionError("first")]), ValueError("second")])
    assert explain(group) == explain(ApiConnectionError("first"))


def test_a_note_says_more_than_the_general_hint() -> None:
    error = ForbiddenError(403, "Forbidden", "no")
    assert "system:nodes" in explain(error).hint
    error.add_note("ask Ada")
    assert explain(error).hint == "ask Ada"


def test_the_report_has_a_traceback_only_on_demand(capsys: pytest.CaptureFixture[str]) -> None:
    error = ConfigurationError("bad", hint="mend it")
    assert report("vk", error, show_traceback=False) == ExitCode.CONFIGURATION
    assert capsys.readouterr().err == "vk: error: bad\n  hint: mend it\n"
    report("vk", error, show_traceback=True)
    assert "virtual_kubelet.errors.ConfigurationError: bad" in capsys.readouterr().err


def test_every_exit_code_is_documented() -> None:
    assert set(MEANINGS) == set(ExitCode)
