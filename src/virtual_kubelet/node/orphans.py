"""Pods that only the provider knows: adopted by UID at start, swept on the evidence of complete lists only.

At start the provider is asked once for all it has. A pod of the API that is among them is adopted without a call of its
own; what is not in the API is an orphan. Before one is deleted the API server is asked directly: a cache that lags must
not cost a workload (elotl/kip#107). It is asked for a list: of a pod that is gone a node's own identity may not ask by
name (the node authorizer says 403, not 404). Periodic sweeps want to have seen an orphan twice.

Nothing begins before each pod that the provider has is known to be ours or an orphan: a successor of its name would run
beside it.
"""

from __future__ import annotations

import asyncio
from typing import Final

from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.errors import ApiConnectionError, ApiError
from virtual_kubelet.kube.resources import PODS
from virtual_kubelet.node.cached_pod import CachedPod
from virtual_kubelet.node.pod_controller_config import PodControllerConfig
from virtual_kubelet.node.pod_records import PodRecords
from virtual_kubelet.node.provider_calls import ProviderCallError, ProviderCalls
from virtual_kubelet.node.retries import retry_delay
from virtual_kubelet.objects.core_v1 import Pod
from virtual_kubelet.telemetry.logs import bind, get_logger

__all__ = ["OrphanSweeper"]

log = get_logger(__name__)

#: Seconds between two tries to learn who is there, at most.
_LONGEST_PAUSE: Final = 30.0


class OrphanSweeper:
    """See the module's docstring."""

    def __init__(self, config: PodControllerConfig, calls: ProviderCalls, records: PodRecords) -> None:
        self._config = config
        self._calls = calls
        self._records = records
        self._suspects: set[str] = set()
        #: What ``take_stock`` is waiting for; empty when nothing is in its way.
        self.trouble = ""

    async def take_stock(self) -> None:
        """Learn who is with the provider already. Goes on trying: without a complete list nothing may begin."""
        attempt = 0
        while True:
            try:
                pods = await self._calls.get_pods()
                held = {PodKey.of(pod).uid: pod for pod in pods}
                for record in self._records:
                    record.in_provider = record.key.uid in held
                    if record.in_provider:
                        record.found = held[record.key.uid]
                await self._sweep(pods, certain=True)
                self.trouble = ""
                return
            except ProviderCallError as error:
                self.trouble = f"the provider did not list its pods: {error}"
            except (ApiError, ApiConnectionError) as error:
                self.trouble = f"the API server does not say whether a pod of the provider is still wanted: {error}"
            attempt += 1
            delay = retry_delay(attempt, self._config.retry_initial, _LONGEST_PAUSE)
            log.warning("%s; nothing begins before that is known, trying again in %.1f s", self.trouble, delay)
            await asyncio.sleep(delay)

    async def run(self) -> None:
        """A sweep each ``orphan_interval``, until cancelled."""
        while True:
            await asyncio.sleep(self._config.orphan_interval)
            try:
                await self._sweep(await self._calls.get_pods(), certain=False)
            except ProviderCallError as error:
                log.warning("the provider did not list its pods, asking again at the next sweep: %s", error)
            except (ApiError, ApiConnectionError) as error:
                log.warning("cannot tell whether a pod of the provider is an orphan before the next sweep: %s", error)

    async def _sweep(self, pods: list[Pod], *, certain: bool) -> None:
        unknown = {key.uid: pod for pod in pods if self._records.get((key := PodKey.of(pod)).uid) is None}
        suspects, self._suspects = self._suspects, set(unknown)
        for uid, pod in unknown.items():
            key = PodKey.of(pod)
            if not certain and uid not in suspects and not self._records.has_name(key):
                continue
            if self._records.get(uid) is None and await self._is_orphan(key):
                with bind(namespace=key.namespace, pod=key.name, uid=key.uid):
                    log.info("a pod that is not in the API is removed from the provider")
                self._records.delete_orphan(pod)

    async def _is_orphan(self, key: PodKey) -> bool:
        if self._records.has_name(key):
            return True  # the API has another pod of this name
        found = await self._config.client.list(
            PODS.decoding(CachedPod),
            key.namespace,
            field_selector=f"metadata.name={key.name},spec.nodeName={self._config.node_name}",
        )
        return self._records.get(key.uid) is None and all(pod.key.uid != key.uid for pod in found.items)
