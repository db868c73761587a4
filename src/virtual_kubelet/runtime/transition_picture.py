"""The tables of transitions as a picture (Mermaid), for ``docs/pod-semantics.md``. Run it to print the picture."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable

from virtual_kubelet.runtime.transitions import CONTAINER_TABLE, POD_TABLE

__all__ = ["picture"]


def picture() -> str:
    """Both tables, one diagram each."""
    containers = ((a.value, event, b.value) for (a, event), entry in CONTAINER_TABLE.items() for b in entry.to)
    pods = ((a.value, event, b.value) for (a, event), entry in POD_TABLE.items() for b in entry.to)
    return f"One container:\n\n{_diagram(containers, 'waiting')}\n\nIts pod:\n\n{_diagram(pods, 'preparing')}\n"


def _diagram(lines: Iterable[tuple[str, type, str]], first: str) -> str:
    edges: dict[tuple[str, str], list[str]] = {}
    for source, event, target in lines:
        if source != target:
            edges.setdefault((source, target), []).append(_words(event.__name__))
    shown = [
        f"    {_name(source)} --> {_name(target)}: {', '.join(sorted(events))}"
        for (source, target), events in sorted(edges.items())
    ]
    return "\n".join(["```mermaid", "stateDiagram-v2", f"    [*] --> {_name(first)}", *shown, "```"])


def _words(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", " ", name).lower()


def _name(state: str) -> str:
    return state.replace("-", "_")


if __name__ == "__main__":
    sys.stdout.write(picture())
