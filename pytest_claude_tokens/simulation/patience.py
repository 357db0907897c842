"""Until when the clients of a world wait for what they have asked for.

A search holds up requests and workers, but by default no time-out of a client's fires, in whichever way the client
waits. So whoever is about to let time pass asks for the :meth:`Patience.limit` first. There are three kinds of
time-outs:

* A client's own that its transport knows (httpx).
* Timers of a client in its event loop (aiohttp), which always are about a request.
* *Scopes*, that is, timers that end a task: ``asyncio.timeout``, ``asyncio.wait_for``, the scopes of anyio. (The one of
  ``asyncio.wait`` ends nothing.) They count
  from the first request inside of them, and as long as their worker can go on: it may be about to send one. Around
  anything else they fire as in reality: the wait for a lock, or for a request that goes on when nobody waits any more
  (it is shielded, or of a task that the scope does not end).

A worker that is suspended does not look at its clock: what it waits for is postponed by as much (:meth:`suspend`). So
it is where a whole event loop stands (:meth:`stand`). What the test asks for itself is not held back: a latency above
the time-out, a fault, a hold.
"""

from __future__ import annotations

import itertools
import sys
from collections import defaultdict
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any

from fake_server.genuine import asyncio
from fake_server.protocol.actors import WORKER
from pytest_claude_tokens.simulation.internals import context_of, done_callbacks_of, postpone, push_timer
from pytest_claude_tokens.simulation.thread_record import worker_number

if TYPE_CHECKING:
    from asyncio import Task, TimerHandle
    from collections.abc import Callable, Collection

    from fake_server.effects import Wait

__all__ = ["ON_ITS_WAY", "Patience"]

_SCOPES = {
    ("asyncio.timeouts", "_on_timeout"),
    ("asyncio.tasks", "_release_waiter"),  # wait_for before Python 3.12
    ("anyio._backends._asyncio", "_timeout"),
    ("async_timeout", "_on_timeout"),
}
"""Module and name of what a timer calls to end a task that has waited for too long."""
_WAIT_FOR = asyncio.wait_for.__code__
"""``asyncio.wait_for``. Before Python 3.12 its timer calls what that of ``asyncio.wait`` calls."""
_SHIELD = ("asyncio.tasks", "_inner_done_callback")
"""Module and name of what a shielded task calls when it is done."""
_BOOKKEEPING = ("asyncio.tasks", "_clear_awaited_by_callback")
"""The same, of what ends no wait: since Python 3.14, the call graph forgets who has waited."""
_CLIENTS = {("aiohttp.helpers", "__call__"), ("aiohttp.client_proto", "_on_read_timeout")}
"""The same, for a request."""
_A_MOMENT = 0.001
"""Seconds after a reply has come."""
_MOST_BARRED_LOOKS = 1_000
"""Looks without progress that may take no time for the sake of a client: enough for a reply to be read."""
ON_ITS_WAY = ("request", "reply", "piece", "gate")
"""Why a client waits whose reply comes by itself."""


@dataclass(slots=True)
class _TimeOut:
    """A timer of an event loop. ``task``: whom it ends; ``strict``: it is about a request.

    ``number``: more than that of any task that was there before it.
    """

    number: int
    handle: TimerHandle
    worker: int
    task: Task[Any] | None
    strict: bool


@dataclass(slots=True)
class _Asking:
    """A request under way: until when its client waits, and how many seconds the service needs for it.

    ``due``: when the leg ends on which it is.
    """

    until: float
    needs: float
    worker: int
    task: Task[Any] | None
    over: Callable[[], bool] | None
    due: float = -inf


class Patience:
    """Keeps account of the requests under way, and of the time-outs around them."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._asking: dict[int, _Asking] = {}
        self._timers: list[_TimeOut] = []
        self._parents: dict[Task[Any], tuple[Task[Any], int]] = {}
        self.suspended: dict[int, float] = defaultdict(float)
        """For how many seconds each worker was suspended so far."""
        self.barred: int = 0
        """How many looks took no time, as a client would have given up by it, since there was progress."""
        self.stood: float = 0.0
        """For how many seconds somebody was."""

    def forget(self) -> None:
        """Let go of all tasks and timers."""
        self._asking.clear()
        self._timers.clear()
        self._parents.clear()

    # What time-outs there are.

    def note_task(self, task: Task[Any], parent: Task[Any] | None) -> None:
        """Take note of who has made a task: its time-outs are about the new one, too."""
        if parent is not None:
            self._parents[task] = parent, next(self._numbers)

    def note_timer(self, handle: TimerHandle, callback: Any, task: Task[Any] | None) -> None:
        """Take note of a timer that ``task`` has set, if it is a time-out."""
        what = _name_of(callback)
        owner = getattr(callback, "__self__", None)
        if what[1] == "cancel" and isinstance(owner, asyncio.Task):
            task = owner
        elif what not in _CLIENTS and (task is None or not _ends_a_task(what)):
            return
        name: Any = context_of(handle).get(WORKER)
        worker = worker_number(name)
        self._timers.append(_TimeOut(next(self._numbers), handle, worker, task, strict=what in _CLIENTS))

    # Who asks.

    def note_request(self, task: Task[Any] | None) -> None:
        """Take note that a task is about to ask for something."""
        for timer in self._around(task):
            timer.strict = True

    def begin(self, wait: Wait, worker: int, task: Task[Any] | None, over: Callable[[], bool] | None = None) -> int:
        """A client waits for a reply, in ``task``; returns the number for :meth:`end`. ``over`` tells it, too."""
        self.note_request(task)
        number = next(self._numbers)
        until = inf if wait.until is None else wait.until
        self._asking[number] = _Asking(until, wait.needs, worker, task, over)
        return number

    def expect(self, number: int, due: float) -> None:
        """It is on a leg that the search has made so long."""
        if number in self._asking:
            self._asking[number].due = due

    def puts_off(self, handle: TimerHandle, timers: list[TimerHandle]) -> bool:
        """Whether a timer that is due goes back to the others, as it would end a request that is late by the search's
        doing alone: it is a time-out that was set when the request was on its way already.
        """
        for timer in self._timers:
            if timer.handle is handle and timer.task is not None:
                legs = [one.due for one in self._asking.values() if self._ends(timer, one.task)]
                late = max(legs, default=-inf) - handle.when()
                if late >= 0:
                    postpone(handle, late + _A_MOMENT)
                    push_timer(timers, handle)
                    return True
        return False

    def end(self, number: int) -> None:
        """It goes on."""
        self._asking.pop(number, None)

    def drop(self, worker: int) -> None:
        """A worker was killed: what it waits for concerns nobody any more."""
        self._asking = {number: one for number, one in self._asking.items() if one.worker != worker}
        self._timers = [timer for timer in self._timers if timer.worker != worker]

    def suspend(self, workers: Collection[int], seconds: float) -> None:
        """The workers do nothing for so long: their clients do not notice the time that passes."""
        self.stood += seconds if workers else 0.0
        for worker in workers:
            self.suspended[worker] += seconds
        for one in self._asking.values():
            if one.worker in workers:
                one.until += seconds
        for timer in self._timers:
            if timer.worker in workers and not timer.handle.cancelled():
                postpone(timer.handle, seconds)

    def bars(self, now: float, seconds: float, suspended: Collection[int]) -> bool:
        """Whether somebody's look must take no time: by so many ``seconds`` a client would give up whose reply may be
        there, or on its way. Not for ever, as it may be neither.
        """
        if self.barred >= _MOST_BARRED_LOOKS or self.limit(now, lambda worker: False, suspended) > now + seconds:
            return False
        self.barred += 1
        return True

    def capped(self, now: float, seconds: float) -> float:
        """Up to so many ``seconds``, less than any client still waits: its reply may be what takes so long. As
        :meth:`bars`, not for ever.
        """
        left = (self.limit(now, lambda worker: False) - now) / 2
        if left >= seconds or self.barred >= _MOST_BARRED_LOOKS:
            return seconds
        self.barred += 1
        return left

    def stand(self, seconds: float) -> bool:
        """Time passes in which no task can go on, as the loop's thread is busy; returns whether somebody asks then."""
        waiting = {one.worker for one in self._asking.values()}
        waiting |= {timer.worker for timer in self._timers if timer.strict and not timer.handle.cancelled()}
        self.suspend(waiting, seconds)
        return bool(waiting)

    def limit(self, now: float, can_run: Callable[[int], bool], suspended: Collection[int] = ()) -> float:
        """The time at which the first of the clients would give up, but for those of workers that are suspended.

        ``can_run``: whether a worker can go on.
        """
        limit = inf
        if self._timers:
            self._timers = [
                timer for timer in self._timers if not timer.handle.cancelled() and timer.handle.when() > now
            ]
        for number, one in [*self._asking.items()]:
            if one.over is not None and one.over():
                del self._asking[number]
            elif one.worker not in suspended:
                ends = [one.until, *(timer.handle.when() for timer in self._around(one.task))]
                limit = min([limit, *(max(now, end - one.needs) for end in ends if end > now)])
        for timer in self._timers:
            when = timer.handle.when()
            if when < limit and timer.worker not in suspended and (timer.strict or can_run(timer.worker)):
                limit = when
        return limit

    def _around(self, task: Task[Any] | None) -> list[_TimeOut]:
        """The scopes around a task."""
        return [
            timer
            for timer in self._timers
            if timer.task is not None and not timer.handle.cancelled() and self._ends(timer, task)
        ]

    def _ends(self, timer: _TimeOut, task: Task[Any] | None) -> bool:
        """Whether a time-out ends a task: the one that has set it, or one that this has made, or …"""
        while task is not None and task is not timer.task:
            parent, number = self._parents.get(task, (None, 0))
            if parent is not None and _goes_on(task, number, parent, timer):
                return False
            task = parent
        return task is not None


def _name_of(callback: Any) -> tuple[str | None, str | None]:
    """The module and the name of a callback."""
    callback = getattr(callback, "func", callback)  # of a partial
    return getattr(callback, "__module__", None), getattr(callback, "__name__", None)


def _ends_a_task(what: tuple[str | None, str | None]) -> bool:
    """Whether a timer that calls this, and is being set, is a scope's: that of ``asyncio.wait`` is not."""
    if what not in _SCOPES or what[1] != "_release_waiter":
        return what in _SCOPES
    frame: Any = sys._getframe()
    while frame.f_globals.get("__name__") != "asyncio.tasks":
        frame = frame.f_back
    return frame.f_code is _WAIT_FOR


def _goes_on(task: Task[Any], number: int, parent: Task[Any], timer: _TimeOut) -> bool:
    """Whether a task goes on when a time-out ends the one that has made it.

    If it is shielded; or if it was there before the time-out, and those within do not wait for it. Of what was made
    later they may be about to. Who waits for it through something else, such as ``gather``, is taken for one of them.
    """
    shielded = False
    for callback in done_callbacks_of(task):
        what = _name_of(callback)
        if getattr(callback, "__self__", None) in (parent, timer.task):
            return False
        if what == _SHIELD:
            shielded = True
        elif what[0] == "asyncio.tasks" and what != _BOOKKEEPING:
            return False
    return shielded or number < timer.number
