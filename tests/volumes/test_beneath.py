"""A path never leaves its directory, by whatever links a container has planted, also while it is walked."""

from __future__ import annotations

import errno
import gc
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from virtual_kubelet.volumes.beneath import EscapeError, make_beneath, open_beneath


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "outside").mkdir()
    (tmp_path / "root/a/b").mkdir(parents=True)
    (tmp_path / "root/file").write_text("x")
    descriptor = os.open(tmp_path / "root", os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def where(descriptor: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def test_plain_paths(root: int, tmp_path: Path) -> None:
    for path in ("a/b", "./a//b/", "a/../a/b", "a/b/.."):
        assert where(open_beneath(root, path)) == os.path.normpath(tmp_path / "root" / path)
    assert where(open_beneath(root, "file")) == str(tmp_path / "root/file")
    assert where(open_beneath(root, "")) == str(tmp_path / "root")


def test_links_that_stay_beneath_are_followed(root: int, tmp_path: Path) -> None:
    (tmp_path / "root/here").symlink_to("a/b/../b")
    (tmp_path / "root/a/up").symlink_to("../a/b")
    (tmp_path / "root/chain").symlink_to("here/../up")
    for path in ("here", "a/up", "chain"):
        assert where(open_beneath(root, path)) == str(tmp_path / "root/a/b")


@pytest.mark.parametrize(
    "target", ["..", "../outside", "/etc", "a/../../outside", "a/b/../../..", "/", "again", "../root/a"]
)
def test_links_that_lead_out_are_errors(root: int, tmp_path: Path, target: str) -> None:
    (tmp_path / "root/link").symlink_to(target)
    (tmp_path / "root/again").symlink_to("../outside")
    for path in ("link", "link/x", "a/../link"):
        with pytest.raises(EscapeError):
            open_beneath(root, path)
        with pytest.raises(EscapeError):
            make_beneath(root, path, 0o755)
    assert os.listdir(tmp_path / "outside") == []


@pytest.mark.parametrize("path", ["..", "../outside", "/etc", "a/../..", "a\0b"])
def test_paths_that_lead_out_are_errors(root: int, path: str) -> None:
    with pytest.raises(EscapeError):
        open_beneath(root, path)


def test_loops_and_endless_paths_end(root: int, tmp_path: Path) -> None:
    (tmp_path / "root/loop").symlink_to("loop")
    with pytest.raises(OSError) as caught:
        open_beneath(root, "loop")
    assert caught.value.errno == errno.ELOOP
    with pytest.raises(OSError) as caught:
        make_beneath(root, "x/" * 300, 0o755)
    assert caught.value.errno == errno.ENAMETOOLONG


def test_what_is_missing_is_made_whatever_the_umask(root: int, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_beneath(root, "n/e/w")
    before = os.umask(0o077)
    try:
        assert where(make_beneath(root, "a/n/e/w", 0o2777)) == str(tmp_path / "root/a/n/e/w")
    finally:
        os.umask(before)
    for path in ("a/n", "a/n/e", "a/n/e/w"):
        assert stat.S_IMODE(os.stat(tmp_path / "root" / path).st_mode) == 0o2777


def test_a_file_is_no_directory(root: int) -> None:
    with pytest.raises(NotADirectoryError):
        make_beneath(root, "file/x", 0o755)


def test_no_descriptor_is_left_behind(root: int) -> None:
    gc.collect()
    before = set(os.listdir("/proc/self/fd"))
    for path in ("a/b", "none", "../x", "file/x"):
        try:
            os.close(open_beneath(root, path))
        except OSError:
            continue
    assert set(os.listdir("/proc/self/fd")) <= before


def test_a_directory_that_is_swapped_for_a_link_meanwhile_does_not_help(root: int, tmp_path: Path) -> None:
    """A container that does nothing but swap, against many walks."""
    here, stop = tmp_path / "root", threading.Event()
    (here / "evil").symlink_to("../outside")
    (here / "swapped").mkdir()

    def swap() -> None:
        moves = [("swapped", "kept"), ("evil", "swapped"), ("swapped", "evil"), ("kept", "swapped")]
        while not stop.is_set():
            for old, new in moves:
                with suppress(OSError):  # the walk makes what it does not find
                    os.rename(here / old, here / new)

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        for _ in range(3000):
            with suppress(EscapeError, FileNotFoundError, FileExistsError, NotADirectoryError):
                os.close(make_beneath(root, "swapped/x", 0o755))
    finally:
        stop.set()
        swapper.join()
    assert os.listdir(tmp_path / "outside") == []


NAMES = st.sampled_from(["a", "b", "..", ".", "", "link", "other", "/"])
TARGETS = st.lists(NAMES, min_size=1, max_size=4).map("/".join).filter(bool)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(link=TARGETS, other=TARGETS, path=TARGETS, make=st.booleans())
def test_hostile_paths(tmp_path_factory: pytest.TempPathFactory, link: str, other: str, path: str, make: bool) -> None:
    top = tmp_path_factory.mktemp("top")
    (top / "root/a/b").mkdir(parents=True)
    (top / "root/link").symlink_to(link)
    (top / "root/a/other").symlink_to(other)
    descriptor = os.open(top / "root", os.O_RDONLY)
    try:
        found = where(make_beneath(descriptor, path, 0o755) if make else open_beneath(descriptor, path))
    except OSError:
        pass
    else:
        assert (found + "/").startswith(f"{top}/root/")
    finally:
        os.close(descriptor)
    assert os.listdir(top) == ["root"]
