"""trio in threads of a world: its runs wait in simulated time, and their chance comes from the schedule.

Where trio would wait for the operating system, it hands the baton on, and gets it back for its next deadline or for a
call from another thread. This is the only module that uses private names of trio; each has a canary in
``tests/unit/simulation/test_trio.py``. trio is never imported here: httpcore does that where it is installed.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from fake_server.protocol.actors import WORKER
from pytest_claude_tokens.simulation.active import here
from pytest_claude_tokens.simulation.thread_record import Stopped, Stuck
from pytest_claude_tokens.simulation.threads import bind_thread, new_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

    from pytest_claude_tokens.simulation.thread_record import ThreadRecord
    from pytest_claude_tokens.simulation.world import World

__all__ = ["trio_generator", "trio_patient", "trio_simulated"]

_FOREVER = 86_400
"""Seconds for which a run of trio waits that has no deadline."""

_LATER = 1e9
"""Seconds by which deadlines are put off that a wait is not to reach: more than a clock of trio ever tells."""

_MAX_LAST_ROUNDS = 100
"""Rounds in which a run of trio must end once it has been cancelled."""

_last_rounds: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
_modules = sys.modules


def _core() -> Any:
    return _modules.get("trio._core._run")


def trio_generator() -> Random | None:
    """The generator by which trio chooses among its tasks, if trio is imported."""
    core = _core()
    return None if core is None else core._r


@contextmanager
def trio_simulated() -> Iterator[None]:
    """In the block, runs of trio in threads of the active world wait in simulated time, and always choose alike."""
    core = _core()
    if core is None:
        yield
        return
    manager, socketpair = core.TheIOManager, _modules["trio._core._wakeup_socketpair"].WakeupSocketpair
    idle: list[tuple[World, ThreadRecord]] = []
    with ExitStack() as stack:
        for owner, name, value in (
            (manager, "get_events", _get_events(manager.get_events, idle)),
            (socketpair, "wakeup_thread_and_signal_safe", _wakeup(socketpair.wakeup_thread_and_signal_safe, idle)),
            (_modules["trio._threads"], "start_thread_soon", _start_thread(core.start_thread_soon)),
            (core, "_ALLOW_DETERMINISTIC_SCHEDULING", True),
        ):
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)
        yield


@contextmanager
def trio_patient(suspended: Callable[[], float]) -> Iterator[None]:
    """In the block, which waits for a reply that comes in time, no scope around this task ends it.

    After it each has as many seconds left as if ``suspended`` ones had not passed.
    """
    before, held = suspended(), []
    status = _core().GLOBAL_RUN_CONTEXT.task._cancel_status
    while status is not None:
        scope = status._scope
        scope.deadline += _LATER
        held.append(scope)
        status = None if scope.shield else status.parent
    try:
        yield
    finally:
        for scope in held:
            if scope.deadline > _LATER / 2:  # else somebody has set another one
                scope.deadline += suspended() - before - _LATER


def _get_events(real: Callable[..., Any], idle: list[tuple[World, ThreadRecord]]) -> Callable[..., Any]:
    def get_events(self: Any, timeout: float) -> Any:
        place = here()
        if place is None:
            return real(self, timeout)
        found = self.statistics()
        if timeout > 0 and (found.tasks_waiting_read > 1 or found.tasks_waiting_write):
            return real(self, timeout)  # it waits for more than its own wake-up: outside, where the watchdog sees it
        events = real(self, 0)
        try:
            _wait(place, 0 if events else timeout, idle)
        except (Stopped, Stuck):
            _end_run()
            return events
        return events or real(self, 0)

    return get_events


def _wait(place: tuple[World, ThreadRecord], timeout: float, idle: list[tuple[World, ThreadRecord]]) -> None:
    world, record = place
    if timeout <= 0:
        world.pause(record, rotate=True)
        return
    idle.append(place)
    try:
        world.block(record, "its run of trio, in which nothing can go on", timeout if timeout < _FOREVER else None)
    finally:
        idle.remove(place)


def _end_run() -> None:
    """The world ends, or nothing in it can go on: cancel all of this thread's run, so that it ends in its own way.

    An exception raised here would leave it in the middle, and trio would complain when its parts are collected. Tasks
    that shield themselves are cancelled, too; one that goes on all the same is given up after a while.
    """
    runner = _core().GLOBAL_RUN_CONTEXT.runner
    runner.system_nursery.cancel_scope.cancel()
    for task in runner.tasks:
        status = task._cancel_status
        while status is not None:
            status._scope.shield = False
            status = status.parent
    _last_rounds[runner.main_task] = rounds = _last_rounds.get(runner.main_task, 0) + 1
    if rounds > _MAX_LAST_ROUNDS:
        raise Stopped


def _wakeup(real: Callable[..., None], idle: list[tuple[World, ThreadRecord]]) -> Callable[..., None]:
    def wakeup_thread_and_signal_safe(self: Any) -> None:
        real(self)
        for world, record in tuple(idle):
            world.wake(record)  # the wrong one looks, and waits again

    return wakeup_thread_and_signal_safe


def _start_thread(real: Callable[..., None]) -> Callable[..., None]:
    """Trio keeps threads for its jobs beyond its runs: none of them would belong to a world."""

    def start_thread_soon(fn: Callable[[], Any], deliver: Callable[[Any], object], called: str | None = None) -> None:
        place = here()
        if place is None:
            real(fn, deliver, called)
            return
        world = place[0]
        capture = _modules["outcome"].capture
        name = f"trio-{len(world.all)}"
        bind_thread(world, new_thread(lambda: deliver(capture(fn)), name), name, WORKER.get())

    return start_thread_soon
