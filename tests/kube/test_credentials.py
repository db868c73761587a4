"""Credentials: what header they give, when they look again, and that they are never shown."""

from __future__ import annotations

import asyncio
import base64
import threading
from pathlib import Path

import pytest

from tests.kube.api_stand_in import SECRET
from tests.kube.test_client import everything_said
from virtual_kubelet.errors import ApiConnectionError, CredentialsError, KubeconfigError
from virtual_kubelet.kube.credentials import Anonymous, BasicAuth, StaticToken, TokenFile


async def test_the_headers_of_those_that_never_change() -> None:
    assert await Anonymous().authorization() is None
    for credentials, header in (
        (StaticToken(SECRET), f"Bearer {SECRET}"),
        (BasicAuth("user", SECRET), "Basic " + base64.b64encode(f"user:{SECRET}".encode()).decode()),
    ):
        credentials.reject(header)
        assert await credentials.authorization() == header
        assert SECRET not in repr(credentials) + str(credentials)


@pytest.mark.parametrize("token", [SECRET + "\n", SECRET + " x", SECRET + "é", SECRET + "\0", ""])
def test_a_token_that_no_header_can_carry_is_refused_and_not_quoted(token: str) -> None:
    with pytest.raises(KubeconfigError) as caught:
        StaticToken(token)
    assert SECRET not in everything_said(caught.value)


async def test_a_token_file_is_read_again_after_its_period_and_after_a_refusal(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("one\n")
    slow, fast = TokenFile(path), TokenFile(path, period=0)
    assert [await slow.authorization(), await fast.authorization()] == ["Bearer one"] * 2
    path.write_text("two\n")
    assert [await slow.authorization(), await fast.authorization()] == ["Bearer one", "Bearer two"]
    slow.reject("Bearer zero")
    assert await slow.authorization() == "Bearer one", "what was refused is not what it has"
    slow.reject("Bearer one")
    assert await slow.authorization() == "Bearer two"


async def test_a_token_file_is_read_in_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "token"
    path.write_text("one")
    readers: set[int] = set()
    read_text = Path.read_text

    def reading(self: Path, encoding: str | None = None) -> str:
        readers.add(threading.get_ident())
        return read_text(self, encoding)

    monkeypatch.setattr(Path, "read_text", reading)
    await TokenFile(path).authorization()
    assert readers
    assert threading.get_ident() not in readers


async def test_many_who_ask_at_once_all_get_the_token(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("one")
    file = TokenFile(path)
    assert set(await asyncio.gather(*(file.authorization() for _ in range(20)))) == {"Bearer one"}


@pytest.mark.parametrize("content", [None, b"", b"  \n", b"\xff" + SECRET.encode(), f"{SECRET}\n{SECRET}".encode()])
async def test_the_last_token_is_kept_while_the_file_holds_none(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "token"
    path.write_text("one")
    file = TokenFile(path, period=0)
    await file.authorization()
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert await file.authorization() == "Bearer one"
    with pytest.raises(CredentialsError, match=str(path)) as caught:
        await TokenFile(path).authorization()
    assert SECRET not in everything_said(caught.value)
    assert isinstance(caught.value, ApiConnectionError), "a running node tries again"
    assert isinstance(caught.value, KubeconfigError), "at start it is a mistake in the configuration"
