"""Ours and its peers behind one call, so that only the searcher differs.

All drive the dispatchers of :mod:`benchmarks.planted` against the same fake service, which is reached in process, and
read the same judge's verdict on the same journal. A peer's network has legs of ``latency`` seconds, one before and one
after each request is served, on whatever loop the peer runs: see :mod:`benchmarks.peer_searchers`.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from unittest.mock import patch

import httpx

from benchmarks import planted
from benchmarks.planted import Case, Connect, Make, shared
from fake_server.clock import Clock
from fake_server.effects import Wait
from fake_server.policy import Policy
from fake_server.server import Server
from fake_server.transports.inprocess import Destination, Interceptor, shared_ssl_context
from pytest_claude_tokens.judge.history import History
from pytest_claude_tokens.judge.judging import judge
from pytest_claude_tokens.search.fuzz import Fuzzer
from pytest_claude_tokens.search.tally import Failure
from pytest_claude_tokens.violations import BlindReplay, DoubleSpend

__all__ = ["FIXED", "REAL", "GearOne", "Job", "Missing", "Ours", "Peer", "Run", "Search", "search_with"]

EPOCH = 1_750_000_000.0
FIXED = 0.01
"""Seconds of a leg where a searcher draws no latency: a timer, so that the clock is the searcher's, too."""
REAL = time.perf_counter
SPENT_TWICE = (DoubleSpend, BlindReplay)


class Missing(Exception):
    """A peer is not installed, or can't run this code. Says why."""


@dataclass(frozen=True)
class Job:
    """One dispatcher, one seed, one budget. ``client``: ``shared`` by the workers of a schedule, or ``per-call``."""

    case: Case
    make: Make
    workers: int
    schedules: int
    seconds: float
    seed: int
    client: str = "shared"


@dataclass
class Search:
    """What one search came to. ``found`` is the number of the schedule that did it; ``blamed`` any other failure, and
    ``failed`` the number of its schedule.
    """

    schedules: int = 0
    seconds: float = 0.0
    cpu: float = 0.0
    found: int = 0
    found_seconds: float = 0.0
    blamed: list[str] = field(default_factory=list)
    failed: int = 0

    @property
    def rate(self) -> float:
        """Schedules a second."""
        return self.schedules / self.seconds

    @property
    def cpu_rate(self) -> float:
        """Schedules a second of processor time."""
        return self.schedules / self.cpu


class Waiter:
    """Waits on the running loop. A leg takes what ``latency()`` says; ``None``: one trip through the loop."""

    def __init__(self, latency: Callable[[], float | None]) -> None:
        self.latency = latency

    def suspended(self) -> float:
        return 0.0

    def wait(self, wait: Wait) -> None:
        raise AssertionError("these dispatchers are asynchronous")

    async def wait_async(self, wait: Wait) -> None:
        assert wait.signal is None, "nothing here queues for a bearer"
        if wait.why in ("request", "reply", "piece"):
            await asyncio.sleep(self.latency() or 0)
        else:
            await asyncio.sleep(wait.seconds or 0)


class Run:
    """One schedule: a fresh service and a fresh dispatcher. It counts itself, and judges itself at the end."""

    current: Destination | None = None

    def __init__(self, job: Job, search: Search, begun: float, latency: Callable[[], float | None]) -> None:
        self.search = search
        self.begun = begun
        search.schedules += 1
        self.number = search.schedules
        self.server = Server(
            Policy(),
            Clock(lambda: EPOCH + planted.now(), kind="virtual"),
            planted.now,
            namespace="peer",
            header={"limit": 1, "allow": [], "default": ["double-spend", "blind-replay"]},
        )
        Run.current = Destination(self.server, Waiter(latency))
        logins = [self.server.login(f"a{n}", expired=True) for n in range(1, job.case.accounts + 1)]
        patient = partial(httpx.AsyncClient, timeout=None)  # else a peer's latencies would outlast its clients
        self.client = patient() if job.client == "shared" else None
        connect: Connect = patient if self.client is None else shared(self.client)
        self.jobs = job.case.jobs(job.make, [login.refresh[0].secret for login in logins], connect, job.workers)

    async def all(self) -> None:
        """Run all workers at once, and raise what came of it."""
        try:
            ended = await asyncio.gather(*[job() for job in self.jobs], return_exceptions=True)
        finally:
            if self.client is not None:
                await self.client.aclose()
        self.judge()
        for error in ended:
            if isinstance(error, BaseException):
                raise error

    def judge(self) -> None:
        """Raise the violation where a refresh token was spent twice."""
        journal = self.server.journal
        for violation in judge(History(journal.header, journal.events)).violations:
            if isinstance(violation, SPENT_TWICE):
                if not self.search.found:
                    self.search.found = self.number
                    self.search.found_seconds = REAL() - self.begun
                raise violation


class Peer(ABC):
    """A searcher of other people. ``explore(body, …)`` calls ``body()``, a coroutine function, once a schedule."""

    name = ""
    package = ""

    def version(self) -> str:
        """As installed. Raises :class:`Missing` where it isn't."""
        try:
            return importlib.metadata.version(self.package) if self.package else ""
        except importlib.metadata.PackageNotFoundError:
            raise Missing(f"{self.package} is not installed") from None

    def latency(self, seed: int) -> Callable[[], float | None]:
        """What a leg takes, in seconds."""
        return lambda: FIXED

    @abstractmethod
    def explore(self, body: Callable[[], Any], job: Job) -> object:
        """Search; returns, or raises, what it blames the body for."""

    def search(self, job: Job) -> Search:
        """One search with its counts."""
        search = Search()
        latency = self.latency(job.seed)
        begun, cpu = REAL(), time.process_time()

        async def body() -> None:
            await Run(job, search, begun, latency).all()

        with shared_ssl_context(), Interceptor(lambda: Run.current):
            self._conduct(body, job, search)
        search.seconds, search.cpu = REAL() - begun, time.process_time() - cpu
        return search

    def _conduct(self, body: Callable[[], Any], job: Job, search: Search) -> None:
        try:
            blame = self.explore(body, job)
        except Missing:
            raise
        except (Exception, asyncio.CancelledError) as error:
            blame = error
        if blame is not None and not search.found:
            search.blamed.append(f"{type(blame).__name__}: {blame}".splitlines()[0][:200])


class Ours:
    """Ours, by the same measures."""

    name = "pytest-claude-tokens"
    package = "pytest-claude-tokens"

    def version(self) -> str:
        return importlib.metadata.version(self.package)

    def search(self, job: Job) -> Search:
        from benchmarks.find import search

        begun, cpu = REAL(), time.process_time()
        one = search(job.case, job.make, workers=job.workers, schedules=job.schedules, seed=job.seed, client=job.client)
        result = Search(schedules=one.schedules, seconds=REAL() - begun, cpu=time.process_time() - cpu)
        if one.found:
            result.found, result.found_seconds = one.schedules, one.seconds
        elif one.error is not None:
            result.blamed.append(f"{type(one.error).__name__}: {one.error}")
            result.failed = one.schedules
        return result


class GearOne(Ours):
    """Of a search of ours the part that finds, without the tenth that Hypothesis's engine draws. It has no finds."""

    name = "pytest-claude-tokens, gear one"

    def search(self, job: Job) -> Search:
        part = Search()
        whole = Fuzzer.search

        def timed(fuzzer: Fuzzer, *args: Any) -> Failure | None:
            begun, cpu = REAL(), time.process_time()
            before = fuzzer.tally.schedules
            try:
                return whole(fuzzer, *args)
            finally:
                part.schedules = fuzzer.tally.schedules - before
                part.seconds, part.cpu = REAL() - begun, time.process_time() - cpu

        with patch.object(Fuzzer, "search", timed):
            super().search(job)
        return part


@contextmanager
def quiet() -> Iterator[None]:
    """Without the complaints that a cancelled task or a loop of a peer's may log."""
    import logging
    import warnings

    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.disable(before)


def search_with(searcher: Peer | Ours, job: Job) -> Search:
    """One search, in silence."""
    with quiet():
        return searcher.search(job)
