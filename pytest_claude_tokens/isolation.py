"""A network namespace without a route out: where a real client may run, as nothing that it sends can leave."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["enter", "isolated", "loopback_up"]

_INSIDE = "CLAUDE_TOKENS_ISOLATED"
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 0x1  # SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP of netdevice(7)


def isolated() -> bool:
    """Whether no packet can leave: the only network interface is the loopback one."""
    try:
        interfaces = [line.partition(":")[0].strip() for line in Path("/proc/net/dev").read_text().splitlines()[2:]]
    except OSError:  # no Linux: it can't be known
        return False
    return interfaces == ["lo"]


def loopback_up() -> None:
    """Bring the loopback interface of a new namespace up. Raises ``OSError`` where that is not allowed."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("16sH14s", b"lo", 0, b"")
        flags = struct.unpack("16sH14s", fcntl.ioctl(probe, _GET_FLAGS, request))[1]
        fcntl.ioctl(probe, _SET_FLAGS, struct.pack("16sH14s", b"lo", flags | _UP, b""))


def enter(arguments: Sequence[str], refuse: Callable[[str], int]) -> int:
    """Run ``claude-tokens ARGUMENTS`` again, in a namespace of its own; ``refuse`` says why that can't be."""
    unshare = shutil.which("unshare")
    if unshare is None or os.environ.get(_INSIDE):
        return refuse("a real claude runs in a network namespace without a route out only, and there is no `unshare`")
    script = (
        "import sys; from pytest_claude_tokens.isolation import loopback_up; loopback_up(); "
        "from pytest_claude_tokens.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    new = [unshare, "--user", "--map-root-user", "--net"]
    if subprocess.run([*new, "true"], check=False, capture_output=True).returncode:
        return refuse(
            "a real claude runs in a network namespace without a route out only, and this machine forbids them"
        )
    environment = {**os.environ, _INSIDE: "1"}
    return subprocess.run([*new, sys.executable, "-c", script, *arguments], env=environment, check=False).returncode
