"""Shell completion: scripts that the shells take, and that know the commands' own options."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from virtual_kubelet.cli import build_parser
from virtual_kubelet.cli.completion import SHELLS, script


def bash(tmp_path: Path, *lines: str) -> str:
    path = tmp_path / "completion.bash"
    path.write_text(script("bash", build_parser()))
    program = "\n".join(["set -eu", f"source {path}", *lines])
    done = subprocess.run(["bash", "--norc", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def completed(tmp_path: Path, *words: str) -> list[str]:
    """What bash offers for the last of these words."""
    quoted = " ".join(f"'{word}'" for word in ("virtual-kubelet", *words))
    found = bash(
        tmp_path,
        f"COMP_WORDS=({quoted}); COMP_CWORD={len(words)}; COMPREPLY=()",
        "_virtual_kubelet",
        'printf "%s\\n" "${COMPREPLY[@]-}"',
    )
    return [word for word in found.split("\n") if word]


def test_bash_knows_the_command(tmp_path: Path) -> None:
    assert bash(tmp_path, "complete -p virtual-kubelet").strip() == "complete -F _virtual_kubelet virtual-kubelet"


def test_bash_completes_commands_options_and_values(tmp_path: Path) -> None:
    assert completed(tmp_path, "ru") == ["run"]
    assert {"up", "run", "providers", "version", "completion", "--help"} <= set(completed(tmp_path, ""))
    assert completed(tmp_path, "run", "--kubec") == ["--kubeconfig"]
    assert "--run" not in completed(tmp_path, "run", "--")
    assert {"mock", "process"} <= set(completed(tmp_path, "run", "--provider", ""))
    assert completed(tmp_path, "run", "--provider", "=", "pr") == ["process"]
    assert completed(tmp_path, "providers", "m") == ["mock"]
    assert completed(tmp_path, "run", "--log-format", "j") == ["json"]
    assert completed(tmp_path, "run", "--nodename", "") == []
    assert set(completed(tmp_path, "completion", "")) >= set(SHELLS)


def test_bash_completes_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "here.yaml").touch()
    (tmp_path / "heap").mkdir()
    assert sorted(completed(tmp_path, "run", "--kubeconfig", f"{tmp_path}/he")) == [
        f"{tmp_path}/heap", f"{tmp_path}/here.yaml",
    ]  # fmt: skip
    assert completed(tmp_path, "run", "--state-dir", f"{tmp_path}/he") == [f"{tmp_path}/heap"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_take_the_script(shell: str) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run(
        [program, "-n"], input=script(shell, build_parser()), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("shell", SHELLS)
def test_every_option_is_in_the_script(shell: str) -> None:
    text = script(shell, build_parser())
    for option in ("--kubeconfig", "--allow-host-processes", "--authentication-token-webhook-cache-ttl", "--timeout"):
        assert option.removeprefix("--") in text
    assert "--port " not in script("bash", build_parser()).split("run)")[1].split(";;")[0]
