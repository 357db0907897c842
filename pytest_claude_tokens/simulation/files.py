"""Makes file operations in a world's threads switch points; a thread that waits for a file lock lets the others run.

It uses audit events (PEP 578): they come just before each operation, whatever code performs it, without a patch.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fake_server.genuine import os
from pytest_claude_tokens.guard import audit
from pytest_claude_tokens.simulation.active import here

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows has no flock, and no such events
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from pytest_claude_tokens.simulation.thread_record import ThreadRecord
    from pytest_claude_tokens.simulation.world import World

__all__ = ["OpenFile", "switching_at_files"]

_EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.utime",
           "os.listdir", "os.scandir", "fcntl.flock", "fcntl.lockf")  # fmt: skip
_FIRST_POLL_SECONDS, _LAST_POLL_SECONDS = 0.01, 5.0
"""Simulated seconds between two tries of a file lock, from the first try to the longest pause: no event reports its
release.
"""
_BACKOFF = 1.5
_CODE = (".py", ".pyc", ".so", ".pth")
_SYSTEM = (sys.prefix, sys.base_prefix, "/dev/", "/etc/", "/proc/", "/sys/", "/usr/")
"""Folders without stores, where libraries read files once per process: a switch there would make the first run differ
from all others.
"""


@contextmanager
def switching_at_files() -> Iterator[None]:
    """In the block, threads may switch at file operations."""
    audit.subscribe(_EVENTS, _switch)
    try:
        yield
    finally:
        audit.unsubscribe(_EVENTS, _switch)


def _switch(event: str, args: tuple[Any, ...]) -> None:
    place = here()
    if place is None:
        return
    world, record = place
    if record is world.loop_record or (event == "open" and _is_ours(args[0])) or _importing():
        return
    world.pause(record)
    if event in ("fcntl.flock", "fcntl.lockf"):
        _wait_for_lock(world, record, event, args)


def _importing() -> bool:
    """Whether this thread is importing. After a switch, another thread could block on the interpreter's import lock."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def _is_ours(path: object) -> bool:
    """Whether ``path`` belongs to the interpreter or the system, so that opening it is no switch point."""
    text = path if isinstance(path, str) else ""
    # Temporary files may be there, a test's store among them.
    if text.startswith("/dev/shm/"):  # noqa: S108 - nothing is made there
        return False
    return text.endswith(_CODE) or text.startswith(_SYSTEM)


def _wait_for_lock(world: World, record: ThreadRecord, event: str, args: tuple[Any, ...]) -> None:
    """Try the lock without blocking, again and again while other threads run; the real call then finds it taken."""
    fd, operation = args[:2]
    if operation & fcntl.LOCK_NB or operation & fcntl.LOCK_UN:
        return
    take = fcntl.flock if event == "fcntl.flock" else fcntl.lockf
    delay = _FIRST_POLL_SECONDS
    while True:
        try:
            take(fd, operation | fcntl.LOCK_NB, *(part or 0 for part in args[2:]))
        except (BlockingIOError, PermissionError):
            world.block(record, "a lock on a file", delay)
            delay = min(_BACKOFF * delay, _LAST_POLL_SECONDS)
        else:
            return


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file that is open under this number; the number may be another file's, or none's, later."""

    number: int
    path: str
    identity: tuple[int, int]

    @classmethod
    def of(cls, number: int) -> OpenFile:
        """The one that is open now: with its path, or a name where the system tells none."""
        identity = _identity(number)
        try:
            path = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            path = f"/flock/{identity[1]}"
        return cls(number, path, identity)

    @property
    def is_open(self) -> bool:
        """Whether it still is."""
        try:
            return _identity(self.number) == self.identity
        except OSError:
            return False

    def is_same(self, other: OpenFile | None) -> bool:
        """Whether the other is the same file, under whichever number."""
        return other is not None and other.identity == self.identity


def _identity(number: int) -> tuple[int, int]:
    found = os.fstat(number)
    return found.st_dev, found.st_ino
