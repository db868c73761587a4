"""Where a node's state lies, who may read it, and that one process at a time uses it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from virtual_kubelet.errors import ConfigurationError
from virtual_kubelet.state_directory import default_state_directory, held


def test_nodes_of_one_name_in_two_clusters_do_not_share_their_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert default_state_directory("https://10.0.0.1:6443/k8s", "n") == Path("/state/virtual-kubelet/10.0.0.1_6443/n")
    assert default_state_directory("https://[fd00::1]:6443", "n") == Path("/state/virtual-kubelet/_fd00_1_6443/n")
    assert default_state_directory("https://user:word@a.example", "n") == Path("/state/virtual-kubelet/a.example/n")


def test_without_the_variable_it_is_below_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    for value in ("", "not/absolute"):
        monkeypatch.setenv("XDG_STATE_HOME", value)
        assert default_state_directory("http://a", "n") == Path("/home/someone/.local/state/virtual-kubelet/a/n")


def test_it_is_made_private(tmp_path: Path) -> None:
    with held(tmp_path / "a" / "b") as path:
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert stat.S_IMODE((path / "lock").stat().st_mode) == 0o600


def test_one_that_others_may_read_is_closed_to_them(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    with held(tmp_path / "open") as path:
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_second_process_is_refused_and_told_which_holds_it(tmp_path: Path) -> None:
    with held(tmp_path / "s"), pytest.raises(ConfigurationError, match=f"in use by the node process {os.getpid()}"):
        with held(tmp_path / "s"):
            pytest.fail("held twice")
    with held(tmp_path / "s"):
        pass


def test_a_process_that_died_holds_nothing(tmp_path: Path) -> None:
    program = (
        "import os, sys, pathlib; from virtual_kubelet.state_directory import held\n"
        "with held(pathlib.Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "s")], check=False)
    assert done.returncode == -9
    with held(tmp_path / "s") as path:
        assert (path / "lock").read_text() == f"{os.getpid()}\n"


def test_one_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"cannot use the state directory .*file/s: Not a directory"):
        with held(tmp_path / "file" / "s"):
            pytest.fail("held a file")


def test_a_user_without_a_home_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: (_ for _ in ()).throw(KeyError(uid)))
    with pytest.raises(ConfigurationError, match="no home directory") as refused:
        default_state_directory("http://a", "n")
    assert "--state-dir" in refused.value.hint
