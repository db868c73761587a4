"""Environments that were settled at a pod's creation: later updates get the same variables, whatever became of their
sources (upstream resolves at every sync, so a deleted ConfigMap blocks an unrelated update: virtual-kubelet#649). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from virtual_kubelet.environment.references import containers_of
from virtual_kubelet.objects.core_v1 import EnvVar, Pod

__all__ = ["SettledEnvironment", "settled_at_creation", "settled_in"]

#: The variables of each container, by its name.
SettledEnvironment: TypeAlias = Mapping[str, Sequence[EnvVar]]


def settled_at_creation(resolved: Pod) -> SettledEnvironment:
    """Of a pod as ``resolve_environment`` gave it."""
    return {container.name: tuple(container.env or ()) for container in containers_of(resolved)}


def settled_in(deployed: Pod, wanted: Pod) -> SettledEnvironment | None:
    """What a provider's copy of an adopted pod still says of the variables it was given; None if nothing.

    A container counts only if the copy has plain variables where the pod has any: a provider may keep less than it got.
    """
    given = {c.name: c for c in containers_of(deployed)}
    settled: dict[str, Sequence[EnvVar]] = {}
    for container in containers_of(wanted):
        copy = given.get(container.name)
        if copy is None or copy.env_from or any(variable.value_from is not None for variable in copy.env or ()):
            continue
        if copy.env or not (container.env or container.env_from):
            settled[container.name] = tuple(copy.env or ())
    return settled or None
