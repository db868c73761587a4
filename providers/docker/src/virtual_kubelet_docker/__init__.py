"""A Virtual Kubelet provider whose pods are containers of Docker or Podman."""

from __future__ import annotations

from virtual_kubelet_docker.docker_runtime import DockerRuntime as DockerRuntime

__all__ = ["DockerRuntime"]
