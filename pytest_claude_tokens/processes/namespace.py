"""User namespaces, and the network namespace without a route out in which a real client can run."""

from __future__ import annotations

import fcntl
import shutil
import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from fake_server.genuine import os, socket

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ISOLATED", "isolated", "loopback_up", "missing_program", "obstacle", "unshare"]

ISOLATED = "CLAUDE_TOKENS_ISOLATED"
"""The variable that is set inside a namespace that was created without a route out."""

_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 0x1  # SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP of netdevice(7)
_PROC = Path("/proc/net")


def unshare(*flags: str) -> list[str]:
    """The command prefix that runs a command as root in new namespaces, those of ``flags``."""
    return ["unshare", "--user", "--map-root-user", *flags]


def missing_program(name: str) -> str | None:
    """A clause that says that a program of util-linux is missing; ``None`` if it is installed."""
    return None if shutil.which(name) else f"there is no program `{name}` on PATH (Linux, util-linux)"


def obstacle(*flags: str, command: Sequence[str] = ("true",)) -> str | None:
    """A clause that says why this machine can't run ``command`` in new namespaces; ``None`` if a trial succeeds."""
    missing = missing_program("unshare")
    if missing is not None:
        return missing
    trial = [*unshare(*flags), *command]
    done = subprocess.run(trial, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    return f"this machine forbids it ({reason})"


def isolated() -> bool:
    """Whether no packet can leave: the loopback interface is the only one.

    Where the variable :data:`ISOLATED` is set, other interfaces are allowed (some kernels put tunnels into each
    namespace), but no route.
    """
    try:
        if os.environ.get(ISOLATED):
            routes = (_PROC / "route").read_text().splitlines()[1:]
            beyond = [line.split()[0] for line in routes]
            if (_PROC / "ipv6_route").exists():  # the file is absent where IPv6 is turned off
                beyond += [line.split()[-1] for line in (_PROC / "ipv6_route").read_text().splitlines()]
            return set(beyond) <= {"lo"}
        interfaces = [line.partition(":")[0].strip() for line in (_PROC / "dev").read_text().splitlines()[2:]]
    except OSError:  # no Linux: unknown, so not isolated
        return False
    return interfaces == ["lo"]


def loopback_up() -> None:
    """Bring up the loopback interface of a new namespace. Raises ``OSError`` where that is not allowed."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("16sH14s", b"lo", 0, b"")
        flags = struct.unpack("16sH14s", fcntl.ioctl(probe, _GET_FLAGS, request))[1]
        fcntl.ioctl(probe, _SET_FLAGS, struct.pack("16sH14s", b"lo", flags | _UP, b""))
