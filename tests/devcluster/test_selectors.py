"""Label selectors and what the API server says of those that are none."""

from __future__ import annotations

import pytest

from virtual_kubelet.devcluster.selectors import parse_label_selector
from virtual_kubelet.devcluster.statuses import StatusError

LABELS = {"a": "1", "b": "x", "example.com/c": "", "in": "notin"}


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "a", "a=1", "a==1", "a = 1 , b!=y", "!z", "! z", "a in (1,2)", "a notin (2)", "z notin (1)", "z!=1",
        "example.com/c", "example.com/c=", "example.com/c in ()", "example.com/c in (,x)", "a>0", "a<2", "in=notin",
        "in in (in,notin)", "b,a",
    ],
)  # fmt: skip
def test_what_selects(text: str) -> None:
    assert parse_label_selector(text).matches(LABELS)


@pytest.mark.parametrize(
    "text",
    ["z", "a=2", "a!=1", "!a", "a in (2,3)", "a notin (1)", "b=", "b in ()", "a>1", "a<1", "b>1", "z>1", "a,!b"],
)
def test_what_does_not_select(text: str) -> None:
    assert not parse_label_selector(text).matches(LABELS)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("=b", "found '=', expected: !, identifier, or 'end of string'"),
        (",a", "found ',', expected: !, identifier, or 'end of string'"),
        ("a,", "found '', expected: identifier after ','"),
        ("a,,b", "found ',', expected: identifier after ','"),
        ("a=b=c", "found '=', expected: ',' or 'end of string'"),
        ("a=b c", "found 'c', expected: ',' or 'end of string'"),
        ("!a=b", "found '=', expected: ',' or 'end of string'"),
        ("a in (b))", "found ')', expected: ',' or 'end of string'"),
        ("!", "unable to parse requirement: found '', expected: identifier"),
        ("!!a", "unable to parse requirement: found '!', expected: identifier"),
        ("a=!b", "unable to parse requirement: found '!', expected: identifier"),
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("a in", "unable to parse requirement: found '' expected: '('"),
        ("a in b", "unable to parse requirement: found 'b' expected: '('"),
        ("a in (", "unable to parse requirement: found '', expected: ',', ')' or identifier"),
        ("a in (=", "unable to parse requirement: found '=', expected: ',', ')' or identifier"),
        ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("a in (b c)", "unable to parse requirement: found 'c', expected: ',' or ')'"),
        ("a in (b,=)", "unable to parse requirement: found '=', expected: ',', or identifier"),
        (
            "a>b",
            "unable to parse requirement: values[0]: Invalid value: \"b\": for 'Gt', 'Lt' operators, the value must be an "
            "integer",
        ),
        ("/a", 'unable to parse requirement: <nil>: Invalid value: "/a": prefix part must be non-empty'),
        (
            "a in (-b, c)",
            'unable to parse requirement: values[0][a]: Invalid value: "-b": a valid label must be an empty string or '
            "consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character "
            "(e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
            "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
        ),
    ],
)
def test_what_is_no_selector(text: str, sentence: str) -> None:
    with pytest.raises(StatusError) as caught:
        parse_label_selector(text)
    assert (caught.value.code, str(caught.value)) == (400, sentence)
