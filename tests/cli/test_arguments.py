"""Types of options, and where their values come from: option, environment, default."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import pytest

from virtual_kubelet.cli import _parse, arguments, build_parser
from virtual_kubelet.cli.arguments import Address
from virtual_kubelet.cli.run_options import _GONE


def parse(*given: str, **environment: str) -> argparse.Namespace:
    return _parse(build_parser(), given, environment)


def run(*given: str, **environment: str) -> argparse.Namespace:
    return parse("run", "--provider", "mock", *given, **environment)


@pytest.mark.parametrize(
    ("convert", "text", "value"),
    [
        (arguments.duration, "0", 0),
        (arguments.duration, "1m30s", 90),
        (arguments.boolean, "T", True),
        (arguments.boolean, "FALSE", False),
        (arguments.count, "1", 1),
        (arguments.whole_number, "0", 0),
        (arguments.rate, "2.5", 2.5),
        (arguments.port, "65535", 65535),
        (arguments.address, ":10250", Address("", 10250)),
        (arguments.address, "0.0.0.0:1", Address("0.0.0.0", 1)),
        (arguments.address, "localhost", Address("localhost", None)),
        (arguments.address, "[::1]:0", Address("::1", 0)),
        (arguments.address, "[::]", Address("::", None)),
        (arguments.ip_addresses, "10.0.0.1, fd00::1", ["10.0.0.1", "fd00::1"]),
        (arguments.labels, "a=b,c/d=", {"a": "b", "c/d": ""}),
        (arguments.shutdown_actions, "cordon, delete-node", ["cordon", "delete-node"]),
    ],
)
def test_types_take(convert: Callable[[str], Any], text: str, value: object) -> None:
    assert convert(text) == value


@pytest.mark.parametrize(
    ("convert", "text", "said"),
    [
        (arguments.duration, "-1s", "negative"),
        (arguments.duration, "5", "without a unit"),
        (arguments.positive_duration, "0s", "longer than 0"),
        (arguments.boolean, "yes", "neither true nor false"),
        (arguments.count, "0", "1 or more"),
        (arguments.count, "-1", "1 or more"),
        (arguments.count, "²", "1 or more"),
        (arguments.whole_number, "1.5", "0 or more"),
        (arguments.rate, "nan", "0 or more"),
        (arguments.rate, "inf", "0 or more"),
        (arguments.port, "65536", "0 to 65535"),
        (arguments.port, "http", "0 to 65535"),
        (arguments.address, "", "HOST:PORT"),
        (arguments.address, "::1", "brackets"),
        (arguments.address, "[10.0.0.1]:1", "not an IPv6 address"),
        (arguments.address, "host:", "0 to 65535"),
        (arguments.ip_addresses, "10.0.0.256", "10.0.0.256"),
        (arguments.labels, "a", "KEY=VALUE"),
        (arguments.shutdown_actions, "explode", "keep, cordon, drain, delete-node"),
        (arguments.file_name, "", "empty"),
        (arguments.folder_name, "", "empty"),
    ],
)
def test_types_refuse_and_say_why(convert: Callable[[str], Any], text: str, said: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=said):
        convert(text)


#: (option, value on the command line, variable, value there, attribute, value of the option, of the variable, default)
_FROM_ENVIRONMENT = [
    ("--nodename", "a", "DEFAULT_NODE_NAME", "b", "nodename", "a", "b", "virtual-kubelet"),
    ("--node-ip", "10.0.0.1", "VKUBELET_POD_IP", "10.0.0.2", "node_ip", ["10.0.0.1"], ["10.0.0.2"], None),
    ("--tls-cert-file", "a", "APISERVER_CERT_LOCATION", "b", "tls_cert_file", "a", "b", None),
    ("--tls-private-key-file", "a", "APISERVER_KEY_LOCATION", "b", "tls_private_key_file", "a", "b", None),
    ("--client-ca-file", "a", "APISERVER_CA_CERT_LOCATION", "b", "client_ca_file", "a", "b", None),
    ("--client-verify-ca", "a", "APISERVER_CA_CERT_LOCATION", "b", "client_ca_file", "a", "b", None),
    ("--taint-key", "a/b", "VKUBELET_TAINT_KEY", "c/d", "taint_key", "a/b", "c/d", "virtual-kubelet.io/provider"),
    ("--taint", "a/b", "VKUBELET_TAINT_KEY", "c/d", "taint_key", "a/b", "c/d", "virtual-kubelet.io/provider"),
    ("--taint-value", "a", "VKUBELET_TAINT_VALUE", "b", "taint_value", "a", "b", None),
    (
        "--taint-effect", "NoExecute", "VKUBELET_TAINT_EFFECT", "PreferNoSchedule",
        "taint_effect", "NoExecute", "PreferNoSchedule", "NoSchedule",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("option", "given", "variable", "exported", "attribute", "from_option", "from_variable", "default"),
    _FROM_ENVIRONMENT,
)
def test_an_option_wins_over_its_variable_and_that_over_the_default(
    option: str,
    given: str,
    variable: str,
    exported: str,
    attribute: str,
    from_option: object,
    from_variable: object,
    default: object,
) -> None:
    assert getattr(run(option, given, **{variable: exported}), attribute) == from_option
    assert getattr(run(f"{option}={given}"), attribute) == from_option
    assert getattr(run(**{variable: exported}), attribute) == from_variable
    assert getattr(run(**{variable: ""}), attribute) == default
    assert getattr(run(), attribute) == default


def test_the_port_comes_from_listen_else_kubelet_port_else_10250() -> None:
    assert run().port == 10250
    assert run(KUBELET_PORT="1234").port == 1234
    assert run("--listen", "127.0.0.1:5", KUBELET_PORT="1234").listen == Address("127.0.0.1", 5)


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("KUBELET_PORT", "99999999999"),
        ("VKUBELET_POD_IP", "here"),
        ("VKUBELET_TAINT_EFFECT", "Sometimes"),
    ],
)
def test_a_wrong_variable_is_named(variable: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(**{variable: text})
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert f"environment variable {variable}" in said
    assert text in said


def test_a_wrong_variable_does_not_matter_when_its_option_is_given() -> None:
    assert run("--node-ip", "10.0.0.1", VKUBELET_POD_IP="here").node_ip == ["10.0.0.1"]


def test_a_wrong_variable_of_another_command_does_not_matter() -> None:
    assert parse("version", KUBELET_PORT="x").log_level == "info"


@pytest.mark.parametrize(("text", "value"), [([], True), (["--kubelet-server"], True), (["--kubelet-server=0"], False)])
def test_flags_of_go_take_a_value(text: list[str], value: bool) -> None:
    assert run(*text).kubelet_server is value


def test_on_shutdown_is_repeated_or_a_list() -> None:
    assert run("--on-shutdown", "cordon,drain", "--on-shutdown", "delete-node").on_shutdown == [
        "cordon", "drain", "delete-node",
    ]  # fmt: skip


def test_logging_options_may_stand_before_and_after_the_command() -> None:
    before = parse("--log-level", "debug", "run", "--provider", "mock")
    assert (before.log_level, before.log_format) == ("debug", "text")
    after = run("--log-format", "json")
    assert (after.log_level, after.log_format) == ("info", "json")
    assert parse("up").log_level == "warn"


@pytest.mark.parametrize("gone", [name if not name.endswith("-") else f"{name}x" for name in _GONE])
def test_an_option_that_go_had_is_refused_with_the_reason(gone: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(f"{gone}=1")
    assert ended.value.code == 2
    assert f"{gone} is not carried over" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["run"], "--provider"),
        (["run", "--provider", "mock", "--nosuch"], "unrecognized argument: --nosuch"),
        (["run", "--provider", "mock", "--nodena", "x"], "unrecognized argument: --nodena; did you mean --nodename?"),
        (["--log-level", "info", "up", "--kubeconfig", "x"], "--kubeconfig; did you mean --kubeconfig-out?"),
        (["up", "--kubeconfig", "x"], "hint: virtual-kubelet up --help"),
        (["run", "--provider", "mock", "--pod-sync-workers", "0"], "--pod-sync-workers: '0' is not a whole number"),
        (
            ["run", "--provider", "mock", "--lease-duration", "40"],
            "--lease-duration: '40' is a duration without a unit",
        ),
        (["run", "--provider", "mock", "--os", "Linux"], "'Linux' is no operating system; known ones: linux, windows"),
        (["fly"], "invalid choice: 'fly'"),
        (["--provider", "mock"], "virtual-kubelet run --provider"),
        (["up", "--timeout", "0"], "longer than 0"),
        (["completion", "csh"], "'csh'"),
    ],
)
def test_wrong_usage_says_what_is_wrong(given: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(*given)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
