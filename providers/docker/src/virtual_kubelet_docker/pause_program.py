"""The program of a pod's infra container: it waits for ever. A static ELF file of some 200 bytes; nothing is pulled.

As process 1 of a pod with ``shareProcessNamespace`` it must take the ends of orphans: it ignores SIGCHLD, and then the
kernel takes them. SIGTERM and SIGINT do nothing to a process 1 without handlers; the runtime ends it by SIGKILL.
"""

from __future__ import annotations

import io
import struct
import tarfile
from typing import Final

__all__ = ["ARCHITECTURES", "pause_program", "pause_root"]

_BASE: Final = 0x400000
_HEADERS: Final = 64 + 56

#: By the engine's name of a machine: (ELF's number, code). The code is followed by ``struct sigaction`` with SIG_IGN.
_CODE: Final = {
    "amd64": (
        62,
        bytes.fromhex(
            "b80d000000"  # mov eax, 13       rt_sigaction(
            "bf11000000"  # mov edi, 17         SIGCHLD,
            "488d3517000000"  # lea rsi, [rip+23]   action,
            "31d2"  # xor edx, edx        NULL,
            "41ba08000000"  # mov r10d, 8         8)
            "0f05"  # syscall
            "b822000000"  # mov eax, 34       pause()
            "0f05"  # syscall
            "ebf7"  # jmp               for ever
            "90909090"
        ),
    ),
    "arm64": (
        183,
        struct.pack(
            "<14I",
            0xD28010C8,  # mov x8, #134      rt_sigaction(
            0xD2800220,  # mov x0, #17         SIGCHLD,
            0x10000181,  # adr x1, #48         action,
            0xD2800002,  # mov x2, #0          NULL,
            0xD2800103,  # mov x3, #8          8)
            0xD4000001,  # svc #0
            0xD2800928,  # mov x8, #73       ppoll(
            0xD2800000,  # mov x0, #0          NULL,
            0xD2800001,  # mov x1, #0          0,
            0xD2800002,  # mov x2, #0          NULL,
            0xD2800003,  # mov x3, #0          NULL)
            0xD4000001,  # svc #0
            0x17FFFFFA,  # b -24             for ever
            0xD503201F,  # nop
        ),
    ),
}

ARCHITECTURES: Final = frozenset(_CODE)


def pause_program(architecture: str) -> bytes:
    """The file. Raises ``KeyError`` for an architecture that is not in ``ARCHITECTURES``."""
    machine, code = _CODE[architecture]
    content = code + struct.pack("<QQQQ", 1, 0, 0, 0)  # SIG_IGN, no flags
    size = _HEADERS + len(content)
    identity = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)  # 64 bits, little-endian
    header = identity + struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)  # all of the file, r-x
    return header + segment + content


def pause_root(architecture: str) -> bytes:
    """A root file system with ``/pause`` alone, as a tar archive; the same bytes every time."""
    program = pause_program(architecture)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        entry = tarfile.TarInfo("pause")
        entry.size, entry.mode = len(program), 0o755
        archive.addfile(entry, io.BytesIO(program))
    return packed.getvalue()
