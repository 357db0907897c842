"""Where it is noticed that a worker takes a lock or gives it back, and that it reads or writes a file.

A lock is an object of ``asyncio`` or ``threading`` that the user's own code acquires, or a path that a worker makes
with ``mkdir`` or ``O_EXCL``, or locks with ``flock`` or ``lockf``. The functions are replaced for one watched run only.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

from fake_server.genuine import asyncio, os
from pytest_claude_tokens.guard import audit
from pytest_claude_tokens.simulation.files import OpenFile
from pytest_claude_tokens.simulation.frames import is_ours
from pytest_claude_tokens.simulation.lines import lines_up_from, takes_what_is_there, users_line
from pytest_claude_tokens.simulation.locks import SimulatedLock, SimulatedRLock

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows has no flock
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_claude_tokens.simulation.held_locks import HeldLocks

__all__ = ["LockHooks"]

_OBJECTS = ((asyncio.Lock, asyncio.Semaphore), (SimulatedLock, SimulatedRLock))
"""Classes of locks: those whose ``acquire`` is awaited, and those whose is not."""
_READS_AND_WRITES = ("open", "os.rename")
_OF_THE_PROCESS = " (a record lock, which keeps processes apart and not threads)"
"""What is told of a lock by ``fcntl.lockf``: each thread of the process that has it has it, too (POSIX, ``fcntl``)."""


class LockHooks:
    """What is put in place of the functions that take and release locks; it tells ``locks``."""

    def __init__(self, locks: HeldLocks) -> None:
        self._locks = locks

    @contextmanager
    def installed(self) -> Iterator[None]:
        """In the block, they are."""
        with ExitStack() as stack:
            for awaited, classes in zip((True, False), _OBJECTS, strict=True):
                for cls in classes:
                    acquire = self._awaited(cls) if awaited else self._called(cls)
                    for name, function in (
                        ("acquire", acquire),
                        ("release", self._released(cls, "release")),
                        ("_release_save", self._released(cls, "_release_save")),
                    ):
                        if name in vars(cls):
                            stack.callback(setattr, cls, name, vars(cls)[name])
                            setattr(cls, name, function)
            for owner, name, function in self._functions():
                stack.callback(setattr, owner, name, getattr(owner, name))
                setattr(owner, name, function)
            audit.subscribe(_READS_AND_WRITES, self._locks.file)
            stack.callback(audit.unsubscribe, _READS_AND_WRITES, self._locks.file)
            yield

    def _awaited(self, cls: Any) -> Any:
        real = cls.acquire

        @wraps(real)
        async def acquire(lock: Any) -> Any:
            line = users_line(sys._getframe(1))
            if line is None:
                return await real(lock)
            key, waits = self._locks.object(lock, cls.__name__), lock.locked()
            if waits:
                self._locks.waits(key, line)
            try:
                result = await real(lock)
            except BaseException:
                self._locks.missed(key, line)
                raise
            self._locks.got(key, line, waited=waits)
            return result

        return acquire

    def _called(self, cls: Any) -> Any:
        real = cls.acquire

        @wraps(real)
        def acquire(lock: Any, blocking: bool = True, timeout: float = -1) -> Any:
            line = users_line(sys._getframe(1))
            if line is None:
                return real(lock, blocking, timeout)
            key, waits = self._locks.object(lock, "Lock"), lock.locked()
            if waits and blocking:
                self._locks.waits(key, line)
            got = real(lock, blocking, timeout)
            if got:
                self._locks.got(key, line, waited=waits)
            elif blocking:
                self._locks.missed(key, line)
            return got

        return acquire

    def _released(self, cls: Any, name: str) -> Any:
        real = getattr(cls, name, cls.release)

        @wraps(real)
        def release(lock: Any) -> Any:
            if (line := users_line(sys._getframe(1))) is not None:
                self._locks.let_go(self._locks.object(lock, "Lock" if cls in _OBJECTS[1] else cls.__name__), line)
            return real(lock)

        return release

    def _functions(self) -> Iterator[tuple[Any, str, Any]]:
        patched: Any = sys.modules["os"]
        yield patched, "mkdir", self._made(patched.mkdir)
        yield patched, "open", self._opened(patched.open)
        for name in ("rmdir", "remove", "unlink"):
            yield patched, name, self._removed(getattr(patched, name))
        if fcntl is not None:  # pragma: no branch - as above
            yield fcntl, "flock", self._locked(fcntl.flock)
            yield fcntl, "lockf", self._locked(fcntl.lockf, _OF_THE_PROCESS)

    def _made(self, real: Any) -> Any:
        @wraps(real)
        def mkdir(path: Any, *args: Any, **options: Any) -> Any:
            if takes_what_is_there(sys._getframe(1)):
                return real(path, *args, **options)
            return self._trying(lambda: real(path, *args, **options), path)

        return mkdir

    def _opened(self, real: Any) -> Any:
        @wraps(real)
        def opened(path: Any, flags: int, *args: Any, **options: Any) -> Any:
            if not flags & os.O_EXCL:
                return real(path, flags, *args, **options)
            return self._trying(lambda: real(path, flags, *args, **options), path)

        return opened

    def _trying(self, make: Callable[[], Any], path: Any) -> Any:
        line = next(iter(lines_up_from(sys._getframe(2))), None)
        if line is None:
            return make()
        try:
            result = make()
        except FileExistsError:
            self._locks.missed(self._locks.path(path), line)
            raise
        self._locks.got(self._locks.path(path), line)
        return result

    def _removed(self, real: Any) -> Any:
        @wraps(real)
        def remove(path: Any, *args: Any, **options: Any) -> Any:
            result = real(path, *args, **options)
            if line := lines_up_from(sys._getframe(1)):
                self._locks.let_go(self._locks.path(path), line[0])
            return result

        return remove

    def _locked(self, real: Any, kind: str = "") -> Any:
        @wraps(real)
        def lock(fd: Any, operation: int, *span: int) -> Any:
            caller = sys._getframe(1)
            line = None if is_ours(caller) else next(iter(lines_up_from(caller)), None)
            if line is None:
                return real(fd, operation, *span)
            file = OpenFile.of(fd if isinstance(fd, int) else fd.fileno())
            key = self._locks.path(file.path + kind)
            try:
                result = real(fd, operation, *span)
            except BlockingIOError:
                self._locks.missed(key, line)
                raise
            if operation & fcntl.LOCK_UN:
                self._locks.let_go(key, line)
            else:
                self._locks.got(key, line, file=file, alone=bool(operation & fcntl.LOCK_EX and not kind))
            return result

        return lock
