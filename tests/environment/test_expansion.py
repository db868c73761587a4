"""Rules of upstream's internal/expansion tests, and what must hold for any text."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from virtual_kubelet.environment.expansion import expand

OUTER = {"VAR_A": "A", "VAR_B": "B", "VAR_C": "C", "VAR_REF": "$(VAR_A)", "VAR_EMPTY": "", "": "nameless"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("$(VAR_A)", "A"),
        ("___$(VAR_B)___", "___B___"),
        ("$(VAR_A)$(VAR_B)", "AB"),
        ("f000-$(VAR_A)", "f000-A"),
        ("$(VAR_EMPTY)", ""),
        ("foo$(VAR_EMPTY)bar", "foobar"),
        ("$(UNKNOWN)", "$(UNKNOWN)"),
        ("$(UNKNOWN)-$(VAR_A)", "$(UNKNOWN)-A"),
    ],
)
def test_references(text: str, expected: str) -> None:
    assert expand(text, OUTER) == expected


def test_a_value_is_not_expanded_again() -> None:
    assert expand("$(VAR_REF)", OUTER) == "$(VAR_A)"


def test_the_first_mapping_that_has_the_name_wins() -> None:
    assert expand("$(X) $(Y) $(Z)", {"X": "1"}, {"X": "2", "Y": "2"}) == "1 2 $(Z)"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$$(VAR_A)", "$(VAR_A)"),
        ("$$$(VAR_A)", "$A"),
        ("$$$$(VAR_A)", "$$(VAR_A)"),
        ("$$", "$"),
        ("$$$", "$$"),
        ("cost: 5$$", "cost: 5$"),
    ],
)
def test_escapes(text: str, expected: str) -> None:
    assert expand(text, OUTER) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$", "$"),
        ("text$", "text$"),
        ("$VAR_A", "$VAR_A"),
        ("$ (VAR_A)", "$ (VAR_A)"),
        ("$é", "$é"),
        ("${VAR_A}", "${VAR_A}"),
        ("$(VAR_A", "$(VAR_A"),
        ("$(", "$("),
        ("VAR_A)", "VAR_A)"),
        ("$((VAR_A))", "$((VAR_A))"),  # the name is "(VAR_A"
        ("$(VAR_A$(VAR_B)", "$(VAR_A$(VAR_B)"),  # the name is "VAR_A$(VAR_B"
        ("$(VAR_A$(VAR_B))", "$(VAR_A$(VAR_B))"),
        ("$(open $(VAR_A", "$(open $(VAR_A"),
        ("$(VAR_A)$(open $$ $", "A$(open $ $"),
        ("$()", "nameless"),
    ],
)
def test_nested_and_malformed_references(text: str, expected: str) -> None:
    assert expand(text, OUTER) == expected


texts = st.text(alphabet="$()AB x", max_size=40)
mappings = st.dictionaries(st.sampled_from(["A", "B", "AB", ""]), texts, max_size=3)


@given(texts, mappings)
@example("$(A", {})
def test_no_text_is_an_error(text: str, mapping: dict[str, str]) -> None:
    before = dict(mapping)
    expand(text, mapping)
    assert mapping == before


@given(st.text().filter(lambda text: "$" not in text), mappings)
def test_a_text_without_a_dollar_stays_as_it_is(text: str, mapping: dict[str, str]) -> None:
    assert expand(text, mapping) == text


@given(texts, mappings)
def test_escaped_text_comes_out_as_it_was(text: str, mapping: dict[str, str]) -> None:
    assert expand(text.replace("$", "$$"), mapping) == text


@given(st.lists(st.sampled_from(["$(A)", "$(B)", "$(AB)", "text", " "])), mappings)
def test_parts_expand_one_by_one(parts: list[str], mapping: dict[str, str]) -> None:
    assert expand("".join(parts), mapping) == "".join(expand(part, mapping) for part in parts)


@given(texts)
def test_without_values_only_escapes_change_and_a_second_pass_of_what_has_none_changes_nothing(text: str) -> None:
    once = expand(text)
    assert once.replace("$", "") == text.replace("$", "")
    if "$$" not in text:
        assert once == text
        assert expand(once) == once


class Counted(str):
    """Counts how often it is searched for the end of a reference."""

    searches = 0

    def find(self, *arguments: Any) -> int:
        self.searches += arguments[0] == ")"
        return super().find(*arguments)


def test_openings_without_an_end_do_not_each_look_through_the_rest() -> None:
    """A pod may hold 1.5 MB of them."""
    text = Counted("$(A)" + "$(" * 1000)
    assert expand(text, OUTER) == "$(A)" + "$(" * 1000
    assert text.searches == 1
