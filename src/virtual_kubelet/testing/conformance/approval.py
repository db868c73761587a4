"""Approves the certificates that the judged node asks a cluster's signers for: whoever runs the kit has the right to."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cryptography import x509
from cryptography.x509.oid import NameOID

from virtual_kubelet.errors import ApiConnectionError, ApiNotFoundError
from virtual_kubelet.kube.client import ApiClient, PatchType
from virtual_kubelet.kube.resources import CERTIFICATE_SIGNING_REQUESTS
from virtual_kubelet.objects.certificates_v1 import CertificateSigningRequest

__all__ = ["approving"]

#: Seconds between two looks.
_LOOK = 0.5


@asynccontextmanager
async def approving(client: ApiClient, node_name: str) -> AsyncIterator[None]:
    """For the time of the block, every request in this node's name is approved; at the end those are removed.

    Raises ``ApiError``, in a group, if that is refused.
    """
    approved: set[str] = set()
    try:
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(_approve(client, f"system:node:{node_name}", approved), name="approval")
            yield
            watching.cancel()
    finally:
        for name in approved:
            try:
                await client.delete(CERTIFICATE_SIGNING_REQUESTS, name)
            except (ApiNotFoundError, ApiConnectionError):  # clusters remove them, too, in an hour
                continue


async def _approve(client: ApiClient, user: str, approved: set[str]) -> None:
    said = {"type": "Approved", "status": "True", "reason": "Conformance", "message": "a node under test"}
    change = {"status": {"conditions": [said]}}
    while True:
        try:
            for request in (await client.list(CERTIFICATE_SIGNING_REQUESTS)).items:
                name = request.metadata.name or ""
                if name not in approved and _is_of(user, request):
                    await client.patch(
                        CERTIFICATE_SIGNING_REQUESTS, name, change, patch_type=PatchType.MERGE, subresource="approval"
                    )
                    approved.add(name)
        except ApiConnectionError:
            pass  # whatever else the kit does says it; the next look is soon
        await asyncio.sleep(_LOOK)


def _is_of(user: str, request: CertificateSigningRequest) -> bool:
    """Whether it asks for a certificate in this name, whoever asks (the first time it is us), and nobody has decided."""
    if request.status.conditions:
        return False
    try:
        subject = x509.load_pem_x509_csr(base64.b64decode(request.spec.request)).subject
    except ValueError:
        return False
    return [str(one.value) for one in subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == [user]
