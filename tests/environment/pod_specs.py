"""Pods and what they refer to, written as manifests."""

from __future__ import annotations

import base64
import json
from typing import Any

from virtual_kubelet.objects.core_v1 import ConfigMap, Pod, Secret
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.objects.serialization import decode


def pod_of(*containers: dict[str, Any], metadata: dict[str, Any] | None = None, **spec: Any) -> Pod:
    """A pod ``shop/web-0`` on node ``node-1``; containers get a name and an image, ``spec`` is in JSON names."""
    named = [{"name": f"main-{index}", "image": "i", **container} for index, container in enumerate(containers)]
    return decode(
        json.dumps(
            {
                "metadata": {"name": "web-0", "namespace": "shop", "uid": "u-1", **(metadata or {})},
                "spec": {"nodeName": "node-1", "containers": named, **spec},
            }
        ).encode(),
        Pod,
    )


def config_map(**data: str) -> ConfigMap:
    return ConfigMap(metadata=ObjectMeta(), data=data)


def secret(**data: str | bytes) -> Secret:
    """Values in the clear; the object has them in base64, as the API gives them."""
    return Secret(
        metadata=ObjectMeta(),
        data={
            key: base64.b64encode(value if isinstance(value, bytes) else value.encode()).decode()
            for key, value in data.items()
        },
    )


def from_map(variable: str, name: str, key: str, **more: Any) -> dict[str, Any]:
    return {"name": variable, "valueFrom": {"configMapKeyRef": {"name": name, "key": key, **more}}}


def from_secret(variable: str, name: str, key: str, **more: Any) -> dict[str, Any]:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": name, "key": key, **more}}}
