"""What engines answer, in the words of the contract: pure."""

from __future__ import annotations

import base64
import io
import json
import struct
import tarfile
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtual_kubelet import ImagePullError, LogLine, RegistryCredentials
from virtual_kubelet_docker.exec_refusal import ExecRefusal
from virtual_kubelet_docker.images import PullProgress, image_of, registry_auth
from virtual_kubelet_docker.instances import container_exit, container_instance, parse_time, start_error
from virtual_kubelet_docker.log_stream import LogStream, time_of
from virtual_kubelet_docker.pause_program import ARCHITECTURES, pause_program, pause_root
from virtual_kubelet_docker.statistics import stats_of

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def inspected(*, limit: int = 0, **state: Any) -> dict[str, Any]:
    return {
        "Id": "x",
        "State": {"Status": "exited", "FinishedAt": "2026-01-02T03:04:05.123456789Z", **state},
        "HostConfig": {"Memory": limit},
        "Config": {"Labels": {}},
    }


def test_times() -> None:
    assert parse_time("2026-01-02T03:04:05.5Z") == NOW.replace(microsecond=500_000)
    assert parse_time("2026-01-02T05:04:05.000000001+02:00") == NOW
    assert parse_time("0001-01-01T00:00:00Z") is None
    assert parse_time("") is parse_time(None) is parse_time("soon") is None
    assert time_of(b"2026-01-02T03:04:05.000000001Z") == int(NOW.timestamp()) * 10**9 + 1
    assert time_of(b"2026-01-02T05:04:05+02:00") == int(NOW.timestamp()) * 10**9
    assert time_of(b"hello") is None


def test_ends() -> None:
    assert container_exit(inspected(Running=True)) is None
    assert container_exit(inspected(Paused=True)) is None
    ended = container_exit(inspected(ExitCode=3))
    assert ended is not None
    assert (ended.exit_code, ended.reason) == (3, None)
    assert ended.finished_at == NOW.replace(microsecond=123_456)


@pytest.mark.parametrize(
    ("state", "limit", "killed", "reason"),
    [
        ({"ExitCode": 137, "OOMKilled": True}, 1, False, "OOMKilled"),
        ({"ExitCode": 1, "OOMKilled": True}, 1, False, "OOMKilled"),  # a child was killed
        ({"ExitCode": 0, "OOMKilled": True}, 1, False, None),
        ({"ExitCode": 137}, 1, False, "OOMKilled"),  # Podman does not say it
        ({"ExitCode": 137}, 1, True, None),
        ({"ExitCode": 137}, 0, False, None),
        ({"ExitCode": 143}, 1, False, None),
    ],
)
def test_lack_of_memory(state: dict[str, Any], limit: int, killed: bool, reason: str | None) -> None:
    ended = container_exit(inspected(limit=limit, **state), killed=killed)
    assert ended is not None
    assert ended.reason == reason


def test_stop_signals() -> None:
    def signal_of(given: Any) -> int:
        one = inspected()
        one["Config"]["StopSignal"] = given
        return container_instance(one).stop_signal

    assert [signal_of(given) for given in (None, "", "SIGQUIT", "QUIT", "3", 3, "SIGRTMIN+3", "nonsense")] == [
        15, 15, 3, 3, 3, 3, 37, 15,
    ]  # fmt: skip


def test_start_errors() -> None:
    """Messages of dockerd 20.10, a newer Docker with its prefix, and Podman 4.3."""
    runc = 'runc create failed: unable to start container process: exec: "x": executable file not found in $PATH'
    kubelet = f"failed to create containerd task: failed to create shim task: OCI runtime create failed: {runc}"
    for said in (
        f"failed to create shim task: OCI runtime create failed: {runc}: unknown",
        f"failed to create task for container: failed to create shim task: OCI runtime create failed: {runc}: unknown",
        f"runc: {runc}: OCI runtime attempted to invoke a command that was not found",
    ):
        error = start_error(said)
        assert (str(error), error.reason, error.exit_code) == (kubelet, "StartError", 128)
    other = start_error("driver failed programming external connectivity")
    assert (other.reason, other.exit_code) == ("RunContainerError", None)


def frame(stream: int, text: bytes, at: str = "2026-01-02T03:04:05Z") -> bytes:
    message = at.encode() + b" " + text
    return struct.pack(">BxxxL", stream, len(message)) + message


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=30)), max_size=12), st.integers(1, 50))
def test_log_frames_in_any_pieces_are_the_lines_that_were_written(messages: list[tuple[int, bytes]], size: int) -> None:
    data = b"".join(frame(stream, text) for stream, text in messages)
    reader = LogStream(tty=False)
    lines = [line for at in range(0, len(data), size) for line in reader.feed(data[at : at + size])]
    assert all(line.data.endswith(b"\n") for line in lines)
    lines += reader.rest()
    for stream in (1, 2):
        written = b"".join(text for number, text in messages if number == stream)
        assert len(written) <= sum(len(line.data) for line in lines)
    assert sum(len(line.data) for line in lines) == sum(len(text) for _, text in messages)


def test_parts_of_a_line_are_joined_stream_by_stream() -> None:
    reader = LogStream(tty=False)
    data = frame(1, b"one ", "2026-01-02T03:04:05Z") + frame(2, b"err\n") + frame(1, b"line\n", "2026-01-02T03:04:06Z")
    at = int(NOW.timestamp()) * 10**9
    assert list(reader.feed(data)) == [LogLine(at, b"err\n"), LogLine(at, b"one line\n")]
    assert list(reader.rest()) == []


def test_a_terminals_log_has_no_frames_and_its_long_lines_have_times_within() -> None:
    stamp = b"2026-01-02T03:04:05.000000001Z "
    reader = LogStream(tty=True)
    long = stamp + b"a" * 16384 + stamp + b"b" * 100 + b"\r\n"
    lines = [*reader.feed(stamp + b"hello\r\n" + long + stamp + b"$ "), *reader.rest()]
    assert [line.data for line in lines] == [b"hello\r\n", b"a" * 16384 + b"b" * 100 + b"\r\n", b"$ "]


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize(
    ("said", "code"),
    [
        (b'OCI runtime exec failed: exec failed: unable to start container process: exec: "x": why: unknown\r\n', 126),
        (
            b'Error: runc: exec failed: unable to start container process: exec: "x": why: OCI permission denied\n'
            b"Error: read unixpacket: connection reset by peer\n",
            126,
        ),
        (
            b'Error: runc: exec failed: unable to start container process: exec: "x": why: '
            b"OCI runtime attempted to invoke a command that was not found\n",
            127,
        ),
    ],
)
def test_a_command_that_was_refused(said: bytes, code: int, size: int) -> None:
    refusal = ExecRefusal()
    assert not [part for at in range(0, len(said), size) for part in refusal.take(1, said[at : at + size])]
    why = 'OCI runtime exec failed: exec failed: unable to start container process: exec: "x": why'
    assert refusal.reason(code) == why
    assert refusal.reason(1) == ""  # then a command has written that


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=10), st.sampled_from([0, 1, 126, 127]))
def test_what_a_command_writes_comes_through_whole(pieces: list[bytes], code: int) -> None:
    refusal = ExecRefusal()
    given_on = [data for piece in pieces for _, data in refusal.take(1, piece)]
    assert refusal.reason(code) == ""
    assert b"".join([*given_on, *(data for _, data in refusal.withheld())]) == b"".join(pieces)


def test_credentials_are_in_the_header_and_nowhere_else() -> None:
    credentials = RegistryCredentials("registry.example", "me", "s3cret:with:colons")
    header = json.loads(base64.urlsafe_b64decode(registry_auth(credentials)))
    assert header == {"serveraddress": "registry.example", "username": "me", "password": "s3cret:with:colons"}
    assert "s3cret" not in repr(credentials)


def test_images() -> None:
    found = image_of({"Id": "sha256:1", "RepoDigests": ["a@sha256:2"], "Size": 3, "Config": {"User": "4"}})
    assert (found.id, found.size, found.user) == ("a@sha256:2", 3, "4")
    assert image_of({"Id": "sha256:1", "RepoDigests": None, "Config": None}).id == "sha256:1"


def test_an_image_is_named_with_registry_and_tag_by_the_name_that_was_asked_for() -> None:
    def name(asked: str, *tags: str) -> str:
        return image_of({"Id": "sha256:1", "RepoTags": list(tags)}, asked).name

    assert name("busybox:1.35", "busybox:1.29", "busybox:1.35") == "docker.io/library/busybox:1.35"
    assert name("docker.io/library/busybox:1.35", "busybox:1.35") == "docker.io/library/busybox:1.35"
    assert name("busybox", "docker.io/library/busybox:1.2", "busybox:latest") == "docker.io/library/busybox:latest"
    assert name(f"busybox@sha256:{'1' * 64}", "localhost:5000/me/busybox:1") == "localhost:5000/me/busybox:1"
    assert name("1" * 64, "<none>:<none>") == ""
    assert name("busybox:1.35") == ""


async def test_progress_is_summed_over_the_layers_and_told_now_and_then() -> None:
    told: list[str] = []
    progress = PullProgress(told.append, every=0)
    progress.take({"status": "Pulling from library/busybox", "id": "1.35"})
    progress.take({"status": "Pulling fs layer", "id": "a", "progressDetail": {}})
    assert told == []
    progress.take({"status": "Downloading", "id": "a", "progressDetail": {"current": 1_000_000, "total": 4_000_000}})
    progress.take({"status": "Downloading", "id": "b", "progressDetail": {"current": 500_000, "total": 2_000_000}})
    assert told == ["Downloading: 1.0 of 4.0 MB in 1 layer", "Downloading: 1.5 of 6.0 MB in 2 layers"]
    with pytest.raises(ImagePullError, match=r"^no such manifest$"):
        progress.take({"error": "no such manifest\n"})
    seldom = PullProgress(told.append, every=60)
    seldom.take({"status": "Downloading", "id": "a", "progressDetail": {"current": 1, "total": 2}})
    assert len(told) == 2


def test_statistics_leave_out_what_is_not_known() -> None:
    told = {
        "read": "2026-01-02T03:04:05Z",
        "cpu_stats": {"cpu_usage": {"total_usage": 7}},
        "memory_stats": {"usage": 100, "limit": 1000, "stats": {"total_inactive_file": 30, "total_rss": 20}},
    }
    stats = stats_of(told, NOW, NOW, machine_memory=5000)
    assert stats.cpu is not None
    assert stats.memory is not None
    assert (stats.cpu.usage_core_nano_seconds, stats.cpu.time) == (7, NOW)
    assert (stats.memory.working_set_bytes, stats.memory.available_bytes, stats.memory.rss_bytes) == (70, 930, 20)
    assert stats.memory.page_faults is None
    unlimited = stats_of(told, NOW, NOW, machine_memory=1000)
    assert unlimited.memory is not None
    assert unlimited.memory.available_bytes is None


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_the_pause_program_is_an_elf_file_in_an_archive_of_its_own(architecture: str) -> None:
    program = pause_program(architecture)
    assert program.startswith(b"\x7fELF")
    with tarfile.open(fileobj=io.BytesIO(pause_root(architecture))) as archive:
        member = archive.extractfile("pause")
        assert member is not None
        assert member.read() == program
        assert archive.getnames() == ["pause"]
    assert pause_root(architecture) == pause_root(architecture)
