"""Random operations in step: what a real control plane answers, the dev cluster answers, step by step and to watches.

A failure names its seed and the fewest steps that were found to show it. By hand a new seed
(``IN_STEP_SEEDS=new``: the table of known differences is not complete, so CI has fixed ones), others, and more steps:
``IN_STEP_SEEDS=100-200 IN_STEP_STEPS=300 pytest tests/contract/test_in_step.py --kubernetes DIR``.
"""

from __future__ import annotations

import asyncio
import os
import random
from typing import Final

import pytest

from tests.contract.api_servers import ApiServer
from tests.contract.in_step import RUN, Difference, in_step, shrink
from tests.contract.random_operations import Step, random_steps
from virtual_kubelet.devcluster import DevCluster

#: The real cluster's controllers begin to remove pods whose node is not there after 40 s.
_LONGEST_SECONDS: Final = 30.0
_STEPS: Final = int(os.environ.get("IN_STEP_STEPS", "150"))
_TRIES: Final = 40
_SHRINKING_SECONDS: Final = 60.0


def _seeds() -> list[int | None]:
    """None: a new one in every run."""
    given = os.environ.get("IN_STEP_SEEDS", "1-3")
    first, _, last = given.partition("-")
    return [None] if given == "new" else list(range(int(first), int(last or first) + 1))


async def _difference(steps: list[Step], kubeconfig: str) -> Difference | None:
    """What comes of ``steps`` on a new dev cluster, and in namespaces of their own on the real one."""
    loop = asyncio.get_running_loop()
    async with (
        DevCluster(scheduler=False, service_account_admission=True, pod_gc_quarantine=3600) as cluster,
        in_step(cluster.kubeconfig(), kubeconfig) as (pair, run),
    ):
        began = loop.time()
        try:
            await pair.begin(run)
            for index, step in enumerate(steps):
                if loop.time() - began > _LONGEST_SECONDS:
                    break
                await pair.step(index, step.of(RUN, run))
            await pair.end(len(steps), run)
        except Difference as difference:
            return difference
    return None


@pytest.mark.only_on("debian")
@pytest.mark.parametrize("seed", _seeds(), ids=lambda seed: "fresh" if seed is None else str(seed))
async def test_random_operations_have_the_same_outcome(api_server: ApiServer, seed: int | None) -> None:
    chosen = random.SystemRandom().randrange(10**6) if seed is None else seed
    kubeconfig = api_server.admin_kubeconfig()
    steps = random_steps(chosen, RUN, _STEPS)
    found = await _difference(steps, kubeconfig)
    if found is None:
        return

    loop = asyncio.get_running_loop()
    until = loop.time() + _SHRINKING_SECONDS

    async def fails(fewer: list[Step]) -> bool:
        return loop.time() < until and await _difference(fewer, kubeconfig) is not None

    steps = await shrink(steps[: found.index + 1], fails, _TRIES)
    again = await _difference(steps, kubeconfig) or found
    shown = "\n".join(f"  {index}: {step}" for index, step in enumerate(steps))
    pytest.fail(f"seed {chosen}: the dev cluster differs from the real one in {again}\nafter\n{shown}", pytrace=False)


def test_a_seed_makes_the_same_steps_every_time() -> None:
    assert random_steps(7, RUN, 50) == random_steps(7, RUN, 50) != random_steps(8, RUN, 50)


async def test_of_steps_that_fail_the_fewest_are_kept() -> None:
    steps = [Step("GET", f"/{number}") for number in range(20)]

    async def fails(fewer: list[Step]) -> bool:
        return {steps[3], steps[19]} <= set(fewer)

    assert await shrink(steps, fails, 100) == [steps[3], steps[19]]
