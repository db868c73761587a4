"""``virtual-kubelet providers [NAME]``: which providers are installed, and what one of them is and can do."""

from __future__ import annotations

import argparse
import inspect
from typing import Any

from virtual_kubelet.cli.exit_codes import ExitCode
from virtual_kubelet.provider_registry import ProviderFactory, installed_providers, load_provider

__all__ = ["add_parser"]

#: What a provider may offer beyond the six methods, and the methods that tell: (methods, what it means).
_CAPABILITIES = (
    (("notify_pods",), "reports status changes by itself (others are polled)"),
    (("get_pod_statuses",), "answers many statuses in one call"),
    (("get_container_logs",), "container logs"),
    (("get_pod_ips",), "knows a pod's addresses before it starts"),
    (("ping",), "says whether its backend is alive"),
    (("notify_node_status",), "changes the Node while it runs"),
    (("configure_node",), "describes the Node: capacity, labels, addresses"),
)


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "providers",
        help="list the installed providers, or describe one",
        description="List the installed providers, or describe one. A class of your own is named as module:Name.",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="describe this one")
    parser.set_defaults(command=show)


def show(arguments: argparse.Namespace) -> int:
    known = installed_providers()
    if arguments.name is not None:
        print(describe(arguments.name, load_provider(arguments.name)))
        return ExitCode.OK
    width = max(map(len, known), default=0)
    for provider in known.values():
        print(f"{provider.name:<{width}}  {provider.target}  ({provider.distribution})")
    return ExitCode.OK


def describe(name: str, factory: ProviderFactory) -> str:
    """What the class says about itself, and which optional methods it has."""
    lines = [name, ""]
    lines += (inspect.getdoc(factory) or "(it has no description)").splitlines()
    if inspect.isclass(factory):
        offers = [meaning for methods, meaning in _CAPABILITIES if all(hasattr(factory, m) for m in methods)]
        lines += ["", "offers:", *(f"  {meaning}" for meaning in offers or ["the six methods every provider has"])]
    return "\n".join(lines)
