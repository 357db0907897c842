"""A network namespace without a route out: where a real client may run, as nothing that it sends can leave.

``python -m pytest_claude_tokens.processes.namespace ARGUMENTS``, inside a new namespace, is
``claude-tokens ARGUMENTS``.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Forbidden", "enter", "isolated", "loopback_up", "main"]

_INSIDE = "CLAUDE_TOKENS_ISOLATED"
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 0x1  # SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP of netdevice(7)
_NEEDS = "a real claude runs only in a network namespace without a route out"
_PROC = Path("/proc/net")


class Forbidden(Exception):
    """This machine lets nobody have a namespace; the text says why, in one sentence."""


def isolated() -> bool:
    """Whether no packet can leave: the loopback interface is the only one.

    In a namespace that :func:`enter` has made, others may be there (some kernels put tunnels into each), but no route.
    """
    try:
        if os.environ.get(_INSIDE):
            routes = (_PROC / "route").read_text().splitlines()[1:]
            beyond = [line.split()[0] for line in routes]
            if (_PROC / "ipv6_route").exists():  # not where IPv6 is turned off
                beyond += [line.split()[-1] for line in (_PROC / "ipv6_route").read_text().splitlines()]
            return set(beyond) <= {"lo"}
        interfaces = [line.partition(":")[0].strip() for line in (_PROC / "dev").read_text().splitlines()[2:]]
    except OSError:  # no Linux: it can't be known
        return False
    return interfaces == ["lo"]


def loopback_up() -> None:
    """Bring the loopback interface of a new namespace up. Raises ``OSError`` where that is not allowed."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("16sH14s", b"lo", 0, b"")
        flags = struct.unpack("16sH14s", fcntl.ioctl(probe, _GET_FLAGS, request))[1]
        fcntl.ioctl(probe, _SET_FLAGS, struct.pack("16sH14s", b"lo", flags | _UP, b""))


def enter(arguments: Sequence[str]) -> NoReturn:
    """Become ``claude-tokens ARGUMENTS`` in a namespace of its own. Raises :class:`Forbidden`.

    This very process, so that signals, terminal and exit status are those of what runs inside.
    """
    unshare = shutil.which("unshare")
    if unshare is None:
        raise Forbidden(f"{_NEEDS}, and there is no `unshare` on PATH to make one")
    if os.environ.get(_INSIDE):
        raise Forbidden(f"{_NEEDS}, and the one that was made for it has a route")
    new = [unshare, "--user", "--map-root-user", "--net"]
    tried = subprocess.run([*new, "true"], check=False, capture_output=True, text=True)
    if tried.returncode:
        raise Forbidden(f"{_NEEDS}, and this machine forbids them ({tried.stderr.strip()})")
    sys.stdout.flush()
    again = [*new, sys.executable, "-m", "pytest_claude_tokens.processes.namespace", *arguments]
    os.execve(unshare, again, {**os.environ, _INSIDE: "1"})  # noqa: S606 - a program with its arguments, no shell line


def main(argv: Sequence[str] | None = None) -> int:
    """What :func:`enter` has become; returns the exit status."""
    from pytest_claude_tokens.cli.main import main as command

    try:
        loopback_up()
    except OSError as error:
        sys.stderr.write(f"claude-tokens run: {_NEEDS}, and its loopback can't be used: {error.strerror}\n")
        return 2
    return command(argv)


if __name__ == "__main__":
    sys.exit(main())
