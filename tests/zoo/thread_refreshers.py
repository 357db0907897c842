"""Refreshers and pools in threads."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import httpx
import httpx2

from pytest_claude_tokens.violations import CoSchedule, Deadlock, DoubleSpend, RefreshStorm, StoreRegression
from tests.zoo.common import (
    CALL_URL,
    HELLO_URL,
    MESSAGE,
    PROFILE_URL,
    Body,
    Login,
    LoginFile,
    Pair,
    bearer_header,
    named,
    redeem_now,
)


class Client(Protocol):
    """What every worker asks, for a bearer or for a call."""

    def ask(self) -> object: ...


# Over one file.


class NoLock:
    """Whoever finds the access token in the file expired refreshes it."""

    def __init__(self, store: LoginFile) -> None:
        self.store = store
        self.lock = threading.Lock()

    def ask(self) -> object:
        login = self.store.read()
        if login.expired:
            login = redeem_now(login.refresh)
            self.store.write(login)
        return login.access


class Locked(NoLock):
    """… under a lock."""

    def ask(self) -> object:
        with self.lock:
            return super().ask()


class ReadsBeforeLock(NoLock):
    """Reads the file, and then takes the lock only to refresh."""

    def ask(self) -> object:
        login = self.store.read()
        if login.expired:
            with self.lock:
                login = redeem_now(login.refresh)
                self.store.write(login)
        return login.access


class LeavesEarly(NoLock):
    """Gives up the lock before the new login is in the file."""

    def ask(self) -> object:
        with self.lock:
            login = self.store.read()
            if not login.expired:
                return login.access
            login = redeem_now(login.refresh)
        self.store.write(login)
        return login.access


class GivesUpWaiting(NoLock):
    """Waits for the lock for 10 s, and then goes on without it."""

    def ask(self) -> object:
        held = self.lock.acquire(timeout=10)
        try:
            return super().ask()
        finally:
            if held:
                self.lock.release()


class LoserGoesAway(NoLock):
    """Waits 10 s for the winner, and then does without. The winner fetches the profile with its new bearer."""

    def ask(self) -> object:
        if not self.lock.acquire(timeout=10):
            return self.lost()
        try:
            bearer = super().ask()
        finally:
            self.lock.release()
        get_now(PROFILE_URL, bearer)
        return bearer

    def lost(self) -> object:
        return None


class LoserLogsOut(LoserGoesAway):
    """… and if there is no new login by then, takes the old one for dead, and sees whether the service is."""

    def lost(self) -> object:
        if self.store.read().expired:
            self.store.write(Login("", "", 0))
        get_now(HELLO_URL)
        return None


class SavesNewSettings(LoserGoesAway):
    """Also keeps the account's name in the file: reads and writes all of it under the lock."""

    def save_settings(self) -> object:
        profile = get_now(PROFILE_URL, self.store.read().access)
        with self.lock:
            self.store.write_all({**self.store.read_all(), "profile": profile})
        get_now(HELLO_URL)
        return None


class SavesOldSettings(SavesNewSettings):
    """… but reads it before it has the name."""

    def save_settings(self) -> object:
        stored = self.store.read_all()
        profile = get_now(PROFILE_URL, self.store.read().access)
        with self.lock:
            self.store.write_all({**stored, "profile": profile})
        get_now(HELLO_URL)
        return None


def get_now(url: str, bearer: object = None) -> int:
    """The status of a page."""
    with httpx.Client() as client:
        return client.get(url, headers={} if bearer is None else bearer_header(str(bearer))).status_code


def over_file(make: Callable[[LoginFile], Client], *, pools: int = 1) -> Body:
    """Everybody needs a bearer, and the one in the file has expired. With two pools, every other worker uses one."""

    def over_file(claude_tokens: Any, workers: Any) -> None:
        store = LoginFile(claude_tokens.config_dir(claude_tokens.account(expired=True)))
        clients = [make(store) for _ in range(pools)]
        workers(*(clients[number % pools].ask for number in range(len(workers))))

    return named(over_file, make, pools)


def with_settings(make: Callable[[LoginFile], SavesNewSettings]) -> Body:
    """One worker refreshes, the other one writes a setting into the same file."""

    def with_settings(claude_tokens: Any, workers: Any) -> None:
        client = make(LoginFile(claude_tokens.config_dir(claude_tokens.account(expired=True))))
        workers(client.ask, client.save_settings)

    return named(with_settings, make)


# Calls.


class Checkout:
    """A queue of free bearers."""

    def __init__(self, bearers: Sequence[str]) -> None:
        self.free: queue.Queue[str] = queue.Queue()
        for bearer in bearers:
            self.free.put(bearer)

    def post(self, bearer: str) -> int:
        with httpx2.Client() as client:
            return client.post(CALL_URL, headers=bearer_header(bearer), json=MESSAGE).status_code

    def ask(self) -> object:
        bearer = self.free.get()
        try:
            return self.post(bearer)
        finally:
            self.free.put(bearer)


class LooksThenMarks(Checkout):
    """Each step is atomic: to look which bearers are busy, and to mark one. Both together aren't."""

    def __init__(self, bearers: Sequence[str]) -> None:
        super().__init__(bearers)
        self.bearers = list(bearers)
        self.lock = threading.Lock()
        self.busy: list[str] = []

    def idle(self) -> list[str]:
        with self.lock:
            return [bearer for bearer in self.bearers if bearer not in self.busy]

    def mark(self, bearer: str) -> None:
        with self.lock:
            self.busy.append(bearer)

    def ask(self) -> object:
        while not (idle := self.idle()):
            time.sleep(0.5)
        self.mark(idle[0])
        try:
            return self.post(idle[0])
        finally:
            with self.lock:
                self.busy.remove(idle[0])


class NotifiedOnce(Checkout):
    """One bearer; whoever is notified takes it without another look."""

    def __init__(self, bearers: Sequence[str]) -> None:
        super().__init__(bearers)
        self.bearer = bearers[0]
        self.busy = False
        self.changed = threading.Condition()

    def wait(self) -> None:
        if self.busy:
            self.changed.wait()

    def ask(self) -> object:
        with self.changed:
            self.wait()
            self.busy = True
        try:
            return self.post(self.bearer)
        finally:
            with self.changed:
                self.busy = False
                self.changed.notify()


class LooksAgain(NotifiedOnce):
    """… after another look."""

    def wait(self) -> None:
        self.changed.wait_for(lambda: not self.busy)


def calls(make: Callable[[Sequence[str]], Client], *, bearers: int = 2, per_worker: int = 1) -> Body:
    """Everybody has calls to make; there are so many accounts with a bearer each."""

    def calls(claude_tokens: Any, workers: Any) -> None:
        pool = make([claude_tokens.account().access_token for _ in range(bearers)])
        workers(pool.ask, per_worker=per_worker)

    return named(calls, make, bearers, per_worker)


class RefreshesOn401:
    """Whoever is refused a bearer refreshes, one after the other, if nobody has done it meanwhile."""

    def __init__(self, credentials: Any) -> None:
        self.login = Login.of(credentials)
        self.lock = threading.Lock()

    def is_news(self, bearer: str) -> bool:
        return bearer == self.login.access

    def ask(self) -> object:
        with httpx.Client() as client:
            for _ in range(2):
                bearer = self.login.access
                response = client.post(CALL_URL, headers=bearer_header(bearer), json=MESSAGE)
                if response.status_code == 401:
                    with self.lock:
                        if self.is_news(bearer):
                            self.login = redeem_now(self.login.refresh)
        return response.status_code


class AlwaysRefreshesOn401(RefreshesOn401):
    """… in any case."""

    def is_news(self, bearer: str) -> bool:
        return True


def refused(make: Callable[[Any], Client]) -> Body:
    """The service has ended the access token, and nobody knows yet."""

    def refused(claude_tokens: Any, workers: Any) -> None:
        account = claude_tokens.account()
        claude_tokens.expire(account)
        workers(make(account.credentials).ask)

    return named(refused, make)


# Two logins.


class InGivenOrder:
    """Moves a job from one account to another, and holds both meanwhile, in the order in which they were named."""

    def __init__(self, logins: Sequence[Login]) -> None:
        self.logins = logins
        self.locks = [threading.Lock() for _ in logins]

    def order(self, source: int, target: int) -> tuple[int, int]:
        return source, target

    def move(self, source: int, target: int) -> None:
        first, second = self.order(source, target)
        with self.locks[first]:
            self.fresh(first)
            with self.locks[second]:
                self.fresh(second)

    def fresh(self, number: int) -> None:
        if self.logins[number].expired:
            self.logins[number] = redeem_now(self.logins[number].refresh)  # type: ignore[index]  # a list


class InFixedOrder(InGivenOrder):
    """… in the order of their numbers."""

    def order(self, source: int, target: int) -> tuple[int, int]:
        return min(source, target), max(source, target)


def moves(make: Callable[[list[Login]], InGivenOrder]) -> Body:
    """Two workers move jobs between two accounts, one each way."""

    def moves(claude_tokens: Any, workers: Any) -> None:
        mover = make([Login.of(claude_tokens.account(expired=True).credentials) for _ in range(2)])
        workers(lambda: mover.move(0, 1), lambda: mover.move(1, 0))

    return named(moves, make)


ONLY_REGRESSION = {"allow": ["lost-rotation", "forced-login"]}
"""What a clobbered store leads to in the end is another matter."""

PAIRS = [
    Pair(name="threads: no lock", invariant=DoubleSpend, planted=over_file(NoLock), sound=over_file(Locked)),
    Pair(
        name="threads: lock without re-read",
        invariant=DoubleSpend,
        planted=over_file(ReadsBeforeLock),
        sound=over_file(Locked),
    ),
    Pair(
        name="threads: lock given up before the store is written",
        invariant=DoubleSpend,
        planted=over_file(LeavesEarly),
        sound=over_file(Locked),
    ),
    Pair(
        name="threads: two pools over one store",
        invariant=DoubleSpend,
        planted=over_file(Locked, pools=2),
        sound=over_file(Locked),
    ),
    Pair(
        name="threads: lock time-out, then proceed",
        invariant=DoubleSpend,
        planted=over_file(GivesUpWaiting),
        sound=over_file(LoserGoesAway),
    ),
    Pair(
        name="threads: losing worker blanks the store",
        invariant=StoreRegression,
        planted=over_file(LoserLogsOut),
        sound=over_file(LoserGoesAway),
        workers=2,
        handle=ONLY_REGRESSION,
    ),
    Pair(
        name="threads: stale writer clobbers the newer login",
        invariant=StoreRegression,
        planted=with_settings(SavesOldSettings),
        sound=with_settings(SavesNewSettings),
        workers=2,
        handle=ONLY_REGRESSION,
    ),
    Pair(
        name="threads: bearer looked up, then marked",
        invariant=CoSchedule,
        planted=calls(LooksThenMarks),
        sound=calls(Checkout),
        workers=3,
    ),
    Pair(
        name="threads: notified once, not looked again",
        invariant=CoSchedule,
        planted=calls(NotifiedOnce, bearers=1, per_worker=2),
        sound=calls(LooksAgain, bearers=1, per_worker=2),
        workers=3,
    ),
    Pair(
        name="threads: 401 storm",
        invariant=RefreshStorm,
        planted=refused(AlwaysRefreshesOn401),
        sound=refused(RefreshesOn401),
        workers=3,
        handle={"limit": 3},
    ),
    Pair(
        name="threads: two logins locked crosswise",
        invariant=Deadlock,
        planted=moves(InGivenOrder),
        sound=moves(InFixedOrder),
        workers=2,
    ),
]
