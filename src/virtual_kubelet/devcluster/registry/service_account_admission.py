"""The admission plugin ServiceAccount: new pods get a service account, its pull secrets and its token. Pure.

(``plugin/pkg/admission/serviceaccount`` of 1.36.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from virtual_kubelet.devcluster.object_meta import generate_name, name_for_admission
from virtual_kubelet.devcluster.statuses import StatusError, forbidden

__all__ = ["MOUNT_PATH", "ServiceAccountAdmission"]

MOUNT_PATH: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
_DEFAULT: Final = "default"
_MIRROR: Final = "kubernetes.io/config.mirror"
_VOLUME: Final = "kube-api-access-"
_TOKEN_SECONDS: Final = 60 * 60 + 7
_FILE_MODE: Final = 0o644

#: (namespace, name) -> the service account, or None.
Lookup = Callable[[str, str], dict[str, Any] | None]


class ServiceAccountAdmission:
    """Admits new pods."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup

    def admit(self, pod: dict[str, Any]) -> None:
        """Raises ``StatusError`` 403."""
        metadata, spec = pod["metadata"], pod["spec"]
        if _MIRROR in (metadata.get("annotations") or {}):
            _refuse_references(pod)
            return
        name = spec.get("serviceAccountName") or _DEFAULT
        spec["serviceAccountName"] = spec["serviceAccount"] = name
        namespace = metadata["namespace"]
        account = self._lookup(namespace, name)
        if account is None:
            raise _refused(
                pod, f'error looking up service account {namespace}/{name}: serviceaccount "{name}" not found'
            )
        wanted = spec.get("automountServiceAccountToken", account.get("automountServiceAccountToken", True))
        if wanted:
            _mount_token(spec)
        if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
            spec["imagePullSecrets"] = [dict(secret) for secret in account["imagePullSecrets"]]


def _mount_token(spec: dict[str, Any]) -> None:
    volumes = spec.get("volumes") or []
    # A volume of this name was made for another pod, of which this one is a copy.
    known = next((v["name"] for v in volumes if v.get("name", "").startswith(_VOLUME) and "projected" in v), None)
    taken = {volume.get("name") for volume in volumes}
    name = known or generate_name(_VOLUME)
    while known is None and name in taken:
        name = generate_name(_VOLUME)
    mounted = False
    for field in ("initContainers", "containers"):
        for container in spec.get(field) or ():
            mounts = container.get("volumeMounts") or []
            if not any(mount.get("mountPath") == MOUNT_PATH for mount in mounts):
                container["volumeMounts"] = [*mounts, {"name": name, "readOnly": True, "mountPath": MOUNT_PATH}]
                mounted = True
    if mounted and known is None:
        spec["volumes"] = [*volumes, _token_volume(name)]


def _token_volume(name: str) -> dict[str, Any]:
    namespace = {"apiVersion": "v1", "fieldPath": "metadata.namespace"}
    sources = [
        {"serviceAccountToken": {"expirationSeconds": _TOKEN_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": namespace}]}},
    ]
    return {"name": name, "projected": {"sources": sources, "defaultMode": _FILE_MODE}}


def _refuse_references(pod: dict[str, Any]) -> None:
    """A mirror pod is run by its node already, which cannot be told of a service account."""
    spec = pod["spec"]
    if spec.get("serviceAccountName"):
        raise _refused(pod, "a mirror pod may not reference service accounts")
    for volume in spec.get("volumes") or ():
        if "secret" in volume:
            raise _refused(pod, "a mirror pod may not reference secrets")
        if any("serviceAccountToken" in part for part in (volume.get("projected") or {}).get("sources") or ()):
            raise _refused(pod, "a mirror pod may not use ServiceAccountToken volume projections")


def _refused(pod: dict[str, Any], why: str) -> StatusError:
    return forbidden("pods", name_for_admission(pod["metadata"]), why)
