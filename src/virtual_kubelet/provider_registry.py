"""Providers by name: those that installed packages announce, and any class by ``module:Name``.

A package announces its providers in the entry-point group ``virtual_kubelet.providers``; the built-in ones do too. An
entry point is a class or a factory that takes a ``ProviderContext``. Nothing is imported before it is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from virtual_kubelet.errors import ProviderConfigError

__all__ = ["GROUP", "InstalledProvider", "ProviderFactory", "installed_providers", "load_provider"]

GROUP: Final = "virtual_kubelet.providers"

#: Providers of this project that are distributions of their own.
_APART: Final = {"docker": "virtual-kubelet-docker"}

#: Takes a ``ProviderContext``, gives a provider, or an awaitable of one.
ProviderFactory = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class InstalledProvider:
    """What a package announces.

    Attributes:
        name: what ``--provider`` takes.
        target: ``module:Name``.
        distribution: the package it comes from, with its version.
    """

    name: str
    target: str
    distribution: str


def installed_providers() -> Mapping[str, InstalledProvider]:
    """All that is installed, by name; where two packages use one name, the first on the import path counts."""
    found: dict[str, InstalledProvider] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        found.setdefault(entry.name, InstalledProvider(entry.name, entry.value, _distribution(entry)))
    return found


def load_provider(name: str) -> ProviderFactory:
    """The class or factory of that name, imported.

    Args:
        name: of an installed provider, or ``module:Name`` (``Name`` may have dots).

    Raises:
        ProviderConfigError: unknown, not importable, or nothing that can be called; says which, and what to do.
    """
    module, separator, path = name.partition(":")
    if not separator:
        known = installed_providers()
        if name not in known and name in _APART:
            raise ProviderConfigError(
                f"the provider {name!r} is not installed; known ones: {', '.join(known) or 'none'}",
                hint=f"pip install {_APART[name]}, or in a clone of the repository: pip install ./providers/{name}",
            )
        if name not in known:
            close = get_close_matches(name, known, 1)
            raise ProviderConfigError(
                f"unknown provider {name!r}; known ones: {', '.join(known) or 'none'}",
                hint=f"did you mean {close[0]!r}?" if close else "a class of your own is named as module:Name",
            )
        module, _, path = known[name].target.partition(":")
    if not module or not path:
        raise ProviderConfigError(f"{name!r} does not name a provider", hint="write it as module:Name")
    found: Any = _import(name, module)
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ProviderConfigError(
                f"provider {name!r}: {getattr(found, '__name__', module)} has no {part!r}",
                hint="Name in module:Name is a class or function of that module",
            ) from None
    if not callable(found):
        raise ProviderConfigError(
            f"provider {name!r}: {path} is a {type(found).__name__}, not a class or factory",
            hint="it must be callable with a ProviderContext",
        )
    factory: ProviderFactory = found
    return factory


def _import(name: str, module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
            raise ProviderConfigError(
                f"provider {name!r}: there is no module {error.name!r}",
                hint="is it installed in this environment, or in the current directory?",
            ) from error
        raise ProviderConfigError(
            f"provider {name!r}: {module} imports {error.name!r}, which is not installed",
            hint=f"install the package that holds {error.name!r} into this environment",
        ) from error
    except ImportError as error:
        raise ProviderConfigError(f"provider {name!r}: importing {module} failed: {error}") from error
    except Exception as error:
        # Someone else's module may raise anything; whatever it is, this provider cannot be used.
        raise ProviderConfigError(f"provider {name!r}: importing {module} failed: {_said(error)}") from error


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _distribution(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "unknown"
