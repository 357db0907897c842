"""When the guard is on: one part from the first handle to the end of the session, the other while a handle is open.

* **Hosts** (:mod:`~pytest_claude_tokens.guard.hosts`): from the first handle until :func:`uninstall`, name look-ups of
  the real hosts and connections to them are refused, since a thread left behind can wake after its test.
* **Files** (:mod:`~pytest_claude_tokens.guard.files`) **and processes**
  (:mod:`~pytest_claude_tokens.guard.programs`): while a handle is open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from fake_server.genuine import threading
from pytest_claude_tokens.guard import audit, files, hosts, programs, refusal

if TYPE_CHECKING:
    from pytest_claude_tokens.guard.audit import Args, Check

__all__ = ["Watcher", "allow_real_hosts", "install", "register", "uninstall", "unregister"]


class Watcher(Protocol):
    """The part of a handle that the guard calls."""

    def started(self, arguments: list[str]) -> None:
        """Called before a process is started with these arguments."""
        ...

    def refused(self, what: str, host: str | None, remedy: str) -> None:
        """Called at each refusal of the guard, in the thread of its cause; see :func:`refusal.refuse`."""
        ...


_lock = threading.RLock()
_active = False
_hosts_allowed = False
_watchers: list[Watcher] = []


def allow_real_hosts(allowed: bool) -> None:
    """Set whether this suite may reach the real hosts, before its first handle. By default it may not."""
    global _hosts_allowed  # noqa: PLW0603 - one guard per process, as there is one audit hook
    with _lock:
        _hosts_allowed = allowed


def install(written: tuple[str, ...] = ()) -> None:
    """Turn the guard on until :func:`uninstall`, for the hosts ``written``, too. Each handle calls this."""
    global _active  # noqa: PLW0603 - as above
    with _lock:
        if not _hosts_allowed:
            hosts.install(written)
        if not _active:
            _active = True
            refusal.listeners.append(_tell_refusal)
            audit.start(_checks())


def uninstall() -> None:
    """Turn the guard off at the end of the session, and restore ``NO_PROXY`` and the sockets' methods."""
    global _active  # noqa: PLW0603 - as above
    with _lock:
        if _active:
            refusal.listeners.remove(_tell_refusal)
        _active = False
        hosts.uninstall()
        audit.stop()


def register(watcher: Watcher) -> None:
    """Guard the real login and ``claude`` while ``watcher`` is open, and report started processes to it."""
    with _lock:
        _watchers.append(watcher)


def unregister(watcher: Watcher) -> None:
    """Undo :func:`register` when the handle is closed."""
    with _lock:
        _watchers.remove(watcher)


def _checks() -> dict[str, list[Check]]:
    checks = {event: [_while_open(check)] for event, check in {**files.CHECKS, **programs.CHECKS}.items()}
    checks[programs.POPEN].append(_tell_watchers)
    if not _hosts_allowed:
        checks |= {event: [check] for event, check in hosts.CHECKS.items()}
    return checks


def _while_open(check: Check) -> Check:
    def checked(event: str, args: Args) -> None:
        if _watchers:
            check(event, args)

    return checked


def _tell_watchers(event: str, args: Args) -> None:
    for watcher in tuple(_watchers):
        watcher.started(programs.words_of_popen(args))


def _tell_refusal(what: str, host: str | None, remedy: str) -> None:
    for watcher in _watchers[-1:]:  # the innermost handle is the one that answers
        watcher.refused(what, host, remedy)
