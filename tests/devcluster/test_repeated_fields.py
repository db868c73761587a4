"""Keys that an object of a body has twice: told the same, whether or not the text lets them be counted."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from virtual_kubelet.devcluster.go_json import decode_go_json, repeated_fields


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"a": 1, "b": {"a": 2}}', []),
        ('{"a": 1, "a": 2}', ["a"]),
        ('{"a": 1, "a" : 2}', ["a"]),
        ('{"a":1,"a"\n:2}', ["a"]),
        ('{"a": {"b": 1, "b": 1}, "c": [{"d": 1}, {"d": 1, "d": 1}]}', ["a.b", "c[1].d"]),
        # What is written as an escape, or looks like the end of a key, hides nothing.
        ('{"a": 1, "a": 2, "s": "\\"\\u003a"}', ["a"]),
        ('{"a": 1, "\\u0061": 2}', ["a"]),
        ('{"a": ":", "b": "x:"}', []),
        ('{"a": ":", "a": ":"}', ["a"]),
    ],
)
def test_repeated_fields_are_named(text: str, found: list[str]) -> None:
    assert repeated_fields(text.encode(), decode_go_json(text.encode())) == [
        f'duplicate field "{path}"' for path in found
    ]


_KEYS = st.text(st.sampled_from('ab:" \\'), max_size=2)
_SPACE = st.sampled_from(["", " ", "\n"])


@st.composite
def _objects(draw: st.DrawFn, values: st.SearchStrategy[tuple[str, bool]]) -> tuple[str, bool]:
    """JSON, and whether one of its objects has a key twice."""
    pairs = draw(st.lists(st.tuples(_KEYS, _SPACE, values), max_size=4))
    keys = [key for key, _, _ in pairs]
    text = ",".join(f"{json.dumps(key)}{space}:{value}" for key, space, (value, _) in pairs)
    return "{" + text + "}", len(set(keys)) < len(keys) or any(repeated for _, _, (_, repeated) in pairs)


_SCALARS = st.one_of(_KEYS, st.integers(0, 9), st.booleans()).map(lambda value: (json.dumps(value), False))
_VALUES = st.recursive(_SCALARS, _objects, max_leaves=6)


@settings(max_examples=100, deadline=None)
@given(_objects(_VALUES))
def test_a_repeated_field_is_found_wherever_it_is(made: tuple[str, bool]) -> None:
    text, repeated = made
    assert bool(repeated_fields(text.encode(), decode_go_json(text.encode()))) is repeated
