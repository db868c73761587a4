"""Pods as processes of this machine: real commands, real exit codes, no isolation. For development and trusted users."""

from virtual_kubelet.providers.process.provider import ProcessProvider

__all__ = ["ProcessProvider"]
