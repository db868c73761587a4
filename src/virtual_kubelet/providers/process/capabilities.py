"""Linux capabilities by name, and which of them a container gives up. Pure.

As containerd (pkg/cri/server, customopts): what is added is added first, what is dropped by name is dropped after; ``ALL``
stands for all that there are. A process of this machine begins with all that this program has, so that adding what it has
changes nothing.
"""

from __future__ import annotations

from typing import Final

from virtual_kubelet.objects.core_v1 import Capabilities

__all__ = ["CAPABILITIES", "dropped_capabilities", "missing_capabilities"]

#: In the kernel's numbering.
CAPABILITIES: Final = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
)  # fmt: skip
_ALL: Final = "ALL"


def dropped_capabilities(wanted: Capabilities | None) -> list[int]:
    """Numbers of those that the container must not have. Raises ``ValueError``, with the name, for unknown ones."""
    if wanted is None:
        return []
    added, dropped = ([_name(name) for name in names or ()] for names in (wanted.add, wanted.drop))
    everything = _ALL not in dropped or _ALL in added
    kept = set(CAPABILITIES) if everything else {name for name in added if name != _ALL}
    kept -= {name for name in dropped if name != _ALL}
    return [number for number, name in enumerate(CAPABILITIES) if name not in kept]


def missing_capabilities(wanted: Capabilities | None, held: int) -> list[str]:
    """Those that are to be added, by the names that were given, and that this program does not have itself.

    Args:
        held: a bit each.
    """
    if wanted is None:
        return []
    missing = []
    for given in wanted.add or ():
        name = _name(given)
        numbers = range(len(CAPABILITIES)) if name == _ALL else [CAPABILITIES.index(name)]
        if not all(held >> number & 1 for number in numbers):
            missing.append(given)
    return missing


def _name(given: str) -> str:
    name = given.upper().removeprefix("CAP_")
    if name != _ALL and name not in CAPABILITIES:
        raise ValueError(given)
    return name
