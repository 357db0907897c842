"""Clocks, sleeps and locks that code has kept before a search are simulated in it, and real again after it."""

from __future__ import annotations

import datetime as dt
import sched
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial, wraps
from types import ModuleType
from typing import Any

import pytest

from pytest_claude_tokens.simulation import captured
from pytest_claude_tokens.simulation.captured import captured_replaced
from pytest_claude_tokens.simulation.locks import SimulatedLock, SimulatedRLock
from tests.unit.simulation.worlds import run_threads, stage

SLEEP = time.sleep


class Positional:
    def __init__(self, clock=time.time, sleep=time.sleep):
        self.clock, self.sleep = clock, sleep


class Keyword:
    def __init__(self, *, clock=time.monotonic, sleep=time.sleep):
        self.clock, self.sleep = clock, sleep


@dataclass
class Fields:
    clock: Callable = time.perf_counter
    sleep: Callable = time.sleep
    lock: Any = field(default_factory=threading.Lock)


class Attributes:
    clock = time.time
    sleep = staticmethod(time.sleep)


TABLES: dict[str, Any] = {"clocks": [time.time], "sleep": time.sleep}
GIVEN = Positional()


class FromTables:
    def __init__(self):
        self.clock, self.sleep = TABLES["clocks"][0], TABLES["sleep"]


class FromAnObject:
    def __init__(self):
        self.clock, self.sleep = GIVEN.clock, GIVEN.sleep


class Partial:
    def __init__(self, clock=time.time, sleep=partial(time.sleep)):  # noqa: B008  # as users write it
        self.clock, self.sleep = clock, sleep


class Dates:
    def __init__(self, now=dt.datetime.now, sleep=time.sleep):
        self.clock, self.sleep = lambda: now().timestamp(), sleep


def read(self, clock=time.time):
    return clock


def rest(self, sleep=time.sleep):
    return sleep


class Property:
    clock, sleep = property(read), property(rest)


def closure(clock=time.time):
    sleep = time.sleep

    class Inner:
        def __init__(self):
            self.clock, self.sleep = clock, sleep

    return Inner


def logged(function):
    @wraps(function)
    def call(*arguments):
        return function(*arguments)

    return call


@logged
def decorated(clock=time.time, sleep=time.sleep):
    return Positional(clock, sleep)


class Scheduled:
    def __init__(self):
        scheduler = sched.scheduler()
        self.clock, self.sleep = scheduler.timefunc, scheduler.delayfunc


KINDS = [
    Positional, Keyword, Fields, Attributes, FromTables, FromAnObject, Partial, Dates, Property, closure(), decorated,
    Scheduled,
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_clock_and_a_sleep_that_are_given_are_simulated(kind):
    """Their time passes at once; and nothing of it is left where it was put."""

    def job():
        given = kind()
        began = given.clock()
        given.sleep(50)
        return given.clock() - began

    with stage():
        assert run_threads(job) == [pytest.approx(50, abs=0.1)]
    assert kind().sleep is SLEEP or kind().sleep.func is SLEEP


def test_a_default_factory_makes_simulated_locks():
    """Else the wait for one would be seen by a watchdog alone, and each run be another one."""
    locks = []
    with stage():
        run_threads(lambda: locks.append(Fields().lock))
    assert isinstance(locks[0], SimulatedLock)
    assert not isinstance(Fields().lock, SimulatedLock | SimulatedRLock)


@pytest.fixture
def odd(monkeypatch):
    """A module of a name of its own, and a function that replaces ``REAL`` in what is written there."""
    module = ModuleType("oddities")
    monkeypatch.setitem(sys.modules, "oddities", module)

    def replaced(source="", **names):
        vars(module).update(names)
        exec(source, vars(module))
        return captured_replaced(lambda value: FAKE if value is REAL else None, sys.modules.keys() - {"oddities"})

    replaced.module = module
    return replaced


REAL, FAKE = object(), object()
CHAIN = """
class Node:
    next = None
head = node = Node()
for _ in range(5000):
    node.next = Node()
    node = node.next
node.end = REAL
del node
"""


def test_a_chain_of_objects_is_not_followed_to_its_end(odd):
    """Nor does it exhaust the stack."""
    with odd(CHAIN, REAL=REAL):
        node = odd.module.head
        while node.next is not None:
            node = node.next
        assert node.end is REAL


def test_a_large_module_is_looked_through_in_part(odd, monkeypatch):
    monkeypatch.setattr(captured, "_MOST_OBJECTS", 5)
    with odd("many = [[[REAL]] for _ in range(9)]", REAL=REAL):
        flat = [inner[0][0] for inner in odd.module.many]
        assert FAKE in flat
        assert REAL in flat


def test_what_refuses_is_left_alone(odd):
    """A class that can't be changed, an object without attributes, an empty cell, what belongs to another module."""
    source = """
class Sealed(type):
    def __setattr__(cls, name, value):
        raise AttributeError(name)
class Refuses(metaclass=Sealed):
    kept = REAL
class Slots:
    __slots__ = ("kept",)
slots = Slots()
slots.kept = REAL
def outer():
    def inner():
        return later
    return inner
    later = REAL
empty = outer()
"""
    with odd(source, REAL=REAL, elsewhere=test_what_refuses_is_left_alone, other=Positional):
        assert odd.module.Refuses.kept is REAL
        assert odd.module.slots.kept is REAL


@pytest.mark.parametrize("names", ["'kept': REAL", "**globals(), 'kept': REAL"])
def test_functions_that_attrs_has_made_have_names_of_their_own(odd, names):
    """Its methods find what the class gave them among globals that are no module's, or a copy of a module's."""
    odd.module.__name__ = "oddities"
    with odd(f"make = eval('lambda: kept', {{{names}}}); make.__module__ = 'oddities'", REAL=REAL):
        assert odd.module.make() is FAKE
    assert odd.module.make() is REAL


def test_what_a_body_has_put_there_stays(odd):
    """And what it has taken out is not put back."""
    with odd("table = {'one': REAL, 'two': REAL}\nlist_ = [REAL]", REAL=REAL):
        odd.module.table.update(one=3)
        del odd.module.table["two"]
        odd.module.list_.clear()
    assert odd.module.table == {"one": 3}
    assert odd.module.list_ == []


def test_tables_at_module_level_are_looked_through_each_time(odd):
    """A fixture may fill them."""
    with odd("table = {}", REAL=REAL):
        pass
    odd.module.table["new"] = [REAL]
    with odd():
        assert odd.module.table == {"new": [FAKE]}
    assert odd.module.table == {"new": [REAL]}


def test_a_class_method_that_wraps_one_is_wrapped_again(odd):
    with odd("class Kept:\n    kept = classmethod(REAL)", REAL=REAL):
        assert vars(odd.module.Kept)["kept"].__func__ is FAKE
    assert vars(odd.module.Kept)["kept"].__func__ is REAL


def test_installed_modules_are_looked_through_once_for_each_number_of_names(odd):
    """They are many, and what is kept in their functions doesn't change; if it has, it stays as it is."""
    odd.module.__file__ = "/x/site-packages/oddities.py"
    with odd("def first(kept=REAL): return kept\ntable = {'kept': REAL}", REAL=REAL):
        assert odd.module.first() is FAKE
        assert odd.module.table["kept"] is REAL  # objects are the user's alone
    assert odd.module.first() is REAL
    with odd("def second(kept=REAL): return kept"):  # it has one name more
        assert odd.module.first() is FAKE
        assert odd.module.second() is FAKE
    odd.module.first.__defaults__ = (None,)
    with odd():
        assert odd.module.first() is None
