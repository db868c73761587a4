"""A dev cluster that keeps its state, in a process of its own, so that it can be killed: ``kept_cluster.py DIR [BYTES]``.

Prints its administrator's kubeconfig in one line, then serves. ``BYTES``: no file may grow beyond them (a full disk).
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from pathlib import Path

from virtual_kubelet.devcluster import DevCluster


async def main(directory: Path, limit: int) -> None:
    async with DevCluster(data_dir=directory, scheduler=False) as cluster:
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        print(json.dumps(json.loads(cluster.kubeconfig())), flush=True)
        await cluster.wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0))
