"""The dev cluster in a process of its own, so that its CPU is not the node's: prints its kubeconfig's path, serves."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from virtual_kubelet.devcluster import DevCluster


def write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


async def main(kubeconfig: Path) -> None:
    async with DevCluster() as cluster:
        await asyncio.to_thread(write, kubeconfig, cluster.kubeconfig())
        print(kubeconfig, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
