"""What tests of the process provider share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.providers.test_process_provider import Node, node_in


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    """A node; what is left of its processes at the end is a failure, but for those whose tests end them otherwise."""
    async with node_in(tmp_path) as made:
        yield made
        for one in await made.provider.get_pods():
            one.metadata.deletion_grace_period_seconds = 0
            await made.provider.delete_pod(one)
            await made.gone(one)
