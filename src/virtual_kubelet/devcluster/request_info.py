"""Which verb of which resource a request means (apiserver's ``RequestInfo``). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from virtual_kubelet.devcluster.registry.resource import Resource
from virtual_kubelet.devcluster.statuses import method_not_allowed, resource_not_found

__all__ = ["PAGE_NOT_FOUND", "RequestInfo", "ResourceTable", "UnknownPath"]

PAGE_NOT_FOUND: Final = "404 page not found\n"
_VERBS: Final = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
#: Paths remembered, and how long they may be.
_REMEMBERED: Final = 4096
_LONGEST_REMEMBERED: Final = 256


class UnknownPath(Exception):
    """No such path: answered with plain text, as what is not of the API."""


class RequestInfo(NamedTuple):
    """A request for a resource.

    Attributes:
        verb: ``get``, ``list``, ``watch``, ``create``, ``update``, ``patch``, ``delete``, ``deletecollection``.
        resource: what is asked for.
        namespace: empty for all namespaces, and for what has none.
        name: empty for the collection.
        subresource: empty for the object itself.
        rest: what follows a ``proxy`` subresource.
    """

    verb: str
    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    rest: str = ""

    @property
    def full_resource(self) -> str:
        """``pods`` or ``pods/status``."""
        return f"{self.resource.plural}/{self.subresource}" if self.subresource else self.resource.plural


class ResourceTable:
    """All resources by where they are in the URL space."""

    def __init__(self, resources: Mapping[tuple[str, str], Resource]) -> None:
        """``resources``: by group and plural."""
        self._by_root: dict[tuple[str, str], dict[str, Resource]] = {}
        for resource in resources.values():
            self._by_root.setdefault((resource.group, resource.version), {})[resource.plural] = resource
        #: What has been asked for before: nodes ask for the same again and again.
        self._found: dict[tuple[str, str, bool], RequestInfo] = {}

    def find(self, method: str, path: str, *, watch: bool) -> RequestInfo:
        """What ``method`` on ``path`` means; ``watch``: the query says so.

        Raises ``UnknownPath`` for what is in no group, ``StatusError`` 404 and 405 within a group.
        """
        asked = (method, path, watch)
        known = self._found.get(asked)
        if known is None:
            known = self._find(method, path, watch)
            if len(path) <= _LONGEST_REMEMBERED:
                if len(self._found) >= _REMEMBERED:
                    self._found.clear()
                self._found[asked] = known
        return known

    def _find(self, method: str, path: str, watch: bool) -> RequestInfo:
        parts = path.split("/")[1:]
        if parts[-1] == "" and "proxy" not in parts:
            parts = parts[:-1] or [""]
        if parts[0] == "api" and len(parts) > 2:
            root, parts = ("", parts[1]), parts[2:]
        elif parts[0] == "apis" and len(parts) > 3:
            root, parts = (parts[1], parts[2]), parts[3:]
        else:
            raise UnknownPath
        resources = self._by_root.get(root)
        if resources is None:
            raise UnknownPath
        namespace = ""
        # namespaces/NAME/RESOURCE is a namespaced resource, unless it is a subresource of the namespace itself.
        if (
            parts[0] == "namespaces"
            and len(parts) > 2
            and not (root == ("", "v1") and parts[2] in ("status", "finalize"))
        ):
            namespace, parts = parts[1], parts[2:]
        resource = resources.get(parts[0])
        if resource is None or "" in parts[:3] or bool(namespace) > resource.namespaced:
            raise resource_not_found()
        name = parts[1] if len(parts) > 1 else ""
        subresource = parts[2] if len(parts) > 2 else ""
        if subresource not in ("", "proxy") and len(parts) > 3:
            raise resource_not_found()
        if resource.namespaced and name and not namespace:
            raise resource_not_found()
        verb = self._verb(method, resource, namespace, name, subresource, watch)
        return RequestInfo(verb, resource, namespace, name, subresource, "/".join(parts[3:]))

    @staticmethod
    def _verb(method: str, resource: Resource, namespace: str, name: str, subresource: str, watch: bool) -> str:
        verb = _VERBS.get(method)
        if not resource.in_discovery and (method != "GET" or name or watch):
            raise resource_not_found()
        if verb is None:
            raise method_not_allowed()
        if subresource:
            served = next((s for s in resource.subresources if s.name == subresource), None)
            if served is None:
                raise resource_not_found()
            if verb not in served.verbs:
                raise method_not_allowed()
            return verb
        if not name:
            verb = {"get": "watch" if watch else "list", "delete": "deletecollection"}.get(verb, verb)
            if verb in ("update", "patch") or (verb == "create" and resource.namespaced and not namespace):
                raise method_not_allowed()
            if verb == "deletecollection" and resource.namespaced and not namespace:
                raise method_not_allowed()
        elif verb == "create":
            raise method_not_allowed()
        elif verb == "get" and watch:
            verb = "watch"
        if verb not in resource.verbs:
            raise method_not_allowed()
        return verb
