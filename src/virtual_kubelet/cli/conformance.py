"""``virtual-kubelet conformance``: which promises of a node a provider keeps."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from virtual_kubelet.cli import arguments as types
from virtual_kubelet.cli.arguments import add_logging, exit_code_table
from virtual_kubelet.cli.exit_codes import ExitCode
from virtual_kubelet.cli.run import search_here
from virtual_kubelet.cli.run_options import add_provider_options
from virtual_kubelet.errors import ConfigurationError

if TYPE_CHECKING:
    from virtual_kubelet.testing.conformance import CheckResult, ConformanceConfig, ConformanceReport

__all__ = ["add_parser"]

_DESCRIPTION: Final = """\
Judge a provider: start a node with it, make pods by the API as a user does, and compare what comes of them with what a
kubelet does. All checks run side by side, in a dev cluster or in the cluster of a kubeconfig (with all rights), in a
namespace and on a node of their own, which are removed at the end.

  virtual-kubelet conformance --provider mine:Provider                    all of it
  virtual-kubelet conformance --provider mine:Provider --suite logs       one suite, or one check: logs.tail
  virtual-kubelet conformance --list                                      every check, with its promise

A promise holds, is broken, is not claimed (the provider has no method for it, says so in its declaration, or refuses such
pods at admission and names the field), or cannot be run here. What containers can run, and what is not promised, a provider
says in conformance.yaml beside its module; see docs/writing-a-provider.md."""


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "conformance",
        help="judge a provider: which promises of a node it keeps",
        description=_DESCRIPTION,
        epilog=exit_code_table(),
    )
    provider = add_provider_options(parser, default="")
    provider.add_argument(
        "--declaration",
        type=types.file_name,
        metavar="FILE",
        help="instead of conformance.yaml beside the provider's module",
    )
    provider.add_argument(
        "--image", default="", metavar="IMAGE", help="of the containers, instead of the declaration's"
    )
    group = parser.add_argument_group("checks")
    group.add_argument(
        "--suite",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help="only these suites or checks, such as logs or logs.tail (default: all)",
    )
    group.add_argument("--list", action="store_true", help="list the checks and end")
    group.add_argument(
        "--unclaimed", action="store_true", help="also make checks that the declaration does not promise"
    )
    group.add_argument(
        "--timeout",
        type=types.positive_duration,
        default=120.0,
        metavar="D",
        help="for one check; half of it for one thing that the check waits for (default 2m)",
    )
    group.add_argument("--parallel", type=types.count, default=40, metavar="N", help="checks at once (default 40)")
    group = parser.add_argument_group("cluster and report")
    group.add_argument(
        "--kubeconfig",
        type=types.file_name,
        metavar="FILE",
        help="of a cluster, with all rights (default: a dev cluster)",
    )
    group.add_argument("--junit", type=types.file_name, metavar="FILE", help="write the report there as JUnit XML, too")
    add_logging(parser, level="error")
    parser.set_defaults(command=_conformance)


def _conformance(arguments: argparse.Namespace) -> int:
    from virtual_kubelet.cli.program import Interrupted, configure_logs, run_until_signal
    from virtual_kubelet.testing.conformance import junit_xml, report_text, run_conformance, select
    from virtual_kubelet.testing.conformance.report import check_list

    configure_logs(arguments)
    checks = select(arguments.suite)
    if arguments.list:
        print(check_list(checks))
        return ExitCode.OK
    config = _config(arguments, checks)
    progress = _Progress(len(checks))
    try:
        report: ConformanceReport = run_until_signal(run_conformance(config, progress.say))
    except Interrupted:
        return ExitCode.INTERRUPTED
    finally:
        progress.end()
    print(report_text(report, again=_again(arguments)))
    if arguments.junit:
        try:
            Path(arguments.junit).write_bytes(junit_xml(report))
        except OSError as error:
            raise ConfigurationError(f"cannot write {arguments.junit}: {error.strerror}") from None
    return ExitCode.OK if report.holds else ExitCode.FAILURE


def _config(arguments: argparse.Namespace, checks: Any) -> ConformanceConfig:
    from virtual_kubelet.testing.conformance import ConformanceConfig
    from virtual_kubelet.testing.conformance.declaration_files import read_declaration

    if not arguments.provider:
        raise ConfigurationError("which provider is to be judged?", hint="name it with --provider")
    search_here(arguments.provider)
    return ConformanceConfig(
        provider=arguments.provider,
        provider_config=Path(arguments.provider_config) if arguments.provider_config else None,
        allow_host_processes=arguments.provider == "process",
        kubeconfig=Path(arguments.kubeconfig) if arguments.kubeconfig else None,
        declaration=read_declaration(Path(arguments.declaration)) if arguments.declaration else None,
        image=arguments.image,
        checks=checks,
        timeout=arguments.timeout,
        parallel=arguments.parallel,
        unclaimed=arguments.unclaimed,
    )


def _again(arguments: argparse.Namespace) -> str:
    """The command line without what it says of checks and reports."""
    words = ["virtual-kubelet", "conformance", "--provider", arguments.provider]
    for option in ("provider_config", "declaration", "kubeconfig", "image"):
        value = getattr(arguments, option)
        if value:
            words += [f"--{option.replace('_', '-')}", value]
    return shlex.join(words)


class _Progress:
    """On a terminal a line that counts, else a line for each check; to stderr, so that stdout is the report."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = self._broken = 0
        self._counts = sys.stderr.isatty()

    def say(self, result: CheckResult) -> None:
        from virtual_kubelet.testing.conformance import Verdict
        from virtual_kubelet.testing.conformance.report import progress_line

        self._done += 1
        self._broken += result.verdict is Verdict.BROKEN
        if self._counts:
            text = f"{self._done} of {self._total} checks, {self._broken} broken; {result.check}"
            sys.stderr.write(f"\r\x1b[K{text[:100]}")
        else:
            sys.stderr.write(progress_line(result) + "\n")
        sys.stderr.flush()

    def end(self) -> None:
        if self._counts:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
