"""``virtual-kubelet completion bash|zsh|fish``: scripts made from the commands' own options."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from virtual_kubelet.cli.arguments import file_name, folder_name
from virtual_kubelet.cli.exit_codes import ExitCode
from virtual_kubelet.provider_registry import installed_providers

__all__ = ["add_parser", "script"]

SHELLS: Final = ("bash", "zsh", "fish")

_HOW_TO: Final = """\
Print a script that teaches a shell to complete this command. Load it:

  bash   source <(virtual-kubelet completion bash)
  zsh    source <(virtual-kubelet completion zsh)
  fish   virtual-kubelet completion fish | source

and put that line into ~/.bashrc, ~/.zshrc or ~/.config/fish/config.fish."""

#: Names may hold spaces; compopt fails where nothing is being completed.
_BASH_FILES: Final = (
    "compopt -o filenames 2>/dev/null || true; local IFS=$'\\n'; COMPREPLY=($(compgen -{} -- \"$current\"));"
)


def add_parser(commands: Any, main_parser: Callable[[], argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("completion", help="print a script for shell completion", description=_HOW_TO)
    parser.add_argument("shell", choices=SHELLS, metavar="|".join(SHELLS), help="the shell")

    def show(arguments: argparse.Namespace) -> int:
        print(script(arguments.shell, main_parser()), end="")
        return ExitCode.OK

    parser.set_defaults(command=show)


@dataclass(frozen=True, slots=True)
class Option:
    """One option or positional argument of a command.

    Attributes:
        names: with their dashes; empty: a positional argument.
        help: one line.
        value: ``none``, ``files``, ``folders``, ``words`` or ``anything``.
        words: that the value may be.
    """

    names: tuple[str, ...]
    help: str
    value: str
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CommandOptions:
    name: str
    help: str
    options: tuple[Option, ...]


def script(shell: str, parser: argparse.ArgumentParser) -> str:
    """The script for ``shell``."""
    commands = list(_commands(parser))
    if shell == "bash":
        return _bash(parser.prog, commands)
    if shell == "zsh":
        return _zsh(parser.prog, commands)
    return _fish(parser.prog, commands)


def _commands(parser: argparse.ArgumentParser) -> Iterable[CommandOptions]:
    """The main parser's own options first, as a command without a name."""
    yield CommandOptions("", "", tuple(_options(parser)))
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, command in action.choices.items():
                yield CommandOptions(name, helps.get(name, ""), tuple(_options(command)))


def _options(parser: argparse.ArgumentParser) -> Iterable[Option]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction) or action.help == argparse.SUPPRESS:
            continue
        help_text = " ".join((action.help or "").replace("%%", "%").split())
        value, words = "anything", tuple(map(str, action.choices or ()))
        if action.nargs == 0:
            value = "none"
        elif action.type is file_name:
            value = "files"
        elif action.type is folder_name:
            value = "folders"
        elif action.dest == "provider" or (parser.prog.endswith(" providers") and action.dest == "name"):
            value, words = "words", tuple(installed_providers())
        elif words:
            value = "words"
        yield Option(tuple(action.option_strings), help_text, value, words)


def _bash(program: str, commands: Sequence[CommandOptions]) -> str:
    function = "_" + program.replace("-", "_")
    names = [command.name for command in commands if command.name]
    lines = [
        f"# bash completion of {program}",
        f"{function}() {{",
        "    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} command= word",
        '    if [ "$current" = "=" ]; then current=; fi',
        '    if [ "$previous" = "=" ]; then previous=${COMP_WORDS[COMP_CWORD-2]}; fi',
        '    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do',
        f'        case "$word" in {"|".join(names)}) command=$word; break;; esac',
        "    done",
        '    case "$command $previous" in',
    ]
    for command in commands:
        for option in command.options:
            if option.value == "none" or not option.names:
                continue
            pattern = "|".join(shlex.quote(f"{command.name} {name}") for name in option.names)
            lines.append(f"        {pattern}) {_bash_reply(option)} return;;")
    lines += ["    esac", '    case "$command" in']
    for command in commands:
        words = [name for option in command.options for name in option.names]
        words += names if not command.name else []
        positional = [option for option in command.options if not option.names]
        words += [word for option in positional for word in option.words]
        reply = f'COMPREPLY=($(compgen -W {shlex.quote(" ".join(words))} -- "$current"));'
        lines.append(f"        {shlex.quote(command.name)}) {reply};")
    lines += ["    esac", "}", f"complete -F {function} {program}", ""]
    return "\n".join(lines)


def _bash_reply(option: Option) -> str:
    if option.value == "files":
        return _BASH_FILES.format("f")
    if option.value == "folders":
        return _BASH_FILES.format("d")
    if option.value == "words":
        return f'COMPREPLY=($(compgen -W {shlex.quote(" ".join(option.words))} -- "$current"));'
    return "COMPREPLY=();"


def _zsh(program: str, commands: Sequence[CommandOptions]) -> str:
    function = "_" + program
    lines = [
        f"#compdef {program}",
        f"{function}() {{",
        "  local curcontext=$curcontext state line",
        "  typeset -A opt_args",
        "  _arguments -C \\",
    ]
    lines += [f"    {argument} \\" for option in commands[0].options for argument in _zsh_arguments(option)]
    choices = " ".join(f"{c.name}\\:{_zsh_text(c.help)}" for c in commands if c.name)
    lines += [f"    {shlex.quote(f'1:command:(({choices}))')} \\", "    '*::argument:->arguments'"]
    lines += ["  case $line[1] in"]
    for command in commands[1:]:
        arguments = [argument for option in command.options for argument in _zsh_arguments(option)]
        lines.append(f"    {command.name}) _arguments \\")
        lines += [f"      {argument} \\" for argument in arguments[:-1]]
        lines += [f"      {arguments[-1]} ;;"] if arguments else ["      ;;"]
    # Sourced it announces itself; in $fpath, zsh calls the file as the function itself.
    lines += ["  esac", "}", f'if [ "$funcstack[1]" = "{function}" ]; then', f'  {function} "$@"']
    lines += ["else", f"  compdef {function} {program}", "fi", ""]
    return "\n".join(lines)


def _zsh_arguments(option: Option) -> list[str]:
    values = {
        "files": "file:_files",
        "folders": "folder:_files -/",
        "words": f"value:({' '.join(option.words)})",
        "anything": "value: ",
    }
    if not option.names:
        return [shlex.quote(f"1:{values[option.value]}")]
    text = option.help.replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]").replace(":", "\\:")
    result = []
    for name in option.names:
        if option.value == "none":
            result.append(shlex.quote(f"{name}[{text}]"))
        else:
            equals = "=" if name.startswith("--") else ""
            result.append(shlex.quote(f"*{name}{equals}[{text}]:{values[option.value]}"))
    return result


def _zsh_text(text: str) -> str:
    return "".join(f"\\{c}" if c in "\\ ()'\"`$;&|<>*?[]#:" else c for c in text)


def _fish(program: str, commands: Sequence[CommandOptions]) -> str:
    lines = [f"# fish completion of {program}", f"complete -c {program} -f"]
    for command in commands:
        if command.name:
            lines.append(
                f"complete -c {program} -n __fish_use_subcommand -a {command.name} -d {_fish_quote(command.help)}"
            )
        when = f"'__fish_seen_subcommand_from {command.name}'" if command.name else "__fish_use_subcommand"
        for option in command.options:
            if not option.names:
                if option.words:
                    lines.append(f"complete -c {program} -n {when} -a {_fish_quote(' '.join(option.words))}")
                continue
            flags = " ".join(f"-l {n[2:]}" if n.startswith("--") else f"-s {n[1:]}" for n in option.names)
            value = {
                "none": "",
                "files": " -r -F",
                "folders": " -x -a '(__fish_complete_directories)'",
                "words": f" -x -a {_fish_quote(' '.join(option.words))}",
                "anything": " -x",
            }[option.value]
            lines.append(f"complete -c {program} -n {when} {flags}{value} -d {_fish_quote(option.help)}")
    return "\n".join([*lines, ""])


def _fish_quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
