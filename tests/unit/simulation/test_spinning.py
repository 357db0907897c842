"""Loops of threads that nobody sees to come to an end, called by hand: in a trace function nothing can be measured."""

from __future__ import annotations

import sys
from _thread import get_ident
from collections import deque
from itertools import repeat

import pytest

from pytest_claude_tokens.simulation import watch as module_of_watch
from pytest_claude_tokens.simulation.accesses import LOOP, accesses_of
from pytest_claude_tokens.simulation.instruments import Instruments
from pytest_claude_tokens.simulation.schedule import Schedule
from pytest_claude_tokens.simulation.tested_code import TestedCode
from pytest_claude_tokens.simulation.watch import Watch
from tests.unit.simulation import test_preemption as probes
from tests.unit.simulation.watched import an_access, arrivals

pytestmark = pytest.mark.usefixtures("staged")


def spinning() -> None:
    while probes.COUNT < 0:
        pass


def test_who_spins_goes_to_the_end_now_and_then_and_then_time_passes():
    """A round that changes something counts less; with a lock that nobody sees, it goes on."""
    loop = next(one for one in accesses_of(spinning.__code__).values() if one.kind == LOOP)
    assert loop.spins
    access = an_access()
    box = probes.Box()

    def spin(watch: Watch) -> None:
        assert box.number == 0
        for number in range(2_500):
            if number > 700:
                watch.arrive(access, sys._getframe())
            watch.arrive(loop, sys._getframe())

    def still(watch: Watch) -> None:
        frame = sys._getframe()
        deque(map(watch.arrive, [loop] * 700, [frame] * 700), maxlen=0)  # no name changes in it

    def locked(watch: Watch) -> None:
        watch.is_serving = lambda: True
        still(watch)

    assert sorted(arrivals(Schedule(), still, spin)[1]) == [0, 1]
    assert arrivals(Schedule(), still)[0].world.now > 0
    assert arrivals(Schedule(), locked, locked)[1] == [0, 1]


def looking() -> None:
    while not any(probes.SHARED):
        pass


def counting() -> None:
    number = 0
    while True:
        number += 1


def calling() -> None:
    while probes.COUNT < 0:
        probes.Box().method()


def test_a_loop_that_calls_keeps_its_turn_unless_what_it_calls_is_the_authors():
    """How many rounds it takes to compute something may differ from run to run."""
    access = an_access()
    (looks,), (loop,) = (
        [one for one in accesses_of(code).values() if one.kind == LOOP] for code in (looking.__code__, calling.__code__)
    )
    assert (looks.calls, looks.spins, loop.calls, loop.spins) == (False, True, True, False)

    def computes(watch: Watch) -> None:
        for _ in repeat(None, 1_100):
            watch.arrive(loop, sys._getframe())

    def goes_inside(watch: Watch) -> None:
        def inside() -> None:
            watch.arrive(access, sys._getframe())

        for _ in repeat(None, 1_100):
            watch.arrive(loop, sys._getframe())
            inside()

    assert arrivals(Schedule(), computes, lambda watch: None)[1] == [0, 1]
    assert arrivals(Schedule(), goes_inside, lambda watch: None)[1] == [1, 0]


def test_a_loop_that_never_ends_keeps_its_turn_at_last(monkeypatch):
    """One that changes something in each round computes: the watchdog ends that, within seconds."""
    monkeypatch.setattr(module_of_watch, "_MOST_ROUNDS_THAT_DO", 2_000)
    (loop,) = (one for one in accesses_of(counting.__code__).values() if one.kind == LOOP)
    lost: list[int] = []

    def counts(watch: Watch) -> None:
        number = 0
        while number < 4_000:
            number += 1
            if watch.arrive(loop, sys._getframe()):
                lost.append(number)

    arrivals(Schedule(), counts, lambda watch: None)
    assert lost == [1_000, *range(2_000, 3_001, 100)]  # the first time another ends, which is progress


@pytest.mark.parametrize(("rounds", "spins"), [(400, True), (10, False)])
def test_where_a_thread_has_spun_all_later_runs_are_watched(rounds, spins):
    (loop,) = (one for one in accesses_of(looking.__code__).values() if one.kind == LOOP)
    instruments = Instruments(TestedCode())
    for _ in repeat(None, 17):
        instruments.wanted(Schedule())
    assert not instruments.wanted(Schedule())

    def spin(watch: Watch) -> None:
        watch.on_spinning = instruments.watch_all
        for _ in repeat(None, rounds):
            watch.arrive(loop, sys._getframe())

    arrivals(Schedule(), spin, lambda watch: None)
    assert instruments.wanted(Schedule()) is spins


def test_who_comes_to_a_switch_point_in_each_round_is_not_interrupted_by_the_watch():
    """The others can go on there as it is, watched or not."""
    (loop,) = (one for one in accesses_of(looking.__code__).values() if one.kind == LOOP)
    spun: list[int] = []

    def pauses(watch: Watch) -> None:
        watch.on_spinning = lambda: spun.append(1)
        for _ in repeat(None, 1_100):
            watch.arrive(loop, sys._getframe())
            watch.world.pause(watch.world.records[get_ident()], rotate=True)

    arrivals(Schedule(), pauses, lambda watch: None)
    assert not spun
