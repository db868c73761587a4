"""``virtual-kubelet version``."""

from __future__ import annotations

import argparse
import platform
from typing import Any

from virtual_kubelet import __version__
from virtual_kubelet.cli.exit_codes import ExitCode

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "version", help="show the version", description="Show the version of this program and of its Python."
    )
    parser.set_defaults(command=show)


def show(arguments: argparse.Namespace) -> int:
    print(f"virtual-kubelet {__version__} (Python {platform.python_version()}, {platform.system().lower()})")
    return ExitCode.OK
