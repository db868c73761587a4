"""``virtual-kubelet run``: one node in the cluster of a kubeconfig, until a signal ends it."""

from __future__ import annotations

import argparse
import asyncio
import inspect
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from virtual_kubelet.cli.arguments import add_logging, exit_code_table
from virtual_kubelet.cli.exit_codes import ExitCode
from virtual_kubelet.cli.run_options import add_run_options
from virtual_kubelet.errors import ConfigurationError
from virtual_kubelet.provider_registry import ProviderFactory, load_provider

if TYPE_CHECKING:
    from virtual_kubelet.kube.config import ClientConfig
    from virtual_kubelet.kubelet import KubeletConfig

__all__ = ["add_parser", "kubelet_config", "provider_factory", "search_here"]

_DESCRIPTION: Final = """\
Join a cluster as a node, and run the pods that are bound to it, until SIGINT or SIGTERM (a second one ends it at once).
Prints one line when the node is Ready. Durations are written as in Go: 30s, 1m30s, 500ms.

The node needs a kubelet's rights: the user system:node:NODENAME in the group system:nodes has them. Without --kubeconfig
it takes $KUBECONFIG, then ~/.kube/config, then the service account of the pod it runs in."""


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "run", help="join a cluster as a node", description=_DESCRIPTION, epilog=exit_code_table()
    )
    add_run_options(parser)
    add_logging(parser, level="info")
    parser.set_defaults(command=_run)


def search_here(name: str) -> None:
    """A class of the user's own is beside him, as with `python -m`; what is installed comes first."""
    here = os.getcwd()
    if ":" in name and here not in sys.path:
        sys.path.append(here)


def provider_factory(name: str, *, allow_host_processes: bool) -> ProviderFactory:
    """The provider of that name, which is told whether it may run processes of this machine if it asks that.

    Raises ``ProviderConfigError``; ``ConfigurationError`` when the option means nothing to the provider.
    """
    search_here(name)
    factory = load_provider(name)
    if not allow_host_processes:
        return factory
    try:
        asks = "allow_host_processes" in inspect.signature(factory).parameters
    except (TypeError, ValueError):
        asks = False
    if not asks:
        raise ConfigurationError(
            f"provider {name!r} runs no processes of this machine", hint="drop --allow-host-processes"
        )
    return partial(factory, allow_host_processes=True)


def kubelet_config(arguments: argparse.Namespace, client_config: ClientConfig | None = None) -> KubeletConfig:
    """What the options say, as the node's configuration. Raises ``ConfigurationError``.

    Reads the kubeconfig, unless there is a ``client_config`` already.
    """
    from virtual_kubelet.kube.kubeconfig import find_config
    from virtual_kubelet.kubelet import KubeletConfig, OnShutdown
    from virtual_kubelet.kubelet_config import AuthorizationMode
    from virtual_kubelet.objects.core_v1 import Taint
    from virtual_kubelet.provider_binding import provider_label
    from virtual_kubelet.server.stream_limits import StreamLimits

    taints = []
    if not arguments.disable_taint:
        value = arguments.taint_value if arguments.taint_value is not None else provider_label(arguments.provider)
        taints.append(Taint(key=arguments.taint_key, value=value, effect=arguments.taint_effect))
    return KubeletConfig(
        node_name=arguments.nodename,
        provider=provider_factory(arguments.provider, allow_host_processes=arguments.allow_host_processes),
        provider_name=provider_label(arguments.provider),
        provider_config=Path(arguments.provider_config) if arguments.provider_config else None,
        client_config=find_config(arguments.kubeconfig) if client_config is None else client_config,
        client_certificate=_own_certificate(arguments) if arguments.bootstrap_kubeconfig else None,
        kube_api_qps=arguments.kube_api_qps,
        kube_api_burst=arguments.kube_api_burst,
        node_ips=tuple(arguments.node_ip or ()),
        operating_system=arguments.os,
        cluster_domain=arguments.cluster_domain,
        cluster_dns=tuple(arguments.cluster_dns or ()),
        pod_admission=arguments.pod_admission,
        labels=arguments.node_labels,
        taints=tuple(taints),
        state_directory=Path(arguments.state_dir) if arguments.state_dir else None,
        kubelet_server=arguments.kubelet_server,
        debugging_handlers=arguments.enable_debugging_handlers,
        listen_host=arguments.listen.host,
        listen_port=arguments.port if arguments.listen.port is None else arguments.listen.port,
        tls_certificate=arguments.tls_cert_file,
        tls_private_key=arguments.tls_private_key_file,
        rotate_server_certificates=arguments.rotate_server_certificates,
        self_signed_fallback=arguments.self_signed_fallback,
        client_ca=arguments.client_ca_file,
        authorization_mode=AuthorizationMode(arguments.authorization_mode),
        token_reviews=arguments.authentication_token_webhook,
        token_review_cache=arguments.authentication_token_webhook_cache_ttl,
        access_allowed_cache=arguments.authorization_webhook_cache_authorized_ttl,
        access_denied_cache=arguments.authorization_webhook_cache_unauthorized_ttl,
        stream_limits=StreamLimits(
            idle_timeout=arguments.stream_idle_timeout, creation_timeout=arguments.stream_creation_timeout
        ),
        pod_sync_workers=arguments.pod_sync_workers,
        startup_timeout=arguments.startup_timeout or None,
        lease_duration=arguments.lease_duration,
        status_update_interval=arguments.node_status_update_interval,
        ping_interval=arguments.ping_interval,
        ping_timeout=arguments.ping_timeout,
        on_shutdown=tuple(OnShutdown(action) for action in arguments.on_shutdown or ["keep"]),
        drain_timeout=arguments.drain_timeout,
    )


def _run(arguments: argparse.Namespace) -> int:
    from virtual_kubelet.cli.program import Interrupted, configure_logs, run_until_signal

    configure_logs(arguments)
    config = None if arguments.bootstrap_kubeconfig else kubelet_config(arguments)
    try:
        run_until_signal(_run_node(config or arguments))
    except Interrupted:
        return ExitCode.OK
    return ExitCode.FAILURE  # a node does not end by itself


def _own_certificate(arguments: argparse.Namespace) -> Path:
    return Path(arguments.kubeconfig).with_name(f"{arguments.nodename}-client-current.pem")


async def _join(arguments: argparse.Namespace) -> KubeletConfig:
    from virtual_kubelet.kube.client_bootstrap import join_cluster

    if arguments.kubeconfig is None:
        raise ConfigurationError(
            "--bootstrap-kubeconfig is given, but not where the node's own kubeconfig is to be written",
            hint="name a file with --kubeconfig",
        )
    own = await join_cluster(
        Path(arguments.kubeconfig),
        Path(arguments.bootstrap_kubeconfig),
        arguments.nodename,
        _own_certificate(arguments),
        startup_timeout=arguments.startup_timeout or None,
    )
    return kubelet_config(arguments, own)


async def _run_node(given: KubeletConfig | argparse.Namespace) -> None:
    from virtual_kubelet.cli.program import collect_garbage_rarely
    from virtual_kubelet.kubelet import Kubelet

    config = await _join(given) if isinstance(given, argparse.Namespace) else given
    kubelet = Kubelet(config)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(kubelet.run())
        await collect_garbage_rarely(kubelet.wait_ready())
        where = f"kubelet API on {kubelet.url}" if kubelet.url else "kubelet API off"
        print(f'node "{config.node_name}" is Ready ({where})', flush=True)
