"""Pods in memory: nothing runs, everything is reported. For tests, simulation and load."""

from virtual_kubelet.providers.mock.provider import MockProvider

__all__ = ["MockProvider"]
