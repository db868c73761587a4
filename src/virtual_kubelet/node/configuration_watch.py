"""Tells a ``ConfigurationWatcher`` when what a pod refers to has changed: files of its volumes, ConfigMaps, Secrets, tokens.

Level-triggered: a change only marks the record; the pod's worker reads all again and compares with what the provider has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Final

from virtual_kubelet.contracts.configuration import ConfigurationWatcher
from virtual_kubelet.contracts.context import TokenReader
from virtual_kubelet.errors import ApiConnectionError, MountError, TransientError
from virtual_kubelet.kube.service_account_tokens import ServiceAccountTokens
from virtual_kubelet.node.pod_controller_config import PodControllerConfig
from virtual_kubelet.node.pod_record import PodRecord
from virtual_kubelet.node.provider_calls import ProviderCallError, ProviderCalls
from virtual_kubelet.objects.core_v1 import Pod
from virtual_kubelet.volumes.configuration import ConfigurationRead, hold_configuration, read_configuration
from virtual_kubelet.volumes.sources import VolumeSources

__all__ = ["ConfigurationWatch"]

#: Seconds at least and at most until the wall clock is looked at again for a token's renewal: it may jump.
_SHORTEST_SLEEP: Final = 1.0
_LONGEST_SLEEP: Final = 60.0


class ConfigurationWatch:
    """Does nothing for a provider that is no ``ConfigurationWatcher``. ``wake``: look at this record."""

    def __init__(self, config: PodControllerConfig, calls: ProviderCalls, wake: Callable[[PodRecord], None]) -> None:
        self._calls = calls
        self._wake = wake
        self._clock = config.clock
        self._enabled = isinstance(config.provider, ConfigurationWatcher)
        references = config.references
        assert references is not None
        tokens: TokenReader = config.tokens or ServiceAccountTokens(config.client, clock=config.clock)
        self._sources = VolumeSources(
            references.config_maps, references.secrets, references, tokens, config.allocatable, config.clock
        )

    def is_due(self, record: PodRecord) -> bool:
        """Whether the provider may not have the newest of a pod that it runs."""
        return self._enabled and (record.configuration is None or record.configuration_changed)

    def metadata_changed(self, record: PodRecord) -> None:
        """Files may show labels and annotations."""
        record.configuration_changed = True

    async def before_creation(self, record: PodRecord, pod: Pod) -> None:
        """Raises ``ProviderCallError`` while volumes cannot be had."""
        if self._enabled:
            record.configuration = (await self._read(record, pod, "create_pod")).digest

    async def update(self, record: PodRecord, pod: Pod) -> None:
        """Raises ``ProviderCallError``, and ``NotFoundError`` if the provider does not know the pod."""
        read = await self._read(record, pod, "update_configuration")
        if read.digest != record.configuration:
            try:
                await self._calls.update_configuration(pod, read.configuration)
            except BaseException:
                record.configuration_changed = True
                raise
            record.configuration = read.digest

    def release(self, record: PodRecord) -> None:
        """The pod is gone."""
        self._set_timer(record, None)
        self._sources.references.release((record.key, "configuration"))
        self._sources.tokens.forget(record.key.uid)

    async def _read(self, record: PodRecord, pod: Pod, call: str) -> ConfigurationRead:
        hold_configuration(self._sources, (record.key, "configuration"), pod, partial(self._changed, record))
        record.configuration_changed = False  # what changes from here on is not in what is read
        try:
            read = await read_configuration(self._sources, pod)
        except (MountError, ApiConnectionError) as error:
            record.configuration_changed = True
            failure = error if isinstance(error, MountError) else TransientError(str(error))
            raise ProviderCallError(call, failure) from error
        self._set_timer(record, read.renew)
        return read

    def _changed(self, record: PodRecord) -> None:
        record.configuration_changed = True
        record.attempts = 0
        self._wake(record)

    def _set_timer(self, record: PodRecord, renew: datetime | None) -> None:
        if record.configuration_timer is not None:
            record.configuration_timer.cancel()
            record.configuration_timer = None
        if renew is not None:
            left = (renew - self._clock.now()).total_seconds()
            delay = max(_SHORTEST_SLEEP, min(left, _LONGEST_SLEEP))
            record.configuration_timer = asyncio.get_running_loop().call_later(delay, self._look, record, renew)

    def _look(self, record: PodRecord, renew: datetime) -> None:
        record.configuration_timer = None
        if self._clock.now() < renew:
            self._set_timer(record, renew)
        else:
            self._changed(record)
