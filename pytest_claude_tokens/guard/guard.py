"""What keeps a suite away from the real service, from the user's real login, and from a real ``claude``.

One audit hook (PEP 578) for the whole process, installed with the first handle. It can't be removed again, so it looks
an event up in a table that is empty while nothing is guarded, and returns.

* **Hosts**: from the first handle until :func:`uninstall`, name look-ups of and connections to the real hosts are
  refused, since a thread left behind can wake after its test (:mod:`pytest_claude_tokens.guard.hosts`).
* **Files and processes**: while a handle is open.
"""

from __future__ import annotations

import os
import pwd
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, Protocol

from fake_server.secrecy import redact
from pytest_claude_tokens.guard import commands, hosts
from pytest_claude_tokens.guard.hosts import HOSTS, MARKER, RealServiceRefused

__all__ = [
    "HOSTS",
    "MARKER",
    "RealServiceRefused",
    "Watcher",
    "allow_real_hosts",
    "check_path",
    "install",
    "muted",
    "register",
    "subscribe",
    "uninstall",
    "unregister",
    "unsubscribe",
]

Args = tuple[Any, ...]
Listener = Callable[[str, Args], None]

_PLACES = (".claude", ".claude.json", ".claude.lock", os.path.join(".config", "anthropic"))
_SCRATCH = ("/tmp", "/var/tmp")  # noqa: S108 - compared with, never written to
_HOME = os.environ.get("HOME", "")


class Watcher(Protocol):
    """A handle, as the guard sees it."""

    def started(self, arguments: list[str]) -> None:
        """A process is about to be started with these arguments."""
        ...


_lock = threading.RLock()
_local = threading.local()
_table: dict[str, tuple[Listener, ...]] = {}
_installed = False
_active = False
_hosts_allowed = False
_watchers: list[Watcher] = []
_heard: dict[str, list[Listener]] = {}


# --- what others call -------------------------------------------------------------------------------------------


def allow_real_hosts(allowed: bool) -> None:
    """Whether this suite may reach the real hosts; it may not unless it says so, before its first handle."""
    global _hosts_allowed  # noqa: PLW0603 - one guard per process, as there is one audit hook
    with _lock:
        _hosts_allowed = allowed


def install() -> None:
    """Guard from now on, until :func:`uninstall`. Each handle calls this."""
    global _active, _installed  # noqa: PLW0603 - as above
    with _lock:
        if not _hosts_allowed:
            hosts.shield()
        if not _active:
            _active = True
            _fill_table()
        if not _installed:
            _installed = True
            sys.addaudithook(_hook)


def uninstall() -> None:
    """The session is over: guard nothing any more, and put ``NO_PROXY`` and the sockets' methods back."""
    global _active  # noqa: PLW0603 - as above
    with _lock:
        _active = False
        hosts.unshield()
        _fill_table()


def register(watcher: Watcher) -> None:
    """A handle has been opened: guard the real login and ``claude``, and tell it of processes that are started."""
    with _lock:
        _watchers.append(watcher)


def unregister(watcher: Watcher) -> None:
    """That handle has been closed."""
    with _lock:
        _watchers.remove(watcher)


def subscribe(events: tuple[str, ...], listener: Listener) -> None:
    """Call ``listener(event, args)`` at each of these audit events, in the thread in which they happen.

    Only while the guard is armed; not for what the listener does itself, nor inside :func:`muted`.
    """
    with _lock:
        for event in events:
            _heard.setdefault(event, []).append(listener)
        _fill_table()


def unsubscribe(events: tuple[str, ...], listener: Listener) -> None:
    """Undo :func:`subscribe`."""
    with _lock:
        for event in events:
            _heard[event].remove(listener)
        _fill_table()


@contextmanager
def muted() -> Iterator[None]:
    """What this thread does in the block is ours, and nothing that a listener should hear of."""
    before = getattr(_local, "muted", False)
    _local.muted = True
    try:
        yield
    finally:
        _local.muted = before


def check_path(path: object) -> None:
    """Refuse a path that leads to the user's real login. Anything but a path is not looked at."""
    protected, exempt = _guarded_places(os.environ.get("TMPDIR", ""), sys.prefix, tuple(sys.path))
    for place in _spellings(path):
        if _below(place, protected) and not _below(place, exempt):
            raise RealServiceRefused(
                f"refused to touch {redact(place)}: the user's real Claude login is not for tests; give the code under "
                "test tokens.config_dir(account), or run it inside tokens.environ()"
            )


# --- the hook ---------------------------------------------------------------------------------------------------


def _hook(event: str, args: Args) -> None:
    listeners = _table.get(event)
    if listeners is not None:
        for listener in listeners:
            listener(event, args)


def _fill_table() -> None:
    """What is done at which event, as things are now. Other threads read the table while it changes, key by key."""
    wanted: dict[str, list[Listener]] = {}
    if _active:
        checks = {**_FILE_CHECKS, **_PROCESS_CHECKS, **({} if _hosts_allowed else hosts.CHECKS)}
        wanted = {event: [check] for event, check in checks.items()}
        for event, listeners in _heard.items():
            if listeners:
                wanted.setdefault(event, []).append(_tell)
    for event in set(_table) - set(wanted):
        del _table[event]
    _table.update({event: tuple(listeners) for event, listeners in wanted.items()})


def _tell(event: str, args: Args) -> None:
    if not getattr(_local, "muted", False):
        with muted():
            for listener in tuple(_heard[event]):
                listener(event, args)


# --- files ------------------------------------------------------------------------------------------------------


@cache
def _guarded_places(scratch: str, prefix: str, path: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is protected; and what below it is not, as this project, or its Python, lives there."""
    protected = _places(_homes(scratch))
    return protected, _inside(protected, (os.getcwd(), prefix, *path))


def _homes(scratch: str) -> list[str]:
    """The user's real homes: the account's, and the one in which the process was started, unless that is a scratch
    one (``HOME`` may be a test's own, whose ``.claude`` is nobody's login).
    """
    homes = []
    with suppress(KeyError):  # a container's made-up user has no entry
        homes.append(pwd.getpwuid(os.getuid()).pw_dir)
    if not _inside([scratch or _SCRATCH[0], *_SCRATCH, os.getcwd()], (_HOME,)):
        homes.append(_HOME)
    return [home for home in homes if os.path.isabs(home)]


def _places(homes: list[str]) -> tuple[str, ...]:
    """What is protected below these homes, as it is spelled and as it really is."""
    places = [os.path.join(home, place) for home in homes for place in _PLACES]
    return tuple(dict.fromkeys([*map(os.path.normpath, places), *map(os.path.realpath, places)]))


def _inside(places: Any, paths: Any) -> tuple[str, ...]:
    """Those of ``paths`` that lie below one of ``places``: a project, or an interpreter, that lives there."""
    real = [os.path.realpath(path) for path in paths if path]
    return tuple(path for path in real if _below(path, places) and path not in places)


def _below(path: str, places: Any) -> bool:
    return any(path == place or path.startswith(place.rstrip("/") + "/") for place in places)


def _spellings(path: object) -> tuple[str, ...]:
    """The absolute path as it is spelled, and as it is where its last or last but one part is a symbolic link."""
    if isinstance(path, int):
        return ()
    try:
        text = os.fsdecode(path)  # type: ignore[arg-type]  # what is no path raises TypeError
        spelled = os.path.abspath(text)
    except (TypeError, ValueError, OSError):  # OSError: the working directory is gone
        return ()
    if os.path.islink(spelled) or os.path.islink(os.path.dirname(spelled)):
        return spelled, os.path.realpath(spelled)
    return (spelled,)


def _on_path(event: str, args: Args) -> None:
    if _watchers:
        check_path(args[0])


def _on_database(event: str, args: Args) -> None:
    """``sqlite3`` opens its file without an event ``open``; the name may be an URI."""
    if _watchers:
        name = args[0]
        if isinstance(name, str) and name.startswith("file:"):
            from urllib.parse import unquote  # seldom needed

            name = unquote(name.removeprefix("file:").partition("?")[0])
            name = re.sub("^/+", "/", name)
        check_path(name)


def _on_two_paths(event: str, args: Args) -> None:
    if _watchers:
        check_path(args[0])
        check_path(args[1])


_FILE_CHECKS: dict[str, Listener] = {
    "open": _on_path,
    "os.rename": _on_two_paths,  # os.replace, too
    "os.remove": _on_path,
    "os.rmdir": _on_path,
    "os.mkdir": _on_path,
    "os.truncate": _on_path,
    "os.link": _on_two_paths,
    "os.symlink": _on_two_paths,
    "os.chmod": _on_path,
    "os.utime": _on_path,
    "shutil.rmtree": _on_path,
    "sqlite3.connect": _on_database,
}


# --- processes --------------------------------------------------------------------------------------------------


def _check_process(arguments: list[str], environment: Mapping[Any, Any] | None) -> None:
    names = os.environ if environment is None else environment
    if _watchers and commands.runs_claude(arguments) and not any(os.fsdecode(name) == MARKER for name in names):
        raise RealServiceRefused(
            "refused to start claude outside the fake environment: it would use the real login; start it with "
            "env=tokens.env(account), inside tokens.environ(), or under the fixture fake_claude"
        )


def _on_popen(event: str, args: Args) -> None:
    executable, arguments, _, environment = args
    words = commands.words(arguments) or commands.words([executable])
    _check_process(words, environment)
    for watcher in tuple(_watchers):
        watcher.started(words)


def _on_spawn(event: str, args: Args) -> None:
    path, arguments, environment = args[-3:]
    _check_process([*commands.words([path])[:1], *commands.words(arguments)[1:]], environment)


def _on_system(event: str, args: Args) -> None:
    _check_process(["sh", "-c", *commands.words([args[0]])], None)


_PROCESS_CHECKS: dict[str, Listener] = {
    "subprocess.Popen": _on_popen,
    "os.posix_spawn": _on_spawn,
    "os.exec": _on_spawn,
    "os.spawn": _on_spawn,
    "os.system": _on_system,
}
