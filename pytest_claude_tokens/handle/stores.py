"""Watched credential stores: journals their refresh tokens, and whether the service would accept them.

A store is read after each reply and at the end. A refresh token or a state that differs from the last one read is
journalled as the note ``store``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fake_server.exchange import UNKNOWN
from fake_server.genuine import os, threading
from fake_server.secrecy import is_name, is_path, redact, shown
from pytest_claude_tokens.guard import audit
from pytest_claude_tokens.handle.store_reader import reader_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fake_server.core.authority import Grant, RefreshToken
    from fake_server.events import Event
    from fake_server.server import Server
    from pytest_claude_tokens.handle.store_reader import Ask, Content, Read, Source

__all__ = ["SETTLE_TIMEOUT_SECONDS", "Store", "Stores"]

SETTLE_TIMEOUT_SECONDS = 0.5
"""Real seconds that a client has at the end to store the tokens of the last reply."""

_SETTLE_POLL_INTERVAL_SECONDS = 0.01


class Store:
    """One store of an account. ``grant``: the login whose tokens belong in it."""

    def __init__(self, server: Server, name: str, account: str, read: Callable[[bool], Content]) -> None:
        self.name = name
        self.account = account
        self._server = server
        self._read = read
        self._last: Content | None = None
        self._kept: str | None = None
        """The refresh token read last. Kept when the file is briefly absent or torn, as a writer may be at work."""

    @property
    def grant(self) -> Grant:
        """The latest login of the account: a later login takes the store over."""
        return self._server.authority.grants_of(self.account)[-1]

    def sample(self, *, now: float | None = None, final: bool = False) -> None:
        """Read the store and journal its changes; at the end (``final``), its content even if unchanged."""
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
        """Whether it now holds a refresh token that the service would accept. Journals nothing."""
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
        if content.state == "token" and content.data:
            facts["alone"] = all(access.secret.encode() not in content.data for access in grant.access)
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
        """Whether the history has ended: then stores are no longer read, as no note may follow the note ``end``."""
        self._server = server
        self._ask = ask
        self._stores: list[Store] = []

    def watch(self, source: Source, account: str, name: str | None = None, read: Read | None = None) -> Store:
        """Watch another store, and read it for the first time."""
        if not (read is None or callable(read) or (isinstance(read, str) and read and is_name(read))):
            raise ValueError(
                f"watch_store(read={shown(read)}): must be a dotted path into JSON, such as tokens.refresh_token, "
                "or a callable that is given the path and returns the refresh token"
            )
        if not callable(source) and not is_path(os.fspath(source)):
            raise ValueError(f"watch_store({shown(source)}): must be a path, or a callable that returns what is stored")
        name = redact(name or _name_of(source))
        taken = {store.name for store in self._stores}
        names = (name, f"{account}/{name}", *(f"{account}/{name}-{n}" for n in range(2, len(taken) + 3)))
        store = Store(
            self._server, next(free for free in names if free not in taken), account, reader_of(source, self._ask, read)
        )
        store.sample()
        self._stores.append(store)
        return store

    def on_event(self, event: Event) -> None:
        """Read all stores after a reply. Called under the server's lock."""
        if event.type in ("ok", "fail", "info") and not self.closed:
            for store in self._stores:
                store.sample()

    def settle(self) -> None:
        """Give a client that has just received its last reply the time to store its tokens."""
        pause = threading.Event()
        for _ in range(round(SETTLE_TIMEOUT_SECONDS / _SETTLE_POLL_INTERVAL_SECONDS)):
            if all(store.keeps() for store in self._stores):
                return
            pause.wait(_SETTLE_POLL_INTERVAL_SECONDS)

    def __iter__(self) -> Iterator[Store]:
        return iter(self._stores)


def _name_of(source: Source) -> str:
    if callable(source):
        return str(getattr(source, "__name__", type(source).__name__)).strip("<>")
    return os.path.basename(os.path.abspath(source))
