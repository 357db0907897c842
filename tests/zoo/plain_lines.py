"""Thirteen races between two lines of plain Python, each with a sound twin; nothing else is between them.

Most hand out accounts, and end in two calls on one bearer; some raise, as Python does where a container or a generator
is used by two threads at once.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.zoo.common import CALL_URL, MESSAGE, Body, bearer_header, named


@dataclass(frozen=True, kw_only=True)
class Race:
    """A planted race and its sound twin. ``why``: one of the words with which its cause may begin."""

    name: str
    planted: Body
    sound: Body
    why: tuple[str, ...]


class Client:
    """Hands out accounts; whoever has one makes a call on it."""

    def __init__(self, accounts: Sequence[Any], http: httpx.Client) -> None:
        self.accounts, self.http = list(accounts), http
        self.lock = threading.Lock()
        self.prepare()

    def prepare(self) -> None:
        """Fields of its own."""

    def choose(self) -> Any:
        """The account for the next call."""
        raise NotImplementedError

    def call(self) -> None:
        account = self.choose()
        try:
            self.send(account)
        finally:
            self.done(account)

    def send(self, account: Any) -> None:
        self.http.post(CALL_URL, headers=bearer_header(account.access_token), json=MESSAGE)

    def done(self, account: Any) -> None:
        """The call has ended."""


class CheckThenAct(Client):
    def prepare(self) -> None:
        self.busy: set[str] = set()

    def choose(self) -> Any:
        for account in self.accounts:
            if account.name not in self.busy:
                self.busy.add(account.name)
                return account
        raise LookupError

    def done(self, account: Any) -> None:
        self.busy.discard(account.name)


class LostUpdate(Client):
    def prepare(self) -> None:
        self.i = 0

    def choose(self) -> Any:
        i = self.i
        account = self.accounts[i % len(self.accounts)]
        self.i = i + 1
        return account


class Queue:
    """Gives each account away once."""

    def __init__(self, accounts: Sequence[Any]) -> None:
        self.left = list(accounts)


class LazySingleton(Client):
    def prepare(self) -> None:
        self.queue: Queue | None = None

    def made(self) -> Queue:
        if self.queue is None:
            self.queue = Queue(self.accounts)
        return self.queue

    def choose(self) -> Any:
        return self.made().left.pop()


class DoubleChecked(LazySingleton):
    """The flag that says that it is there is set before it is."""

    def prepare(self) -> None:
        super().prepare()
        self.ready = False

    def made(self) -> Queue:
        if not self.ready:
            with self.lock:
                if not self.ready:
                    self.ready = True
                    self.queue = Queue(self.accounts)
        assert self.queue is not None
        return self.queue


class DoubleCheckedInOrder(DoubleChecked):
    def made(self) -> Queue:
        if not self.ready:
            with self.lock:
                if not self.ready:
                    self.queue = Queue(self.accounts)
                    self.ready = True
        assert self.queue is not None
        return self.queue


class TornPair(Client):
    """Name and account of the latest: who finds them apart has read half of a change."""

    def prepare(self) -> None:
        self.current = self.accounts[0]
        self.name = self.current.name
        self.turn = itertools.count(1)

    def choose(self) -> Any:
        account = self.accounts[next(self.turn) % len(self.accounts)]
        self.current = account
        self.name = account.name
        return account

    def done(self, account: Any) -> None:
        current = self.current
        name = self.name
        assert name == current.name


class WholePair(TornPair):
    def choose(self) -> Any:
        with self.lock:
            return super().choose()

    def done(self, account: Any) -> None:
        with self.lock:
            super().done(account)


class ChangedWhileRead(Client):
    def prepare(self) -> None:
        self.open: dict[int, str] = {}
        self.turn = itertools.count()

    def names(self) -> list[str]:
        return [name for name in self.open.values() if name]

    def choose(self) -> Any:
        turn = next(self.turn)
        account = self.accounts[turn % len(self.accounts)]
        self.open[turn] = account.name
        self.names()
        return account


class CopiedBeforeRead(ChangedWhileRead):
    def names(self) -> list[str]:
        return [name for name in list(self.open.values()) if name]


class PropertyThatMoves(Client):
    def prepare(self) -> None:
        self.i = 0

    @property
    def following(self) -> Any:
        self.i += 1
        return self.accounts[self.i % len(self.accounts)]

    def choose(self) -> Any:
        return self.following


class SharedGenerator(Client):
    def prepare(self) -> None:
        self.turns = self.cycle()

    def cycle(self) -> Iterator[Any]:
        while True:
            yield from self.accounts

    def choose(self) -> Any:
        return next(self.turns)


class SharedIterator(SharedGenerator):
    """One of C, whose step is a single one."""

    def cycle(self) -> Iterator[Any]:
        return itertools.cycle(self.accounts)


@dataclass
class Node:
    account: Any
    below: Node | None = None


class Aba(Client):
    """A stack of free accounts; an account on top that is the same as before need not lie on the same ones."""

    def prepare(self) -> None:
        self.top: Node | None = None
        for account in self.accounts:
            self.top = Node(account, self.top)

    def take(self) -> Node:
        while True:
            top = self.top
            assert top is not None
            below = top.below
            with self.lock:
                if self.top is top:
                    self.top = below
                    return top

    def give(self, node: Node) -> None:
        with self.lock:
            node.below = self.top
            self.top = node

    def call(self) -> None:
        first, second = self.take(), self.take()
        self.give(first)
        self.send(second.account)
        self.give(second)


class StackUnderLock(Aba):
    def take(self) -> Node:
        with self.lock:
            top = self.top
            assert top is not None
            self.top = top.below
            return top


class Session:
    """Is in the list of all sessions before it has its account."""

    def __init__(self, sessions: list[Session], account: Any) -> None:
        sessions.append(self)
        self.account = account


class FinishedSession(Session):
    def __init__(self, sessions: list[Session], account: Any) -> None:
        self.account = account
        sessions.append(self)


class PublishedEarly(Client):
    kind = Session

    def prepare(self) -> None:
        self.sessions: list[Session] = []
        self.turn = itertools.count()

    def choose(self) -> Any:
        self.kind(self.sessions, self.accounts[next(self.turn) % len(self.accounts)])
        return self.sessions[0].account

    def send(self, account: Any) -> None:
        self.http.get(CALL_URL.replace("/v1/messages", "/api/hello"), headers=bearer_header(account.access_token))


class PublishedLate(PublishedEarly):
    kind = FinishedSession


class HeadersLate(Client):
    """Shows its headers before they are complete; what reads them is the HTTP client, where nobody watches."""

    def prepare(self) -> None:
        self.headers: dict[str, str] | None = None

    def choose(self) -> Any:
        if self.headers is None:
            self.headers = made = {"accept": "*/*"}
            made.update(bearer_header(self.accounts[0].access_token))
        return self.headers

    def send(self, account: Any) -> None:
        reply = self.http.get(CALL_URL.replace("/v1/messages", "/api/oauth/profile"), headers=account)
        if reply.status_code == 401:
            raise PermissionError


class HeadersComplete(HeadersLate):
    def choose(self) -> Any:
        if self.headers is None:
            made = {"accept": "*/*"}
            made.update(bearer_header(self.accounts[0].access_token))
            self.headers = made
        return self.headers


TURN = 0


class ModuleGlobal(Client):
    def prepare(self) -> None:
        global TURN
        TURN = 0

    def choose(self) -> Any:
        global TURN
        TURN += 1
        return self.accounts[TURN % len(self.accounts)]


@dataclass
class State:
    turn: int = 0
    given: list[str] = field(default_factory=list)


class DataclassField(Client):
    def prepare(self) -> None:
        self.state = State()

    def choose(self) -> Any:
        self.state.turn += 1
        return self.accounts[self.state.turn % len(self.accounts)]


def locked(make: type[Client]) -> type[Client]:
    """The same, that chooses and gives back under its lock."""

    class Locked(make):  # type: ignore[valid-type, misc]
        def choose(self) -> Any:
            with self.lock:
                return super().choose()

        def done(self, account: Any) -> None:
            with self.lock:
                super().done(account)

    Locked.__name__ = f"Locked{make.__name__}"
    return Locked


def calling(make: Callable[[Sequence[Any], httpx.Client], Client], *, accounts: int = 4) -> Body:
    """Two workers with a call or two each, on so many accounts."""

    def calling(claude_tokens: Any, workers: Any) -> None:
        with httpx.Client() as http:
            client = make([claude_tokens.account(f"a{n}", setup_token=True) for n in range(accounts)], http)
            workers(client.call, per_worker=2)

    named(calling, make)
    vars(calling)["maker"] = make
    return calling


_ACT, _LOST, _TORN, _EARLY = "check, then act", "lost update", "torn read", "published too early"

RACES = [
    Race(name=name, planted=calling(planted), sound=calling(sound), why=why)
    for name, planted, sound, why in (
        ("check, then act on a set", CheckThenAct, locked(CheckThenAct), (_ACT,)),
        ("lost update of a counter", LostUpdate, locked(LostUpdate), (_LOST,)),
        ("lazy singleton", LazySingleton, locked(LazySingleton), (_ACT,)),
        ("double-checked locking", DoubleChecked, DoubleCheckedInOrder, (_TORN, _EARLY)),
        ("torn pair of fields", TornPair, WholePair, (_TORN,)),
        ("iteration while changing", ChangedWhileRead, CopiedBeforeRead, (_ACT, _TORN)),
        ("property with a side effect", PropertyThatMoves, locked(PropertyThatMoves), (_LOST, _ACT, _TORN)),
        ("generator shared by threads", SharedGenerator, SharedIterator, ()),
        ("ABA", Aba, StackUnderLock, (_ACT, _TORN)),
        ("published half-built object", PublishedEarly, PublishedLate, (_EARLY, _ACT)),
        ("headers published half-made", HeadersLate, HeadersComplete, (_EARLY,)),
        ("module global", ModuleGlobal, locked(ModuleGlobal), (_LOST, _ACT, _TORN)),
        ("dataclass field", DataclassField, locked(DataclassField), (_LOST, _ACT, _TORN)),
    )
]
