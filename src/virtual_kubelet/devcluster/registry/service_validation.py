"""What the API server refuses in a Service (``pkg/apis/core/validation``). Pure."""

from __future__ import annotations

import ipaddress
from typing import Any, Final

from virtual_kubelet.devcluster.names import (
    dns_label_problems,
    dns_subdomain_problems,
    port_name_problems,
    validate_labels,
)
from virtual_kubelet.devcluster.registry.value_validation import address_errors, one_of
from virtual_kubelet.devcluster.statuses import FieldError, duplicate, field_forbidden, field_invalid, required

__all__ = ["NODE_PORTS", "validate_service"]

NODE_PORTS: Final = range(30000, 32768)
_TYPES: Final = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_PROTOCOLS: Final = ("SCTP", "TCP", "UDP")
_PORT_RANGE: Final = "must be between 1 and 65535, inclusive"


def validate_service(spec: dict[str, Any]) -> list[FieldError]:
    """A Service's spec, defaults filled in."""
    errors: list[FieldError] = []
    ports, kind = spec.get("ports") or [], spec["type"]
    headless = spec.get("clusterIP") == "None"
    if not ports and not headless and kind != "ExternalName":
        errors.append(required("spec.ports"))
    if headless and kind in ("LoadBalancer", "NodePort"):
        detail = f"may not be set to 'None' for {kind} services"
        errors.append(field_invalid("spec.clusterIPs[0]", "None", detail))
    if kind == "ExternalName":
        errors += _external_name(spec)
    names: set[str] = set()
    for index, port in enumerate(ports):
        errors += _port(port, f"spec.ports[{index}]", names, named=len(ports) > 1, headless=headless)
    errors += validate_labels(spec.get("selector"), "spec.selector")
    errors += one_of(spec["sessionAffinity"], "spec.sessionAffinity", ("ClientIP", "None"))
    if spec["sessionAffinity"] == "None" and "sessionAffinityConfig" in spec:
        detail = "must not be set when session affinity is None"
        errors.append(field_forbidden("spec.sessionAffinityConfig", detail))
    address = spec.get("clusterIP", "")
    if address not in ("", "None"):
        errors += address_errors(address, "spec.clusterIPs[0]")
    for index, external in enumerate(spec.get("externalIPs") or ()):
        where = f"spec.externalIPs[{index}]"
        errors += address_errors(external, where) or _special(external, where)
    errors += one_of(kind, "spec.type", _TYPES)
    return errors + _duplicates(ports) + _by_type(spec, ports, kind)


def _external_name(spec: dict[str, Any]) -> list[FieldError]:
    errors: list[FieldError] = []
    if spec.get("clusterIPs"):
        errors.append(field_forbidden("spec.clusterIPs", "may not be set for ExternalName services"))
    name = spec.get("externalName", "").removesuffix(".")
    if not name:
        return [*errors, required("spec.externalName")]
    return errors + [field_invalid("spec.externalName", name, problem) for problem in dns_subdomain_problems(name)]


def _port(port: dict[str, Any], where: str, names: set[str], *, named: bool, headless: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    name, number = port.get("name", ""), port.get("port", 0)
    if not name and named:
        errors.append(required(f"{where}.name"))
    elif name:
        errors += [field_invalid(f"{where}.name", name, problem) for problem in dns_label_problems(name)]
        if name in names:
            errors.append(duplicate(f"{where}.name", name))
        names.add(name)
    if not 1 <= number <= 65535:
        errors.append(field_invalid(f"{where}.port", number, _PORT_RANGE))
    errors += one_of(port["protocol"], f"{where}.protocol", _PROTOCOLS)
    target = port.get("targetPort", 0)
    if isinstance(target, int):
        if not 1 <= target <= 65535:
            errors.append(field_invalid(f"{where}.targetPort", target, _PORT_RANGE))
    else:
        errors += [field_invalid(f"{where}.targetPort", target, problem) for problem in port_name_problems(target)]
    return errors


def _special(address: str, where: str) -> list[FieldError]:
    """Addresses that mean another machine to everybody who reads them."""
    ip = ipaddress.ip_address(address)
    if ip.is_unspecified:
        return [field_invalid(where, address, f"may not be unspecified ({address})")]
    if ip.is_loopback:
        return [field_invalid(where, address, "may not be in the loopback range (127.0.0.0/8, ::1/128)")]
    if ip.is_link_local:
        return [field_invalid(where, address, "may not be in the link-local range (169.254.0.0/16, fe80::/10)")]
    return []


def _duplicates(ports: list[dict[str, Any]]) -> list[FieldError]:
    errors: list[FieldError] = []
    node_ports: set[tuple[str, int]] = set()
    seen: set[tuple[str, int]] = set()
    for index, port in enumerate(ports):
        node_port = (port["protocol"], port.get("nodePort", 0))
        if node_port in node_ports:
            errors.append(duplicate(f"spec.ports[{index}].nodePort", node_port[1]))
        if node_port[1]:
            node_ports.add(node_port)
    for index, port in enumerate(ports):
        key = (port["protocol"], port.get("port", 0))
        if key in seen:
            shown = {
                "Name": "",
                "Protocol": key[0],
                "AppProtocol": None,
                "Port": key[1],
                "TargetPort": 0,
                "NodePort": 0,
            }
            errors.append(duplicate(f"spec.ports[{index}]", shown))
        seen.add(key)
    return errors


def _by_type(spec: dict[str, Any], ports: list[dict[str, Any]], kind: str) -> list[FieldError]:
    """Fields that only some types of Service may have."""
    errors: list[FieldError] = []
    if kind == "ClusterIP":
        detail = "may not be used when `type` is 'ClusterIP'"
        used = [index for index, port in enumerate(ports) if port.get("nodePort")]
        errors += [field_forbidden(f"spec.ports[{index}].nodePort", detail) for index in used]
    only = "may only be used when `type` is 'LoadBalancer'"
    if kind != "LoadBalancer":
        if spec.get("loadBalancerSourceRanges"):
            errors.append(field_forbidden("spec.LoadBalancerSourceRanges", only))
        for field in ("allocateLoadBalancerNodePorts", "loadBalancerClass"):
            if field in spec:
                errors.append(field_forbidden(f"spec.{field}", only))
    policy = spec.get("externalTrafficPolicy", "")
    if policy and kind not in ("NodePort", "LoadBalancer") and not (kind == "ClusterIP" and spec.get("externalIPs")):
        detail = "may only be set for externally-accessible services"
        errors.append(field_invalid("spec.externalTrafficPolicy", policy, detail))
    elif policy:
        errors += one_of(policy, "spec.externalTrafficPolicy", ("Cluster", "Local"))
    inner = spec.get("internalTrafficPolicy")
    if inner is not None:
        errors += one_of(inner, "spec.internalTrafficPolicy", ("Cluster", "Local"))
    return errors
