"""The peers: each is installed by its name, and called; no code of theirs is here."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import random
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import httpx

from benchmarks import planted
from benchmarks.searchers import FIXED, REAL, Job, Peer, Run, Search
from fake_server.transports.inprocess import Interceptor, shared_ssl_context

__all__ = ["PEERS"]


def seeds_until(job: Job) -> Iterator[int]:
    """Distinct seeds of schedules, for a searcher that takes them one by one: until the budget is spent."""
    until = REAL() + job.seconds
    for number in range(job.schedules):
        if REAL() > until:
            return
        yield job.seed * 1_000_003 + number


class Detangle(Peer):
    name = "detangle, as it comes"
    package = "detangle"
    jitter = 0.0

    def explore(self, body: Callable[[], Any], job: Job) -> object:
        import detangle

        try:
            detangle.explore(
                body,
                runs=job.schedules,
                max_duration=job.seconds,
                seed=job.seed,
                shrink=False,
                database=False,
                timer_jitter=self.jitter,
            )
        except detangle.BugFound as error:
            return error
        return None


class DetangleJitter(Detangle):
    name = "detangle, timer jitter 20 s"
    jitter = 20.0


class Simloom(Peer):
    name = "simloom"
    package = "simloom"

    def explore(self, body: Callable[[], Any], job: Job) -> object:
        import simloom

        for seed in seeds_until(job):
            # As its decorator runs them.
            result = simloom.run(body, seed=seed, raise_on_error=False, virtual_time=True, seed_randomness=True)
            if result.error is not None:
                return result.error
        return None


class SimloomLatency(Simloom):
    name = "simloom, latency up to 1 s"

    def latency(self, seed: int) -> Callable[[], float | None]:
        return random.random  # it seeds that from its own tape


class Simloop(Peer):
    name = "simloop"
    package = "simloop"

    def explore(self, body: Callable[[], Any], job: Job) -> object:
        import simloop

        report = simloop.explore(body, seeds_until(job))
        return None if report is None else report.exception


class SimloopLatency(Simloop):
    name = "simloop, latency up to 1 s"

    def latency(self, seed: int) -> Callable[[], float | None]:
        from simloop import sim

        def draw() -> float:
            return sim.random.random()  # that of the loop which runs then

        return draw


def late_monotonic() -> float:
    """``time.monotonic`` as it is at the moment."""
    return time.monotonic()


class Frontrun(Peer):
    """Its time is that of ``time.monotonic``; the loop's it leaves real."""

    package = "frontrun"

    def search(self, job: Job) -> Search:
        search = Search()
        begun, cpu = REAL(), time.process_time()
        with shared_ssl_context(), Interceptor(lambda: Run.current), patch.object(planted, "now", late_monotonic):
            self._conduct(lambda: Run(job, search, begun, lambda: FIXED), job, search)
        search.seconds, search.cpu = REAL() - begun, time.process_time() - cpu
        return search

    def explore(self, body: Callable[[], Any], job: Job) -> object:
        import frontrun

        def worker(number: int) -> Callable[[Run], Any]:
            async def work(run: Run) -> None:
                with contextlib.suppress(httpx.HTTPStatusError):  # the loser's 400: the invariant tells why
                    await run.jobs[number]()

            return work

        def holds(run: Run) -> bool:
            run.judge()
            return True

        async def main() -> Any:
            return await frontrun.explore(
                setup=body,
                workers=[worker(number) for number in range(job.workers)],
                invariant=holds,
                total_timeout=job.seconds,
                **self.knobs(job),
            )

        result = asyncio.run(main())
        return result.explanation or "no explanation" if result.property_holds is False else None

    @abstractmethod
    def knobs(self, job: Job) -> dict[str, Any]:
        """What else :func:`frontrun.explore` takes."""


class FrontrunRandom(Frontrun):
    name = "frontrun, random"

    def knobs(self, job: Job) -> dict[str, Any]:
        # With its other clocks it finds less; with longer time-outs it spends all its time on them.
        return {
            "strategy": "random",
            "clock": "explored",
            "max_attempts": job.schedules,
            "max_ops": 400,
            "seed": job.seed,
            "timeout_per_run": 0.3,
            "deadlock_timeout": 0.1,
        }


class FrontrunDpor(Frontrun):
    """Takes no seed: all its searches are one."""

    name = "frontrun, dpor"

    def knobs(self, job: Job) -> dict[str, Any]:
        return {
            "strategy": "dpor",
            "clock": "virtual",
            "max_executions": job.schedules,
            "reproduce_on_failure": 0,
            "timeout_per_run": 1.0,
            "deadlock_timeout": 1.0,
        }


class VirtualLoop(asyncio.SelectorEventLoop):
    """Default order, and time that jumps to the next timer when nobody can run."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        base: Any = self
        while base._scheduled and base._scheduled[0]._cancelled:
            heapq.heappop(base._scheduled)._scheduled = False
        if not base._ready and base._scheduled:
            self._now = max(self._now, base._scheduled[0]._when)
        super()._run_once()  # type: ignore[misc]


class Latency(Peer):
    """What a virtual clock and random latencies alone come to."""

    name = "virtual clock, latency up to 1 s"
    longest = 1.0

    def latency(self, seed: int) -> Callable[[], float | None]:
        source = random.Random(seed)
        return lambda: source.random() * self.longest

    def loop(self) -> asyncio.AbstractEventLoop:
        return VirtualLoop()

    def explore(self, body: Callable[[], Any], job: Job) -> object:
        with asyncio.Runner(loop_factory=self.loop) as runner:
            for _ in seeds_until(job):
                try:
                    runner.run(body())
                except Exception as error:
                    return error
        return None


class LongLatency(Latency):
    name = "virtual clock, latency up to 30 s"
    longest = 30.0


class Stress(Latency):
    """Again and again on a real loop, with legs of up to a millisecond."""

    name = "plain stress, real loop"
    longest = 0.001

    def loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.new_event_loop()

    def explore(self, body: Callable[[], Any], job: Job) -> object:
        async def bounded() -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(job.seconds):
                    await body()

        return super().explore(bounded, job)


PEERS: list[Peer] = [
    Detangle(),
    DetangleJitter(),
    Simloom(),
    SimloomLatency(),
    Simloop(),
    SimloopLatency(),
    FrontrunRandom(),
    FrontrunDpor(),
    Latency(),
    LongLatency(),
    Stress(),
]
