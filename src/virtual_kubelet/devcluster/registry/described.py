"""Kinds that are not served, but of which ``kubectl describe`` lists some beside what is: only that list is answered."""

from __future__ import annotations

from typing import Final

from virtual_kubelet.devcluster.registry.resource import Resource

__all__ = ["DESCRIBED", "EndpointSlices"]


class _Described(Resource):
    verbs = ("list",)
    in_discovery = False


class EndpointSlices(_Described):
    group = "discovery.k8s.io"
    kind = "EndpointSlice"
    plural = "endpointslices"
    singular = "endpointslice"


class LimitRanges(_Described):
    kind = "LimitRange"
    plural = "limitranges"
    singular = "limitrange"


class ResourceQuotas(_Described):
    kind = "ResourceQuota"
    plural = "resourcequotas"
    singular = "resourcequota"


DESCRIBED: Final[tuple[Resource, ...]] = (EndpointSlices(), LimitRanges(), ResourceQuotas())
