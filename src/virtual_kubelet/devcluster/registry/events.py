"""Events (core v1)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from virtual_kubelet.devcluster.names import qualified_name_problems
from virtual_kubelet.devcluster.registry.resource import NAME_COLUMN, Resource, column, since
from virtual_kubelet.devcluster.statuses import FieldError, field_invalid, required

__all__ = ["Events"]

_INVOLVED = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")


class Events(Resource):
    kind = "Event"
    plural = "events"
    singular = "event"
    short_names = ("ev",)
    storage_version_hash = "r2yiGXH7wu8="
    columns = (
        column("Last Seen"),
        column("Type"),
        column("Reason"),
        column("Object"),
        column("Subobject", wide=True),
        column("Source", wide=True),
        column("Message"),
        column("First Seen", wide=True),
        column("Count", wide=True),
        NAME_COLUMN._replace(priority=1),
    )
    selectable = frozenset(
        {f"involvedObject.{name}" for name in _INVOLVED} | {"reason", "reportingComponent", "source", "type"}
    )
    create_on_update = True
    cached = False
    validates_metadata_last = True
    checks_finalizer_names = False
    time_to_live = 3600.0

    def fields(self, obj: dict[str, Any]) -> Mapping[str, str]:
        involved = obj["involvedObject"]
        found = {f"involvedObject.{name}": involved.get(name, "") for name in _INVOLVED}
        found["reason"] = obj.get("reason", "")
        found["reportingComponent"] = obj.get("reportingComponent", "")
        found["source"] = obj["source"].get("component", "") or obj.get("reportingComponent", "")
        found["type"] = obj.get("type", "")
        return found

    def prepare_create(self, obj: dict[str, Any]) -> None:
        """Events have no status; nothing is the server's to decide."""

    def prepare_update(self, new: dict[str, Any], old: dict[str, Any]) -> None:
        """Events have no status."""

    def validate_create(self, obj: dict[str, Any]) -> list[FieldError]:
        namespace = obj["metadata"].get("namespace", "")
        involved = obj["involvedObject"].get("namespace", "")
        mismatch = [field_invalid("involvedObject.namespace", involved, "does not match event.namespace")]
        if not obj.get("eventTime"):
            # What has no namespace is reported in "default".
            return mismatch if involved != namespace and (involved or namespace != "default") else []
        errors = mismatch if not involved and namespace not in ("default", "kube-system") else []
        reporter = obj.get("reportingComponent", "")
        if not reporter:
            errors.append(required("reportingComponent"))
        errors += [field_invalid("reportingComponent", reporter, p) for p in qualified_name_problems(reporter)]
        for field, limit in (("reportingInstance", 128), ("action", 128), ("reason", 128), ("message", 1024)):
            value = obj.get(field, "")
            if not value and field != "message":
                errors.append(required(field))
            if len(value.encode()) > limit:
                errors.append(field_invalid(field, "", f"can have at most {limit} characters"))
        return errors

    def cells(self, obj: dict[str, Any], now: datetime) -> list[Any]:
        source = obj["source"]
        component = source.get("component", "") or obj.get("reportingComponent", "")
        host = source.get("host", "") or obj.get("reportingInstance", "")
        involved = obj["involvedObject"]
        target = involved.get("kind", "").lower()
        if involved.get("name"):
            target += f"/{involved['name']}"
        series = obj.get("series") or {}
        first = obj.get("firstTimestamp") or obj.get("eventTime")
        last = series.get("lastObservedTime") or obj.get("lastTimestamp") or first
        return [
            since(last, now),
            obj.get("type", ""),
            obj.get("reason", ""),
            target,
            involved.get("fieldPath", ""),
            f"{component}, {host}" if host else component,
            obj.get("message", "").strip(),
            since(first, now),
            series.get("count") or obj.get("count") or 1,
            obj["metadata"]["name"],
        ]
