"""What random objects and requests are drawn from: one generator, and what stands in any object's metadata. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["NOBODY", "Draw", "Json", "Kind"]

NOBODY: Final = "00000000-0000-0000-0000-000000000000"

Json = dict[str, Any]


class Draw:
    """All randomness of a run; ``run`` is what its names begin with."""

    def __init__(self, generator: random.Random, run: str) -> None:
        self.random = generator
        self.run = run
        self.namespaces = [f"{run}-a", f"{run}-b"]
        #: No Node of this name is there. The controller that removes pods of such nodes first waits, for each name.
        self.node = f"{run}-n"

    def chance(self, percent: int) -> bool:
        return self.random.randrange(100) < percent

    def one(self, *choices: Any) -> Any:
        return self.random.choice(choices)

    def labels(self) -> Json:
        return {key: self.one("1", "2", "x") for key in ("app", "tier", "z") if self.chance(50)}

    def metadata(self, name: str, *, namespaced: bool = True) -> Json:
        """Mostly plain; what else may stand there, now and then."""
        made: Json = {"name": name}
        if not namespaced or self.chance(60):
            made["labels"] = {**self.labels(), **({} if namespaced else {"run": self.run})}
        for field, percent, value in (
            ("annotations", 15, lambda: {self.one("a", "x.y/z"): self.one("1", "", "some text")}),
            ("finalizers", 12, lambda: self.one(["x.y/hold"], ["x.y/hold", "x.y/other"], [])),
            ("namespace", 10, lambda: self.one("", *self.namespaces) if namespaced else self.one("", "some")),
            ("generation", 3, lambda: self.one(0, 7)),
            ("uid", 3, lambda: NOBODY),
            ("resourceVersion", 3, lambda: self.one("", "0", "1", "abc")),
            ("creationTimestamp", 3, lambda: self.one(None, "2020-01-01T00:00:00Z")),
            ("deletionTimestamp", 3, lambda: self.one(None, "2020-01-01T00:00:00Z")),
            ("deletionGracePeriodSeconds", 3, lambda: self.one(0, 5)),
            ("selfLink", 2, lambda: "/somewhere"),
        ):
            if self.chance(percent):
                made[field] = value()
        if self.chance(4):
            made |= self.one(
                {"name": "Upper"}, {"name": "a" * 300}, {"name": ""}, {"name": "a_b"}, {"name": "-a"}, {"name": "a/b"},
                {"labels": {"bad key!": "x"}}, {"labels": {"a": "bad value!"}}, {"labels": {"a/b/c": ""}},
                {"labels": {"a" * 64: "b" * 64}}, {"annotations": {"bad key!": "x"}}, {"finalizers": ["nodomain"]},
                {"finalizers": ["a b"]}, {"finalizers": ["orphan", "foregroundDeletion"]}, {"labels": {"a": None}},
                {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "", "uid": ""}]},
                {"ownerReferences": [{"apiVersion": "", "kind": "", "name": "x", "uid": "y"}]},
                {"ownerReferences": [{"apiVersion": "v1", "kind": "Event", "name": "x", "uid": "y"}]},
                {"ownerReferences": [
                    {"apiVersion": "v1", "kind": k, "name": "x", "uid": k, "controller": True} for k in ("Pod", "Node")
                ]},
            )  # fmt: skip
        return made


@dataclass(frozen=True)
class Kind:
    """What is to be known of a kind to make requests for it."""

    name: str
    plural: str
    root: str = "/api/v1"
    namespaced: bool = True
    api_version: str = "v1"
    status: bool = False
    #: Objects are created by this; the second argument is the object's name.
    make: Callable[[Draw, str], Json] = lambda _, name: {"metadata": {"name": name}}
    #: Changes of an object, as merge patches.
    change: Callable[[Draw], Json] = lambda _: {}
