"""Threads lose their turn between two lines: before which accesses, and that nothing else is changed by it."""

from __future__ import annotations

import sys
import threading
import time
from collections import OrderedDict, deque
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any

import pytest

from pytest_claude_tokens.simulation import instruments as module
from pytest_claude_tokens.simulation.accesses import accesses_of
from pytest_claude_tokens.simulation.schedule import Deviation, Schedule
from pytest_claude_tokens.simulation.tested_code import TestedCode
from pytest_claude_tokens.simulation.watch import Watch
from tests.unit.simulation.watched import before, told, traced, watched
from tests.unit.simulation.worlds import world

pytestmark = pytest.mark.usefixtures("staged")

COUNT = 0
SHARED: list[int] = []


class Box:
    """Some fields."""

    kind = "box"

    def __init__(self) -> None:
        self.number = 0
        self.items: dict[str, int] = {}
        self.names: set[str] = set()
        self.queue: deque[int] = deque([1, 2])
        self.list = [1, 2]

    def method(self) -> None:
        """Nothing."""

    @property
    def twice(self) -> int:
        return 2

    @cached_property
    def once(self) -> int:
        return 1


class Slotted:
    __slots__ = ("number",)


def test_what_an_access_touches():
    """By object, and by item where that is known; methods, properties and what no other can have are left out."""
    box = Box()

    def job() -> None:
        global COUNT
        box.number = box.number + 1
        box.items["a"] = 1
        del box.items["a"]
        "b" in box.names  # noqa: B015
        box.names.add("c")
        box.list[0:1] = box.list[1:2]
        box.list.append(3)
        box.items.get("d")
        box.kind  # noqa: B018
        box.method()
        box.twice  # noqa: B018
        box.once  # noqa: B018
        COUNT += 1
        del box.number

    seen = [one.removeprefix("w0 ") for one in told(watched(job)) if not one.startswith("w0 box")]
    wanted = [
        "number Box", "number Box=", "items Box", "[] dict a=", "items Box", "[] dict a=", "names Box", "[] set b",
        "names Box", "[] set c=", "list Box", "[] list", "list Box", "[] list=", "list Box", "[] list=", "items Box",
        "[] dict d", "kind Box", "kind Box", "once Box=", "once Box", "COUNT tests.unit.simulation.test_preemption",
        "COUNT tests.unit.simulation.test_preemption=", "number Box=",
    ]  # fmt: skip
    assert [one.replace(__name__, "tests.unit.simulation.test_preemption") for one in seen] == wanted


def test_what_functions_touch():
    """A function of C may change what it is given, unless it is known to look only; what can't be found is any."""
    box, other, slotted = Box(), ModuleType("other"), Slotted()
    slotted.number = 1
    name = "number"

    def job() -> None:
        len(box.list)
        next(iter(box.list))
        setattr(box, "number", 2)  # noqa: B010
        getattr(box, "number")  # noqa: B009
        setattr(other, "number", 2)  # noqa: B010
        setattr(box, name, 1)
        setattr(box, name.upper(), 1)
        other.number = 3
        slotted.number = 2
        made().number = 4
        made().list.append(1)
        OrderedDict.fromkeys(box.list)
        for _ in box.queue:
            pass
        [one + 1 for one in reversed(box.list)]
        for _ in sorted(box.list):
            pass
        box.list += [1]

    def made() -> Box:
        return box

    seen = [
        one.removeprefix("w0 ")
        for one in told(watched(job))
        if one.split()[1] not in ("box", "other", "slotted", "made")
    ]
    assert [one for one in seen if "deque" in one] == ["[] deque"] * 3
    assert [one for one in seen if "other" in one] == ["number other=", "number other="]
    for one in ("[] list", "number Box=", "number Box", "number Slotted=", "number any=", "[] any=", "[] list="):
        assert one in seen, seen


def test_a_thread_loses_its_turn_there_and_only_there():
    """The counter's value is read, the other thread counts, and the first one writes what it had read."""
    box = Box()

    def job() -> None:
        number = box.number
        box.number = number + 1

    steps = watched(job, job)
    assert box.number == 2
    box.number = 0
    again = watched(job, job, schedule=before("box.number = number + 1", among=steps, kind="attribute"))
    assert box.number == 1
    assert [step.worker for step in again if step.touched and step.access.kind == "attribute"] == [0, 1, 1, 0]
    box.number = 0
    watched(job, job, schedule=before("box.number = number + 1", times=1, among=steps, kind="attribute"))
    assert box.number == 2  # it is there only once


def test_a_preempted_worker_may_stay_away():
    """For so many decisions, although it could go on."""
    order: list[int] = []
    box = Box()
    lock = threading.Lock()

    def first() -> None:
        box.number = 1
        order.append(0)

    def second() -> None:
        for _ in range(3):
            with lock:
                box.number = 2
        order.append(1)

    steps = watched(first, second)
    (found,) = before("box.number = 1", among=steps, kind="attribute").deviations
    order.clear()
    away = Deviation(found.position, "preempt", 0, 21, found.place)
    watched(first, second, schedule=Schedule(deviations=(away,)))
    assert order == [1, 0]
    assert away.text().endswith("box.number = 1, for 21 decisions")


def test_what_others_did_to_a_closure_meanwhile_is_kept():
    """On Python 3.11 a trace function's frame is written back after it: not over what has changed since."""
    count = 0
    box = Box()

    def first() -> None:
        nonlocal count
        count += 0
        box.number = 1
        count += 1

    def second() -> None:
        nonlocal count
        box.number = 2
        count += 10

    steps = watched(first, second)
    count = 0
    watched(first, second, schedule=before("box.number = 1", among=steps, kind="attribute"))
    assert count == 11


def test_code_without_source_has_accesses_too():
    """Nobody can say on what: on anything."""
    namespace: dict[str, Any] = {"box": Box()}
    exec("def job():\n    box.number = box.number + 1\n    while box.number < 0:\n        pass\n", namespace)

    def job() -> None:
        namespace["job"]()

    steps = watched(job, job)
    assert "w0 number any=" in told(steps)
    (place,) = {step.access.place for step in steps if step.touched[0][1:] == ("number", "*", True)}
    watched(job, job, schedule=Schedule(deviations=(Deviation(0, "preempt", 0, 1, place),)))
    assert namespace["box"].number == 3


def test_code_without_positions_has_accesses_too(monkeypatch):
    """As under ``-X no_debug_ranges``: an access is told by the number of its instruction."""
    from pytest_claude_tokens.simulation import accesses

    def job() -> None:
        box.number = 1

    box = Box()
    bare = compile("def job():\n    box.number = 1\n    box()\n", "bare.py", "exec").co_consts[0]
    real = accesses.dis.get_instructions
    monkeypatch.setattr(
        accesses.dis, "get_instructions", lambda code: [one._replace(positions=None) for one in real(code)]
    )
    (found,) = [one for one in accesses.accesses_of(bare).values() if one.kind == "attribute"]
    assert found.place.startswith("bare.py:job+")
    assert found.words == "bare.py:1 job"


def test_a_global_is_read_as_one_that_changes_where_some_function_declares_it(tmp_path):
    """Reading any other is an access only where its value is no function, class or module."""
    path = tmp_path / "turns.py"
    path.write_text("def read():\n    return turn, LIMIT\n\n\ndef write():\n    global turn\n    turn = 1\n")
    names: dict[str, Any] = {"turn": 0, "LIMIT": 1}
    exec(compile(path.read_text(), str(path), "exec"), names)
    always = {one.name: one.always for one in accesses_of(names["read"].__code__).values() if one.kind == "global"}
    assert always == {"turn": True, "LIMIT": False}


def test_who_spins_for_another_is_spared():
    """It has no switch point, and loses its turn all the same after a while."""
    box = Box()

    def waits() -> None:
        while not box.number:
            pass

    def counts() -> None:
        rounds = 0
        while not box.number:
            rounds += 1
            box.list[0] = rounds

    def sets() -> None:
        box.number = 1

    watched(waits, counts, sets)
    assert box.number == 1


def test_at_a_store_that_is_asked_for_nobody_is_preempted():
    """In the middle of a switch point, and outside of any world, accesses are not looked at."""
    with world(workers=1) as new:
        watch = Watch(new, Schedule(), lambda code: False)
        assert not watch.arrive(None, sys._getframe())
        watch.take_apart()
        assert watch.steps == []


def test_a_tracer_goes_on_beside():
    """One that a thread has already, such as coverage's or a debugger's, is told of each line as before."""
    box = Box()
    lines: list[str] = []

    def trace(frame: Any, event: str, arg: Any) -> Any:
        if frame.f_code.co_filename == __file__:
            lines.append(f"{event} {frame.f_code.co_name}")
        return trace

    def job() -> None:
        number = box.number
        box.number = number + 1

    with traced(trace):
        steps = watched(job, job)
        assert lines.count("call job") == lines.count("return job") == 2
        assert lines.count("line job") == 4
        watched(job, job, schedule=before("box.number = number + 1", among=steps, kind="attribute"))
    assert box.number == 3
    assert lines.count("line job") == 8


def test_coverage_goes_on_beside():
    """Whatever core of it measures: what the threads ran is measured, and they are preempted."""
    coverage = pytest.importorskip("coverage")
    if coverage.Coverage.current() is not None:
        pytest.skip("coverage measures this run already, and would not go on after another one")
    box = Box()

    def job() -> None:
        number = box.number
        box.number = number + 1

    measured = coverage.Coverage(data_file=None, config_file=False, include=[__file__], messages=False)
    measured.start()
    try:
        steps = watched(job, job)
        watched(job, job, schedule=before("box.number = number + 1", among=steps, kind="attribute"))
    finally:
        measured.stop()
    ran = measured.get_data().lines(__file__) or []
    first = job.__code__.co_firstlineno
    assert {first + 1, first + 2} <= set(ran)
    assert box.number == 3


def test_where_all_tool_numbers_are_taken_a_trace_function_does_it(monkeypatch):
    """As on Python 3.11."""
    monkeypatch.setattr(module, "_free_tool", lambda: None)
    box = Box()

    def job() -> None:
        number = box.number
        box.number = number + 1

    found = module.Instruments(TestedCode())
    steps = watched(job, job, instruments=found)
    watched(job, job, schedule=before("box.number = number + 1", among=steps, kind="attribute"), instruments=found)
    assert box.number == 3
    plain = Schedule()
    assert [found.wanted(plain) for _ in range(module._FIRST_RUNS + 1)] == [True] * module._FIRST_RUNS + [False]
    assert found.wanted(Schedule(deviations=(Deviation(0, "preempt", 0, 1, "x"),)))


def append(box: Box) -> None:
    box.list.append(1)


def spins(box: Box) -> None:
    while len(box.list) < 200:
        append(box)


def polls(box: Box) -> None:
    while len(box.list) < 200:
        append(box)
        time.sleep(0)


@pytest.mark.skipif(hasattr(sys, "monitoring"), reason="all runs are watched from Python 3.12 on")
@pytest.mark.parametrize(("job", "watched_all"), [(spins, True), (polls, False)])
def test_once_a_loop_may_be_interrupted_all_runs_are_watched(job, watched_all):
    """Or those that are not would go on in another order. One that comes to a switch point needs no interruption."""
    found, box = module.Instruments(TestedCode()), Box()

    watched(lambda: job(box), instruments=found)
    assert all(found.wanted(Schedule()) for _ in range(module._FIRST_RUNS + 20)) is watched_all


@pytest.mark.skipif(not hasattr(sys, "monitoring"), reason="Python 3.11 has none")
def test_the_tool_number_is_free_again():
    """And one that is taken is left alone."""
    taken: Any = sys.monitoring
    taken.use_tool_id(4, "another")
    try:
        box = Box()
        watched(lambda: box.number)
        assert [taken.get_tool(number) for number in (3, 4, 5)] == [None, "another", None]
    finally:
        taken.free_tool_id(4)


@pytest.mark.parametrize("module", ["logging", "importlib._bootstrap", "another", "the service"])
def test_who_has_a_lock_that_nobody_sees_keeps_its_turn(module):
    """Others would block on it, outside of the simulation: on those of logging and of imports, and on the service's."""
    box = Box()
    namespace: dict[str, Any] = {"__name__": module}
    exec("def calls(job):\n    job()\n", namespace)

    def counts() -> None:
        number = box.number
        box.number = number + 1

    def job() -> None:
        namespace["calls"](counts)

    steps = watched(job, job)
    box.number = 0
    schedule = before("box.number = number + 1", among=steps, kind="attribute")
    watched(job, job, schedule=schedule, is_serving=lambda: module == "the service")
    assert box.number == (1 if module == "another" else 2)


def test_who_spins_under_such_a_lock_keeps_its_turn():
    """It can't be helped: the watchdog sees to it."""
    box = Box()
    namespace: dict[str, Any] = {"__name__": "logging"}
    exec("def calls(job):\n    job()\n", namespace)

    def spins() -> None:
        while box.list:
            box.list.append(1)
            if len(box.list) > 2000:
                box.list = []

    watched(lambda: namespace["calls"](spins), lambda: None)
    assert box.list == []


@dataclass
class Point:
    x: int = 0


@dataclass(frozen=True)
class Frozen:
    x: int


def test_generated_code_is_its_makers():
    """A dataclass's ``__eq__`` was made by ``exec``, for this module."""
    one, other = Point(1), Point(2)
    assert {"w0 x Point", "w0 x any"} & set(told(watched(lambda: one == other)))


def test_nobody_else_has_the_object_that_a_dataclass_makes():
    """Its constructor has no source: each of its writes would be one to anything, and conflict with all there is."""
    for cls in (Point, Frozen):
        assert told(watched(lambda cls=cls: cls(1))) == []
