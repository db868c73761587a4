"""Every promise as a test: ``pytest --pyargs virtual_kubelet.testing.conformance_tests --conformance-provider NAME``."""

from __future__ import annotations

import pytest

from virtual_kubelet.testing.conformance import Check, all_checks
from virtual_kubelet.testing.pytest_plugin import ConformanceThread


@pytest.mark.parametrize("check", all_checks(), ids=str)
def test_promise(check: Check, conformance: ConformanceThread) -> None:
    """See the promise of the check."""
    conformance.assert_holds(check)
