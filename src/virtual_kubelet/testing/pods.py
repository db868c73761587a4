"""Pods for tests, step by step: ``a_pod("web").container("sidecar", command=["cat"]).restarting("Always").build()``."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Final

from virtual_kubelet.objects.core_v1 import (
    Container,
    EnvVar,
    EnvVarSource,
    ObjectFieldSelector,
    Pod,
    PodSpec,
    Toleration,
    Volume,
    VolumeMount,
)
from virtual_kubelet.objects.meta_v1 import ObjectMeta

__all__ = ["DEFAULT_IMAGE", "PodBuilder", "a_pod"]

DEFAULT_IMAGE: Final = "busybox:1.29"


class PodBuilder:
    """A pod that is being put together. Each method gives a new builder and leaves this one as it is.

    Methods about a container are about the one that was added last, which at first is ``main``.
    """

    def __init__(self, pod: Pod) -> None:
        self._pod = pod
        self._path: tuple[str, int] = ("containers", 0)

    def build(self) -> Pod:
        """The pod: a copy of its own."""
        return copy.deepcopy(self._pod)

    @property
    def name(self) -> str:
        return self._pod.metadata.name or ""

    # The pod

    def named(self, name: str) -> PodBuilder:
        return self._with(lambda made: setattr(made._pod.metadata, "name", name))

    def labelled(self, labels: Mapping[str, str]) -> PodBuilder:
        def change(made: PodBuilder) -> None:
            made._pod.metadata.labels = {**(made._pod.metadata.labels or {}), **labels}

        return self._with(change)

    def annotated(self, annotations: Mapping[str, str]) -> PodBuilder:
        def change(made: PodBuilder) -> None:
            made._pod.metadata.annotations = {**(made._pod.metadata.annotations or {}), **annotations}

        return self._with(change)

    def on(self, node_name: str) -> PodBuilder:
        """Bound to a node by hand, whatever its taints."""
        return self.spec(node_name=node_name, tolerations=[Toleration(operator="Exists")])

    def restarting(self, policy: str) -> PodBuilder:
        """``Always``, ``OnFailure`` or ``Never``."""
        return self.spec(restart_policy=policy)

    def grace(self, seconds: int) -> PodBuilder:
        """Its grace period, in seconds."""
        return self.spec(termination_grace_period_seconds=seconds)

    def spec(self, **fields: Any) -> PodBuilder:
        """Fields of ``spec``, in Python's spelling: ``spec(host_network=True)``."""

        def change(made: PodBuilder) -> None:
            for field, value in fields.items():
                _set(made._pod.spec, field, value)

        return self._with(change)

    def meta(self, **fields: Any) -> PodBuilder:
        """Fields of ``metadata``, such as ``finalizers`` and ``owner_references``."""

        def change(made: PodBuilder) -> None:
            for field, value in fields.items():
                _set(made._pod.metadata, field, value)

        return self._with(change)

    def volume(self, name: str, **source: Any) -> PodBuilder:
        """A volume: ``volume("data", empty_dir=EmptyDirVolumeSource())``."""

        def change(made: PodBuilder) -> None:
            made._pod.spec.volumes = [*(made._pod.spec.volumes or ()), Volume(name=name, **source)]

        return self._with(change)

    # Its containers

    def container(
        self,
        name: str,
        *,
        image: str | None = None,
        command: Sequence[str] = (),
        args: Sequence[str] = (),
        **fields: Any,
    ) -> PodBuilder:
        """One more container; of the same image as the first unless another one is given."""
        return self._add("containers", name, image, command, args, fields)

    def init_container(
        self,
        name: str,
        *,
        image: str | None = None,
        command: Sequence[str] = (),
        args: Sequence[str] = (),
        **fields: Any,
    ) -> PodBuilder:
        """One more init container; with ``restart_policy="Always"`` it is a sidecar."""
        return self._add("init_containers", name, image, command, args, fields)

    def of(self, container: str) -> PodBuilder:
        """The next methods are about this container, which is there already. Raises ``KeyError``."""
        for kind in ("containers", "init_containers"):
            for index, found in enumerate(getattr(self._pod.spec, kind) or ()):
                if found.name == container:
                    made = self._copy()
                    made._path = (kind, index)
                    return made
        raise KeyError(container)

    def run(self, *command: str) -> PodBuilder:
        """Its command."""
        return self.fields(command=list(command))

    def env(self, **variables: str) -> PodBuilder:
        """Variables with values."""
        return self._variables([EnvVar(name=name, value=value) for name, value in variables.items()])

    def env_from(self, name: str, **source: Any) -> PodBuilder:
        """A variable from somewhere: ``env_from("KEY", secret_key_ref=SecretKeySelector(name="s", key="k"))``."""
        return self._variables([EnvVar(name=name, value_from=EnvVarSource(**source))])

    def env_of_field(self, name: str, path: str) -> PodBuilder:
        """A variable from the downward API, such as ``status.podIP``."""
        return self.env_from(name, field_ref=ObjectFieldSelector(field_path=path))

    def mount(self, volume: str, path: str, **fields: Any) -> PodBuilder:
        """A volume's place: ``mount("data", "/data", read_only=True)``."""

        def change(made: PodBuilder) -> None:
            mounts = made._container.volume_mounts or ()
            made._container.volume_mounts = [*mounts, VolumeMount(name=volume, mount_path=path, **fields)]

        return self._with(change)

    def fields(self, **fields: Any) -> PodBuilder:
        """Any fields of the container, in Python's spelling: ``fields(stdin=True, readiness_probe=Probe(…))``."""

        def change(made: PodBuilder) -> None:
            for field, value in fields.items():
                _set(made._container, field, value)

        return self._with(change)

    # Inside

    @property
    def _container(self) -> Container:
        kind, index = self._path
        found: Container = getattr(self._pod.spec, kind)[index]
        return found

    def _copy(self) -> PodBuilder:
        made = PodBuilder(copy.deepcopy(self._pod))
        made._path = self._path
        return made

    def _with(self, change: Any) -> PodBuilder:
        made = self._copy()
        change(made)
        return made

    def _variables(self, variables: Sequence[EnvVar]) -> PodBuilder:
        def change(made: PodBuilder) -> None:
            made._container.env = [*(made._container.env or ()), *variables]

        return self._with(change)

    def _add(
        self,
        kind: str,
        name: str,
        image: str | None,
        command: Sequence[str],
        args: Sequence[str],
        fields: Mapping[str, Any],
    ) -> PodBuilder:
        def change(made: PodBuilder) -> None:
            spec = made._pod.spec
            added = Container(
                name=name,
                image=image or spec.containers[0].image,
                command=list(command) or None,
                args=list(args) or None,
                **fields,
            )
            there = [*(getattr(spec, kind) or ()), added]
            setattr(spec, kind, there)
            made._path = (kind, len(there) - 1)

        return self._with(change)


def a_pod(
    name: str,
    *,
    image: str = DEFAULT_IMAGE,
    command: Sequence[str] = (),
    args: Sequence[str] = (),
    container: str = "main",
    namespace: str | None = None,
    node: str | None = None,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    **spec: Any,
) -> PodBuilder:
    """A pod of one container.

    Args:
        image, command, args, container: of it; ``container`` is its name.
        node: bind it to this node by hand.
        spec: more fields of ``spec``, in Python's spelling: ``restart_policy="Never"``.
    """
    main = Container(name=container, image=image, command=list(command) or None, args=list(args) or None)
    meta = ObjectMeta(
        name=name,
        namespace=namespace,
        labels=dict(labels) if labels else None,
        annotations=dict(annotations) if annotations else None,
    )
    made = PodBuilder(Pod(metadata=meta, spec=PodSpec(containers=[main]))).spec(**spec)
    return made if node is None else made.on(node)


def _set(struct: Any, field: str, value: Any) -> None:
    """Structs refuse names that they do not have, but say only that; say what the name was for."""
    if field not in struct.__struct_fields__:
        raise TypeError(f"a {type(struct).__name__} has no field {field!r}")
    setattr(struct, field, value)
