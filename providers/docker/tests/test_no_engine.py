"""Where no container engine is: what a newcomer reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from virtual_kubelet_docker.daemon import Daemon, DaemonError


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither variables, nor contexts, nor sockets at the usual places."""
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("aiodocker.docker._sock_search_paths", [])


async def said(url: str | None) -> str:
    with pytest.raises(DaemonError) as caught:
        async with Daemon(url):
            pass
    assert caught.value.status == 0
    return str(caught.value)


@pytest.mark.may_block
@pytest.mark.usefixtures("nowhere")
async def test_none_at_the_usual_places() -> None:
    assert await said(None) == "no container engine was found, or its address is none"


@pytest.mark.may_block
@pytest.mark.usefixtures("nowhere")
async def test_an_address_that_is_none() -> None:
    assert await said("nonsense") == "no container engine was found, or its address is none"


@pytest.mark.may_block
@pytest.mark.usefixtures("nowhere")
async def test_a_socket_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    url = f"unix://{tmp_path}/docker.sock"
    assert await said(url) == f"the container engine at {url} cannot be reached"
    monkeypatch.setenv("DOCKER_HOST", url)
    assert await said(None) == f"the container engine at {url} cannot be reached"
