from __future__ import annotations

import asyncio
import io
import json
import logging
import subprocess
import sys

import pytest

from virtual_kubelet.telemetry import logs

log = logs.get_logger("virtual_kubelet.test_logs")


@pytest.fixture
def restored_root_logger() -> object:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before[0], before[1]


def test_a_line_carries_the_bound_fields_as_attributes_of_its_record(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), logs.bind(node="n", namespace="ns", pod="p", uid="u"):
        log.info("created")
    record = caplog.records[0]
    assert (record.node, record.namespace, record.pod, record.uid) == ("n", "ns", "p", "u")  # type: ignore[attr-defined]


def test_fields_end_with_their_block(caplog: pytest.LogCaptureFixture) -> None:
    with logs.bind(node="n"):
        with logs.bind(pod="p"):
            assert logs.bound_fields() == {"node": "n", "pod": "p"}
        assert logs.bound_fields() == {"node": "n"}
    assert logs.bound_fields() == {}


async def test_tasks_inherit_the_fields_and_do_not_share_later_ones() -> None:
    async def work(pod: str) -> dict[str, str]:
        with logs.bind(pod=pod):
            await asyncio.sleep(0)
            return dict(logs.bound_fields())

    with logs.bind(node="n"):
        assert list(await asyncio.gather(work("a"), work("b"))) == [
            {"node": "n", "pod": "a"},
            {"node": "n", "pod": "b"},
        ]


def test_a_field_named_like_a_record_attribute_breaks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), logs.bind(name="pod-name", message="m"):
        log.info("kept")
    assert caplog.records[0].name == "virtual_kubelet.test_logs"
    assert caplog.records[0].getMessage() == "kept"


def test_text_lines_quote_what_needs_it(restored_root_logger: object) -> None:
    out = io.StringIO()
    logs.configure("info", "text", out)
    with logs.bind(pod="p", reason='two "words"', empty=""):
        log.info("hello %s", "there")
        log.debug("not at this level")
    line = out.getvalue()
    assert line.endswith(' INFO    hello there pod=p reason="two \\"words\\"" empty=""\n')
    assert line[10] == "T"
    assert line.count("\n") == 1


def test_json_lines_are_one_object_with_the_exception_inside(restored_root_logger: object) -> None:
    out = io.StringIO()
    logs.configure("debug", "json", out)
    with logs.bind(pod="p", level="not this"):
        try:
            raise ValueError("broken\nin two")
        except ValueError:
            log.exception("failed")
    (line,) = out.getvalue().splitlines()
    row = json.loads(line)
    assert (row["level"], row["message"], row["pod"]) == ("error", "failed", "p")
    assert "ValueError: broken" in row["exception"]


def test_importing_the_package_installs_no_handler() -> None:
    code = (
        "import logging, virtual_kubelet as v\n"
        "[getattr(v, n) for n in v.__all__]\n"
        "print(logging.getLogger().handlers, logging.getLogger('virtual_kubelet').handlers, logging.getLogger().level)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[] [] 30"
