"""Which protocol is spoken: SPDY's version header and the WebSocket handshake."""

from __future__ import annotations

import pytest

from virtual_kubelet.errors import ProtocolError
from virtual_kubelet.streaming.negotiation import (
    PORT_FORWARD_PROTOCOL,
    REMOTE_COMMAND_PROTOCOLS,
    choose_version,
    is_spdy_request,
    refused_version,
)
from virtual_kubelet.streaming.websocket.handshake import (
    accept_key,
    choose_protocol,
    header_tokens,
    is_websocket_request,
    request_headers,
    server_headers,
)

KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def test_the_first_of_the_clients_versions_that_is_served_is_chosen() -> None:
    offered = ["v5.channel.k8s.io", "v4.channel.k8s.io", "v3.channel.k8s.io"]
    assert choose_version(offered, REMOTE_COMMAND_PROTOCOLS) == "v4.channel.k8s.io"
    assert choose_version(["v9, v2.channel.k8s.io"], REMOTE_COMMAND_PROTOCOLS) == "v2.channel.k8s.io"
    assert choose_version(["v99.channel.k8s.io"], REMOTE_COMMAND_PROTOCOLS) is None
    assert choose_version([], [PORT_FORWARD_PROTOCOL]) is None


def test_a_refusal_reads_as_the_kubelets() -> None:
    assert refused_version(["v99"], [PORT_FORWARD_PROTOCOL]) == (
        "unable to upgrade: unable to negotiate protocol: client supports [v99], server accepts [portforward.k8s.io]\n"
    )


@pytest.mark.parametrize(
    ("connection", "upgrade", "spdy", "websocket"),
    [
        (["Upgrade"], ["SPDY/3.1"], True, False),
        (["keep-alive, upgrade"], ["spdy/3.1"], True, False),
        (["Upgrade"], ["websocket"], False, True),
        (["keep-alive, Upgrade"], ["WebSocket"], False, True),
        (["keep-alive"], ["websocket"], False, False),
        (["keep-alive"], ["SPDY/3.1"], False, False),
        (["Upgrade"], ["h2c"], False, False),
        ([], [], False, False),
    ],
)
def test_what_an_upgrade_asks_for(connection: list[str], upgrade: list[str], spdy: bool, websocket: bool) -> None:
    assert is_spdy_request(connection, upgrade) is spdy
    assert is_websocket_request(connection, upgrade) is websocket


def test_the_accept_key_of_rfc_6455() -> None:
    assert accept_key(KEY) == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_a_handshake_is_accepted_with_the_chosen_protocol() -> None:
    assert server_headers("GET", KEY, "13", "v5.channel.k8s.io") == [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ("Sec-WebSocket-Protocol", "v5.channel.k8s.io"),
    ]
    assert len(server_headers("GET", KEY, "13", "")) == 3


@pytest.mark.parametrize(
    ("method", "key", "version", "status"),
    [("POST", KEY, "13", 405), ("GET", KEY, "8", 400), ("GET", "", "13", 400), ("GET", "short", "13", 400)],
)
def test_a_handshake_that_breaks_the_rules_is_refused(method: str, key: str, version: str, status: int) -> None:
    with pytest.raises(ProtocolError) as caught:
        server_headers(method, key, version, "")
    assert caught.value.status == status


def test_the_first_of_the_clients_protocols_that_is_served_is_chosen() -> None:
    assert choose_protocol(["v9", "v5.channel.k8s.io"], ["v5.channel.k8s.io"]) == "v5.channel.k8s.io"
    assert choose_protocol([], ["v5.channel.k8s.io"]) == ""
    with pytest.raises(ProtocolError, match="none of the sub-protocols") as caught:
        choose_protocol(["v9"], ["v5.channel.k8s.io"])
    assert caught.value.status == 403


def test_a_client_asks_with_its_protocols() -> None:
    headers = dict(request_headers(KEY, ["a", "b"]))
    assert headers["Sec-WebSocket-Protocol"] == "a, b"
    assert header_tokens([headers["Sec-WebSocket-Protocol"]]) == ["a", "b"]
    assert "Sec-WebSocket-Protocol" not in dict(request_headers(KEY, []))
