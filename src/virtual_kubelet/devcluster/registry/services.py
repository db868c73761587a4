"""Services; their cluster IPs come from a range of the cluster's own."""

from __future__ import annotations

import ipaddress
from datetime import datetime
from typing import Any, Final

from virtual_kubelet.devcluster.names import dns_service_name_problems
from virtual_kubelet.devcluster.registry.resource import NAME_COLUMN, Resource, Subresource, age, column
from virtual_kubelet.devcluster.registry.service_validation import NODE_PORTS, validate_service
from virtual_kubelet.devcluster.statuses import FieldError, StatusError, field_invalid, invalid

__all__ = ["ClusterIPs", "Services"]

#: Types whose ports are open on nodes.
_OPEN_TYPES: Final = ("NodePort", "LoadBalancer")
_ADDRESS_FIELDS: Final = ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy")


class ClusterIPs:
    """Hands out the addresses of one range, and node ports; the first address is the API server's."""

    def __init__(self, network: str) -> None:
        self._network = ipaddress.IPv4Network(network)
        self._taken: dict[str, str] = {}
        self._next = 0
        self._ports: dict[int, str] = {}

    @property
    def first(self) -> str:
        return str(self._network[1])

    def has(self, address: str) -> bool:
        """Whether it is one of the range."""
        return ipaddress.ip_address(address) in self._network

    def take(self, owner: str, wanted: str | None = None) -> str | None:
        """An address for the Service with the UID ``owner``: ``wanted``, or any. None: it is not to be had."""
        if wanted is not None:
            if not self.has(wanted) or self._taken.get(wanted, owner) != owner:
                return None
            self._taken[wanted] = owner
            return wanted
        size = self._network.num_addresses - 2
        for _ in range(size):
            # The second of the usable addresses first: the first one is the API server's.
            address = str(self._network[2 + self._next % (size - 1)])
            self._next += 1
            if address not in self._taken:
                self._taken[address] = owner
                return address
        return None

    def take_port(self, owner: str, wanted: int | None) -> int | None:
        """A node port, likewise."""
        if wanted:
            if self._ports.get(wanted, owner) != owner:
                return None
            self._ports[wanted] = owner
            return wanted
        for port in NODE_PORTS:
            if port not in self._ports:
                self._ports[port] = owner
                return port
        return None

    def release(self, owner: str) -> None:
        self._taken = {address: uid for address, uid in self._taken.items() if uid != owner}
        self._ports = {port: uid for port, uid in self._ports.items() if uid != owner}


class Services(Resource):
    kind = "Service"
    plural = "services"
    singular = "service"
    short_names = ("svc",)
    categories = ("all",)
    storage_version_hash = "0/CO1lhkEBI="
    subresources = (Subresource("status", "Service", ("get", "patch", "update")),)
    columns = (
        NAME_COLUMN,
        column("Type"),
        column("Cluster-IP"),
        column("External-IP"),
        column("Port(s)"),
        column("Age"),
        column("Selector", wide=True),
    )
    selectable = frozenset({"spec.clusterIP", "spec.type"})

    @property
    def storage_prefix(self) -> str:
        return "services/specs"

    returns_deleted = True
    create_on_update = True

    def __init__(self, addresses: ClusterIPs) -> None:
        self._addresses = addresses

    def name_problems(self, name: str) -> list[str]:
        return dns_service_name_problems(name)

    def fields(self, obj: dict[str, Any]) -> dict[str, str]:
        return {"spec.clusterIP": obj["spec"].get("clusterIP", ""), "spec.type": obj["spec"].get("type", "")}

    def default(self, obj: dict[str, Any]) -> None:
        spec = obj["spec"]
        spec.setdefault("type", "ClusterIP")
        spec.setdefault("sessionAffinity", "None")
        if spec["sessionAffinity"] == "ClientIP":
            spec.setdefault("sessionAffinityConfig", {"clientIP": {"timeoutSeconds": 10800}})
        for port in spec.get("ports") or []:
            # What Go's clients leave out is 0 or empty.
            port["targetPort"] = port.get("targetPort") or port.get("port", 0)
        if spec["type"] in _OPEN_TYPES:
            spec.setdefault("externalTrafficPolicy", "Cluster")
        if spec["type"] == "LoadBalancer":
            spec.setdefault("allocateLoadBalancerNodePorts", True)
        if spec["type"] != "ExternalName":
            spec.setdefault("internalTrafficPolicy", "Cluster")

    def prepare_create(self, obj: dict[str, Any]) -> None:
        obj["status"] = {"loadBalancer": {}}

    def prepare_update(self, new: dict[str, Any], old: dict[str, Any]) -> None:
        new["status"] = old["status"]
        after, before = new["spec"], old["spec"]
        # Of two fields for one thing, the one that was changed counts.
        if after.get("clusterIP") != before.get("clusterIP") and after.get("clusterIPs") == before.get("clusterIPs"):
            after["clusterIPs"] = [after["clusterIP"]] if after.get("clusterIP") else []
        if after["type"] != "ExternalName":
            for field in _ADDRESS_FIELDS:
                if not after.get(field) and before.get(field):
                    after[field] = before[field]
        self._drop_what_went_with_the_type(after, before)

    @staticmethod
    def _drop_what_went_with_the_type(after: dict[str, Any], before: dict[str, Any]) -> None:
        """Unless it was changed, too: then validation says what is wrong."""
        gone: list[str] = []
        if before["type"] != "ExternalName" and after["type"] == "ExternalName":
            gone += _ADDRESS_FIELDS
        if before["type"] == "LoadBalancer" and after["type"] != "LoadBalancer":
            gone += ["allocateLoadBalancerNodePorts", "loadBalancerClass"]
        if before["type"] in _OPEN_TYPES and after["type"] not in _OPEN_TYPES:
            gone += ["externalTrafficPolicy", "healthCheckNodePort"]
            ports = after.get("ports") or []
            if [port.get("nodePort") for port in ports] == [port.get("nodePort") for port in before.get("ports") or []]:
                for port in ports:
                    port.pop("nodePort", None)
        for field in gone:
            if after.get(field) == before.get(field):
                after.pop(field, None)

    def validate_create(self, obj: dict[str, Any]) -> list[FieldError]:
        return validate_service(obj["spec"])

    def validate_update(self, new: dict[str, Any], old: dict[str, Any]) -> list[FieldError]:
        errors = validate_service(new["spec"])
        before, after = old["spec"].get("clusterIP"), new["spec"].get("clusterIP")
        if before and before != after and "ExternalName" not in (new["spec"]["type"], old["spec"]["type"]):
            shown = new["spec"].get("clusterIPs") or [after or ""]
            errors.append(field_invalid("spec.clusterIPs[0]", shown, "may not change once set"))
        return errors

    def allocate(self, obj: dict[str, Any]) -> None:
        """Give the Service what its type needs. Raises ``StatusError`` 422 if that is taken."""
        addresses = self._addresses
        spec, metadata = obj["spec"], obj["metadata"]
        if spec["type"] == "ExternalName":
            for field in _ADDRESS_FIELDS:
                spec.pop(field, None)
            return
        spec.setdefault("ipFamilies", ["IPv4"])
        spec.setdefault("ipFamilyPolicy", "SingleStack")
        wanted = spec.get("clusterIP") or None
        if wanted != "None":
            address = addresses.take(metadata["uid"], wanted)
            if address is None:
                if wanted is None:
                    why = "failed to allocate a serviceIP: range is full"
                    raise StatusError(500, "InternalError", f"Internal error occurred: {why}")
                why = _ADDRESS_TAKEN if addresses.has(wanted) else _ADDRESS_ELSEWHERE
                detail = f"failed to allocate IP {wanted}: {why}"
                raise _refused(obj, field_invalid("spec.clusterIPs", [wanted], detail))
            spec["clusterIP"] = address
        spec["clusterIPs"] = [spec["clusterIP"]]
        if spec["type"] in _OPEN_TYPES and spec.get("allocateLoadBalancerNodePorts", True):
            for index, port in enumerate(spec.get("ports") or []):
                if port.get("nodePort") and port["nodePort"] not in NODE_PORTS:
                    raise _refused(obj, field_invalid(f"spec.ports[{index}].nodePort", port["nodePort"], _NO_NODE_PORT))
                number = addresses.take_port(metadata["uid"], port.get("nodePort"))
                if number is None:
                    where = f"spec.ports[{index}].nodePort"
                    raise _refused(
                        obj, field_invalid(where, port.get("nodePort", 0), "provided port is already allocated")
                    )
                port["nodePort"] = number

    def release(self, obj: dict[str, Any]) -> None:
        self._addresses.release(obj["metadata"]["uid"])

    def cells(self, obj: dict[str, Any], now: datetime) -> list[Any]:
        spec = obj["spec"]
        selector = ",".join(f"{k}={v}" for k, v in sorted((spec.get("selector") or {}).items()))
        return [
            obj["metadata"]["name"],
            spec["type"],
            spec.get("clusterIP") or "<none>",
            _external(obj),
            ",".join(_port(port) for port in spec.get("ports") or []) or "<none>",
            age(obj, now),
            selector or "<none>",
        ]


_NO_NODE_PORT: Final = "provided port is not in the valid range. The range of valid ports is 30000-32767"
_ADDRESS_TAKEN: Final = "provided IP is already allocated"
_ADDRESS_ELSEWHERE: Final = "the provided network does not match the current range"


def _refused(obj: dict[str, Any], error: FieldError) -> StatusError:
    return invalid("Service", obj["metadata"]["name"], [error])


def _external(obj: dict[str, Any]) -> str:
    spec = obj["spec"]
    if spec["type"] == "ExternalName":
        return str(spec.get("externalName", ""))
    addresses = list(spec.get("externalIPs") or [])
    if spec["type"] == "LoadBalancer":
        ingress = obj["status"]["loadBalancer"].get("ingress") or []
        addresses = sorted({entry.get("ip") or entry.get("hostname", "") for entry in ingress} - {""}) + addresses
        return ",".join(addresses) or "<pending>"
    return ",".join(addresses) or "<none>"


def _port(port: dict[str, Any]) -> str:
    if port.get("nodePort"):
        return f"{port['port']}:{port['nodePort']}/{port['protocol']}"
    return f"{port['port']}/{port['protocol']}"
