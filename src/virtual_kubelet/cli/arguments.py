"""What the commands' options have in common: types with clear errors, defaults from the environment, groups of options.

An option wins over its environment variable, and that over the default. A variable is only looked at when its option was
not given, and an empty one counts as not set, as in the Go command line.
"""

from __future__ import annotations

import argparse
import ipaddress
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, NoReturn

from virtual_kubelet.cli.exit_codes import MEANINGS, ExitCode
from virtual_kubelet.objects.durations import parse_duration

__all__ = [
    "LOG_FORMATS",
    "LOG_LEVELS",
    "Address",
    "Command",
    "Parser",
    "TextFormatter",
    "add_boolean",
    "add_logging",
    "address",
    "boolean",
    "count",
    "duration",
    "exit_code_table",
    "file_name",
    "folder_name",
    "from_environment",
    "ip_addresses",
    "labels",
    "one_of",
    "port",
    "positive_duration",
    "rate",
    "resolve_environment",
    "shutdown_actions",
    "whole_number",
]

LOG_LEVELS: Final = ("trace", "debug", "info", "warn", "warning", "error", "fatal")
LOG_FORMATS: Final = ("text", "json")
ON_SHUTDOWN: Final = ("keep", "cordon", "drain", "delete-node")

#: Gets the parsed options, gives the exit code.
Command = Callable[[argparse.Namespace], int]


class Address(NamedTuple):
    """Where to listen; an empty host means all addresses of this machine, no port that a default counts."""

    host: str
    port: int | None


class TextFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the line breaks of descriptions; options get room."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32)


class Parser(argparse.ArgumentParser):
    """Options in full only, and errors that end with a hint rather than with a page of usage."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, "formatter_class": TextFormatter, **kwargs})

    def error(self, message: str) -> NoReturn:
        self.exit(ExitCode.USAGE, f"{self.prog}: error: {message}\n  hint: {self.prog} --help\n")


class _FromEnvironment(NamedTuple):
    destination: str
    variable: str
    convert: Callable[[str], Any]
    default: Any


def add_boolean(group: argparse._ActionsContainer, name: str, *, default: bool, help: str) -> None:
    """An option that is written as Go's boolean flags are: ``--name``, ``--name=false``."""
    group.add_argument(name, type=boolean, nargs="?", const=True, default=default, metavar="BOOL", help=help)


def from_environment(
    parser: Parser, action: argparse.Action, variable: str, convert: Callable[[str], Any], default: Any
) -> None:
    """Let ``variable`` stand in for an option (whose own default must be None), and ``default`` for both."""
    rules: list[_FromEnvironment] = parser.get_default("environment_rules") or []
    parser.set_defaults(environment_rules=[*rules, _FromEnvironment(action.dest, variable, convert, default)])


def resolve_environment(arguments: argparse.Namespace, environment: Mapping[str, str]) -> None:
    """Fill in the options that were not given. Raises ``argparse.ArgumentTypeError`` that names the variable."""
    for rule in getattr(arguments, "environment_rules", ()):
        if getattr(arguments, rule.destination) is not None:
            continue
        text = environment.get(rule.variable, "")
        value = rule.default
        if text:
            try:
                value = rule.convert(text)
            except (argparse.ArgumentTypeError, ValueError) as error:
                raise argparse.ArgumentTypeError(f"environment variable {rule.variable}: {error}") from None
        setattr(arguments, rule.destination, value)


def add_logging(parser: argparse.ArgumentParser, *, level: str | None) -> None:
    """``--log-level`` and ``--log-format``; without ``level`` (the main parser's) both are unset unless given."""
    group = parser.add_argument_group("logs (to stderr)")
    group.add_argument(
        "--log-level",
        choices=LOG_LEVELS,
        default=argparse.SUPPRESS,
        metavar="LEVEL",
        help="trace, debug, info, warn, error or fatal" + (f" (default {level})" if level else ""),
    )
    group.add_argument(
        "--log-format", choices=LOG_FORMATS, default=argparse.SUPPRESS, metavar="FORMAT", help="text or json"
    )
    if level:
        parser.set_defaults(default_log_level=level)


def exit_code_table() -> str:
    """For the end of ``--help``."""
    return "exit codes:\n" + "\n".join(f"  {code:<5}{text}" for code, text in MEANINGS.items())


# Types


def duration(text: str) -> float:
    """A duration of Go's, not negative; in seconds."""
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if seconds < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is negative")
    return seconds


def positive_duration(text: str) -> float:
    """A duration longer than nothing; in seconds."""
    seconds = duration(text)
    if seconds == 0:
        raise argparse.ArgumentTypeError("it must be longer than 0")
    return seconds


def boolean(text: str) -> bool:
    """What Go's strconv.ParseBool takes."""
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")


def count(text: str) -> int:
    """A whole number, 1 or more."""
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def whole_number(text: str) -> int:
    """0 or more."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def rate(text: str) -> float:
    """A number, 0 or more."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 0 or more")
    return number


def port(text: str) -> int:
    """A TCP port; 0: any that is free."""
    if not (text.isascii() and text.isdigit()) or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: 0 to 65535")
    return int(text)


def address(text: str) -> Address:
    """``HOST:PORT``, ``:PORT`` or ``HOST``; an IPv6 address stands in brackets."""
    host, separator, number = text.rpartition(":")
    if text.startswith("[") and text.endswith("]"):
        host, separator = text, ""
    elif not separator:
        host = text
    if host.startswith("[") and host.endswith("]"):
        try:
            host = str(ipaddress.IPv6Address(host[1:-1]))
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r}: {host} is not an IPv6 address") from None
    elif ":" in host:
        raise argparse.ArgumentTypeError(f"{text!r}: put the IPv6 address in brackets, as in [::]:10250")
    if not text:
        raise argparse.ArgumentTypeError("an address is written as HOST:PORT or :PORT")
    return Address(host, port(number) if separator else None)


def ip_addresses(text: str) -> list[str]:
    """One address, or more with commas between: the preferred one first."""
    try:
        return [str(ipaddress.ip_address(one.strip())) for one in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def labels(text: str) -> dict[str, str]:
    """``KEY=VALUE``, or more with commas between."""
    found: dict[str, str] = {}
    for pair in text.split(","):
        key, separator, value = pair.strip().partition("=")
        if not key or not separator:
            raise argparse.ArgumentTypeError(f"{pair!r} is not KEY=VALUE")
        found[key] = value
    return found


def one_of(what: str, *allowed: str) -> Callable[[str], str]:
    """One of some words, exactly."""

    def check(text: str) -> str:
        if text not in allowed:
            raise argparse.ArgumentTypeError(f"{text!r} is no {what}; known ones: {', '.join(allowed)}")
        return text

    return check


def shutdown_actions(text: str) -> list[str]:
    """``keep``, or some of ``cordon``, ``drain`` and ``delete-node`` with commas between."""
    check = one_of("action on shutdown", *ON_SHUTDOWN)
    return [check(word.strip()) for word in text.split(",")]


def file_name(text: str) -> str:
    """The name of a file. (Also tells shell completion to offer files.)"""
    if not text:
        raise argparse.ArgumentTypeError("the name of the file is empty")
    return text


def folder_name(text: str) -> str:
    """The name of a folder. (Also tells shell completion to offer folders.)"""
    if not text:
        raise argparse.ArgumentTypeError("the name of the folder is empty")
    return text
