"""What a tree takes of the disk, whatever a container makes of it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.volumes.test_removal import few_descriptors
from virtual_kubelet.volumes.removal import remove_tree
from virtual_kubelet.volumes.usage import disk_usage


def du(path: Path) -> int:
    return int(
        subprocess.run(["du", "-sx", "-B1", str(path)], capture_output=True, text=True, check=True).stdout.split()[0]
    )


def test_it_counts_as_du_does_without_following_links(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "a/b").mkdir(parents=True)
    (tree / "a/file").write_bytes(bytes(100_000))
    (tree / "a/b/file").write_bytes(bytes(50_000))
    os.link(tree / "a/file", tree / "a/b/again")
    (tmp_path / "outside").write_bytes(bytes(10**6))
    (tree / "link").symlink_to(tmp_path / "outside")
    (tree / "loop").symlink_to(".")
    assert disk_usage(tree) == du(tree)
    assert 150_000 < disk_usage(tree) < 250_000


def test_depth_costs_no_descriptors(tmp_path: Path) -> None:
    tree = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=tree)
        deeper = os.open("d", os.O_RDONLY, dir_fd=tree)
        os.close(tree)
        tree = deeper
    os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=tree))
    os.close(tree)
    try:
        with few_descriptors():
            used = disk_usage(tmp_path)
        assert used == du(tmp_path)
    finally:
        remove_tree(tmp_path / "d")  # pytest could not


def test_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        disk_usage(tmp_path / "none")


PATHS = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=4).map("/".join)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=st.dictionaries(PATHS, st.integers(0, 20_000), max_size=6))
def test_any_tree(tmp_path_factory: pytest.TempPathFactory, files: dict[str, int]) -> None:
    tree = tmp_path_factory.mktemp("tree")
    for path, size in files.items():
        place = tree / path
        if not os.path.lexists(place) and not any(above.is_file() for above in place.parents):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(bytes(size))
    assert disk_usage(tree) == du(tree)
