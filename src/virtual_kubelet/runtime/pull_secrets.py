"""Reads the Secrets that a pod names for its images; those that are not there are told in an event, and done without."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from virtual_kubelet.contracts.context import ObjectReader
from virtual_kubelet.errors import ApiConnectionError, ApiError
from virtual_kubelet.objects.core_v1 import Pod, Secret
from virtual_kubelet.runtime.registry_credentials import (
    InvalidPullSecretError,
    Keyring,
    missing_secrets_message,
    pull_secret_names,
    read_pull_secret,
)
from virtual_kubelet.telemetry.logs import get_logger

__all__ = ["read_keyring"]

log = get_logger(__name__)


async def read_keyring(
    pod: Pod, secrets: ObjectReader[Secret], tell: Callable[[str, str, str], None], *, timeout: float = 30.0
) -> Keyring:
    """The credentials of a pod's imagePullSecrets.

    A Secret that cannot be read, or has nothing in it that can, is left out: the image may be had without.

    Args:
        tell: records an event on the pod: type, reason, message.
        timeout: seconds to read all of them.
    """
    namespace = pod.metadata.namespace or ""
    found, missing = [], []
    late = False
    for name in pull_secret_names(pod):
        try:
            async with asyncio.timeout(0 if late else timeout):
                found.append(read_pull_secret(await secrets.get(namespace, name)))
        except (ApiError, ApiConnectionError, InvalidPullSecretError, TimeoutError) as error:
            late = late or isinstance(error, TimeoutError)
            log.warning("image pull secret %s cannot be had: %s", name, error or "timed out")
            missing.append(name)
    if missing:
        tell("Warning", "FailedToRetrieveImagePullSecret", missing_secrets_message(missing))
    return Keyring(found)
