"""The yardstick: the least a node in Python can do. A watch, one status PATCH and one DELETE a pod, nothing else.

    python bench/bare_loop.py KUBECONFIG NODE

It has no retries, no reconciliation, no Lease and no events: nobody should run it. Prints ``ready`` when it watches.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import aiohttp
import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench.connection import connect


class Meta(msgspec.Struct):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    deletionTimestamp: str | None = None
    resourceVersion: str = ""


class Status(msgspec.Struct):
    phase: str | None = None


class Container(msgspec.Struct):
    name: str
    image: str = ""


class Spec(msgspec.Struct):
    containers: list[Container] = []


class Pod(msgspec.Struct):
    metadata: Meta
    spec: Spec
    status: Status


class Event(msgspec.Struct):
    type: str
    object: Pod


class ListMeta(msgspec.Struct):
    resourceVersion: str = ""


class PodList(msgspec.Struct):
    metadata: ListMeta


STRATEGIC = {"Content-Type": "application/strategic-merge-patch+json"}
NOW = "2026-01-01T00:00:00Z"


def running(pod: Pod) -> bytes:
    return msgspec.json.encode(
        {
            "metadata": {"uid": pod.metadata.uid},
            "status": {
                "phase": "Running",
                "startTime": NOW,
                "podIP": "10.1.1.1",
                "podIPs": [{"ip": "10.1.1.1"}],
                "conditions": [
                    {"type": kind, "status": "True", "lastTransitionTime": NOW}
                    for kind in ("Initialized", "Ready", "ContainersReady", "PodScheduled")
                ],
                "containerStatuses": [
                    {
                        "name": c.name, "image": c.image, "imageID": "", "ready": True, "restartCount": 0,
                        "started": True, "state": {"running": {"startedAt": NOW}},
                    }
                    for c in pod.spec.containers
                ],
            },
        }
    )  # fmt: skip


async def main(kubeconfig: Path, node: str) -> None:
    session, url = connect(kubeconfig, 32)
    decoder = msgspec.json.Decoder(Event)
    query = {"fieldSelector": f"spec.nodeName={node}"}

    async def patch(pod: Pod) -> None:
        path = f"{url}/api/v1/namespaces/{pod.metadata.namespace}/pods/{pod.metadata.name}/status"
        async with session.patch(path, data=running(pod), headers=STRATEGIC) as answer:
            await answer.read()

    async def delete(pod: Pod) -> None:
        path = f"{url}/api/v1/namespaces/{pod.metadata.namespace}/pods/{pod.metadata.name}"
        async with session.delete(path, json={"gracePeriodSeconds": 0}) as answer:
            await answer.read()

    async with session, asyncio.TaskGroup() as tasks:
        async with session.get(f"{url}/api/v1/pods", params={**query, "limit": "1"}) as answer:
            version = msgspec.json.decode(await answer.read(), type=PodList).metadata.resourceVersion
        print("ready", flush=True)
        while True:  # a server may end a watch at any time
            watch = {**query, "watch": "1", "resourceVersion": version}
            timeout = aiohttp.ClientTimeout(total=None)
            async with session.get(f"{url}/api/v1/pods", params=watch, timeout=timeout) as answer:
                rest = b""
                async for chunk in answer.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        event = decoder.decode(line)
                        pod = event.object
                        version = pod.metadata.resourceVersion
                        if event.type == "DELETED":
                            continue
                        if pod.metadata.deletionTimestamp:
                            tasks.create_task(delete(pod))
                        elif pod.status.phase == "Pending":
                            tasks.create_task(patch(pod))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
