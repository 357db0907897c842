"""Watched credential stores: what was in them, and whether the service would still accept it.

A store is looked at after each reply and at the end. What is found is journalled as the note ``store``, when it is
another refresh token, or another state, than before.
"""

from __future__ import annotations

import os
import threading
from _thread import allocate_lock, start_new_thread
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Union

from fake_server.exchange import UNKNOWN
from fake_server.secrecy import is_path, redact, shown
from pytest_claude_tokens.claude.credentials import FILE, read_refresh_token
from pytest_claude_tokens.guard import RealServiceRefused, audit, files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fake_server.core.authority import Grant, RefreshToken
    from fake_server.events import Event
    from fake_server.server import Server

__all__ = ["PATIENCE", "SETTLE", "Content", "Source", "Store", "Stores", "reader_of"]

PATIENCE = 1.0
"""Seconds of real time that a callable may take to answer."""

Source = Union[str, "os.PathLike[str]", "Callable[[], object]"]
Ask = Callable[[Callable[[], object]], object]
SETTLE = 0.5
"""Seconds of real time that a client has at the end to store what came with the last reply."""

_STEP = 0.01
State = Literal["token", "blank", "absent", "unreadable"]


@dataclass(frozen=True, slots=True, repr=False)
class Content:
    """What is in a store. ``secret`` is its refresh token, if it holds one."""

    state: State
    secret: str | None = None


UNREADABLE = Content("unreadable")


class Store:
    """One store of an account. ``grant``: the login whose tokens are expected in it."""

    def __init__(self, server: Server, name: str, account: str, read: Callable[[bool], Content]) -> None:
        self.name = name
        self.account = account
        self._server = server
        self._read = read
        self._last: Content | None = None
        self._kept: str | None = None
        """The refresh token that was read last: a file that is absent or torn for a moment says nothing about it."""

    @property
    def grant(self) -> Grant:
        """The latest login of the account: one that is made later takes the store over."""
        return self._server.authority.grants_of(self.account)[-1]

    def sample(self, *, now: float | None = None, final: bool = False) -> None:
        """Look at the store, and journal what has changed; at the end, what there is."""
        server = self._server
        with audit.muted():
            content = self._read(final)
        with server.lock:
            if final or content != self._last:
                self._note(content, server.clock.now() if now is None else now, final)
                self._last = content
                if content.state in ("token", "blank"):
                    self._kept = content.secret

    def keeps(self) -> bool:
        """Whether there is a refresh token in it, right now, that the service would accept. Journals nothing."""
        content = self._read(False)
        with self._server.lock:
            return self._accepted(self._token(content.secret), self._server.clock.now())

    def _note(self, content: Content, now: float, final: bool) -> None:
        before = self._kept
        token, previous = self._token(content.secret), self._token(before)
        grant = self.grant if token is None else token.grant
        facts: dict[str, Any] = {}
        if previous is not None and previous.grant is not grant:
            facts["previous_grant"] = previous.grant.name
        self._server.journal.note(
            "store",
            account=grant.account,
            grant=grant.name,
            store=self.name,
            state=content.state,
            refresh=self._label(content.secret, token),
            accepted=self._accepted(token, now),
            previous=self._label(before, previous),
            previous_accepted=self._accepted(previous, now),
            final=final,
            **facts,
        )

    def _token(self, secret: str | None) -> RefreshToken | None:
        return None if secret is None else self._server.authority.refresh_token(secret)

    def _accepted(self, token: RefreshToken | None, now: float) -> bool:
        return token is not None and self._server.authority.accepts(token, now)

    @staticmethod
    def _label(secret: str | None, token: RefreshToken | None) -> str | None:
        if secret is None:
            return None
        return UNKNOWN if token is None else token.label


class Stores:
    """All watched stores of one service; their names are unique."""

    def __init__(self, server: Server, ask: Ask | None = None) -> None:
        self.closed = False
        """Whether the history has ended: what is in the stores later is nobody's business."""
        self._server = server
        self._ask = ask
        self._stores: list[Store] = []

    def watch(self, source: Source, account: str, name: str | None = None) -> Store:
        """Watch one more, and look at it for the first time."""
        if not callable(source) and not is_path(os.fspath(source)):
            raise ValueError(f"watch_store({shown(source)}): a path, or a callable that returns what is stored")
        name = redact(name or _name_of(source))
        taken = {store.name for store in self._stores}
        names = (name, f"{account}/{name}", *(f"{account}/{name}-{n}" for n in range(2, len(taken) + 3)))
        store = Store(
            self._server, next(free for free in names if free not in taken), account, reader_of(source, self._ask)
        )
        store.sample()
        self._stores.append(store)
        return store

    def on_event(self, event: Event) -> None:
        """Look at all of them after a reply. Called under the server's lock."""
        if event.type in ("ok", "fail", "info") and not self.closed:
            for store in self._stores:
                store.sample()

    def settle(self) -> None:
        """Give a client that has just got its last reply the time to store what was in it."""
        pause = threading.Event()
        for _ in range(round(SETTLE / _STEP)):
            if all(store.keeps() for store in self._stores):
                return
            pause.wait(_STEP)

    def __iter__(self) -> Iterator[Store]:
        return iter(self._stores)


def _name_of(source: Source) -> str:
    if callable(source):
        return str(getattr(source, "__name__", type(source).__name__)).strip("<>")
    return os.path.basename(os.path.abspath(source))


def reader_of(source: Source, ask: Ask | None = None) -> Callable[[bool], Content]:
    """How to look at ``source``: a credentials file, a config directory with one in it, or a callable.

    A callable is called by ``ask``, where one is given: where threads are simulated, it has its own way not to wait.
    """
    if callable(source):
        return _Asked(source) if ask is None else lambda final: _asked(source, ask)
    path = os.path.abspath(os.fspath(source))
    files.check_path(path)
    return lambda final: _read_file(path)


def _read_file(path: str) -> Content:
    try:
        if os.path.isdir(path):
            path = os.path.join(path, FILE)
        with open(path, "rb") as file:
            data = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return Content("absent")
    except (OSError, RealServiceRefused):
        return UNREADABLE
    return _content(data) if data.strip() else UNREADABLE  # empty: a writer is between its two steps


def _content(stored: object) -> Content:
    try:
        secret = read_refresh_token(stored)
    except (ValueError, RecursionError):
        return UNREADABLE
    return Content("blank") if secret is None else Content("token", secret)


def _asked(source: Callable[[], object], ask: Ask) -> Content:
    try:
        return _content(ask(source))
    except Exception:  # noqa: BLE001 - whatever it is, the store can't be read
        return UNREADABLE


class _Asked:
    """Asks a callable of the user's, in a thread that holds no lock of the user's.

    It is asked while a request is under way, and whoever sent that request may hold a lock which the callable takes:
    asked in the same thread, it would wait for ever. One that does not answer in time is unreadable.
    """

    def __init__(self, ask: Callable[[], object]) -> None:
        self._ask = ask
        self._stuck: _Helper | None = None

    def __call__(self, final: bool) -> Content:
        if self._stuck is not None and not self._stuck.done(PATIENCE if final else 0):
            return UNREADABLE
        self._stuck = None
        helper = _IDLE.pop() if _IDLE else _Helper()
        helper.start(self._ask)
        if not helper.done(PATIENCE):
            self._stuck = helper
            return UNREADABLE
        stored, error = helper.answer
        _IDLE.append(helper)
        if error is None:
            return _content(stored)
        return self._ask_here() if final else UNREADABLE

    def _ask_here(self) -> Content:
        """At the end no request is under way; and what a callable needs may be bound to this thread (sqlite3)."""
        try:
            return _content(self._ask())
        except Exception:  # noqa: BLE001 - whatever it is, the store can't be read
            return UNREADABLE


class _Helper:
    """A thread that makes one call at a time. It is none of ``threading``'s, and nothing waits for it to end."""

    def __init__(self) -> None:
        self.answer: tuple[object, BaseException | None] = None, None
        self._call: Callable[[], object]
        self._go, self._done = allocate_lock(), allocate_lock()
        self._go.acquire()
        self._done.acquire()
        start_new_thread(self._run, ())

    def start(self, call: Callable[[], object]) -> None:
        """Let it make this call."""
        self._call = call
        self._go.release()

    def done(self, seconds: float) -> bool:
        """Wait so long for the call to end; says ``True`` once."""
        return self._done.acquire(timeout=seconds)

    def _run(self) -> None:  # pragma: no cover - coverage sees the threads of `threading` only
        while True:
            self._go.acquire()
            try:
                with audit.muted():
                    self.answer = self._call(), None
            except BaseException as error:  # noqa: BLE001 - told to whoever asked
                self.answer = None, error
            self._done.release()


_IDLE: list[_Helper] = []
os.register_at_fork(after_in_child=_IDLE.clear)  # a forked process has no threads
