"""A container as the engine's API wants it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from virtual_kubelet import ContainerConfig, Mount, supplemental_groups
from virtual_kubelet_docker.config import DockerConfig
from virtual_kubelet_docker.labels import Owner, container_labels
from virtual_kubelet_docker.resources import engine_resources
from virtual_kubelet_docker.security import run_as, security_settings

__all__ = ["container_spec", "engine_mounts"]

_PROPAGATION: Final = {None: "rprivate", "None": "rprivate", "HostToContainer": "rslave", "Bidirectional": "rshared"}


def container_spec(
    config: ContainerConfig,
    *,
    owner: Owner,
    settings: DockerConfig,
    image_user: str = "",
    podman: bool = False,
    seccomp_profile: str | None = None,
    oom_score: int = 0,
) -> dict[str, Any]:
    """The body of ``/containers/create``.

    Args:
        image_user: for ``runAsGroup`` without ``runAsUser``.
        oom_score: the container's ``oom_score_adj``.
    """
    pod, container = config.pod, config.container
    assert config.sandbox is not None, "containers of this runtime are in a sandbox"
    infra = f"container:{config.sandbox.id}"
    host: dict[str, Any] = {
        "NetworkMode": infra,
        "IpcMode": "host" if pod.spec.host_ipc else infra,
        "Mounts": engine_mounts(config.mounts),
        "GroupAdd": [str(group) for group in supplemental_groups(pod).groups],
        "LogConfig": _log_config(settings, podman=podman),
        "RestartPolicy": {"Name": "no"},
        "OomScoreAdj": oom_score,
        **engine_resources(container.resources),
        **security_settings(pod, container, podman=podman, seccomp_profile=seccomp_profile),
    }
    if settings.pod_pids_limit is not None:
        host["PidsLimit"] = settings.pod_pids_limit
    if config.target:
        host["PidMode"] = f"container:{config.target}"
    elif pod.spec.host_pid:
        host["PidMode"] = "host"
    elif pod.spec.share_process_namespace:
        host["PidMode"] = infra
    if podman:  # Docker's containers in another's network have its name anyway
        host["UTSMode"] = "host" if pod.spec.host_network else infra
    if pod.spec.runtime_class_name:
        host["Runtime"] = settings.runtime_classes[pod.spec.runtime_class_name]
    body: dict[str, Any] = {
        "Image": config.image.id if config.image is not None and _is_image_id(config.image.id) else container.image,
        "Labels": container_labels(owner, config),
        "Env": [f"{variable.name}={variable.value or ''}" for variable in container.env or ()],
        "User": run_as(pod, container, image_user),
        "WorkingDir": container.working_dir or "",
        "Tty": container.tty is True,
        "OpenStdin": container.stdin is True,
        "StdinOnce": container.stdin_once is True,
        "HostConfig": host,
    }
    if container.command:
        body["Entrypoint"] = list(container.command)
    if container.args:
        body["Cmd"] = list(container.args)
    if container.lifecycle is not None and container.lifecycle.stop_signal:
        body["StopSignal"] = container.lifecycle.stop_signal
    return body


def engine_mounts(mounts: Sequence[Mount]) -> list[dict[str, Any]]:
    return [
        {
            "Type": "bind",
            "Source": str(mount.host_path),
            "Target": mount.container_path,
            "ReadOnly": mount.read_only,
            "BindOptions": {"Propagation": _PROPAGATION[mount.propagation]},
        }
        for mount in mounts
    ]


def _log_config(settings: DockerConfig, *, podman: bool) -> dict[str, Any]:
    if podman:
        return {"Type": "k8s-file", "Config": {"max-size": str(settings.max_log_bytes)}}
    rotation = {"max-size": str(settings.max_log_bytes), "max-file": str(settings.max_log_files)}
    return {"Type": "json-file", "Config": rotation}


def _is_image_id(name: str) -> bool:
    return name.startswith("sha256:")
