"""Which proxy leads to a server: the kubeconfig's, else the environment's, by Go's rules."""

from __future__ import annotations

import pytest

from virtual_kubelet.errors import KubeconfigError
from virtual_kubelet.kube.proxies import proxy_for

PROXY = "http://proxy.example:3128"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def test_the_kubeconfigs_proxy_counts_before_the_environment_and_whatever_no_proxy_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://other.example")
    monkeypatch.setenv("NO_PROXY", "*")
    assert proxy_for(PROXY, "https", "api.example") == PROXY


def test_without_any_there_is_none() -> None:
    assert proxy_for(None, "https", "api.example") is None


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy"])
def test_the_environments_proxy_is_that_of_the_scheme(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, PROXY)
    assert proxy_for(None, "https", "api.example") == PROXY
    assert proxy_for(None, "http", "api.example") is None


def test_a_proxy_without_a_scheme_is_an_http_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "proxy.example:3128")
    assert proxy_for(None, "https", "api.example") == PROXY


@pytest.mark.parametrize(
    ("no_proxy", "host", "bypassed"),
    [
        ("*", "api.example", True),
        ("api.example", "api.example", True),
        ("API.Example", "api.example.", True),
        ("example", "api.example", True),
        (".example", "api.example", True),
        ("*.example", "api.example", True),
        (" other , example ", "api.example", True),
        ("ample", "api.example", False),
        ("api.example", "example", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("fd00::/8", "fd00::1", True),
        ("[fd00::1]", "fd00::1", True),
        ("", "127.0.0.1", True),
        ("", "localhost", True),
        ("", "::1", True),
        ("", "api.example", False),
    ],
)
def test_no_proxy_names_hosts_domains_addresses_and_networks(
    monkeypatch: pytest.MonkeyPatch, no_proxy: str, host: str, bypassed: bool
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert (proxy_for(None, "https", host) is None) is bypassed


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://", "is not a URL"),
        ("http://user:planted-secret@:99999", "is not a URL"),
        ("socks5://user:planted-secret@proxy.example:1080", "is a socks5 proxy: only http and https"),
    ],
)
def test_a_proxy_that_cannot_work_is_refused_and_not_quoted(url: str, message: str) -> None:
    with pytest.raises(KubeconfigError, match=message) as caught:
        proxy_for(url, "https", "api.example")
    assert "planted-secret" not in str(caught.value)
    assert "the proxy-url of the kubeconfig" in str(caught.value)
