"""Trees are removed whatever a container has made of them, and nothing outside them is touched."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from virtual_kubelet.volumes.mounting import bind, unmount
from virtual_kubelet.volumes.removal import remove_tree

ROOT = os.geteuid() == 0


@contextmanager
def few_descriptors() -> Iterator[None]:
    """No more than twenty beside those that are open."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 20, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    remove_tree(tmp_path / "none")


def test_links_are_removed_and_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("precious")
    tree = tmp_path / "tree"
    (tree / "a/b").mkdir(parents=True)
    for at in ("link", "a/link", "a/b/link"):
        (tree / at).symlink_to(outside)
    (tree / "a/b/broken").symlink_to("/nowhere")
    os.mkfifo(tree / "a/pipe")
    remove_tree(tree)
    assert not tree.exists()
    assert (outside / "file").read_text() == "precious"
    (tmp_path / "top").symlink_to(outside)
    remove_tree(tmp_path / "top")
    assert (outside / "file").read_text() == "precious"


def test_depth_costs_neither_descriptors_nor_stack(tmp_path: Path) -> None:
    tree = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1500):  # far beyond the recursion limit, the open files and the longest path
        os.mkdir("d", dir_fd=tree)
        os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=tree))
        deeper = os.open("d", os.O_RDONLY, dir_fd=tree)
        os.close(tree)
        tree = deeper
    os.close(tree)
    with few_descriptors():
        remove_tree(tmp_path / "d")  # pytest could not: if this fails, it is to be removed by hand
    assert os.listdir(tmp_path) == ["f"]


def test_a_name_of_the_remover_s_own_may_be_taken(tmp_path: Path) -> None:
    for name in ("..removing.1", "..removing.2", "a/..removing.1/x", "a/b/c"):
        (tmp_path / "tree" / name).mkdir(parents=True)
    remove_tree(tmp_path / "tree")
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not ROOT, reason="only root may become somebody else")
def test_directories_without_rights_are_removed_by_their_owner() -> None:
    program = (
        "import os, sys\n"
        "from virtual_kubelet.volumes.removal import remove_tree\n"
        "os.setgid(1234); os.setuid(1234)\n"
        "tree = sys.argv[1] + '/tree'\n"
        "os.makedirs(tree + '/a/b/c'); open(tree + '/a/f', 'w').close()\n"
        "for at in ('/a/b/c', '/a/b', '/a', ''): os.chmod(tree + at, 0)\n"
        "remove_tree(tree)\n"
        "sys.exit(os.path.exists(tree))\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, 1234, 1234)
        done = subprocess.run(
            [sys.executable, "-c", program, folder], capture_output=True, text=True, timeout=120, check=False
        )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not ROOT, reason="only root may mount")
@pytest.mark.parametrize("at", ["tree", "tree/a", "tree/a/b"])
def test_what_is_mounted_in_it_is_not_emptied(tmp_path: Path, at: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("precious")
    (tmp_path / "tree/a/b").mkdir(parents=True)
    source = os.open(outside, os.O_RDONLY)
    bind(source, tmp_path / at)
    os.close(source)
    mounted = tmp_path / at
    try:
        with pytest.raises(OSError) as caught:
            remove_tree(tmp_path / "tree")
        assert caught.value.errno == errno.EBUSY
        assert (outside / "file").read_text() == "precious"
    finally:
        while subprocess.run(["mountpoint", "-q", str(mounted)], check=False).returncode == 0:
            unmount(mounted)
    remove_tree(tmp_path / "tree")
    assert not (tmp_path / "tree").exists()
    assert (outside / "file").read_text() == "precious"


PATHS = st.lists(st.sampled_from(["a", "b", "..removing.1", "é"]), min_size=1, max_size=5).map("/".join)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(folders=st.lists(PATHS, max_size=6), links=st.lists(st.tuples(PATHS, PATHS), max_size=4))
def test_any_tree(tmp_path_factory: pytest.TempPathFactory, folders: list[str], links: list[tuple[str, str]]) -> None:
    top = tmp_path_factory.mktemp("top")
    (top / "outside").mkdir()
    (top / "outside/file").write_text("precious")
    for folder in folders:
        (top / "tree" / folder).mkdir(parents=True, exist_ok=True)
    for place, target in links:
        path = top / "tree" / place
        if path.parent.is_dir() and not os.path.lexists(path):
            path.symlink_to(f"../outside/{target}")
    remove_tree(top / "tree")
    assert os.listdir(top) == ["outside"]
    assert (top / "outside/file").read_text() == "precious"
