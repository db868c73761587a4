"""The PodController: watches the pods bound to this node and makes the provider's reality match them.

    informer ──▶ records (one a UID) ──▶ workers ──▶ provider
                      ▲                                 │
    API  ◀── status writer ◀────── statuses ◀───────────┘

Level-triggered: events only put a record into the queue; a worker asks ``pod_decision.decide`` what is to be done now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from virtual_kubelet.contracts.pods import PodKey, PodNotifier
from virtual_kubelet.kube.events import EventRecorder
from virtual_kubelet.kube.informer import Informer
from virtual_kubelet.kube.references import ReferenceCache
from virtual_kubelet.kube.resources import PODS
from virtual_kubelet.node.cached_pod import CachedPod
from virtual_kubelet.node.orphans import OrphanSweeper
from virtual_kubelet.node.pod_controller_config import PodControllerConfig
from virtual_kubelet.node.pod_polling import PodPoller
from virtual_kubelet.node.pod_records import PodRecords
from virtual_kubelet.node.pod_worker import PodWorker
from virtual_kubelet.node.provider_calls import ProviderCalls
from virtual_kubelet.node.status_writer import StatusWriter
from virtual_kubelet.objects.core_v1 import Pod
from virtual_kubelet.telemetry.logs import bind, get_logger

__all__ = ["PodController"]

log = get_logger(__name__)


class PodController:
    """Usable on its own: ``run`` until cancelled, ``wait_ready``; an error of a part of it leaves ``run``.

    It is a ``contracts.context.PodReader``: ``get`` and ``list`` give the pods as the API server last said.
    """

    def __init__(self, config: PodControllerConfig) -> None:
        self.config = config
        self._recorder = config.event_recorder
        own_recorder = None
        if self._recorder is None:
            self._recorder = own_recorder = EventRecorder(
                config.client,
                component="virtual-kubelet",
                host=config.node_name,
                metrics=config.metrics,
                clock=config.clock,
            )
        self._own_recorder = own_recorder
        self._own_references: ReferenceCache | None = None
        if config.references is None:
            config.references = self._own_references = ReferenceCache(
                config.client, on_change=self.reference_changed, metrics=config.metrics
            )
        self._calls = ProviderCalls(config.provider, timeout=config.provider_call_timeout, metrics=config.metrics)
        self._records = PodRecords(config)
        self._writer = StatusWriter(config, self._recorder)
        self._worker = PodWorker(config, self._calls, self._records, self._writer, self._recorder)
        self._records.connect(self._worker.submit, self._writer.submit)
        self._sweeper = OrphanSweeper(config, self._calls, self._records)
        self._informer: Informer[CachedPod] = Informer(
            config.client,
            PODS.decoding(CachedPod),
            field_selector=f"spec.nodeName={config.node_name}",
            metrics=config.metrics,
        )
        self._informer.add_handler(self._records)
        self._ready = asyncio.Event()
        self._started = False

    async def run(self) -> None:
        """Until cancelled; what breaks inside leaves it. Not reusable."""
        if self._started:
            raise RuntimeError("a PodController runs once")
        self._started = True
        provider = self.config.provider
        if isinstance(provider, PodNotifier):
            provider.notify_pods(self._records.status_from_provider)
        with bind(node=self.config.node_name):
            async with asyncio.TaskGroup() as tasks:
                if self._own_recorder is not None:
                    tasks.create_task(self._own_recorder.run(), name="events")
                if self._own_references is not None:
                    tasks.create_task(self._own_references.run(), name="references")
                tasks.create_task(self._informer.run(), name="pod informer")
                await self._informer.wait_synced()
                # Before any worker begins: who is with the provider already decides between adopting and creating.
                await self._sweeper.take_stock()
                tasks.create_task(self._sweeper.run(), name="orphans")
                tasks.create_task(self._worker.run(), name="pod workers")
                for number in range(self.config.status_writers):
                    tasks.create_task(self._writer.run(), name=f"status writer {number}")
                if not isinstance(provider, PodNotifier):
                    tasks.create_task(PodPoller(self.config, self._calls, self._records).run(), name="status polling")
                self._ready.set()

    async def wait_ready(self) -> None:
        """Until the pods are known, the provider's too, and workers run."""
        await self._ready.wait()

    @property
    def trouble(self) -> str:
        """Why it is not ready yet, where that is known; for people."""
        return self._sweeper.trouble

    def reference_changed(self, kind: str, namespace: str, name: str) -> None:
        """A ConfigMap, Secret or Service that pods refer to appeared, changed or went: those that wait for it try again."""
        assert self.config.references is not None
        for key in self.config.references.holders(kind, namespace, name):
            if isinstance(key, PodKey):
                self._worker.reference_changed(key)

    async def drain(self, grace: float) -> None:
        """End all pods in the provider, as by deletion with ``grace`` seconds, and wait until none runs; for shutdown."""
        await self._worker.drain(grace)

    def get(self, namespace: str, name: str) -> Pod | None:
        """A pod as the API server last said."""
        cached = self._informer.get(namespace, name)
        return None if cached is None else cached.decode_or_bare()

    def list(self) -> Iterable[Pod]:
        """All pods of this node as the API server last said."""
        return (cached.decode_or_bare() for cached in list(self._informer.values()))

    def newest_status(self, key: PodKey) -> object | None:
        """The provider's newest status of a pod, which the API server may not have yet."""
        record = self._records.get(key.uid)
        return None if record is None else record.status
