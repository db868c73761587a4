"""The dev cluster in a process of its own, so that its CPU is not the node's: prints its kubeconfig's path, serves."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from virtual_kubelet.devcluster import DevCluster


def write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


async def main(kubeconfig: Path, data_dir: Path | None, pki: Path | None) -> None:
    async with DevCluster(data_dir=data_dir) as cluster:
        if pki is not None:
            await asyncio.to_thread(write, pki / "ca.crt", cluster.ca_pem.decode())
            await asyncio.to_thread(write, pki / "ca.key", cluster.ca_key_pem.decode())
        await asyncio.to_thread(write, kubeconfig, cluster.kubeconfig())
        print(kubeconfig, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kubeconfig", type=Path, help="written here")
    parser.add_argument("--data-dir", type=Path, help="keep the state there")
    parser.add_argument("--pki", type=Path, metavar="DIR", help="write the CA's certificate and key there")
    arguments = parser.parse_args()
    asyncio.run(main(arguments.kubeconfig, arguments.data_dir, arguments.pki))
