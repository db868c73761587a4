"""Where a provider's declaration is, and what is wrong with it."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import msgspec
import yaml

from virtual_kubelet.errors import ConfigurationError
from virtual_kubelet.testing.conformance.catalogue import all_checks
from virtual_kubelet.testing.conformance.check import SUITES
from virtual_kubelet.testing.conformance.declaration import COMMANDS, WORKLOADS, Declaration

__all__ = ["find_declaration", "read_declaration"]


def read_declaration(path: Path) -> Declaration:
    """Raises ``ConfigurationError`` that names the file and the mistake."""
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigurationError(f"cannot read the declaration {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the declaration {path} is not YAML: {error}") from None
    try:
        found = msgspec.convert({} if content is None else content, Declaration)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"the declaration {path}: {error}") from None
    names = {*SUITES, *map(str, all_checks())}
    known = (("lacks", found.lacks, names), ("claims", found.claims, names), ("workloads", found.workloads, WORKLOADS),
             ("commands", found.commands, COMMANDS))  # fmt: skip
    for key, given, allowed in known:
        for name in given:
            if name not in allowed:
                raise ConfigurationError(
                    f"the declaration {path}: {key}: there is no {name!r}",
                    hint="`virtual-kubelet conformance --list` names suites and checks"
                    if key in ("lacks", "claims")
                    else f"known ones: {', '.join(allowed)}",
                )
    return found


def find_declaration(factory: Any) -> Path | None:
    """The file beside the module in which the provider is defined, if there is one."""
    inner = getattr(factory, "func", factory)  # functools.partial
    try:
        module = Path(inspect.getfile(inspect.unwrap(inner)))
    except TypeError:  # an instance, or something built in
        try:
            module = Path(inspect.getfile(type(inner)))
        except TypeError:
            return None
    for path in (module.with_suffix(".conformance.yaml"), module.with_name("conformance.yaml")):
        if path.is_file():
            return path
    return None
