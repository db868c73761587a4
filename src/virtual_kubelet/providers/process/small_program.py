"""How this provider's own small programs are started. Standard library only.

An interpreter without ``site`` and the environment, in which the package is there without what its ``__init__`` modules
import: starting costs a third as much CPU, and what stays needs less memory.
"""

from __future__ import annotations

import os
import sys

__all__ = ["small_program"]

_PACKAGE = "virtual_kubelet.providers.process"
#: Where the package is imported from: that interpreter does not know.
_SOURCE = os.path.realpath(os.path.join(os.path.dirname(__file__), *[os.pardir] * _PACKAGE.count("."), os.pardir))
_PRELUDE = f"""\
import sys
name = ""
for part in "{_PACKAGE}".split("."):
    name += part
    sys.modules[name] = type(sys)(name)
    sys.modules[name].__path__ = [sys.argv[1] + "/" + name.replace(".", "/")]
    name += "."
"""


def small_program(module: str, call: str, *arguments: str) -> list[str]:
    """The command line of a program that imports ``main`` from a module of this package and makes this call.

    Args:
        call: an expression; ``sys.argv[2]`` and so on are the ``arguments``.
    """
    program = f"{_PRELUDE}from {_PACKAGE}.{module} import main; {call}"
    return [sys.executable, "-I", "-S", "-c", program, _SOURCE, *arguments]
