"""Searches for live tokens where others can read them: in a log, in argv, in a file that others may read."""

from __future__ import annotations

import logging
import stat
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fake_server.genuine import os
from fake_server.tokens import TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fake_server.core.authority import AccessToken, RefreshToken
    from fake_server.server import Server

__all__ = ["Leaks", "LogWatch", "watched_logs"]

_OTHERS = ((stat.S_IXGRP, stat.S_IRGRP), (stat.S_IXOTH, stat.S_IROTH))
"""For the group and for all others, the bits of a mode by which they enter a folder and read a file."""
_SEARCHED_BYTES = 16 * 1024 * 1024
"""Bytes at the beginning of a file that are searched: no credentials file is larger."""


class Leaks:
    """Finds live tokens of one service in texts, and journals each place once."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._journalled: set[tuple[str, str, str]] = set()

    def search(self, where: str, what: str, texts: Iterable[str], *, now: float | None = None) -> None:
        """Journal the note ``leak`` for each live token. ``where`` is ``log``, ``file`` or ``argv``."""
        found = {match[0] for text in texts for match in TOKEN.finditer(text)}
        if found:
            server = self._server
            with server.lock:
                at = server.clock.now() if now is None else now
                for secret in sorted(found):
                    self._journal(where, TOKEN.sub("[token]", what), secret, at)

    def search_folder(self, folder: str, *, now: float) -> None:
        """Search the files that the group or others may read. Symbolic links are not followed.

        They must be able to enter each folder on the way, from ``folder`` on: where only its owner can, a file's own
        mode says nothing.
        """
        for path in sorted(_exposed(folder)):
            try:
                with open(path, "rb") as file:
                    text = file.read(_SEARCHED_BYTES).decode("latin-1")
            except OSError:  # deleted, or made unreadable, since it was listed
                continue
            self.search("file", os.path.relpath(path, folder), [text], now=now)

    def _journal(self, where: str, what: str, secret: str, now: float) -> None:
        token = self._live(secret, now)
        if token is None or (where, what, secret) in self._journalled:
            return
        self._journalled.add((where, what, secret))
        grant = token.grant
        self._server.journal.note(
            "leak", account=grant.account, grant=grant.name, where=where, what=what, token=token.label
        )

    def _live(self, secret: str, now: float) -> AccessToken | RefreshToken | None:
        authority = self._server.authority
        refresh = authority.refresh_token(secret)
        if refresh is not None:
            return refresh if authority.accepts(refresh, now) else None
        bearer = authority.bearer(secret, now)
        return bearer.token if bearer.state == "live" else None


def _exposed(folder: str) -> Iterator[str]:
    """The regular files below ``folder`` that the group, or all others, can reach and read."""
    entered: dict[str, tuple[tuple[int, int], ...]] = {os.path.dirname(folder): _OTHERS}
    for place, folders, names in os.walk(folder):
        mode = _mode(place)
        entered[place] = here = tuple((enter, read) for enter, read in entered[os.path.dirname(place)] if mode & enter)
        if not here:
            folders.clear()
            continue
        for name in names:
            path = os.path.join(place, name)
            mode = _mode(path)
            if stat.S_ISREG(mode) and any(mode & read for _, read in here):
                yield path


def _mode(path: str) -> int:
    """The mode of a file; 0 if it has been deleted since it was listed."""
    try:
        return os.lstat(path).st_mode
    except OSError:
        return 0


class LogWatch(logging.Handler):
    """A log handler that searches records for tokens. It writes nothing."""

    def __init__(self, leaks: Leaks) -> None:
        super().__init__()
        self._leaks = leaks
        self._latest: Callable[[], logging.LogRecord | None] = lambda: None

    def overhear(self, record: logging.LogRecord) -> bool:
        """A filter for other handlers that passes all records: some records reach those handlers but not this one."""
        if self._latest() is not record:
            self._latest = weakref.ref(record)
            self.emit(record)
        return True

    def handle(self, record: logging.LogRecord) -> bool:
        """Search the record without the handler's lock.

        The search takes the server's lock, and a thread that holds the server's lock may be logging: with the handler's
        lock, the two threads would deadlock.
        """
        return self.overhear(record)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            texts = [record.getMessage()]
            if record.exc_info:
                texts.append(logging.Formatter().formatException(record.exc_info))
        except Exception:  # noqa: BLE001 - other handlers report a message that cannot be formatted
            return
        self._leaks.search("log", record.name, texts)


@contextmanager
def watched_logs(leaks: Leaks) -> Iterator[None]:
    """In the block, search all records that reach the root logger or one of its handlers.

    The handlers are filtered, too, because a test may attach them (such as ``caplog``'s) to loggers that don't
    propagate.
    """
    root, watch = logging.getLogger(), LogWatch(leaks)
    others = list(root.handlers)
    for handler in others:
        handler.addFilter(watch.overhear)
    root.addHandler(watch)
    try:
        yield
    finally:
        root.removeHandler(watch)
        for handler in others:
            handler.removeFilter(watch.overhear)
