"""ConfigMaps, Secrets and tokens that a test changes, as the readers of a ``ProviderContext`` give them."""

from __future__ import annotations

import base64
from collections.abc import Callable, Hashable, Iterable
from datetime import UTC, datetime, timedelta

from virtual_kubelet.errors import ApiError, ApiNotFoundError
from virtual_kubelet.objects.core_v1 import ConfigMap, Pod, Secret
from virtual_kubelet.objects.service_account_token import ServiceAccountToken
from virtual_kubelet.volumes.sources import VolumeSources


class HandClock:
    """Stands still until it is moved; its monotonic time too."""

    def __init__(self) -> None:
        self.time = datetime(2026, 11, 28, 12, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return self.time.timestamp()


class _Reader:
    def __init__(self, cluster: ClusterStandIn, kind: str) -> None:
        self.cluster, self.kind = cluster, kind

    async def get(self, namespace: str, name: str) -> ConfigMap | Secret:
        if self.cluster.refusal is not None:
            raise self.cluster.refusal
        found = self.cluster.objects.get((self.kind, name))
        if found is None:
            raise ApiNotFoundError(404, "NotFound", f'{self.kind} "{name}" not found')
        return found


class ClusterStandIn:
    """A ``ReferenceWatcher`` and ``TokenReader`` too."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], ConfigMap | Secret] = {}
        self.held: dict[Hashable, tuple[set[str], set[str], Callable[[], None] | None]] = {}
        self.refusal: ApiError | None = None
        self.token_refusal: ApiError | None = None
        self.asked: list[tuple[str, str, int]] = []
        self.forgotten: list[str] = []
        self.clock = HandClock()

    def sources(self) -> VolumeSources:
        return VolumeSources(
            _Reader(self, "configmap"),  # type: ignore[arg-type]
            _Reader(self, "secret"),  # type: ignore[arg-type]
            self,
            self,
            lambda: {"memory": "64Mi", "cpu": "4"},
            self.clock,
        )

    def config_map(self, name: str, **data: str) -> None:
        self.objects["configmap", name] = ConfigMap(data=data)
        self._tell(0, name)

    def secret(self, name: str, **data: str) -> None:
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
        self.objects["secret", name] = Secret(data=encoded)
        self._tell(1, name)

    def remove(self, kind: str, name: str) -> None:
        del self.objects[kind, name]
        self._tell(kind == "secret", name)

    def _tell(self, index: int, name: str) -> None:
        for held in list(self.held.values()):
            if name in held[index] and held[2] is not None:  # type: ignore[operator]
                held[2]()

    # ReferenceWatcher

    def hold(
        self,
        holder: Hashable,
        *,
        namespace: str,
        config_maps: Iterable[str] = (),
        secrets: Iterable[str] = (),
        services_of: Iterable[str] = (),
        changed: Callable[[], None] | None = None,
    ) -> None:
        self.held[holder] = (set(config_maps), set(secrets), changed)

    def release(self, holder: Hashable) -> None:
        self.held.pop(holder, None)

    # TokenReader

    async def get(self, pod: Pod, audience: str = "", expiration_seconds: int = 3600) -> ServiceAccountToken:
        if self.token_refusal is not None:
            raise self.token_refusal
        self.asked.append((pod.metadata.name or "", audience, expiration_seconds))
        now = self.clock.now()
        lifetime = timedelta(seconds=expiration_seconds)
        return ServiceAccountToken(f"token-{len(self.asked)}", now + lifetime, now + lifetime * 0.8)

    def forget(self, uid: str) -> None:
        self.forgotten.append(uid)
