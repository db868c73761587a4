"""What the server must know of a kind to serve it. Each kind overrides what is its own; nothing here does I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Final, NamedTuple

from virtual_kubelet.devcluster.names import dns_subdomain_problems
from virtual_kubelet.devcluster.statuses import FieldError
from virtual_kubelet.objects.times import parse_time

__all__ = ["NAME_COLUMN", "Column", "Resource", "Subresource", "age", "column"]

STANDARD_VERBS: Final = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


class Column(NamedTuple):
    """A column of ``kubectl get``; those of priority 1 are shown with ``-o wide``."""

    name: str
    type: str
    format: str
    priority: int


def column(name: str, kind: str = "string", *, wide: bool = False) -> Column:
    return Column(name, kind, "", 1 if wide else 0)


NAME_COLUMN: Final = Column("Name", "string", "name", 0)


class Subresource(NamedTuple):
    """What discovery says of a subresource; ``group`` and ``version`` only where they are not the resource's."""

    name: str
    kind: str
    verbs: tuple[str, ...]
    group: str = ""
    version: str = ""


class Resource:
    """One kind: its place in the API, its rules, its table.

    Objects are plain dicts without ``kind`` and ``apiVersion``, made regular by the schema before any method sees them.
    Methods named ``prepare_`` and ``default`` change their argument.
    """

    group: ClassVar[str] = ""
    version: ClassVar[str] = "v1"
    kind: ClassVar[str]
    plural: ClassVar[str]
    singular: ClassVar[str]
    namespaced: ClassVar[bool] = True
    short_names: ClassVar[Sequence[str]] = ()
    categories: ClassVar[Sequence[str]] = ()
    verbs: ClassVar[Sequence[str]] = STANDARD_VERBS
    #: Otherwise clients do not know of it, and other verbs than its own are 404.
    in_discovery: ClassVar[bool] = True
    storage_version_hash: ClassVar[str] = ""
    subresources: ClassVar[Sequence[Subresource]] = ()
    columns: ClassVar[Sequence[Column]] = (NAME_COLUMN, column("Age"))
    #: Fields that a field selector may name, beyond name and namespace.
    selectable: ClassVar[frozenset[str]] = frozenset()
    #: A PUT without resourceVersion replaces whatever there is.
    unconditional_update: ClassVar[bool] = True
    #: A PUT of what is not there creates it.
    create_on_update: ClassVar[bool] = False
    #: DELETE answers with the object, not with a Status.
    returns_deleted: ClassVar[bool] = False
    #: An update's metadata is looked at once more as if it were a new object's: its faults are said once more.
    validates_new_metadata: ClassVar[bool] = True
    #: A real server's watch cache has it; lists "at any revision" come from there.
    cached: ClassVar[bool] = True
    #: Finalizers without a domain must be Kubernetes' own: a rule of the core group's kinds.
    checks_finalizer_names: ClassVar[bool] = True
    #: A new object's metadata is looked at only if the rest is right, and any name will do that can stand in a URL.
    validates_metadata_last: ClassVar[bool] = False
    #: Kept only so many seconds after its last write; None: for ever.
    time_to_live: ClassVar[float | None] = None

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def key(self) -> tuple[str, str]:
        """Group and plural: what identifies the resource."""
        return (self.group, self.plural)

    @property
    def storage_prefix(self) -> str:
        """Where a real server has it in etcd: some of its errors say so."""
        return self.plural

    def name_problems(self, name: str) -> list[str]:
        """What is wrong with an object's name."""
        return dns_subdomain_problems(name)

    def fields(self, obj: dict[str, Any]) -> Mapping[str, str]:
        """The values of ``selectable``."""
        return {}

    def default(self, obj: dict[str, Any]) -> None:
        """Fill in what the schema cannot: defaults that depend on other fields."""

    def default_status(self, obj: dict[str, Any]) -> None:
        """The same in an update of the status: of metadata and status, inside of which nothing is changed.

        Members of the two may be replaced; what is in these is shared with the object as it was.
        """

    def created_by(self, obj: dict[str, Any], user: Mapping[str, Any]) -> None:
        """Note who creates it (``UserInfo``), where that is part of the object."""

    def admit(self, obj: dict[str, Any]) -> None:
        """Of a new object, which may have no name yet: what admission plugins add. Raises ``StatusError`` 403."""

    def prepare_create(self, obj: dict[str, Any]) -> None:
        """What a client may not decide, such as the status."""
        obj.pop("status", None)

    def validate_create(self, obj: dict[str, Any]) -> list[FieldError]:
        """Beyond metadata."""
        return []

    def create_warnings(self, obj: dict[str, Any]) -> list[str]:
        """What to say of a new object that is taken."""
        return []

    def prepare_update(self, new: dict[str, Any], old: dict[str, Any]) -> None:
        """What an update of the whole object may not touch."""
        if "status" in old:
            new["status"] = old["status"]
        else:
            new.pop("status", None)

    def validate_update(self, new: dict[str, Any], old: dict[str, Any]) -> list[FieldError]:
        """Beyond metadata; by default what holds for new objects."""
        return self.validate_create(new)

    def prepare_status_update(self, new: dict[str, Any], old: dict[str, Any]) -> None:
        """What an update of the status may not touch."""
        if "spec" in old:
            new["spec"] = old["spec"]

    def validate_status_update(self, new: dict[str, Any], old: dict[str, Any]) -> list[FieldError]:
        return []

    def grace_period(self, obj: dict[str, Any], wanted: int | None) -> int | None:
        """Seconds an object stays while being deleted; None: this kind knows no graceful deletion."""
        return None

    def held(self, obj: dict[str, Any]) -> bool:
        """Whether finalizers keep an object that is being deleted."""
        return bool(obj["metadata"].get("finalizers"))

    def begin_deletion(self, obj: dict[str, Any]) -> None:
        """What changes with the deletion timestamp."""

    def allocate(self, obj: dict[str, Any]) -> None:
        """Take what the object needs from the cluster (addresses), as the last step before it is stored.

        Raises ``StatusError`` if it is not to be had.
        """

    def release(self, obj: dict[str, Any]) -> None:
        """Give back what ``allocate`` took: the object is gone."""

    def cells(self, obj: dict[str, Any], now: datetime) -> list[Any]:
        """The row of ``columns``."""
        return [obj["metadata"]["name"], age(obj, now)]


def age(obj: dict[str, Any], now: datetime) -> str:
    """Time since creation, as kubectl shows it."""
    created = obj["metadata"].get("creationTimestamp")
    return since(created, now)


def since(moment: str | None, now: datetime) -> str:
    """``4m5s`` since ``moment``; ``<unknown>`` if there is none."""
    if not moment:
        return "<unknown>"
    return human_duration(int((now - parse_time(moment)).total_seconds()))


def human_duration(seconds: int) -> str:
    """As apimachinery's HumanDuration: two units at most, coarser the longer it is."""
    if seconds < -1:
        return "<invalid>"
    if seconds < 0:
        return "0s"
    if seconds < 120:
        return f"{seconds}s"
    minutes = seconds // 60
    if minutes < 10:
        rest = seconds % 60
        return f"{minutes}m{rest}s" if rest else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    hours = seconds // 3600
    if hours < 8:
        rest = minutes % 60
        return f"{hours}h{rest}m" if rest else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if hours < 192:
        rest = hours % 24
        return f"{hours // 24}d{rest}h" if rest else f"{hours // 24}d"
    if hours < 24 * 365 * 2:
        return f"{hours // 24}d"
    years, days = divmod(hours // 24, 365)
    if hours < 24 * 365 * 8:
        return f"{years}y{days}d" if days else f"{years}y"
    return f"{years}y"
