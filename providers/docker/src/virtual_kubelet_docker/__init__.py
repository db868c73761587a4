"""A Virtual Kubelet provider whose pods are containers of Docker or Podman."""

from __future__ import annotations

from virtual_kubelet_docker.docker_runtime import DockerRuntime as DockerRuntime
from virtual_kubelet_docker.provider import DockerProvider as DockerProvider

__all__ = ["DockerProvider", "DockerRuntime"]
