"""The command ``virtual-kubelet``: one module a command. Only what a command needs is imported, and not before it runs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence

from virtual_kubelet import __version__
from virtual_kubelet.cli import completion, conformance, providers, rbac, run, up, version
from virtual_kubelet.cli.arguments import Command, Parser, add_logging, exit_code_table, resolve_environment
from virtual_kubelet.cli.exit_codes import ExitCode
from virtual_kubelet.cli.failures import report
from virtual_kubelet.cli.run_options import unknown_option

__all__ = ["build_parser", "main"]

_DESCRIPTION = """\
Virtual Kubelet: a node of a Kubernetes cluster without a machine. A provider runs its pods.

  virtual-kubelet up                      try it: a dev cluster in this process, with one virtual node
  virtual-kubelet run --provider mock     join the cluster of your kubeconfig
  virtual-kubelet COMMAND --help          all options of a command"""


def main(arguments: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> int:
    """Run the command and give its exit code (see ``ExitCode``)."""
    parser = build_parser()
    given = sys.argv[1:] if arguments is None else list(arguments)
    environment = os.environ if environment is None else environment
    try:
        parsed = _parse(parser, given, environment)
    except SystemExit as exit_:  # argparse has said what is wrong, or shown what was asked for
        return exit_.code if isinstance(exit_.code, int) else ExitCode.USAGE
    command: Command = parsed.command
    try:
        return command(parsed)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone: say no more, and let Python flush into nothing at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILURE
    except Exception as error:  # noqa: BLE001 - the end of the line: said to the user, traceback on demand
        return report(parser.prog, error, show_traceback=parsed.log_level in ("debug", "trace"))


def build_parser() -> Parser:
    """All commands and options. Imports nothing that is needed to run a node."""
    parser = Parser(prog="virtual-kubelet", description=_DESCRIPTION, epilog=exit_code_table())
    parser.add_argument("--version", action="version", version=f"virtual-kubelet {__version__}")
    add_logging(parser, level=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)
    up.add_parser(commands)
    run.add_parser(commands)
    conformance.add_parser(commands)
    providers.add_parser(commands)
    rbac.add_parser(commands)
    version.add_parser(commands)
    completion.add_parser(commands, build_parser)
    return parser


def _parser_of_command(parser: Parser, given: Sequence[str]) -> argparse.ArgumentParser:
    commands = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return next((commands.choices[word] for word in given if word in commands.choices), parser)


def _parse(parser: Parser, given: Sequence[str], environment: Mapping[str, str]) -> argparse.Namespace:
    first = given[0].partition("=")[0] if given else ""
    if first.startswith("-") and first not in parser._option_string_actions:
        parser.error(
            f"{first} without a command; what the Go command line does by itself is: virtual-kubelet run {first} …"
        )
    parsed, unknown = parser.parse_known_args(given)
    if not hasattr(parsed, "command"):
        parser.print_help()
        raise SystemExit(ExitCode.USAGE if given else ExitCode.OK)
    if unknown:
        asked = _parser_of_command(parser, given)
        asked.error(unknown_option(unknown[0], asked._option_string_actions))
    parsed.log_level = getattr(parsed, "log_level", None) or getattr(parsed, "default_log_level", "info")
    parsed.log_format = getattr(parsed, "log_format", "text")
    try:
        resolve_environment(parsed, environment)
    except argparse.ArgumentTypeError as error:
        parser.error(str(error))
    return parsed
