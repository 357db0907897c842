"""Whether this is a forked child that is still on its way out of its parent's world.

It leaves the world in a hook of ours. The standard library's own hooks come before that, and take locks, at which it
would wait for threads that it does not have.
"""

from __future__ import annotations

from fake_server.genuine import os

__all__ = ["is_forked", "settle"]


class _Known:
    """The process that this module was last told to be in."""

    process: int = os.getpid()


def is_forked() -> bool:
    """Whether this process was forked, and has not left the world yet."""
    return os.getpid() != _Known.process


def settle() -> None:
    """It has left the world."""
    _Known.process = os.getpid()
