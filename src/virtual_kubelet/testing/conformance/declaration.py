"""What a provider says about itself to the conformance kit: what its containers can run, what it does not promise.

A YAML file, ``conformance.yaml`` beside the provider's module (or ``MODULE.conformance.yaml``), or named by
``--declaration``. All of it may be left out: then containers are taken to run a shell, and everything to be promised.

    image: busybox:1.29            # of the containers
    otherImage: busybox:1.28       # for checks that change an image
    shell: [/bin/sh, -c]           # how a container runs a line of shell; null: containers run no commands
    workloads:                     # how a container is made to do something, where that is not by a shell
      exits: {annotations: {example.com/exit-code: "{code}", example.com/after: "{seconds}"}}
    commands:                      # what exec can be asked to do, where that is not by a shell
      answers: [answer]
    lacks:                         # what is not promised: a suite or a check, and why (empty: promised after all)
      probes: this backend has no way to look into a container
    claims: [volumes]              # refusing such a pod at admission is no excuse
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from virtual_kubelet.testing.pods import DEFAULT_IMAGE, PodBuilder

__all__ = ["COMMANDS", "WORKLOADS", "Declaration", "WorkloadTemplate"]

#: What a container may be asked to do, and the shell script for it. Words in braces are filled in.
WORKLOADS: Final[dict[str, str]] = {
    # Until it is asked to end; then it ends with 0 at once.
    "runs": "trap 'kill $! 2>/dev/null; exit 0' TERM; sleep 100000 & wait",
    # With {code}, after {seconds}.
    "exits": "sleep {seconds}; exit {code}",
    # Prints {text} (lines, with their newlines; no quotes and no percent signs), and runs.
    "prints": "printf '{text}'; trap 'kill $! 2>/dev/null; exit 0' TERM; sleep 100000 & wait",
    # Echoes on TCP port {port}.
    "serves": (
        "if command -v python3 >/dev/null 2>&1; then exec python3 -c '"
        "import socket, threading\n"
        "def echo(c):\n"
        "    while d := c.recv(65536): c.sendall(d)\n"
        "    c.close()\n"
        's = socket.create_server(("", {port}))\n'
        "while True: threading.Thread(target=echo, args=(s.accept()[0],), daemon=True).start()'; "
        # Builds of busybox spell "listen again and again" in one of two ways.
        "else command -v busybox >/dev/null 2>&1 && b=busybox || b=; "
        "$b nc --help 2>&1 | grep -q -e -lk && l=-lk || l=-ll; exec $b nc $l -p {port} -e cat; fi"
    ),
    # Answers HTTP on port {port}: / with 200, what there is not with 404.
    "serves-http": (
        "d=$(mktemp -d); if command -v python3 >/dev/null 2>&1; "
        "then exec python3 -m http.server --directory $d {port}; "
        "elif command -v busybox >/dev/null 2>&1; then touch $d/index.html; exec busybox httpd -f -p {port} -h $d; "
        "else touch $d/index.html; exec httpd -f -p {port} -h $d; fi"
    ),
    # Gives back each line of its stdin with "got " before it, and ends with 0 at the end of stdin.
    "echoes": 'while read -r line; do echo "got $line"; done',
}

#: What exec may be asked to do in a container that runs, and the shell script for it.
COMMANDS: Final[dict[str, str]] = {
    # Prints "out" to stdout and "err" to stderr, ends with 3.
    "answers": "echo out; echo err >&2; exit 3",
    # Gives back its stdin, ends with 0 at its end.
    "echoes": "exec cat",
}


class WorkloadTemplate(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What makes a container do something; words in braces (``{code}``) are filled in."""

    image: str | None = None
    command: list[str] | None = None
    args: list[str] | None = None
    env: dict[str, str] = {}
    annotations: dict[str, str] = {}
    labels: dict[str, str] = {}


class Declaration(msgspec.Struct, forbid_unknown_fields=True, frozen=True, rename="camel"):
    """See the module's docstring."""

    image: str = DEFAULT_IMAGE
    other_image: str | None = None
    shell: list[str] | None = msgspec.field(default_factory=lambda: ["/bin/sh", "-c"])
    workloads: dict[str, WorkloadTemplate] = {}
    commands: dict[str, list[str]] = {}
    lacks: dict[str, str] = {}
    claims: list[str] = []

    def can(self, need: str) -> bool:
        """Whether containers can do this: ``shell``, ``other-image``, a workload, or ``exec:`` and a command."""
        if need == "shell":
            return self.shell is not None
        if need == "other-image":
            return self.other_image is not None
        if need.startswith("exec:"):
            return self.shell is not None or need.removeprefix("exec:") in self.commands
        return self.shell is not None or need in self.workloads

    def make(self, pod: PodBuilder, workload: str, values: Mapping[str, object] | None = None) -> PodBuilder:
        """``pod``, whose newest container is to do this. Raises ``KeyError`` if there is no such workload."""
        fill = {f"{{{name}}}": str(value) for name, value in (values or {}).items()}
        template = self.workloads.get(workload)
        if template is None:
            return self.script(pod, _filled(WORKLOADS[workload], fill))
        fields = {"image": template.image, "command": template.command, "args": template.args}
        made = pod.fields(**{name: _filled(value, fill) for name, value in fields.items() if value is not None})
        if template.env:
            made = made.env(**_filled(template.env, fill))
        return made.annotated(_filled(template.annotations, fill)).labelled(_filled(template.labels, fill))

    def script(self, pod: PodBuilder, script: str) -> PodBuilder:
        """``pod``, whose newest container is to run this shell script. Raises ``ValueError`` without a shell."""
        if self.shell is None:
            raise ValueError("this provider's containers run no commands")
        # Kubernetes takes "$(" and "$$" for its own references; of "$$" it makes "$".
        return pod.run(*self.shell, script.replace("$", "$$"))

    def command(self, name: str) -> Sequence[str]:
        """What exec is to run. Raises ``KeyError``, ``ValueError``."""
        if name in self.commands:
            return self.commands[name]
        if self.shell is None:
            raise ValueError("this provider's containers run no commands")
        return [*self.shell, COMMANDS[name]]

    def lacking(self, suite: str, check: str) -> str:
        """Why this check is not promised; empty if it is."""
        return self.lacks.get(check, self.lacks.get(suite, ""))

    def claimed(self, suite: str, check: str) -> bool:
        """Whether it is claimed by name."""
        return suite in self.claims or check in self.claims


def _filled(value: Any, fill: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        for word, text in fill.items():
            value = value.replace(word, text)
        return value
    if isinstance(value, list):
        return [_filled(one, fill) for one in value]
    return {key: _filled(one, fill) for key, one in value.items()}
