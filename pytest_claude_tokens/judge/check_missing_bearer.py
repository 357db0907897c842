"""Calls without any credential, sent while a login of the dispatcher's was live."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_claude_tokens.judge.violations import MissingBearer
from pytest_claude_tokens.judge.wording import by

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fake_server.events import Event
    from pytest_claude_tokens.judge.history import History, Operation

__all__ = ["check_missing_bearer"]


def check_missing_bearer(history: History) -> Iterator[MissingBearer]:
    """No call carries neither bearer nor API key while a login that the dispatcher uses is live.

    A dispatcher may ask first, and authenticate when it is told to: by a login of which no token is presented before
    the first such call has its answer, it is not judged. Where one is presented earlier, nobody had to be told: who
    sent none, while that call was open or before, met a login that was not there yet. There is one violation for each
    worker.
    """
    bare = {op.opened: op for op in history.operations if op.f == "call" and op.invoke.get("credentials") is False}
    if not bare or (history.header.get("service") or "claude") != "claude":
        return
    logins = _Logins(history, min((op.closed for op in bare.values() if op.closed is not None), default=math.inf))
    found: dict[str, MissingBearer] = {}
    for event in history.events:
        op = bare.get(event.seq)
        if op is None:
            logins.observe(event)
        elif (login := logins.live_for(op)) is None:
            continue
        elif op.actor in found:
            found[op.actor].more += 1
        else:
            found[op.actor] = _missing_bearer(history, op, login)
    yield from found.values()


@dataclass(slots=True)
class _Login:
    """One grant as its workers know it. ``used_by``: the first request that presents a token of it, or that logs in;
    ``known``: the tokens that have reached a worker so far.
    """

    grant: str
    account: str
    used_by: Operation | None
    known: dict[str, None] = field(default_factory=dict)
    refreshing: dict[int | None, Operation] = field(default_factory=dict)
    _accepts: list[str] = field(default_factory=list)
    _expires: dict[str, float] = field(default_factory=dict)

    def good(self, now: float) -> list[str]:
        """The tokens that have reached a worker, and with which the service would do something."""
        live = [label for label in self.known if self._expires.get(label, -math.inf) > now]
        return live + [label for label in self.known if label in self._accepts]

    def is_live(self, now: float) -> bool:
        """Whether a worker has a token that works, or will have one as soon as a refresh ends."""
        return bool(self.good(now) or (self.refreshing and self._accepts))

    def observe(self, event: Event, operation: Operation | None) -> None:
        """Take an event of this grant into account; ``operation``: the request that it belongs to, if any."""
        if event.type == "note":
            self._note(event)
        elif event.type == "invoke":
            if operation is not None and event.f == "token":
                self.refreshing[event.op] = operation
        else:
            self.refreshing.pop(event.op, None)
        if event.issued and (event.type == "ok" or (event.f == "login" and event.op is None)):
            self.known |= {label: None for label in event.issued.values() if label}

    def _note(self, event: Event) -> None:
        access = (event.issued or {}).get("access")
        if access:
            expires = event.get("expires")
            self._expires.setdefault(access, math.inf if expires is None else expires)
        for how in ("ended", "revoked", "superseded"):
            for label in event.get(how) or ():
                self._expires[label] = -math.inf
        if event.get("accepts") is not None:
            self._accepts = list(event.get("accepts"))


class _Logins:
    """All grants, event by event."""

    def __init__(self, history: History, first_told: float) -> None:
        self._operations: dict[int | None, Operation] = {op.op: op for op in history.operations}
        self._first_told = first_told
        self._logins: dict[str, _Login] = {}
        self._used_by: dict[str | None, Operation] = {}
        for op in history.operations:
            self._used_by.setdefault(op.grant, op)

    def observe(self, event: Event) -> None:
        """Take the next event into account."""
        if event.grant is not None:
            login = self._logins.get(event.grant)
            if login is None:
                used_by = self._used_by.get(event.grant)
                login = self._logins[event.grant] = _Login(event.grant, event.account or event.grant, used_by)
            login.observe(event, self._operations.get(event.op))

    def live_for(self, op: Operation) -> _Login | None:
        """A login that the dispatcher uses and that is live when ``op`` is sent; rather one of the same worker's."""
        used = [
            login
            for login in self._logins.values()
            if login.used_by is not None and login.used_by.opened < self._first_told and login.is_live(op.invoke.t)
        ]
        return min(used, key=lambda login: login.used_by is None or login.used_by.actor != op.actor, default=None)


def _missing_bearer(history: History, op: Operation, login: _Login) -> MissingBearer:
    refreshing = next(iter(login.refreshing.values()), None)
    beside = refreshing or login.used_by
    assert beside is not None
    if refreshing is not None:
        label = history.label(login.grant, refreshing.refresh)
        state = f"{refreshing.actor} was refreshing {label} (#{refreshing.opened})"
    else:
        label = history.label(login.grant, login.good(op.invoke.t)[0])
        state = f"{label} was good"
    return MissingBearer(
        by("no bearer", [(op.actor, f"#{op.opened}")]),
        seq=op.opened,
        operations=(beside, op),
        labels=(label,),
        actors=(op.actor,),
        grant=login.grant,
        cause=f"{op.actor} called (#{op.opened}) with neither bearer nor API key although the login of {login.account} "
        f"was live: {state}",
    )
