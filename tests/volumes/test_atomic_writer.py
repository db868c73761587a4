"""A volume's files are replaced all at once, and nothing that a container plants leads outside."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from virtual_kubelet.contracts.configuration import VolumeContents, VolumeFile
from virtual_kubelet.volumes.atomic_writer import write_atomically

ROOT = os.geteuid() == 0


def contents(files: dict[str, str], mode: int = 0o644, **options: Any) -> VolumeContents:
    return VolumeContents({path: VolumeFile(text.encode(), mode) for path, text in files.items()}, **options)


def shown(volume: Path) -> dict[str, str]:
    """What a container sees, without the writer's own names."""
    found = {}
    for folder, folders, files in os.walk(volume, followlinks=True):
        folders[:] = [name for name in folders if not (Path(folder) == volume and name.startswith(".."))]
        for name in files:
            path = Path(folder, name)
            if path.parent == volume and name.startswith(".."):
                continue
            found[str(path.relative_to(volume))] = path.read_text()
    return found


def versions(volume: Path) -> list[str]:
    return [name for name in os.listdir(volume) if name.startswith("..2")]


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    path = tmp_path / "volume"
    path.mkdir()
    return path


def test_the_layout_is_the_kubelet_s(volume: Path) -> None:
    assert write_atomically(volume, contents({"key": "1", "deep/er/key": "2"}))
    (version,) = versions(volume)
    assert os.readlink(volume / "..data") == version
    assert os.readlink(volume / "key") == "..data/key"
    assert os.readlink(volume / "deep") == "..data/deep"
    assert shown(volume) == {"key": "1", "deep/er/key": "2"}
    assert stat.S_IMODE(os.stat(volume / version).st_mode) == 0o755


def test_what_has_not_changed_is_not_written(volume: Path) -> None:
    files = contents({"a": "1", "b/c": "2"}, 0o400)
    assert write_atomically(volume, files)
    before = versions(volume), os.stat(volume / "a").st_ino
    assert not write_atomically(volume, files)
    assert (versions(volume), os.stat(volume / "a").st_ino) == before


def test_a_change_leaves_one_version(volume: Path) -> None:
    write_atomically(volume, contents({"a": "1", "b": "1"}))
    assert write_atomically(volume, contents({"a": "2", "b": "1"}))
    assert shown(volume) == {"a": "2", "b": "1"}
    assert len(versions(volume)) == 1


def test_keys_that_are_gone_vanish(volume: Path) -> None:
    write_atomically(volume, contents({"a": "1", "deep/b": "1", "deep/c": "1"}))
    write_atomically(volume, contents({"deep/c": "1"}))
    assert shown(volume) == {"deep/c": "1"}
    write_atomically(volume, contents({}))
    assert shown(volume) == {}
    assert sorted(os.listdir(volume)) == sorted(["..data", *versions(volume)])


def test_a_file_may_become_a_directory_and_back(volume: Path) -> None:
    write_atomically(volume, contents({"a": "1"}))
    write_atomically(volume, contents({"a/b": "2"}))
    assert shown(volume) == {"a/b": "2"}
    write_atomically(volume, contents({"a": "3"}))
    assert shown(volume) == {"a": "3"}


def test_a_changed_mode_is_a_change(volume: Path) -> None:
    write_atomically(volume, contents({"a": "1"}, 0o400))
    assert write_atomically(volume, contents({"a": "1"}, 0o440))
    assert stat.S_IMODE(os.stat(volume / "a").st_mode) == 0o440


def test_modes_do_not_depend_on_the_umask(volume: Path) -> None:
    before = os.umask(0o077)
    try:
        write_atomically(volume, contents({"d/a": "1"}, 0o666))
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(volume / "d/a").st_mode) == 0o666
    assert stat.S_IMODE(os.stat(volume / "d").st_mode) == 0o755


@pytest.mark.skipif(not ROOT, reason="only root can give files away")
def test_owners_and_groups(volume: Path) -> None:
    files = {"d/a": VolumeFile(b"1", 0o440), "t": VolumeFile(b"2", 0o640, 1234)}
    assert write_atomically(volume, VolumeContents(files, 2000))
    assert not write_atomically(volume, VolumeContents(files, 2000))
    about = {name: os.lstat(volume / name) for name in ("..data/d/a", "..data/t", "..data/d", "..data", "t")}
    assert {info.st_gid for info in about.values()} == {2000}
    assert about["..data/t"].st_uid == 1234
    assert stat.S_IMODE(about["..data/d"].st_mode) == 0o2755
    assert write_atomically(volume, VolumeContents(files, 2001))
    assert write_atomically(volume, VolumeContents({**files, "t": VolumeFile(b"2", 0o640, 0)}, 2001))


class TestPlanted:
    """A container, or anybody else, has put something into the volume. Nothing outside may change."""

    @pytest.fixture
    def outside(self, tmp_path: Path) -> Iterator[Path]:
        path = tmp_path / "outside"
        path.mkdir()
        (path / "key").write_text("precious")
        (path / "inner").mkdir()
        (path / "inner/file").write_text("precious")
        before = sorted((str(p), p.is_file() and p.read_text()) for p in path.rglob("*"))
        yield path
        assert sorted((str(p), p.is_file() and p.read_text()) for p in path.rglob("*")) == before

    def plant_data(self, volume: Path, outside: Path) -> None:
        (volume / "..data").unlink()
        (volume / "..data").symlink_to(outside)

    def plant_directory_as_data(self, volume: Path, outside: Path) -> None:
        (volume / "..data").unlink()
        (volume / "..data").mkdir()
        (volume / "..data/key").symlink_to(outside / "key")

    def plant_version(self, volume: Path, outside: Path) -> None:
        name = os.readlink(volume / "..data")
        os.rename(volume / name, volume / "moved")
        (volume / name).symlink_to(outside)

    def plant_new_data(self, volume: Path, outside: Path) -> None:
        (volume / "..data_tmp").symlink_to(outside)

    def plant_new_data_directory(self, volume: Path, outside: Path) -> None:
        (volume / "..data_tmp").mkdir()
        (volume / "..data_tmp/x").symlink_to(outside)

    def plant_key(self, volume: Path, outside: Path) -> None:
        (volume / "key").unlink()
        (volume / "key").symlink_to(outside / "key")

    def plant_key_directory(self, volume: Path, outside: Path) -> None:
        (volume / "key").unlink()
        (volume / "key").mkdir()
        (volume / "key/link").symlink_to(outside / "inner")

    def plant_in_version(self, volume: Path, outside: Path) -> None:
        (volume / "..data/key").unlink()
        (volume / "..data/key").symlink_to(outside / "key")

    def plant_hard_link(self, volume: Path, outside: Path) -> None:
        (volume / "..data/key").unlink()
        os.link(outside / "key", volume / "..data/key")

    def plant_pipe(self, volume: Path, outside: Path) -> None:
        (volume / "..data/key").unlink()
        os.mkfifo(volume / "..data/key")

    def plant_more(self, volume: Path, outside: Path) -> None:
        (volume / "..data/more").symlink_to(outside)

    def plant_old_version(self, volume: Path, outside: Path) -> None:
        (volume / "..2026_01_01_00_00_00.1").symlink_to(outside)

    def plant_link_to_data(self, volume: Path, outside: Path) -> None:
        (volume / "other").symlink_to(f"..data/../../../{outside.name}")

    PLANTS = [name for name in dir() if name.startswith("plant_")]

    @pytest.mark.parametrize("plant", PLANTS)
    @pytest.mark.parametrize("changed", [False, True])
    def test_it_is_put_right(self, volume: Path, outside: Path, plant: str, changed: bool) -> None:
        write_atomically(volume, contents({"key": "1", "d/e": "1"}))
        getattr(self, plant)(volume, outside)
        write_atomically(volume, contents({"key": "2" if changed else "1", "d/e": "1"}))
        assert shown(volume)["key"] == ("2" if changed else "1")
        assert shown(volume)["d/e"] == "1"
        assert set(versions(volume)) == {os.readlink(volume / "..data")}
        assert os.readlink(volume / "key") == "..data/key"

    def test_what_a_container_adds_beside_is_its_own(self, volume: Path) -> None:
        write_atomically(volume, contents({"key": "1"}))
        (volume / "mine").write_text("x")
        write_atomically(volume, contents({"key": "2"}))
        assert shown(volume) == {"key": "2", "mine": "x"}

    def test_a_volume_that_is_a_link_is_refused(self, tmp_path: Path, outside: Path) -> None:
        (tmp_path / "link").symlink_to(outside)
        with pytest.raises(OSError):
            write_atomically(tmp_path / "link", contents({"a": "1"}))


def failing(at: int, error: int, call: Callable[..., Any]) -> Callable[..., Any]:
    """``call`` whose ``at``-th use fails."""
    used = 0

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal used
        used += 1
        if used == at:
            raise OSError(error, os.strerror(error))
        return call(*args, **kwargs)

    return wrapped


@pytest.mark.parametrize("call", ["mkdir", "open", "write", "fchmod", "symlink", "rename"])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_whatever_fails_what_was_there_stays_whole(
    volume: Path, monkeypatch: pytest.MonkeyPatch, call: str, at: int
) -> None:
    old, new = {"a": "1", "d/b": "1"}, {"a": "2", "d/b": "2", "c": "2"}
    write_atomically(volume, contents(old))
    with monkeypatch.context() as patched:
        patched.setattr(os, call, failing(at, errno.ENOSPC, getattr(os, call)))
        with suppress(OSError):  # some are not called so often
            write_atomically(volume, contents(new))
    seen = shown(volume)
    assert seen == old or {"a": "2", "d/b": "2"}.items() <= seen.items()
    write_atomically(volume, contents(new))
    assert shown(volume) == new
    assert len(versions(volume)) == 1


PATHS = st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=1, max_size=3).map("/".join)


def consistent(files: dict[str, str]) -> bool:
    return not any(other.startswith(path + "/") for path in files for other in files)


PAYLOADS = st.dictionaries(PATHS, st.text(alphabet="xyz", max_size=3), max_size=5).filter(consistent)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(payloads=st.lists(PAYLOADS, max_size=8), modes=st.lists(st.sampled_from([0o400, 0o644, 0o777]), min_size=8))
def test_after_any_sequence_the_volume_shows_the_last_payload_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, payloads: list[dict[str, str]], modes: list[int]
) -> None:
    volume = tmp_path_factory.mktemp("volume")
    for payload, mode in zip(payloads, modes, strict=False):
        made = contents(payload, mode)
        write_atomically(volume, made)
        assert shown(volume) == payload
        assert len(versions(volume)) == 1
        assert not write_atomically(volume, made)
        assert {stat.S_IMODE(os.stat(volume / path).st_mode) for path in payload} <= {mode}


def test_a_reader_beside_the_writer_never_sees_a_mixture(volume: Path) -> None:
    """One that opens ``..data`` once, as those do that watch a ConfigMap, reads one version in all its files."""
    names = ["a", "d/b", "d/e/c"]
    write_atomically(volume, contents(dict.fromkeys(names, "0")))
    mixtures: list[list[str]] = []
    counts = {"whole": 0}
    enough = threading.Event()
    written = threading.Event()

    def read() -> None:
        while not written.is_set():
            data = os.open(volume / "..data", os.O_PATH | os.O_DIRECTORY)
            try:
                texts = []
                for name in names:
                    with open(os.open(name, os.O_RDONLY, dir_fd=data)) as file:
                        texts.append(file.read())
            except FileNotFoundError:
                continue  # that version is gone; never half of it with half of another
            finally:
                os.close(data)
            if len(set(texts)) != 1 or not texts[0]:
                mixtures.append(texts)
            counts["whole"] += 1
            if counts["whole"] >= 60:
                enough.set()

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    number = 0
    while number < 100 or (not enough.is_set() and number < 20_000):
        number += 1
        write_atomically(volume, contents(dict.fromkeys(names, str(number))))
    written.set()
    for reader in readers:
        reader.join()
    assert not mixtures
    assert enough.is_set()
