"""Who a container's process is to be, by the pod's and its own securityContext. Pure but for the question who we are."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from virtual_kubelet import ContainerStartError, effective_security_context, supplemental_groups
from virtual_kubelet.objects.core_v1 import Container, Pod
from virtual_kubelet.providers.process.capabilities import dropped_capabilities

__all__ = ["Identity", "identity_of"]


class Identity(NamedTuple):
    """``user``, ``group``: None: that of this program. ``drop``: numbers of capabilities."""

    user: int | None
    group: int | None
    groups: list[int]
    no_new_privileges: bool
    drop: list[int]

    def wanted(self) -> dict[str, Any]:
        """For ``becoming.become``."""
        return {
            "uid": self.user,
            "gid": self.group,
            "groups": self.groups,
            "no_new_privileges": self.no_new_privileges,
            "drop": self.drop,
        }


def identity_of(pod: Pod, container: Container) -> Identity:
    """The container's own settings before the pod's.

    Raises ``ContainerStartError`` as a kubelet does (pkg/kubelet/kuberuntime/security_context.go) if it must not be root
    and would be: there is no image whose user could be another.
    """
    of_pod, own = pod.spec.security_context, container.security_context

    def setting(name: str) -> object:
        value = getattr(own, name, None)
        return value if value is not None else getattr(of_pod, name, None)

    user, group = setting("run_as_user"), setting("run_as_group")
    assert user is None or isinstance(user, int)
    assert group is None or isinstance(group, int)
    if setting("run_as_non_root") and (os.getuid() if user is None else user) == 0:
        meta = pod.metadata
        what = "container has runAsNonRoot and this node runs as root" if user is None else ""
        what = what or "container's runAsUser breaks non-root policy"
        raise ContainerStartError(
            f'{what} (pod: "{meta.name}_{meta.namespace}({meta.uid})", container: {container.name})',
            reason="CreateContainerConfigError",
        )
    drop = dropped_capabilities(effective_security_context(pod, container).capabilities)
    no_new_privileges = own is not None and own.allow_privilege_escalation is False
    if os.getuid() != 0:
        # It has none that it could drop; that it gets none is another way to say it.
        no_new_privileges, drop = no_new_privileges or bool(drop), []
    return Identity(user, group, list(supplemental_groups(pod).groups), no_new_privileges, drop)
