"""A history as a value: the events in order, and the requests whose start and end they record.

It judges nothing itself; :func:`pytest_claude_tokens.judge.judge` does. Its order is that of ``seq``, never that of
``t``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Self

from fake_server.policy import settings_of
from pytest_claude_tokens.judge.reading import Broken, Lines, read, unreadable
from pytest_claude_tokens.judge.sieve import Quiet, QuietCalls

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from fake_server.events import Event

__all__ = ["UNREAD", "History", "Operation", "Outcome"]

UNREAD = frozenset(
    (
        "invalid_client",
        "invalid_request",
        "invalid_scope",
        "invalid_target",
        "unauthorized_client",
        "unsupported_grant_type",
    )
)
"""Errors with which a token request is refused before its refresh token is looked at (RFC 6749 section 5.2)."""

Outcome = Literal["ok", "fail", "info", "open"]


@dataclass(slots=True)
class Operation:
    """One request: its ``invoke`` and, once it has ended, its end event."""

    op: int
    invoke: Event
    end: Event | None = None

    @property
    def actor(self) -> str:
        """The worker that sent it."""
        return self.invoke.actor

    @property
    def f(self) -> str:
        """``token``, ``call`` or ``other``."""
        return self.invoke.f

    @property
    def account(self) -> str | None:
        """The account whose token was presented, or that logged in."""
        return self.invoke.account or (self.end.account if self.end else None)

    @property
    def grant(self) -> str | None:
        """The grant whose token was presented, or that the request created."""
        return self.invoke.grant or (self.end.grant if self.end else None)

    @property
    def refresh(self) -> str | None:
        """The label of the refresh token that was presented; ``"unknown"`` for one that was not minted here."""
        return self.invoke.refresh

    @property
    def bearer(self) -> str | None:
        """The label of the access token that was presented; ``"unknown"`` for one that was not minted here."""
        return self.invoke.bearer

    @property
    def opened(self) -> int:
        """The ``seq`` of its invoke: the number by which reports name it."""
        return self.invoke.seq

    @property
    def closed(self) -> int | None:
        """The ``seq`` of its end; ``None`` while it is open."""
        return self.end.seq if self.end else None

    @property
    def outcome(self) -> Outcome:
        """How it ended: ``info`` if that is unknown, ``open`` if it has not."""
        return self.end.type if self.end else "open"  # type: ignore[return-value]  # an end is one of the three

    @property
    def status(self) -> int | None:
        """The HTTP status that the client received."""
        return self.end.status if self.end else None

    @property
    def issued(self) -> dict[str, str | None]:
        """The labels of the tokens that it issued: ``access`` and ``refresh``."""
        return dict(self.end.issued or {}) if self.end else {}

    @property
    def committed(self) -> bool:
        """Whether the service is known to have committed the request."""
        return bool(self.end and self.end.get("committed"))

    @property
    def replaced(self) -> bool:
        """Whether the service had done what was asked, and an injected error took the place of its reply."""
        return bool(self.end and self.end.get("replaced"))

    @property
    def fault(self) -> str | None:
        """The injected fault, in words."""
        return self.end.get("fault") if self.end else None

    def open_at(self, seq: int) -> bool:
        """Whether it was under way at the event ``seq``, strictly between its own two events."""
        return self.invoke.seq < seq and (self.end is None or seq < self.end.seq)

    def __str__(self) -> str:
        return f"{self.invoke.actor} (#{self.invoke.seq})"


class History:
    """The events of one run, without the header. Raises ``ValueError`` if they are inconsistent."""

    def __init__(
        self, header: Event, events: Iterable[Event], *, torn: bool = False, notes: Sequence[str] = ()
    ) -> None:
        self.header = header
        self.events: tuple[Event, ...] = tuple(events)
        self.torn = torn
        self.notes: tuple[str, ...] = tuple(notes)
        self.quiet: Quiet = Quiet()
        """What :meth:`load_what_matters` left out."""
        self.operations: list[Operation] = []
        self.presentations: dict[tuple[str | None, str], list[Operation]] = {}
        """For each refresh token (by grant and label), the token requests that presented it, in order.

        One that was refused before its token was looked at is none of them.
        """
        self._noted: dict[str, list[Event]] = {}
        self._index()

    def _index(self) -> None:
        operations: dict[int | None, Operation] = {}
        noted = self._noted
        last = 0
        for event in self.events:
            if event.seq <= last:
                raise Broken(event.seq, f"comes after #{last}: events are numbered upwards")
            last = event.seq
            if event.type == "note":
                if event.f in noted:
                    noted[event.f].append(event)
                else:
                    noted[event.f] = [event]
            elif event.type == "invoke":
                if event.op is None or event.op in operations:
                    raise Broken(event.seq, f"begins operation {event.op}: each has a number of its own")
                operations[event.op] = begun = Operation(event.op, event)
                if event.refresh is not None and event.f == "token" and event.refresh != "unknown":
                    self._presented(begun, event.refresh)
            elif event.type == "header":
                raise Broken(event.seq, "is a header: a history has one, its first line")
            else:
                operation = operations.get(event.op)
                if operation is None or operation.end is not None:
                    raise Broken(event.seq, f"ends operation {event.op}, which is not under way")
                operation.end = event
                if event.error in UNREAD and event.f == "token" and event.type == "fail":
                    self._withdraw(operation)
        self.operations.extend(operations.values())

    def _presented(self, operation: Operation, refresh: str) -> None:
        if operation.invoke.get("grant_type") != "authorization_code":
            self.presentations.setdefault((operation.invoke.grant, refresh), []).append(operation)

    def _withdraw(self, operation: Operation) -> None:
        if any(note.op == operation.op for note in self.noted("commit")):
            return  # it was looked at all the same: one of two at once is told to try again
        key = operation.invoke.grant, operation.invoke.refresh or ""
        sent = self.presentations.get(key, [])
        if operation in sent:
            sent.remove(operation)
            if not sent:
                del self.presentations[key]

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)

    def __len__(self) -> int:
        return len(self.events)

    def __repr__(self) -> str:
        return f"<History {len(self.events)} events, {len(self.operations)} operations{', torn' * self.torn}>"

    def with_facts(
        self, facts: Mapping[int, Mapping[str, Any]], further: Mapping[int, Mapping[str, Any]] | None = None
    ) -> History:
        """The same history, with these further fields in the first event of each request, by its number.

        ``further``: the same for any event, by its ``seq``.
        """
        events = []
        for event in self.events:
            more = dict(facts.get(event.op or 0, {})) if event.type == "invoke" else {}
            more |= (further or {}).get(event.seq, {})
            events.append(replace(event, data={**event.data, **more}) if more else event)
        again = History(self.header, events, torn=self.torn, notes=self.notes)
        again.quiet = self.quiet
        return again

    def noted(self, f: str) -> Sequence[Event]:
        """The notes of that kind, in order."""
        return self._noted.get(f, ())

    @cached_property
    def policy(self) -> dict[str, Any]:
        """The policy's settings that differ from the defaults; if the header has only a name, those of that preset."""
        return settings_of(self.header.get("policy") or {})

    @cached_property
    def accounts(self) -> dict[str, str]:
        """The account of each grant, in order of the grants' first events."""
        found: dict[str, str] = {}
        for event in self.events:
            if event.grant is not None and event.grant not in found:
                found[event.grant] = event.account or event.grant
        return found

    def label(self, grant: str | None, label: str | None) -> str:
        """The display name of the token ``label`` of ``grant``: ``rt#1``, with several grants ``work:rt#1``."""
        label = label or "no token"
        accounts = self.accounts
        return f"{accounts[grant]}:{label}" if grant in accounts and len(accounts) > 1 else label

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a history file.

        An incomplete last line (or header, if it is the only line) is skipped; :attr:`torn` and :attr:`notes` record
        that. They also record that the end is missing which the header promises.
        Raises ``ValueError`` for any other unreadable line, and ``OSError`` for an unreadable file.
        """
        found = read(path)
        try:
            return cls._of(found)
        except Broken as broken:
            line = found.numbers[broken.seq]
            raise ValueError(unreadable(path, line, f"(#{broken.seq}) {broken.why}", begun=True)) from None

    @classmethod
    def load_what_matters(cls, path: str | os.PathLike[str]) -> Self:
        """Read a history file, without the calls that no checker looks at: :attr:`quiet` has their number.

        The verdict on it is the one on the whole. Raises what :meth:`load` does.
        """
        sieve = QuietCalls()
        try:
            found = read(path, sieve)
            quiet = sieve.finish()
            found.events += sieve.kept
            found.events.sort(key=lambda event: event.seq)
            history = cls._of(found)
        except Exception:  # noqa: BLE001 - whatever is wrong with it, reading the whole tells
            return cls.load(path)
        history.quiet = quiet
        return history

    @classmethod
    def _of(cls, found: Lines) -> Self:
        return cls(found.header, found.events, torn=bool(found.notes), notes=found.notes)
