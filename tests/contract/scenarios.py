"""What contract tests say often: pods bound by hand, and waiting for what must become true."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from virtual_kubelet.objects.core_v1 import Container, Pod, PodSpec, Toleration
from virtual_kubelet.objects.meta_v1 import ObjectMeta


async def eventually(condition: Callable[[], object], *, seconds: float = 90) -> object:
    """Await until the (sync or async) condition is true, and give its value."""
    async with asyncio.timeout(seconds):
        while True:
            value = condition()
            if asyncio.iscoroutine(value):
                value = await value
            if value:
                return value
            await asyncio.sleep(0.02)


def pod_on(node_name: str, name: str, **spec: object) -> Pod:
    """A pod of one container, bound by hand; tolerates everything."""
    containers = spec.pop("containers", None) or [Container(name="main", image="busybox", command=["sleep", "1000"])]
    return Pod(
        metadata=ObjectMeta(name=name),
        spec=PodSpec(
            node_name=node_name,
            containers=containers,  # type: ignore[arg-type]
            tolerations=[Toleration(operator="Exists")],
            **spec,  # type: ignore[arg-type]
        ),
    )
