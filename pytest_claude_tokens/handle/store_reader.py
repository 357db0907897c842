"""What is in a credential store: a file, a folder with one in it, or a callable of the user's that is asked."""

from __future__ import annotations

import os
from _thread import allocate_lock, start_new_thread
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Union

from pytest_claude_tokens.claude.credentials import FILE, read_refresh_token
from pytest_claude_tokens.guard import RealServiceRefused, audit, files

__all__ = ["ANSWER_TIMEOUT_SECONDS", "Ask", "Content", "Source", "StoreState", "reader_of"]

ANSWER_TIMEOUT_SECONDS = 1.0
"""Seconds of real time that a callable may take to answer."""

Source = Union[str, "os.PathLike[str]", "Callable[[], object]"]
Ask = Callable[[Callable[[], object]], object]
"""Calls a callable that stands for a store, and returns its answer."""

StoreState = Literal["token", "blank", "absent", "unreadable"]


@dataclass(frozen=True, slots=True, repr=False)
class Content:
    """What is in a store. ``secret`` is its refresh token, if it holds one."""

    state: StoreState
    secret: str | None = None


UNREADABLE = Content("unreadable")


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

    It is asked while a request is under way, and the thread that sent that request may hold a lock which the callable
    takes: asked in that thread, the callable would wait for it for ever. A store that does not answer in time is
    unreadable.
    """

    def __init__(self, ask: Callable[[], object]) -> None:
        self._ask = ask
        self._stuck: _Helper | None = None

    def __call__(self, final: bool) -> Content:
        if self._stuck is not None and not self._stuck.done(ANSWER_TIMEOUT_SECONDS if final else 0):
            return UNREADABLE
        self._stuck = None
        helper = _IDLE.pop() if _IDLE else _Helper()
        helper.start(self._ask)
        if not helper.done(ANSWER_TIMEOUT_SECONDS):
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
    """A thread that makes one call at a time. ``threading`` does not know it, so the interpreter ends without it."""

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
            except BaseException as error:  # noqa: BLE001 - handed to the thread that asked
                self.answer = None, error
            self._done.release()


_IDLE: list[_Helper] = []
os.register_at_fork(after_in_child=_IDLE.clear)  # a forked process has no threads
