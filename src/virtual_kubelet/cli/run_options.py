"""The options of ``virtual-kubelet run``."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any, Final

from virtual_kubelet.cli import arguments as types
from virtual_kubelet.cli.arguments import Address, Parser, add_boolean, from_environment

__all__ = [
    "add_kubelet_server",
    "add_node_name",
    "add_on_shutdown",
    "add_provider_options",
    "add_rotation",
    "add_run_options",
    "unknown_option",
]

#: Options of the Go command line and of node-cli that are not carried over -> why.
_GONE: Final[Mapping[str, str]] = {
    "--metrics-addr": "there is no read-only port; metrics are on the node's HTTPS API",
    "--full-resync-period": "nothing depends on it: every pod is looked at when something about it changes",
    "--enable-node-lease": "the node always has a Lease",
    "--namespace": "a node serves the pods of all namespaces",
    "--no-verify-clients": "callers of the node's HTTPS API are always authenticated and authorized",
    "--trace-": "traces go where OpenTelemetry's own variables say (install virtual-kubelet[otel])",
    "--klog": "there is no klog; see --log-level",
}


def add_run_options(parser: Parser) -> None:
    """All but those about logs."""
    _cluster(parser)
    _node(parser)
    provider = add_provider_options(parser, default=None)
    provider.add_argument(
        "--allow-host-processes",
        action="store_true",
        help="let provider `process` run pods as processes of this machine, with no isolation at all",
    )
    provider.add_argument(
        "--state-dir",
        type=types.folder_name,
        metavar="DIR",
        help="what must outlive this process, the provider's state too (default: "
        "$XDG_STATE_HOME/virtual-kubelet/SERVER/NODENAME)",
    )
    _kubelet_server(parser)
    _taint(parser)
    _timing(parser)


def unknown_option(option: str, known: Collection[str] = ()) -> str:
    """What to say about an option that there is not; ``known`` are those that there are."""
    name = option.partition("=")[0]
    for gone, why in _GONE.items():
        if name == gone or (gone in ("--trace-", "--klog") and option.startswith(gone)):
            return f"{name} is not carried over from Go: {why}"
    close = [one for one in known if len(name) > 3 and one.startswith(name)] or get_close_matches(name, known, 1)
    return f"unrecognized argument: {option}" + (f"; did you mean {close[0]}?" if close else "")


def _cluster(parser: Parser) -> None:
    group = parser.add_argument_group("cluster")
    group.add_argument(
        "--kubeconfig", type=types.file_name, metavar="FILE", help="how to reach the API server (env KUBECONFIG)"
    )
    group.add_argument(
        "--bootstrap-kubeconfig",
        type=types.file_name,
        metavar="FILE",
        help="where --kubeconfig is not there or its certificate has expired: ask for a client certificate with the "
        "credentials of this one (a bootstrap token), keep it beside --kubeconfig, write that, and renew it in time",
    )
    group.add_argument(
        "--startup-timeout",
        type=types.duration,
        default=0.0,
        metavar="D",
        help="end with exit code 124 unless the node is Ready by then; until then an API server that cannot be "
        "reached is tried again (default 0: no limit, but one try to reach it)",
    )
    group.add_argument("--kube-api-qps", type=types.rate, default=0.0, metavar="N", help="requests a second (0: any)")
    group.add_argument(
        "--kube-api-burst",
        type=types.whole_number,
        default=0,
        metavar="N",
        help="requests at once beyond --kube-api-qps",
    )


# What ``rbac`` has, too: the same option, with other words about it.


def add_node_name(parser: Parser, group: argparse._ActionsContainer) -> None:
    name = group.add_argument("--nodename", metavar="NAME", help="(default virtual-kubelet; env DEFAULT_NODE_NAME)")
    from_environment(parser, name, "DEFAULT_NODE_NAME", str, "virtual-kubelet")


def add_kubelet_server(group: argparse._ActionsContainer, text: str) -> None:
    add_boolean(group, "--kubelet-server", default=True, help=text)


def add_rotation(group: argparse._ActionsContainer, text: str) -> None:
    add_boolean(group, "--rotate-server-certificates", default=False, help=text)


def add_on_shutdown(group: argparse._ActionsContainer, text: str) -> None:
    group.add_argument("--on-shutdown", type=types.shutdown_actions, action="extend", metavar="ACTION", help=text)


def _node(parser: Parser) -> None:
    group = parser.add_argument_group("node")
    add_node_name(parser, group)
    group.add_argument(
        "--os",
        type=types.one_of("operating system", "linux", "windows"),
        default="linux",
        metavar="OS",
        help="of the pods: linux or windows (default linux)",
    )
    ip = group.add_argument(
        "--node-ip",
        type=types.ip_addresses,
        metavar="IP[,IP]",
        help="InternalIP of the Node: where the API server reaches its HTTPS API (default: this machine's address "
        "towards the API server; env VKUBELET_POD_IP)",
    )
    from_environment(parser, ip, "VKUBELET_POD_IP", types.ip_addresses, None)
    group.add_argument(
        "--node-labels", type=types.labels, default={}, metavar="K=V[,K=V]", help="more labels for the Node"
    )
    group.add_argument("--cluster-domain", default="cluster.local", metavar="NAME", help="(default cluster.local)")
    group.add_argument(
        "--cluster-dns",
        type=types.ip_addresses,
        metavar="IP[,IP]",
        help="addresses of the cluster's DNS, for pods (default: none, pods ask whom the provider's machines ask)",
    )
    add_boolean(
        group,
        "--pod-admission",
        default=True,
        help="reject pods that do not fit or suit the node, whoever has bound them, as a kubelet does (default true)",
    )
    add_on_shutdown(
        group,
        "keep: leave node and pods as they are (default); cordon: no new pods; drain: cordon, and end the pods "
        "within their grace periods; delete-node: delete the Node. Several with commas, or repeated",
    )
    group.add_argument(
        "--drain-timeout",
        type=types.positive_duration,
        default=30.0,
        metavar="D",
        help="longest grace period a pod gets when the node drains (default 30s)",
    )


def add_provider_options(parser: Parser, *, default: str | None) -> Any:
    """``--provider`` and what belongs to it, in a group of options; required unless there is a default."""
    group = parser.add_argument_group("provider")
    group.add_argument(
        "--provider",
        required=default is None,
        default=default,
        metavar="NAME",
        help="a name that `virtual-kubelet providers` lists, or module:Name"
        + (f" (default {default})" if default else ""),
    )
    group.add_argument("--provider-config", type=types.file_name, metavar="FILE", help="handed to the provider")
    return group


def _kubelet_server(parser: Parser) -> None:
    group = parser.add_argument_group("the node's HTTPS API")
    add_kubelet_server(group, "--kubelet-server=false: no HTTPS API, so no kubectl logs (default true)")
    add_boolean(
        group,
        "--enable-debugging-handlers",
        default=True,
        help="--enable-debugging-handlers=false: no logs, exec, attach, port-forward, run (default true)",
    )
    group.add_argument(
        "--listen",
        type=types.address,
        default=Address("", None),
        metavar="ADDR:PORT",
        help="(default :10250; env KUBELET_PORT for the port)",
    )
    port = group.add_argument("--port", type=types.port, help=argparse.SUPPRESS)
    from_environment(parser, port, "KUBELET_PORT", types.port, 10250)
    files = (
        (("--tls-cert-file",), "APISERVER_CERT_LOCATION", "serving certificate, PEM (default: self-signed)"),
        (("--tls-private-key-file",), "APISERVER_KEY_LOCATION", "its key"),
        (
            ("--client-ca-file", "--client-verify-ca"),
            "APISERVER_CA_CERT_LOCATION",
            "CA of client certificates (default: the cluster's CA of the kubeconfig)",
        ),
    )
    add_rotation(
        group,
        "have the cluster sign the serving certificate (kubernetes.io/kubelet-serving), wait for the approval, and "
        "renew it in time (default false: self-signed)",
    )
    group.add_argument(
        "--self-signed-fallback",
        type=types.positive_duration,
        metavar="D",
        help="with --rotate-server-certificates: serve with a self-signed one when nobody has approved after D",
    )
    for names, variable, text in files:
        action = group.add_argument(*names, type=types.file_name, metavar="FILE", help=f"{text} (env {variable})")
        from_environment(parser, action, variable, types.file_name, None)
    add_boolean(
        group,
        "--authentication-token-webhook",
        default=True,
        help="ask the API server about bearer tokens (default true)",
    )
    group.add_argument(
        "--authorization-mode",
        type=types.one_of("authorization mode", "Webhook", "AlwaysAllow"),
        default="Webhook",
        metavar="MODE",
        help="Webhook: ask the API server what callers may do (default). AlwaysAllow: everybody with credentials of the "
        "cluster may do everything; a warning says so",
    )
    group.add_argument(
        "--stream-idle-timeout",
        "--streaming-connection-idle-timeout",
        type=types.positive_duration,
        default=4 * 3600.0,
        metavar="D",
        help="end exec, attach and port-forward when nothing has come or gone for so long (default 4h, as the kubelet's)",
    )
    group.add_argument(
        "--stream-creation-timeout",
        type=types.positive_duration,
        default=30.0,
        metavar="D",
        help="for a client to open all streams of a command or a forwarded connection (default 30s)",
    )
    for name, seconds, text in (
        ("--authentication-token-webhook-cache-ttl", 120.0, "how long an answer about a token is good (default 2m)"),
        (
            "--authorization-webhook-cache-authorized-ttl",
            300.0,
            "how long a yes to an access review is good (default 5m)",
        ),
        ("--authorization-webhook-cache-unauthorized-ttl", 30.0, "how long a no is good (default 30s)"),
    ):
        group.add_argument(name, type=types.duration, default=seconds, metavar="D", help=text)


def _taint(parser: Parser) -> None:
    group = parser.add_argument_group("taint, so that only pods that tolerate it come")
    add_boolean(group, "--disable-taint", default=False, help="no taint")
    effect = types.one_of("effect of a taint", "NoSchedule", "NoExecute", "PreferNoSchedule")
    key = group.add_argument(
        "--taint-key",
        "--taint",
        metavar="KEY",
        help="(default virtual-kubelet.io/provider; env VKUBELET_TAINT_KEY; --taint is deprecated)",
    )
    from_environment(parser, key, "VKUBELET_TAINT_KEY", str, "virtual-kubelet.io/provider")
    value = group.add_argument(
        "--taint-value", metavar="VALUE", help="(default: the provider's name; env VKUBELET_TAINT_VALUE)"
    )
    from_environment(parser, value, "VKUBELET_TAINT_VALUE", str, None)
    action = group.add_argument(
        "--taint-effect",
        type=effect,
        metavar="EFFECT",
        help="NoSchedule (default), NoExecute or PreferNoSchedule (env VKUBELET_TAINT_EFFECT)",
    )
    from_environment(parser, action, "VKUBELET_TAINT_EFFECT", effect, "NoSchedule")


def _timing(parser: Parser) -> None:
    group = parser.add_argument_group("work and periods")
    group.add_argument(
        "--pod-sync-workers", type=types.count, default=10, metavar="N", help="pods worked on at once (default 10)"
    )
    for name, seconds, text in (
        ("--lease-duration", 40.0, "of the node's Lease, renewed each quarter of it (default 40s)"),
        ("--node-status-update-interval", 60.0, "between status writes when nothing changes (default 1m)"),
        ("--ping-interval", 10.0, "between pings of the provider (default 10s)"),
        ("--ping-timeout", 10.0, "for one ping (default 10s)"),
    ):
        group.add_argument(name, type=types.positive_duration, default=seconds, metavar="D", help=text)
