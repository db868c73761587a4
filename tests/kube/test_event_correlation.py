"""Spam, similar events and counts, on a clock of the test's own."""

from __future__ import annotations

from virtual_kubelet.kube.event_correlation import Correlated, EventCorrelator
from virtual_kubelet.objects.core_v1 import ObjectReference

POD = ObjectReference(kind="Pod", namespace="ns", name="p", uid="u")
OTHER = ObjectReference(kind="Pod", namespace="ns", name="p", uid="its successor")


def told(
    correlator: EventCorrelator, message: str = "m", at: float = 0.0, reason: str = "R", pod: ObjectReference = POD
) -> Correlated | None:
    return correlator.correlate(pod, "Warning", reason, message, at)


def combined(found: Correlated | None) -> bool:
    assert found is not None
    return found.message.startswith("(combined from similar events): ")


def test_equal_events_have_one_key_and_others_have_their_own() -> None:
    correlator = EventCorrelator()
    first, again = told(correlator), told(correlator)
    others = [told(correlator, "n"), told(correlator, reason="S"), told(correlator, pod=OTHER)]
    assert first is not None
    assert again == first._replace(times=2)
    assert len({found.key for found in [first, *others] if found is not None}) == 4


def test_an_object_has_a_burst_of_25_and_one_more_each_five_minutes() -> None:
    correlator = EventCorrelator()
    assert [told(correlator) is not None for _ in range(27)] == [True] * 25 + [False] * 2
    assert told(correlator, pod=OTHER) is not None
    assert told(correlator, at=299) is None
    assert told(correlator, at=301) is not None
    assert told(correlator, at=302) is None
    assert [told(correlator, at=1e6) is not None for _ in range(26)] == [True] * 25 + [False]


def test_the_tenth_event_that_differs_in_its_message_is_combined_with_the_following() -> None:
    correlator = EventCorrelator()
    found = [told(correlator, f"m{i}") for i in range(12)]
    assert [combined(f) for f in found] == [False] * 9 + [True] * 3
    assert len({f.key for f in found[9:] if f is not None}) == 1
    assert [f.times for f in found[9:] if f is not None] == [1, 2, 3]
    assert found[11] is not None
    assert found[11].message == "(combined from similar events): m11"
    assert found[0] is not None
    assert told(correlator, "m0") == found[0]._replace(times=2), "what has been said on its own is counted on its own"
    assert not combined(told(correlator, "m12", reason="other"))


def test_after_ten_minutes_of_silence_events_are_on_their_own_again() -> None:
    correlator = EventCorrelator(burst=100)
    for i in range(12):
        told(correlator, f"m{i}", at=i * 100)
    assert combined(told(correlator, "m12", at=1700))
    assert not combined(told(correlator, "m13", at=2301))


def test_only_so_many_objects_are_remembered() -> None:
    correlator = EventCorrelator(burst=1, objects=2)
    pods = [ObjectReference(kind="Pod", namespace="ns", name=f"p{i}") for i in range(3)]
    assert all(told(correlator, pod=pod) for pod in pods)
    assert told(correlator, pod=pods[2]) is None
    assert told(correlator, pod=pods[0]) is not None, "forgotten, so it has its burst again"
