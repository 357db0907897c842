"""Two locks that clients of the token service are known to use: a *lease* made with ``mkdir``, and ``flock``.

:class:`Lease` shares its directory, its times and its rules with npm's ``proper-lockfile`` 4.1.2, so that a program in
Python and one in Node can contend for the same refresh. It is a lease and not a mutex, and keeps the weaknesses of
the original, since showing them is what this package is for:

* a holder that does not touch its lease for ``stale`` seconds may lose it, whether it is dead, stopped or only slow;
* taking over a stale lease is three steps (``stat``, ``rmdir``, ``mkdir``): of two contenders that saw the same stale
  lease, the slower one can remove the fresh lease of the faster;
* a holder knows its lease by the time on it, and two that are taken within one second have the same;
* ``release`` removes the directory by name, whoever made it;
* nothing stops an expired holder from going on. What the lease protects must be re-read, and compared, under it.

:func:`flock` is a mutex: the kernel releases it when its holder dies. Neither protects across hosts.
"""

from __future__ import annotations

import math
import os
import time
from contextlib import contextmanager, suppress

from pytest_claude_tokens.late_secrecy import discreet, is_path, shown

TYPE_CHECKING = False  # the fake `claude` starts with this module, and `typing` takes milliseconds to import
if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from typing import Self

__all__ = ["STALE_SECONDS", "FlockTimeout", "Lease", "LeaseHeld", "LeaseLost", "flock"]

STALE_SECONDS = 10.0
"""Seconds after which an untouched lease may be taken over, unless its contenders think otherwise."""

_MIN_STALE_SECONDS = 2.0
_MIN_UPDATE_SECONDS = 1.0
_PROBE_MTIME_NS = 5_000_000
"""Nanoseconds past a whole second: by this the original finds out whether the file system keeps milliseconds."""


class LeaseHeld(OSError):
    """Another process holds the lease, and has touched it recently enough."""


class LeaseLost(RuntimeError):
    """The lease was taken over or removed, or could not be touched in time, while its holder believed to have it."""


class Lease:
    """The directory ``realpath(path) + ".lock"``: who made it holds the lease on ``path``.

    ``stale`` and ``update`` (how often a holder touches it, at most half of ``stale``) are in seconds. ``lock_path``
    names the directory itself. ``heartbeat=False`` starts no thread: the holder calls :meth:`touch` by itself.
    ``now`` reads POSIX seconds. One object may be acquired again after its release; it must not be shared by threads.
    """

    @discreet
    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        stale: float = STALE_SECONDS,
        update: float | None = None,
        lock_path: str | os.PathLike[str] | None = None,
        heartbeat: bool = True,
        now: Callable[[], float] | None = None,
    ) -> None:
        self._file = _checked("Lease", path)
        self._lock_path = None if lock_path is None else _checked("Lease", lock_path)
        self.stale: float = max(stale, _MIN_STALE_SECONDS)
        wanted = self.stale / 2 if update is None else update
        self.update: float = max(min(wanted, self.stale / 2), _MIN_UPDATE_SECONDS)
        self.path: str = ""
        self.held: bool = False
        self.compromised: str | None = None
        self._now = now
        self._heartbeat = heartbeat
        self._mtime = 0
        self._touched = 0.0
        self._stop: threading.Event | None = None

    def try_acquire(self) -> bool:
        """Take the lease now if it is free or stale. Raises ``OSError`` where the directory can't be made at all."""
        self.path = self._lock_path or os.path.realpath(self._file, strict=True) + ".lock"
        if not self._make() and not (self._clear_stale() and self._make()):
            return False
        try:
            self._set_mtime(math.ceil(self._time()) * 1_000_000_000 + _PROBE_MTIME_NS)
        except OSError:
            with suppress(OSError):
                os.rmdir(self.path)
            raise
        self.held, self.compromised = True, None
        if self._heartbeat:
            self._start_heartbeat()
        return True

    @discreet
    def acquire(
        self,
        *,
        retries: int = 0,
        pause: Callable[[int], float] | None = None,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        """Take the lease, trying again ``retries`` times after ``pause(attempt)`` seconds (default: one).

        Raises :class:`LeaseHeld` after the last of them.
        """
        for attempt in range(retries + 1):
            if attempt:
                (sleep or time.sleep)(1.0 if pause is None else pause(attempt))
            if self.try_acquire():
                return
        raise LeaseHeld(f"{self.path} is held")

    def touch(self) -> bool:
        """Prolong the lease. ``False``, and :attr:`compromised` says why, if it is lost."""
        if not self.held or self.compromised is not None:
            return False
        overdue = self._time() > self._touched + self.stale
        try:
            if os.stat(self.path).st_mtime_ns == self._mtime:  # even if overdue: the machine may have slept
                self._set_mtime(int(self._time() * 1000) * 1_000_000)
            else:
                self.compromised = "taken over by another process"
        except FileNotFoundError:
            self.compromised = "removed by another process"
        except OSError as error:
            if overdue:
                self.compromised = f"could not be touched: {error.strerror}"
        return self.compromised is None

    def release(self) -> None:
        """Give the lease up. Raises :class:`LeaseLost` if it had been lost before and that was noticed."""
        if not self.held:
            raise LeaseLost("the lease is not held")
        self.held = False
        if self._stop is not None:
            self._stop.set()
            self._stop = None
        if self.compromised is not None:
            raise LeaseLost(f"{self.path}: {self.compromised}")
        with suppress(FileNotFoundError):
            os.rmdir(self.path)

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()

    def __repr__(self) -> str:
        state = self.compromised or ("held" if self.held else "not held")
        return f"<Lease {self.path or self._lock_path or self._file}: {state}>"

    def _time(self) -> float:
        return (self._now or time.time)()

    def _make(self) -> bool:
        try:
            os.mkdir(self.path)
        except FileExistsError:
            return False
        return True

    def _clear_stale(self) -> bool:
        """Remove a stale lease; ``True`` if the directory is gone, so that the first contender can make it."""
        try:
            if os.stat(self.path).st_mtime >= self._time() - self.stale:
                return False
        except FileNotFoundError:
            return True
        with suppress(FileNotFoundError):
            os.rmdir(self.path)
        return True

    def _set_mtime(self, mtime: int) -> None:
        os.utime(self.path, ns=(mtime, mtime))
        self._mtime = os.stat(self.path).st_mtime_ns  # as the file system keeps it, which may be more coarsely
        self._touched = self._time()

    def _start_heartbeat(self) -> None:
        import threading

        self._stop = stop = threading.Event()

        def beat() -> None:
            while not stop.wait(self.update) and self.touch():
                pass

        threading.Thread(target=beat, name="lease-heartbeat", daemon=True).start()


class FlockTimeout(TimeoutError):
    """``flock`` was not granted in time."""


@discreet
def flock(
    path: str | os.PathLike[str],
    *,
    timeout: float | None = None,
    poll: float = 0.05,
    sleep: Callable[[float], None] | None = None,
) -> AbstractContextManager[int]:
    """Hold the file ``path`` as ``flock -w TIMEOUT`` does; gives its descriptor.

    ``timeout`` is in seconds, ``None`` for ever; the file is made if need be and never removed. Raises
    :class:`FlockTimeout`. With a time-out it asks every ``poll`` seconds, so it is not first come, first served.
    """
    return _flocked(_checked("flock", path), timeout, poll, sleep)


@contextmanager
def _flocked(path: str, timeout: float | None, poll: float, sleep: Callable[[float], None] | None) -> Iterator[int]:
    import fcntl

    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if timeout is None:
            fcntl.flock(fd, fcntl.LOCK_EX)
        else:
            until = time.monotonic() + timeout
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    left = until - time.monotonic()
                    if left <= 0:
                        raise FlockTimeout(f"{path} is locked by another process") from None
                    (sleep or time.sleep)(min(poll, left))
        yield fd
    finally:
        os.close(fd)


def _checked(function: str, path: str | os.PathLike[str]) -> str:
    """``path`` as a text. Raises ``ValueError`` for a token pasted in its place.

    An absolute path without the beginning of a token passes at once: the fake ``claude`` has no other, and must not
    wait for the rule to be imported.
    """
    text = os.fsdecode(path)
    plain = os.path.isabs(text) and "sk-" not in text and "eyJ" not in text
    if not plain and not is_path(text):
        raise ValueError(f"{function}({shown(text)}): must be a path")
    return text
