"""Without deviations, the simulated loop does what asyncio's own does, step by step; with them, what it might do."""

from __future__ import annotations

import asyncio
import logging
import selectors

import pytest
from hypothesis import given, settings

from pytest_claude_tokens.simulation.schedule import Schedule
from pytest_claude_tokens.simulation.tasks import SimulatedTask
from tests.unit.simulation.programs import Machine, programs
from tests.unit.simulation.worlds import run_tasks, schedules, world

pytestmark = pytest.mark.usefixtures("staged")


class Jumping(selectors.SelectSelector):
    """A selector that lets the time pass at once for which it should wait."""

    now = 0.0

    def select(self, timeout=None):
        assert timeout is not None, "a deadlock"
        self.now += max(0.0, timeout)
        return []


class Reference(asyncio.SelectorEventLoop):
    """asyncio's loop, in virtual time, with tasks that have numbers: else it differs from itself."""

    def __init__(self):
        self.jumping = Jumping()
        super().__init__(self.jumping)
        self.count = 0
        self.set_task_factory(self.make)

    def make(self, loop, coro, **options):
        self.count += 1
        return SimulatedTask(coro, loop=loop, number=self.count, **options)

    def time(self):
        return self.jumping.now


def reference(program):
    """The trace of a program in asyncio's loop."""
    with asyncio.Runner(loop_factory=Reference) as runner:
        return runner.run(Machine(program).run())


@pytest.fixture(autouse=True)
def quiet(caplog):
    """Tasks of the programs fail, and nobody asks."""
    caplog.set_level(logging.CRITICAL, "asyncio")


@settings(max_examples=100)
@given(programs())
def test_stock_order_is_that_of_asyncio(program):
    """The same program gives the same trace, times included."""
    assert run_tasks(Machine(program).run) == reference(program)


@settings(max_examples=50)
@given(programs())
def test_loop_of_a_thread_is_that_of_asyncio(program):
    """``asyncio.run`` in a thread of a world gives the same trace, too."""
    with world():
        trace = asyncio.run(Machine(program).run())
    assert trace == reference(program)


@settings(max_examples=100)
@given(programs(), schedules())
def test_every_schedule_lets_every_program_end(program, schedule):
    """No wake-up is lost, each task takes its steps in order, and time never goes back."""
    trace = run_tasks(Machine(program).run, schedule)
    times = [time for time, _, _ in trace]
    assert times == sorted(times)
    for number, steps in enumerate(program):
        mine = [what for _, who, what in trace if who == f"t{number}"]
        begun = [step[0] for step in steps]
        assert [what for what in mine if what in begun][:1] in ([], begun[:1])


@settings(max_examples=50)
@given(programs(), schedules())
def test_schedule_gives_the_same_trace_twice(program, schedule):
    """A run depends on its schedule, and on nothing that was before it."""
    assert run_tasks(Machine(program).run, schedule) == run_tasks(Machine(program).run, schedule)


def test_schedule_changes_what_happens():
    """The comparison can fail: a walk through a program whose tasks meet is told from default order."""
    program = [[("sleep", 0), ("put", 1)], [("sleep", 0), ("put", 1)]]
    walk = Schedule(kind="walk", seed=3)
    assert run_tasks(Machine(program).run, walk) != run_tasks(Machine(program).run)
