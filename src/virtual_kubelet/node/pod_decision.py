"""What to do about one pod, from what is known of it. Pure: a table of state to action.

The order of the rules is the meaning; each says why. Compare upstream's node/podcontroller.go and pod.go; where they key
by name we key by UID, and the provider is told of every deletion, also of a pod that never ran.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

__all__ = ["Action", "Facts", "decide"]


class Action(enum.Enum):
    NOTHING = "nothing"
    WAIT_FOR_NAME = "wait: an older pod of this name is still with the provider"
    CREATE = "create in the provider"
    UPDATE = "update in the provider"
    CONFIGURE = "give the provider the ConfigMaps, Secrets and files as they are now"
    FAIL_AS_LOST = "Failed: it had run, and the provider does not know it any more"
    DELETE = "delete in the provider"
    FINISH = "remove the API object"
    FORGET = "forget: gone everywhere"


class Facts(NamedTuple):
    """All that counts for the decision.

    Attributes:
        in_api: the API server has it.
        deleting: it has a deletionTimestamp.
        terminal: its phase in the API, or its newest status, is Succeeded or Failed.
        containers_ended: the newest status says that no container runs any more.
        in_provider: the provider knows it; None if that has to be asked.
        delete_accepted: the provider has been told to delete it, with the present grace period.
        grace_over: its grace period has ended, and the time that the provider has to say what became of it.
        had_run: its status in the API says that a container of it ran (before this process began).
        rerun_is_safe: the provider says that a lost pod may run again.
        changed: spec, labels or annotations differ from what the provider was given.
        configuration_due: what it refers to may differ from what a provider that wants to know has.
        name_taken: an older incarnation of its name is still with the provider.
    """

    in_api: bool
    deleting: bool = False
    terminal: bool = False
    containers_ended: bool = False
    in_provider: bool | None = None
    delete_accepted: bool = False
    grace_over: bool = False
    had_run: bool = False
    rerun_is_safe: bool = False
    changed: bool = False
    configuration_due: bool = False
    name_taken: bool = False


def decide(facts: Facts) -> Action:
    """The one next step. After it the facts have changed, and the question is asked again."""
    if not facts.in_api:
        # Forced deletions, and pods that went while we did not look. Unknown counts as there: deleting is idempotent.
        return Action.FORGET if facts.in_provider is False else Action.DELETE
    if facts.deleting:
        if facts.in_provider is False:
            return Action.FINISH
        if not facts.delete_accepted:
            return Action.DELETE
        if facts.containers_ended or facts.grace_over:
            return Action.FINISH
        return Action.NOTHING
    if facts.terminal:
        # Never run again, whatever the provider says; it keeps the pod (and its logs) until the API object goes.
        return Action.NOTHING
    if facts.in_provider:
        if facts.changed:
            return Action.UPDATE
        return Action.CONFIGURE if facts.configuration_due else Action.NOTHING
    if facts.name_taken:
        return Action.WAIT_FOR_NAME
    if facts.had_run and facts.in_provider is False and not facts.rerun_is_safe:
        return Action.FAIL_AS_LOST
    return Action.CREATE
