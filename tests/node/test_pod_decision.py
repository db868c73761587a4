from __future__ import annotations

from itertools import product

import pytest

from virtual_kubelet.node.pod_decision import Action, Facts, decide


@pytest.mark.parametrize(
    ("facts", "action"),
    [
        (Facts(in_api=True), Action.CREATE),
        (Facts(in_api=True, in_provider=False), Action.CREATE),
        (Facts(in_api=True, in_provider=True), Action.NOTHING),
        (Facts(in_api=True, in_provider=True, changed=True), Action.UPDATE),
        (Facts(in_api=True, name_taken=True), Action.WAIT_FOR_NAME),
        (Facts(in_api=True, terminal=True), Action.NOTHING),
        (Facts(in_api=True, terminal=True, in_provider=True, changed=True), Action.NOTHING),
        (Facts(in_api=True, in_provider=False, had_run=True), Action.FAIL_AS_LOST),
        (Facts(in_api=True, in_provider=False, had_run=True, rerun_is_safe=True), Action.CREATE),
        (Facts(in_api=True, in_provider=None, had_run=True), Action.CREATE),
        (Facts(in_api=True, deleting=True), Action.DELETE),
        (Facts(in_api=True, deleting=True, in_provider=True), Action.DELETE),
        (Facts(in_api=True, deleting=True, in_provider=False), Action.FINISH),
        (Facts(in_api=True, deleting=True, in_provider=True, delete_accepted=True), Action.NOTHING),
        (
            Facts(in_api=True, deleting=True, in_provider=True, delete_accepted=True, containers_ended=True),
            Action.FINISH,
        ),
        (Facts(in_api=True, deleting=True, in_provider=True, delete_accepted=True, grace_over=True), Action.FINISH),
        (Facts(in_api=True, deleting=True, terminal=True, in_provider=True), Action.DELETE),
        (Facts(in_api=False, in_provider=True), Action.DELETE),
        (Facts(in_api=False, in_provider=None), Action.DELETE),
        (Facts(in_api=False, in_provider=False), Action.FORGET),
    ],
)
def test_each_state_has_one_next_step(facts: Facts, action: Action) -> None:
    assert decide(facts) is action


def test_rules_that_hold_in_every_state() -> None:
    for values in product([True, False], [True, False], [True, False], [None, True, False], *[[True, False]] * 6):
        in_api, deleting, terminal, in_provider, *rest = values
        facts = Facts(bool(in_api), bool(deleting), bool(terminal), bool(rest[0]), in_provider, *map(bool, rest[1:]))
        action = decide(facts)
        if action is Action.CREATE:
            assert facts.in_api
            assert not facts.deleting
            assert not facts.terminal
            assert not facts.name_taken
        if action is Action.FINISH:
            assert facts.deleting
            assert facts.in_provider is False or facts.delete_accepted
        if not facts.in_api:
            assert action in (Action.DELETE, Action.FORGET)
