"""Pods that only the provider knows: adopted by UID at start, swept on the evidence of complete lists only.

At start the provider is asked once for all it has. A pod of the API that is among them is adopted without a call of its
own; what is not in the API is an orphan. Before one is deleted the API server is asked for it directly: a cache that lags
must not cost a workload (elotl/kip#107). Periodic sweeps want to have seen an orphan twice.
"""

from __future__ import annotations

import asyncio

from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.errors import ApiConnectionError, ApiError, ApiNotFoundError
from virtual_kubelet.kube.resources import PODS
from virtual_kubelet.node.cached_pod import CachedPod
from virtual_kubelet.node.pod_controller_config import PodControllerConfig
from virtual_kubelet.node.pod_records import PodRecords
from virtual_kubelet.node.retries import retry_delay
from virtual_kubelet.objects.core_v1 import Pod
from virtual_kubelet.telemetry.logs import bind, get_logger

__all__ = ["OrphanSweeper"]

log = get_logger(__name__)


class OrphanSweeper:
    """See the module's docstring."""

    def __init__(self, config: PodControllerConfig, records: PodRecords) -> None:
        self._config = config
        self._records = records
        self._suspects: set[str] = set()

    async def take_stock(self) -> None:
        """Learn who is with the provider already. Goes on trying: without a complete list nothing may begin."""
        attempt = 0
        while True:
            try:
                pods = await self._all()
                break
            except Exception as error:  # noqa: BLE001 - any answer of a provider: said, and asked again
                attempt += 1
                delay = retry_delay(attempt, self._config.retry_initial, 30.0)
                log.warning("the provider did not list its pods, asking again in %.1f s: %s", delay, error)
                await asyncio.sleep(delay)
        held = {PodKey.of(pod).uid: pod for pod in pods}
        for record in self._records:
            record.in_provider = record.key.uid in held
            if record.in_provider:
                record.found = held[record.key.uid]
        await self._sweep(pods, certain=True)

    async def run(self) -> None:
        """A sweep each ``orphan_interval``, until cancelled."""
        while True:
            await asyncio.sleep(self._config.orphan_interval)
            try:
                pods = await self._all()
            except Exception as error:  # noqa: BLE001 - any answer of a provider: said, and asked again next time
                log.warning("the provider did not list its pods: %s", error)
                continue
            await self._sweep(pods, certain=False)

    async def _all(self) -> list[Pod]:
        async with asyncio.timeout(self._config.provider_call_timeout):
            return list(await self._config.provider.get_pods())

    async def _sweep(self, pods: list[Pod], *, certain: bool) -> None:
        unknown = {key.uid: pod for pod in pods if self._records.get((key := PodKey.of(pod)).uid) is None}
        for uid, pod in unknown.items():
            if not certain and uid not in self._suspects:
                continue
            key = PodKey.of(pod)
            with bind(namespace=key.namespace, pod=key.name, uid=key.uid):
                if self._records.get(uid) is None and await self._is_orphan(key):
                    log.info("a pod that is not in the API is removed from the provider")
                    self._records.delete_orphan(pod)
        self._suspects = set(unknown)

    async def _is_orphan(self, key: PodKey) -> bool:
        try:
            found = await self._config.client.get(PODS.decoding(CachedPod), key.name, key.namespace)
        except ApiNotFoundError:
            return True
        except (ApiError, ApiConnectionError) as error:
            log.warning("cannot tell whether a pod of the provider is an orphan: %s", error)
            return False
        return found.metadata.uid != key.uid
