"""``virtual-kubelet rbac``: the least rights of a node that is not itself but a service account, as manifests."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any, Final

from virtual_kubelet.cli.exit_codes import ExitCode
from virtual_kubelet.cli.run_options import add_kubelet_server, add_node_name, add_on_shutdown, add_rotation

__all__ = ["add_parser", "manifests"]

_DESCRIPTION: Final = """\
Print the least RBAC for a node that runs as a service account, from the features that are on; made for

  virtual-kubelet rbac --nodename NAME | kubectl apply -f -

A node with credentials of its own (system:node:NAME in system:nodes) needs none of it: prefer that where you can, see
run --bootstrap-kubeconfig. RBAC cannot say "the pods of this node": a service account may read all ConfigMaps and
Secrets, and end all pods."""


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "rbac", help="print the least RBAC for a node that uses a service account", description=_DESCRIPTION
    )
    add_node_name(parser, parser)
    parser.add_argument("--namespace", default="default", metavar="NAMESPACE", help="its namespace (default default)")
    parser.add_argument(
        "--service-account", metavar="NAME", help="its name (default: the node's name); it is made if it is not there"
    )
    add_kubelet_server(
        parser, "as for run: without the HTTPS API nobody's token or rights are to be asked about (default true)"
    )
    add_rotation(parser, "as for run: certificate signing requests (default false)")
    add_on_shutdown(parser, "as for run: delete-node")
    parser.set_defaults(command=show)


def show(arguments: argparse.Namespace) -> int:
    import yaml

    found = manifests(
        arguments.nodename,
        arguments.namespace,
        arguments.service_account or arguments.nodename,
        kubelet_server=arguments.kubelet_server,
        rotate_server_certificates=arguments.rotate_server_certificates,
        delete_node="delete-node" in (arguments.on_shutdown or ()),
    )
    print(yaml.safe_dump_all(found, sort_keys=False), end="")
    return ExitCode.OK


def manifests(
    node_name: str,
    namespace: str,
    service_account: str,
    *,
    kubelet_server: bool = True,
    rotate_server_certificates: bool = False,
    delete_node: bool = False,
) -> list[dict[str, Any]]:
    """The service account, its roles and what binds them to it."""
    name = f"virtual-kubelet:{node_name}"
    rules = [
        _rule("", ["nodes"], ["create"]),
        # The name of a list or watch is that of its field selector.
        _rule("", ["nodes"], ["get", "list", "watch", "patch", *(["delete"] if delete_node else [])], [node_name]),
        _rule("", ["nodes/status"], ["patch"], [node_name]),
        _rule("", ["pods"], ["get", "list", "watch", "delete"]),
        _rule("", ["pods/status"], ["patch"]),
        _rule("", ["configmaps", "secrets"], ["get", "list", "watch"]),
        _rule("", ["services"], ["list", "watch"]),
        _rule("", ["events"], ["create", "patch"]),
    ]
    if kubelet_server:
        rules.append(_rule("authentication.k8s.io", ["tokenreviews"], ["create"]))
        rules.append(_rule("authorization.k8s.io", ["subjectaccessreviews"], ["create"]))
    if rotate_server_certificates:
        rules.append(_rule("certificates.k8s.io", ["certificatesigningrequests"], ["create", "get", "list", "watch"]))
    lease = [
        _rule("coordination.k8s.io", ["leases"], ["create"]),
        _rule("coordination.k8s.io", ["leases"], ["get", "patch", "delete"], [node_name]),
    ]
    subjects = [{"kind": "ServiceAccount", "name": service_account, "namespace": namespace}]
    return [
        _manifest("v1", "ServiceAccount", service_account, namespace),
        {**_manifest(_RBAC, "ClusterRole", name), "rules": rules},
        {**_manifest(_RBAC, "ClusterRoleBinding", name), **_binding("ClusterRole", name), "subjects": subjects},
        {**_manifest(_RBAC, "Role", name, "kube-node-lease"), "rules": lease},
        {
            **_manifest(_RBAC, "RoleBinding", name, "kube-node-lease"),
            **_binding("Role", name),
            "subjects": [dict(subject) for subject in subjects],
        },
    ]


_RBAC: Final = "rbac.authorization.k8s.io/v1"


def _rule(group: str, resources: Iterable[str], verbs: Iterable[str], names: Iterable[str] = ()) -> dict[str, Any]:
    rule: dict[str, Any] = {"apiGroups": [group], "resources": list(resources), "verbs": list(verbs)}
    if names:
        rule["resourceNames"] = list(names)
    return rule


def _manifest(api_version: str, kind: str, name: str, namespace: str = "") -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace} if namespace else {"name": name}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata}


def _binding(kind: str, name: str) -> dict[str, Any]:
    return {"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}}
