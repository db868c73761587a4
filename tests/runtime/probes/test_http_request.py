from __future__ import annotations

import pytest

from virtual_kubelet.objects.core_v1 import Container, ContainerPort, HTTPGetAction, HTTPHeader, Pod, PodSpec
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.runtime.probes.http_request import HttpRequest, RedirectError, redirected, request_of
from virtual_kubelet.runtime.probes.target import ContainerTarget, ProbeError, go_duration, go_quote, resolve_port

CONTAINER = Container(name="main", ports=[ContainerPort(name="web", container_port=8080)])


def request(path: str = "/", *, headers: dict[str, str] | None = None, **fields: str | int) -> HttpRequest:
    action = HTTPGetAction(
        port=fields.pop("port", 80),
        path=path,
        http_headers=[HTTPHeader(name=n, value=v) for n, v in (headers or {}).items()] or None,
        **fields,  # type: ignore[arg-type]
    )
    return request_of(action, asked("10.0.0.1"))


def asked(ip: str) -> ContainerTarget:
    return ContainerTarget(Pod(metadata=ObjectMeta(), spec=PodSpec(containers=[CONTAINER])), CONTAINER, "c1", ip, None)


def test_a_plain_request_goes_to_the_pod_and_says_that_it_is_a_probe() -> None:
    made = request("/healthz")
    assert made.url == "http://10.0.0.1:80/healthz"
    assert made.sent_headers == [
        ("Host", "10.0.0.1:80"),
        ("User-Agent", "kube-probe/1.36"),
        ("Accept", "*/*"),
        ("Connection", "close"),
    ]


def test_host_scheme_and_named_port_are_taken_from_the_action() -> None:
    assert request(scheme="HTTPS", host="example.com", port="web").url == "https://example.com:8080/"
    assert request_of(HTTPGetAction(port=1), asked("fe80::1")).url == "http://[fe80::1]:1/"


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("", "/"),
        ("healthz", "/healthz"),
        ("/a?x=1&y=/b?c", "/a?x=1&y=/b?c"),
        ("/a b", "/a%20b"),
        ("/%41%2F", "/%41%2F"),
        ("/50%", "/50%25"),
        ("//elsewhere/x", "/x"),
        ("http://elsewhere/x?y", "/x?y"),
        ("/x#part", "/x"),
        ("/é", "/%C3%A9"),
        ("/a\r\nX-Evil: 1", "/a%0D%0AX-Evil:%201"),
        ("/a?b c", "/a?b%20c"),
        ("http://[bad", "/http://%5Bbad"),
    ],
)
def test_a_path_becomes_what_go_would_send(path: str, target: str) -> None:
    assert request(path).target == target


def test_a_pod_without_an_address_is_not_taken_for_this_machine() -> None:
    with pytest.raises(ProbeError, match="the pod has no address"):
        request_of(HTTPGetAction(port=1), asked(""))
    assert request_of(HTTPGetAction(port=1, host="[::1]"), asked("")).url == "http://[::1]:1/"


def test_headers_of_the_pod_replace_the_usual_ones_and_an_empty_one_takes_it_away() -> None:
    made = request(headers={"Host": "h.example", "user-agent": "mine", "Accept": "", "X-A": "1", "Connection": "x"})
    assert made.sent_headers == [
        ("Host", "h.example"),
        ("user-agent", "mine"),
        ("X-A", "1"),
        ("Connection", "close"),
    ]


def test_ports_are_numbers_names_or_numbers_that_are_written_as_names() -> None:
    assert [resolve_port(port, CONTAINER) for port in (81, "web", "82")] == [81, 8080, 82]
    with pytest.raises(ProbeError, match=r'^strconv.Atoi: parsing "http": invalid syntax$'):
        resolve_port("http", CONTAINER)
    with pytest.raises(ProbeError, match=r"^invalid port number: 0$"):
        resolve_port(0, CONTAINER)
    with pytest.raises(ProbeError, match=r"^invalid port number: 70000$"):
        resolve_port("70000", CONTAINER)


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("/next?a=1", "http://10.0.0.1:80/next?a=1"),
        ("next", "http://10.0.0.1:80/dir/next"),
        ("http://10.0.0.1:9/x", "http://10.0.0.1:9/x"),
        ("https://10.0.0.1/x", "https://10.0.0.1:443/x"),
    ],
)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_on_the_same_host_is_followed(status: int, location: str, url: str) -> None:
    following = redirected(request("/dir/file"), status, location)
    assert following is not None
    assert (following.url, following.followed) == (url, 1)


@pytest.mark.parametrize(
    ("status", "location"),
    [(302, "http://169.254.169.254/secret"), (302, "//other/x"), (302, None), (302, ""), (304, "/x"), (200, "/x")],
)
def test_what_leads_elsewhere_or_nowhere_is_not_followed(status: int, location: str | None) -> None:
    assert redirected(request("/"), status, location) is None


def test_the_host_header_is_kept_for_a_relative_redirect_only() -> None:
    made = request(headers={"Host": "h.example"})
    relative, absolute = redirected(made, 302, "/x"), redirected(made, 302, "http://10.0.0.1/x")
    assert relative is not None
    assert absolute is not None
    assert (relative.host_header, absolute.host_header) == ("h.example", None)


def test_the_eleventh_redirect_is_one_too_many() -> None:
    made = request("/")
    for _ in range(10):
        following = redirected(made, 302, "/loop")
        assert following is not None
        made = following
    with pytest.raises(RedirectError, match=r"^stopped after 10 redirects$"):
        redirected(made, 302, "/loop")


@pytest.mark.parametrize(
    ("location", "text"),
    [("http://[bad", "failed to parse Location header"), ("ftp://10.0.0.1/", 'unsupported protocol scheme "ftp"')],
)
def test_a_redirect_that_makes_no_sense_is_an_error(location: str, text: str) -> None:
    with pytest.raises(RedirectError, match=text):
        redirected(request("/"), 302, location)


def test_texts_look_as_go_prints_them() -> None:
    assert [go_duration(s) for s in (1, 60, 90, 3600)] == ["1s", "1m0s", "1m30s", "1h0m0s"]
    assert go_quote('a "b"\n\\\x01') == '"a \\"b\\"\\n\\\\\\u0001"'
