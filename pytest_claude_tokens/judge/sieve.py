"""Leaves out of a long history what can't matter: most of a million requests are calls of which nothing can be said.

A *quiet* call was answered with success, and on its way no queue of calls had more workers than the limit allows, its
worker had not been refused with its bearer, and nobody had just been killed. No checker finds anything else without it,
which a differential test holds (``tests/unit/judge/test_sieve.py``). So memory grows with what happened, not with how
often nothing did.

Where the lines are in no order in which a journal writes them, or the clock was put back, :class:`Unusual` is raised:
the file must be read as a whole.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from fake_server.events import FORMAT, Event, worker_of
from fake_server.genuine import json
from fake_server.policy import settings_of
from fake_server.secrecy import is_name

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["Quiet", "QuietCalls", "Unusual"]

_TEXT = rb'"([^"\\]*)"'
_LINE = re.compile(
    rb'\{"v":1,"seq":(\d+),"t":(\d+\.\d+),"actor":' + _TEXT + rb',"type":"(?:invoke|(ok))","f":"call","op":(\d+),'
    rb'"account":' + _TEXT + rb',"grant":"(g#\d+)","refresh":null,"bearer":"(at#\d+)","issued":null,'
    rb'"status":(?:null|2\d\d),"error":null'
    rb'(?:,"method":"POST","path":"[^"\\]*")?(?:,"host":"[^"\\]*")?(?:,"stream":(?:true|false))?(?:,"committed":true)?\}\n'
)
"""The beginning or the success of a call, as the journal writes it, of which nothing more is said: no fault, no reason
why it is not judged.
"""
_SAID = frozenset(("v", "seq", "t", "actor", "type", "f", "op", "account", "grant", "bearer", "status"))
_NOT_SAID = frozenset(("refresh", "issued", "error"))
_OF_NO_MATTER = frozenset(("method", "path", "host", "stream", "committed"))
"""The members of such a line, however it is written. Those that are not said are missing or null."""

_LOOKED_AT = 2
"""Requests of others that end after an intervention, and by which a checker tells what followed from it."""


class Unusual(Exception):
    """The lines are in no order that a journal writes while its clock runs on."""


@dataclass(frozen=True, slots=True)
class Quiet:
    """What was left out of a history: how many requests, and by whom."""

    requests: int = 0
    actors: frozenset[str] = frozenset()


class _Call(NamedTuple):
    """What is read from such a line."""

    seq: int
    t: float
    actor: str | None
    ok: bool
    op: int
    account: str | None
    grant: str | None
    bearer: str | None


@dataclass(slots=True)
class _Request:
    """A request that is open. ``line``: of its ``invoke``, if that was not kept; ``queue``: in which it is, if any."""

    actor: str
    bearer: str | None
    line: bytes | None = None
    queue: Hashable = None
    keep: bool = False


@dataclass(slots=True)
class _Queue:
    """The calls that are open on one bearer, or one account: their number for each worker.

    ``over``: more workers than allowed had one, since it was last empty.
    """

    open: dict[str, int] = field(default_factory=dict)
    over: bool = False


class QuietCalls:
    """Drops the quiet calls of a history; ``kept`` are those that turned out not to be quiet."""

    def __init__(self) -> None:
        self.kept: list[Event] = []
        self._requests = 0
        self._actors: set[str] = set()
        self._by_account = False
        self._limit: int | None = 1
        self._seq = self._op = 0
        self._t = 0.0
        self._open: dict[int, _Request] = {}
        self._queues: dict[Hashable, _Queue] = {}
        self._refused: set[tuple[str, str | None]] = set()
        self._met: set[tuple[str | None, str | None]] = set()
        self._awaited: list[tuple[str, int]] = []
        """Who was killed or cancelled, and how many requests of others are to be kept."""

    # What the reader asks.

    def begin(self, header: Event) -> None:
        """Take the header into account, before any other line."""
        self._by_account = settings_of(header.get("policy") or {}).get("key") == "account"
        self._limit = header.get("limit", 1)

    def drops(self, line: bytes) -> bool:
        """Whether ``line`` is of a call that is quiet so far; if that changes, its events will be among ``kept``."""
        call = _read(line)
        if call is None:
            return False
        if call.ok:
            request = self._open.get(call.op)
            if request is None or request.line is None:
                return False
            self._next(call.seq, call.t)
            self._ends_well(call.op, line)
            return True
        if call.actor is None or call.bearer is None:
            return False
        if self._by_account and call.account is None:
            raise Unusual  # which account it is may become known later
        self._next(call.seq, call.t)
        queue = call.account if self._by_account else (call.grant, call.bearer)
        is_new = self._is_new(call.grant, call.account)
        self._begins(call.op, _Request(call.actor, call.bearer, line, queue, keep=is_new))
        return True

    def sees(self, event: Event) -> None:
        """Take an event into account that is kept."""
        self._next(event.seq, event.t)
        if event.type == "invoke" and event.op is not None:
            self._is_new(event.grant, event.account)
            self._begins(event.op, _Request(event.actor, event.bearer, queue=self._queue_of(event)))
        elif event.type in ("ok", "fail", "info") and event.op in self._open:
            request = self._ends(event.op)
            self._counts_down(request.actor)
            if request.line is not None:
                self.kept.append(_event(request.line))
            if event.status in (401, 403):
                self._refused.add((request.actor, request.bearer))
        elif event.type == "note" and event.f in ("kill", "cancel"):
            self._awaited.append((event.actor, _LOOKED_AT))

    def finish(self) -> Quiet:
        """What was left out, now that all lines were read: calls that did not end were not."""
        self.kept += [_event(request.line) for request in self._open.values() if request.line is not None]
        return Quiet(self._requests, frozenset(self._actors))

    # How a request goes.

    def _next(self, seq: int, t: float) -> None:
        if seq <= self._seq or t < self._t:
            raise Unusual  # of a clock that was put back, each event counts
        self._seq, self._t = seq, t

    def _is_new(self, grant: str | None, account: str | None) -> bool:
        """Whether this is the first request with a grant, which says who used it first, and whose it is."""
        if (grant, account) in self._met:
            return False
        self._met.add((grant, account))
        return True

    def _queue_of(self, event: Event) -> Hashable:
        """The queue that a call joins; ``None`` for none (:func:`~pytest_claude_tokens.judge.overlaps.overlaps`)."""
        if event.f != "call" or event.bearer in (None, "unknown") or "dead" in event.data:
            return None
        if not self._by_account:
            return event.grant, event.bearer
        if event.account is None:
            raise Unusual  # which account it is may become known later
        return event.account

    def _begins(self, op: int, request: _Request) -> None:
        if op <= self._op:
            raise Unusual
        self._op = op
        self._open[op] = request
        request.keep = request.keep or (request.actor, request.bearer) in self._refused
        if request.queue is not None:
            queue = self._queues.setdefault(request.queue, _Queue())
            queue.open[request.actor] = queue.open.get(request.actor, 0) + 1
            if self._limit is not None and len(queue.open) > self._limit:
                queue.over = True
                for one in self._open.values():  # the story tells which bearers were free then
                    one.keep = True

    def _ends(self, op: int) -> _Request:
        """Take a request out of its queue. One whose queue is over the limit is kept."""
        request = self._open.pop(op)
        if request.queue is not None:
            queue = self._queues[request.queue]
            request.keep = request.keep or queue.over
            left = queue.open[request.actor] - 1
            if left:
                queue.open[request.actor] = left
            else:
                del queue.open[request.actor]
            if not queue.open:
                del self._queues[request.queue]
        return request

    def _ends_well(self, op: int, line: bytes) -> None:
        request = self._ends(op)
        assert request.line is not None
        if self._counts_down(request.actor) or request.keep:
            self.kept += _event(request.line), _event(line)
        else:
            self._requests += 1
            self._actors.add(request.actor)

    def _counts_down(self, actor: str) -> bool:
        """Whether a request of ``actor`` is one of the first to end after somebody was killed or cancelled."""
        if not self._awaited:
            return False
        self._awaited = [(ended, left - (ended not in (actor, worker_of(actor)))) for ended, left in self._awaited]
        awaited, self._awaited = self._awaited, [one for one in self._awaited if one[1]]
        return bool(awaited)


def _read(line: bytes) -> _Call | None:
    """The beginning or the success of a call that nothing unusual is said of; ``None`` for any other line."""
    found = _LINE.fullmatch(line)
    if found is None:
        return _read_of_another_hand(line)
    seq, t, actor, ok, op, account, grant, bearer = found.groups()
    whose = _name(account)
    if whose is None:
        return None
    return _Call(int(seq), float(t), _name(actor), ok is not None, int(op), whose, _name(grant), _name(bearer))


def _read_of_another_hand(line: bytes) -> _Call | None:
    """The same, with members in another order, or without those that are null."""
    if b'"call"' not in line:
        return None
    try:
        it = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(it, dict) or not it.keys() <= _SAID | _NOT_SAID | _OF_NO_MATTER:
        return None
    names = [it.get(name) for name in ("actor", "account", "grant", "bearer")]
    if not (_says_nothing_more(it) and all(name is None or _is_plain(name) for name in names)):
        return None
    actor, account, grant, bearer = names
    ok = it["type"] == "ok"
    return _Call(it["seq"], it["t"], actor, ok, it["op"], account, grant, None if bearer == "unknown" else bearer)


def _says_nothing_more(it: dict[str, Any]) -> bool:
    """Whether these are the members of the beginning or the success of a call, each of its type."""
    status = it.get("status")
    return (
        (it.get("v"), it.get("f")) == (FORMAT, "call")
        and it.get("type") in ("invoke", "ok")
        and all(it.get(name) is None for name in _NOT_SAID)
        and all(type(it.get(name)) is int for name in ("seq", "op"))
        and type(it.get("t")) in (int, float)
        and math.isfinite(it["t"])
        and (status is None or (type(status) is int and 200 <= status < 300))
    )


@lru_cache(maxsize=4096)
def _name(raw: bytes) -> str | None:
    """The name in a line; ``None`` if it is not to be printed as it is."""
    name = raw.decode("ascii", "replace")
    return name if _is_plain(name) else None


def _is_plain(name: object) -> bool:
    return isinstance(name, str) and name.isascii() and name.isprintable() and is_name(name)


def _event(line: bytes) -> Event:
    return Event.from_json(line.decode())
