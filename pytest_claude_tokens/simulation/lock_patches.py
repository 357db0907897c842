"""Replaces, for one run that is watched, the functions by which locks are taken and given back.

Locks that are objects: those of ``asyncio`` and ``threading``, and those of anyio and trio where these are imported.
Only what the user's own code asks for counts: libraries have locks for purposes of their own.
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

__all__ = ["noticed"]

_READS_AND_WRITES = ("open", "os.rename")
_ASYNCIO = (asyncio.Lock, asyncio.Semaphore)
_THREADING = (SimulatedLock, SimulatedRLock)
_OTHERS = ("Lock", "Semaphore", "CapacityLimiter")
"""The names of the classes in anyio and in trio."""
_OF_THE_PROCESS = " (a record lock, which keeps processes apart and not threads)"
"""What is told of a lock by ``fcntl.lockf``: each thread of the process that has it has it, too (POSIX, ``fcntl``)."""


@contextmanager
def noticed(locks: HeldLocks) -> Iterator[None]:
    """In the block, what happens to locks is told to ``locks``, and who reads and writes files."""
    patches = _Patches(locks)
    with ExitStack() as stack:
        for owner, name, function in [*patches.objects(), *patches.functions()]:
            stack.callback(setattr, owner, name, vars(owner)[name])
            setattr(owner, name, function)
        audit.subscribe(_READS_AND_WRITES, locks.file)
        stack.callback(audit.unsubscribe, _READS_AND_WRITES, locks.file)
        yield


def _others() -> Iterator[tuple[Any, str]]:
    """The classes of locks of anyio and trio that have an ``acquire``, and the names of these locks."""
    for name in _OTHERS:
        of_anyio = getattr(sys.modules.get("anyio"), name, None)  # each backend has one; an adapter makes one of these
        yield from ((cls, name) for cls in _subclasses(of_anyio) if "_backends" in cls.__module__)
        of_trio = getattr(sys.modules.get("trio"), name, object)
        yield from ((cls, name) for cls in of_trio.__mro__ if "acquire" in vars(cls))


def _subclasses(cls: Any) -> list[Any]:
    return [] if cls is None else cls.__subclasses__()


class _Patches:
    """What stands in for each function, and tells ``locks``."""

    def __init__(self, locks: HeldLocks) -> None:
        self._locks = locks

    def objects(self) -> Iterator[tuple[Any, str, Any]]:
        """Classes of locks, their methods, and what stands in for them."""
        for cls, kind in [*((cls, cls.__name__) for cls in _ASYNCIO), *_others()]:
            yield cls, "acquire", self._awaited(cls.acquire, kind)
            yield cls, "release", self._released(cls.release, kind)
            if "acquire_nowait" in vars(cls):
                yield cls, "acquire_nowait", self._at_once(cls.acquire_nowait, kind)
        for cls in _THREADING:
            for name in vars(cls).keys() & {"acquire", "release", "_release_save"}:
                real = vars(cls)[name]
                yield cls, name, self._called(real) if name == "acquire" else self._released(real, "Lock")

    def _awaited(self, real: Any, kind: str) -> Any:
        @wraps(real)
        async def acquire(lock: Any) -> Any:
            line = users_line(sys._getframe(1))
            if line is None:
                return await real(lock)
            key, waits = self._locks.object(lock, kind), _is_taken(lock)
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

    def _at_once(self, real: Any, kind: str) -> Any:
        @wraps(real)
        def acquire_nowait(lock: Any) -> Any:
            result, caller = real(lock), sys._getframe(1)
            of_itself = caller.f_code.co_name == "acquire"  # which tries this first
            if (line := None if of_itself else users_line(caller)) is not None:
                self._locks.got(self._locks.object(lock, kind), line)
            return result

        return acquire_nowait

    def _called(self, real: Any) -> Any:
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

    def _released(self, real: Any, kind: str) -> Any:
        @wraps(real)
        def release(lock: Any) -> Any:
            if (line := users_line(sys._getframe(1))) is not None:
                self._locks.let_go(self._locks.object(lock, kind), line)
            return real(lock)

        return release

    def functions(self) -> Iterator[tuple[Any, str, Any]]:
        """Functions on files, and what stands in for them."""
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


def _is_taken(lock: Any) -> bool:
    """Whether who wants a lock has to wait."""
    if hasattr(lock, "locked"):
        return bool(lock.locked())
    return not (lock.available_tokens if hasattr(lock, "available_tokens") else lock.value)
