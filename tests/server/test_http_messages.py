"""Targets, queries, headers, identities."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtual_kubelet.errors import ProtocolError
from virtual_kubelet.server.http_messages import (
    Headers,
    QueryParameters,
    Request,
    Target,
    parse_target,
    peer_identity,
    text_response,
)


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", "/", ""),
        (b"/pods", "/pods", ""),
        (b"/pods?a=1?b", "/pods", "a=1?b"),
        (b"/a%20b/%C3%A9", "/a b/é", ""),
        (b"/a//b/", "/a//b/", ""),
        (b"/.well-known/x", "/.well-known/x", ""),
        (b"/...", "/...", ""),
        (b"https://node:10250/pods?x", "/pods", "x"),
        (b"HTTP://node", "/", ""),
    ],
)
def test_a_target_is_split_and_decoded(target: bytes, path: str, query: str) -> None:
    parsed = parse_target(target)
    assert (parsed.path, parsed.raw_query) == (path, query)


@pytest.mark.parametrize(
    "target",
    [
        b"*",
        b"node:443",
        b"ftp://node/x",
        b"/a/../b",
        b"/a/%2e%2e/b",
        b"/a/%2E/b",
        b"/.",
        b"/..",
        b"/a%2fb",
        b"/a%00",
        b"/a%0d%0aSet-Cookie:x",
        b"/a%7f",
        b"/a%",
        b"/a%zz",
        b"/a%f",
        b"/%ff",
        b"/a#b",
        b"/\xc3\xa9",
        b"",
    ],
)
def test_a_target_that_could_be_read_in_two_ways_is_refused(target: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_target(target)
    assert caught.value.status == 400


@given(st.binary(max_size=60))
def test_any_target_gives_a_clean_path_or_a_protocol_error(data: bytes) -> None:
    try:
        path = parse_target(b"/" + data).path
    except ProtocolError:
        return
    assert path.startswith("/")
    assert not set(path.split("/")) & {".", ".."}
    assert all(c >= " " and c != "\x7f" for c in path)


def test_a_long_path_is_matched_in_linear_time() -> None:
    assert len(parse_target(b"/" + b"a" * 200_000 + b"%20").path) == 200_002


def test_query_parameters_are_read_as_go_does() -> None:
    query = QueryParameters("a=1&a=2&b&c=x+y%2B&bad=%zz&semi=1;2&=empty&u=%C3%A9&broken=%ff")
    assert query.get("a") == "1"
    assert query.get_all("a") == ["1", "2"]
    assert "b" in query
    assert query.get("b", "?") == ""
    assert query.get("c") == "x y+"
    assert "bad" not in query
    assert "semi" not in query
    assert query.get("u") == "é"
    assert query.get("broken") == "\ufffd"
    assert query.get("missing", "default") == "default"
    assert len(query) == 7


def test_headers_are_found_without_regard_to_case_and_the_first_counts() -> None:
    headers = Headers([(b"authorization", b"one"), (b"authorization", b"two"), (b"x", b"\xe9")])
    assert headers.get("Authorization") == "one"
    assert headers.get_all("AUTHORIZATION") == ["one", "two"]
    assert headers.get("X") == "é"
    assert "x" in headers
    assert "y" not in headers
    assert headers.get("y") == ""


def test_a_certificate_names_its_last_common_name_and_all_organizations() -> None:
    identity = peer_identity(
        {
            "subject": (
                (("organizationName", "system:masters"),),
                (("commonName", "first"),),
                (("organizationName", "two"), ("commonName", "second")),
            ),
            "serialNumber": "0A",
            "notAfter": "Nov 24 00:00:00 2026 GMT",
        }
    )
    assert identity is not None
    assert identity.common_name == "second"
    assert identity.organizations == ("system:masters", "two")
    assert identity.serial == "0A"
    assert identity.not_after == 1795478400.0


def test_no_certificate_is_no_identity() -> None:
    assert peer_identity(None) is None
    assert peer_identity({}) is None


async def test_a_request_without_a_reader_has_no_body_and_shows_neither_query_nor_headers() -> None:
    request = Request(
        "POST", Target("/exec", "/exec", "command=secret"), Headers([(b"authorization", b"Bearer t0ken")]), remote="x:1"
    )
    assert await request.body() == b""
    assert request.query.get("command") == "secret"
    assert request.query is request.query
    assert "secret" not in repr(request)
    assert "t0ken" not in repr(request)


def test_a_text_response_is_utf8_text() -> None:
    response = text_response(404, "né", ("Allow", "GET"))
    assert response.status == 404
    assert response.headers == [("Content-Type", "text/plain; charset=utf-8"), ("Allow", "GET")]
    assert response.body == "né".encode()
