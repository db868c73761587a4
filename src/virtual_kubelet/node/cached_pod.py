"""What the node keeps of each pod: metadata and status decoded, the spec as its JSON bytes.

Half the memory of a decoded pod; equal bytes are the cheapest proof that a spec has not changed; and every decoding is a
private copy. ``Raw`` is copied out of the watch line it came in, which it would pin otherwise.
"""

from __future__ import annotations

import msgspec

from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.objects.core_v1 import Pod, PodSpec, PodStatus
from virtual_kubelet.objects.meta_v1 import ObjectMeta

__all__ = ["CachedPod"]

_specs = msgspec.json.Decoder(PodSpec)


class CachedPod(msgspec.Struct):
    """A pod as the API server last said."""

    metadata: ObjectMeta
    spec: msgspec.Raw = msgspec.Raw(b"{}")
    status: PodStatus = msgspec.field(default_factory=PodStatus)

    @property
    def key(self) -> PodKey:
        meta = self.metadata
        return PodKey(meta.namespace or "", meta.name or "", meta.uid or "")

    def detach(self) -> None:
        """Let go of the bytes that this was decoded from."""
        self.spec = self.spec.copy()

    def decode(self) -> Pod:
        """The whole pod; metadata and spec are the caller's own. Raises ``msgspec.DecodeError``."""
        return Pod(metadata=msgspec.structs.replace(self.metadata), spec=_specs.decode(self.spec), status=self.status)

    def decode_or_bare(self) -> Pod:
        """The same, with an empty spec where it cannot be read: for those who need no spec of it."""
        try:
            return self.decode()
        except msgspec.DecodeError:
            return Pod(metadata=msgspec.structs.replace(self.metadata), status=self.status)
