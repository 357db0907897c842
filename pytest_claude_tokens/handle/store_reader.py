"""Reads a credential store: a file, a folder with such a file in it, or a user's callable."""

from __future__ import annotations

from _thread import allocate_lock, start_new_thread
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, Union

from fake_server.genuine import json, os
from pytest_claude_tokens.claude.credentials import FILE, read_refresh_token
from pytest_claude_tokens.guard import RealServiceRefused, audit, files

__all__ = ["ANSWER_TIMEOUT_SECONDS", "Ask", "Content", "Read", "Source", "StoreState", "reader_of"]

ANSWER_TIMEOUT_SECONDS = 1.0
"""Real seconds within which a callable must return."""

Source = Union[str, "os.PathLike[str]", "Callable[[], object]"]
Read = str | Callable[[str], object]
"""How a store of another shape is read."""
Ask = Callable[[Callable[[], object]], object]
"""Calls a store's callable, and returns its result."""

StoreState = Literal["token", "blank", "absent", "unreadable"]


@dataclass(frozen=True, slots=True, repr=False)
class Content:
    """The content of a store. ``secret`` is its refresh token, if it holds one; ``data``: all of it, of a file."""

    state: StoreState
    secret: str | None = None
    data: bytes = field(default=b"", compare=False)


UNREADABLE = Content("unreadable")


def reader_of(source: Source, ask: Ask | None = None, read: Read | None = None) -> Callable[[bool], Content]:
    """A function that reads ``source``: a credentials file, a config directory with such a file, or a callable.

    ``ask``, if given, calls the callable instead of a helper thread: a simulated world must not wait for a real thread.
    ``read`` is for a store of another shape: a dotted path into its JSON, or a callable that is given the path.
    """
    if not callable(source):
        path = os.path.abspath(os.fspath(source))
        files.check_path(path)
        if not callable(read):
            return lambda final: _read_file(path, read)
        source = partial(read, os.fspath(source))
    asked = partial(_called, source, read) if isinstance(read, str) else source
    return _Asked(asked) if ask is None else lambda final: _asked(asked, ask)


def _called(source: Callable[[], object], path: str) -> object:  # pragma: no cover - in a helper's thread, as `_run` is
    return _found(source(), path)


def _found(stored: object, path: str) -> object:
    """What is at the dotted ``path`` in JSON, as a text or parsed; ``None`` where there is nothing."""
    value = json.loads(stored) if isinstance(stored, str | bytes | bytearray) else stored
    for part in path.split("."):
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and part.isdecimal():
            value = value[int(part)] if int(part) < len(value) else None
        else:
            return None
    return value


def _read_file(path: str, read: str | None = None) -> Content:
    try:
        if os.path.isdir(path):
            path = os.path.join(path, FILE)
        with open(path, "rb") as file:
            data = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return Content("absent")
    except (OSError, RealServiceRefused):
        return UNREADABLE
    if not data.strip():  # a writer has truncated it and not yet written
        return UNREADABLE
    return replace(_content(data, read), data=data)


def _content(stored: object, read: str | None = None) -> Content:
    try:
        secret = read_refresh_token(stored if read is None else _found(stored, read))
    except (ValueError, RecursionError):
        return UNREADABLE
    return Content("blank") if secret is None else Content("token", secret)


def _asked(source: Callable[[], object], ask: Ask) -> Content:
    try:
        return _content(ask(source))
    except Exception:  # noqa: BLE001 - any error means that the store can't be read
        return UNREADABLE


class _Asked:
    """Calls a user's callable in a helper thread, which holds none of the user's locks.

    It is called while a request is under way, and the thread that sent that request may hold a lock that the callable
    takes: in that thread, the callable would deadlock. A callable that does not return in time counts as unreadable.
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
        """Call it in this thread at the end, when no request is under way: sqlite3, for one, is bound to a thread."""
        try:
            return _content(self._ask())
        except Exception:  # noqa: BLE001 - any error means that the store can't be read
            return UNREADABLE


class _Helper:
    """A thread that makes one call at a time. ``threading`` does not know it, so the interpreter does not join it."""

    def __init__(self) -> None:
        self.answer: tuple[object, BaseException | None] = None, None
        self._call: Callable[[], object]
        self._go, self._done = allocate_lock(), allocate_lock()
        self._go.acquire()
        self._done.acquire()
        start_new_thread(self._run, ())

    def start(self, call: Callable[[], object]) -> None:
        """Start ``call`` in the thread."""
        self._call = call
        self._go.release()

    def done(self, seconds: float) -> bool:
        """Wait up to ``seconds`` for the call to end; returns ``True`` only once per call."""
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
os.register_at_fork(after_in_child=_IDLE.clear)  # the helper threads don't exist in a forked process
