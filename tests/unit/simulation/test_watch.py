"""The parts of preemption, called by hand: in a trace function of Python 3.11's nothing can be measured."""

from __future__ import annotations

import sys
from _thread import get_ident
from collections import ChainMap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from threading import Thread
from types import CodeType, SimpleNamespace
from typing import Any, cast

import pytest

from pytest_claude_tokens.simulation import accesses as module_of_accesses
from pytest_claude_tokens.simulation import instruments as module
from pytest_claude_tokens.simulation.accesses import LOOP, Access, accesses_of
from pytest_claude_tokens.simulation.naming import Names
from pytest_claude_tokens.simulation.schedule import Deviation, Schedule
from pytest_claude_tokens.simulation.tested_code import TestedCode
from pytest_claude_tokens.simulation.watch import Watch
from tests.unit.simulation import test_preemption as probes
from tests.unit.simulation.watched import an_access, arrivals
from tests.unit.simulation.worlds import world

pytestmark = pytest.mark.usefixtures("staged")


def frames_of(function: Callable[..., Any]) -> list[Any]:
    """The frames of code in this file that a function goes through, in the order of their calls."""
    frames: list[Any] = []

    def profile(frame: Any, event: str, arg: Any) -> None:
        if event == "call" and frame.f_code.co_filename == probes.__file__:
            frames.append(frame)

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(before)
    return frames


@pytest.mark.parametrize(
    "test",
    [probes.test_what_an_access_touches, probes.test_what_functions_touch, probes.test_generated_code_is_its_makers],
)
def test_each_access_of_the_probes_can_be_named(test, monkeypatch):
    """The same that threads access, looked at when all is over."""
    seen: list[Any] = []

    def looked_at(*jobs: Any, **options: Any) -> list[Any]:
        seen.append(jobs[0])
        return []

    monkeypatch.setattr(probes, "watched", looked_at)
    with pytest.raises(AssertionError):
        test()
    names = Names(lambda code: code.co_filename == probes.__file__)
    kinds = set()
    for frame in frames_of(seen[0]):
        for access in accesses_of(frame.f_code).values():
            kinds.add(access.kind)
            for owner, what, _, _ in names.touched(access, frame):
                assert what
                assert owner is None or isinstance(owner, str | tuple)
    assert kinds


class Row:
    """A field in a slot, one that nobody has set, and what may be anything."""

    __slots__ = ("items", "unset")

    def __init__(self) -> None:
        self.items = {"a": [1], "b": probes.Box()}


def test_what_lies_behind_slots_items_and_modules_is_found():
    """By reading; what would have to be called is any."""
    row, tags, frame = Row(), object(), sys._getframe()

    def job(call: Any) -> None:
        row.items["a"].append(1)
        row.items["z"].append(1)
        row.unset.append(1)
        probes.SHARED.append(1)
        probes.SHARED.sort()
        sys.modules.get("x")
        call().add(1)
        call()[0] = 1
        "a".join([])
        sys.intern("a")
        [one for one in row.items if one in row.items]
        [str(one) for one in call().values()]
        [str(one) for one in row.items.values()]
        sys.maxsize  # noqa: B018
        row.items["b"].names.clear()
        tags.anything()
        print(*row.items)

    told = set()
    names = Names(lambda code: False)
    looked = SimpleNamespace(
        f_code=job.__code__,
        f_locals={"row": row, "tags": tags},
        f_globals=globals(),
        f_builtins=frame.f_builtins,
        f_back=None,
    )
    for access in accesses_of(job.__code__).values():
        for owner, what, key, write in names.touched(access, looked):
            told.add((owner[1] if isinstance(owner, tuple) else owner, what, key, write))
    for one in (("list", "[]", "*", True), (None, "[]", "*", True), ("dict", "[]", "x", False)):
        assert one in told, told
    assert ("object", "()", "*", True) in told
    assert module.Instruments(TestedCode()).is_tested(job.__code__)


def cycle() -> Iterator[int]:
    while True:
        yield 1


def test_a_generator_that_others_may_have_is_touched_by_what_runs_in_it():
    """Once somebody has asked it for more by a name."""
    generator: Any = cycle()
    next(generator)
    names = Names(lambda code: True)
    accesses = [one for one in accesses_of(cycle.__code__).values() if one.kind == "yield"]
    assert [names.touched(one, generator.gi_frame) for one in accesses] == [()]
    asked = names.number(generator)
    assert [names.touched(one, generator.gi_frame) for one in accesses] == [((asked, "[]", "*", True),)]
    other: Any = cycle()
    next(other)
    assert [names.touched(one, other.gi_frame) for one in accesses] == [()]


def test_code_of_all_kinds_has_accesses():
    """A template's, that is no Python; loops; calls over several lines."""
    lines = [
        "def job(self):",
        "    for one in self.a:",
        "        while one:",
        "            one = (self",
        "                .next(one))",
        "    [x for x in zip(self.b, self.c)]",
        "    f(*self.d, **self.e)",
        "    with self.f:",
        "        self.g |= {1}",
    ]
    source = "\n".join(lines)
    code: Any = compile(source, "none.py", "exec").co_consts[0]
    kinds = [one.kind for one in accesses_of(code).values()]
    assert "next" in kinds
    assert LOOP in kinds
    assert all(one.base is None for one in accesses_of(code).values())


def test_files_that_are_no_python_and_code_that_is_gone(tmp_path):
    """Of a template that was made into code, the file says nothing; and a loop of `for` is no spin."""
    template = tmp_path / "page.tpl"
    template.write_text("{% for %}")
    code: Any = compile("def job(x):\n  while x:\n    x.y = 1\n", str(template), "exec").co_consts[0]
    assert {one.kind for one in accesses_of(code).values()} == {"attribute", LOOP}

    def loops(box: Any) -> None:
        for _ in box.list:
            print(box.method(box.number, box.list[0]))

    assert LOOP not in {one.kind for one in accesses_of(loops.__code__).values()}


def all_in(code: CodeType) -> list[Access]:
    """The accesses in a function, and in its comprehensions where those are functions of their own."""
    inner = [one for constant in code.co_consts if isinstance(constant, CodeType) for one in all_in(constant)]
    return [*accesses_of(code).values(), *inner]


def test_what_is_read_in_the_condition_of_a_comprehension_decides_something():
    box = probes.Box()

    def job() -> list[int]:
        return [box.number for one in box.list if box.kind]

    tests = {one.name: one.tests for one in all_in(job.__code__) if one.kind == "attribute"}
    assert tests == {"number": False, "list": False, "kind": True}


def test_who_awaits_is_no_generator_that_others_could_ask():
    async def waits(other: Any) -> None:
        await other

    def gives() -> Iterator[int]:
        yield 1

    kinds = [[one.kind for one in accesses_of(code).values()] for code in (waits.__code__, gives.__code__)]
    assert kinds == [[], ["yield"]]


def test_a_loop_goes_over_what_its_views_are_of_and_not_over_what_a_call_makes():
    box = probes.Box()

    def job() -> None:
        for _ in box.items.values():
            pass
        for _ in box.list.copy():
            pass

    assert [one.words.split()[-1] for one in accesses_of(job.__code__).values() if one.kind == "next"] == [
        "box.items.values():"
    ]


@pytest.mark.parametrize(("spelled", "wanted"), [("[]", ("item", False)), ("|=", ("item", True)), ("+", None)])
def test_which_binary_operations_touch_something(spelled, wanted):
    """From Python 3.14 on, an item is read by one."""
    code, source = an_access.__code__, module_of_accesses._source(__file__)
    found = module_of_accesses._binary(code, source, cast("Any", SimpleNamespace(argrepr=spelled)), (1, 1))
    assert (None if found is None else (found.kind, found.write)) == wanted


def test_an_object_has_not_the_number_of_a_dead_one_at_its_address():
    names, dead, new = Names(lambda code: False), probes.Box(), probes.Box()
    number = names.number(dead)
    names._known[id(new)] = names._known.pop(id(dead))
    assert names.number(new) == (number[0] + 1, "Box")


def test_of_code_without_source_and_of_what_must_be_called_everything_is_unknown():
    """A call may write anything, as may one of an item whose container has code of its own."""
    code: Any = compile("def job(call):\n  call()\n", "none.py", "exec").co_consts[0]

    def job(items: Any) -> None:
        items["a"].append(1)

    names = Names(lambda code: False)
    for one, values in ((code, {"call": print}), (job.__code__, {"items": ChainMap({"a": []})})):
        frame: Any = SimpleNamespace(f_locals=values, f_globals={}, f_builtins={}, f_back=None)
        (call,) = [access for access in accesses_of(one).values() if access.kind == "call"]
        assert names.touched(call, frame) == ((None, "[]", "*", True),)


@pytest.mark.parametrize(("length", "order"), [(1, [0, 1]), (9, [1, 0])])
def test_who_is_preempted_is_frozen_for_as_many_decisions(length, order):
    """For one it is not: the decision at which it lost its turn."""
    access = an_access()

    def preempted(watch: Watch) -> None:
        watch.arrive(access, sys._getframe())

    def pauses(watch: Watch) -> None:
        watch.world.pause(watch.world.records[get_ident()], rotate=True)

    schedule = Schedule(deviations=(Deviation(0, "preempt", 0, length, access.place),))
    assert arrivals(schedule, preempted, pauses)[1] == order


def test_who_is_preempted_goes_to_the_end():
    access = an_access()
    box = probes.Box()

    def arrive(watch: Watch) -> None:
        assert box.number == 0
        for _ in range(80):
            watch.arrive(access, sys._getframe())

    watch, order = arrivals(Schedule(deviations=(Deviation(3, "preempt", 0, 2, access.place),)), arrive, arrive)
    assert order == [1, 0]
    assert sum(step.worker == 0 and not step.touched for step in watch.steps) == 1
    assert len(watch.steps) == 2 * 64 + 1
    watch.take_apart()


def test_the_thread_of_the_body_is_told_of_while_it_has_another_to_race_with():
    access, box = an_access(), probes.Box()
    with world() as new:
        watch, lengths = Watch(new, Schedule(), lambda code: False), []
        other = Thread(target=lambda: None, name="other")
        for step in (lambda: None, other.start, other.join):
            step()
            watch.arrive(access, sys._getframe())
            new.ask(lambda: watch.arrive(access, sys._getframe()))  # this one is the search's own
            lengths.append(len(watch.steps))
    assert lengths == [0, 1, 1]
    assert watch.steps[0].touched == ((watch.names.number(box), "number", "*", True),)


@pytest.mark.parametrize(("module", "order"), [("logging", [0, 1]), ("another", [1, 0])])
def test_who_has_a_lock_of_the_standard_library_is_not_preempted(module, order):
    access = an_access()
    namespace: dict[str, Any] = {"__name__": module, "frame_of": sys._getframe}
    exec("def arrive(watch, access):\n    watch.arrive(access, frame_of())\n", namespace)

    def arrive(watch: Watch) -> None:
        namespace["arrive"](watch, access)

    schedule = Schedule(deviations=(Deviation(0, "preempt", 0, 1, access.place),))
    assert arrivals(schedule, arrive, lambda watch: None)[1] == order


def test_a_trace_function_tells_the_watch(monkeypatch):
    """Of the author's code only; and the one that was there before is told of everything."""
    found, told, events, current = module.Instruments(TestedCode()), [], [], [None]
    pretended = SimpleNamespace(gettrace=lambda: current[0], settrace=lambda new: current.__setitem__(0, new))
    monkeypatch.setattr(module, "sys", pretended)
    frame = sys._getframe()

    class Told:
        def arrive(self, access: Access, frame: Any) -> bool:
            told.append(access)
            return len(told) % 2 == 0

    def before(frame: Any, event: str, arg: Any) -> Any:
        events.append(event)
        return before

    offsets = list(found.accesses(frame) or ())
    told_of = SimpleNamespace(f_code=frame.f_code, f_lasti=offsets[0], f_locals={}, f_globals=frame.f_globals)
    alone, front = module._tracer(found, None), module._tracer(found, before)
    for tracer in (alone, front):
        local: Any = tracer(told_of, "call", None)
        local(told_of, "opcode", None)  # there is no world
        with world() as new:
            new.watch = Told()
            local(told_of, "opcode", None)
            assert local(told_of, "line", None) is local
            told_of.f_lasti = 10**6
            local(told_of, "opcode", None)
            told_of.f_lasti = offsets[0]
    assert len(told) == 2
    assert events == ["call", "line"]
    assert current == [front]
    ours = SimpleNamespace(f_code=world.__code__, f_globals={"__name__": "httpx", "__file__": "x.py"})
    assert [alone(ours, "call", None) for _ in range(2)] == [None, None]
    assert front(ours, "call", None) is before
    assert found.others
    bare = SimpleNamespace(f_code=compile("1", "<string>", "eval"), f_globals={}, f_back=None)
    assert alone(bare, "call", None) is None
    assert id(bare.f_globals) not in found.others
    generated = SimpleNamespace(f_code=compile("2", "<string>", "eval"), f_globals={"__file__": __file__}, f_back=None)
    assert found.tested.covers_frame(generated)


@dataclass
class Made:
    """An object with the frame of the `__init__` that made it."""

    frame: Any = field(default_factory=lambda: sys._getframe(1))


def test_what_a_dataclass_makes_its_objects_with_is_no_code_of_the_authors():
    """Each of its writes, which have no source, would be one to anything."""
    frame = Made().frame
    assert frame.f_code.co_name == "__init__"
    assert frame.f_globals["__file__"] == __file__
    assert not TestedCode().covers_frame(frame)


def before_it(frame: Any, event: str, arg: Any) -> None:
    """The trace function of another tool."""


@pytest.mark.parametrize("trace", [None, before_it])
def test_a_thread_is_traced_for_as_long_as_it_is_watched(trace, monkeypatch):
    """What it was traced by before, it is again afterwards; also what it goes back to."""
    found = module.Instruments(TestedCode())
    current: list[Any] = [trace]
    frame = SimpleNamespace(f_trace=None, f_back=None)
    pretended = SimpleNamespace(
        gettrace=lambda: current[0], settrace=lambda new: current.__setitem__(0, new), _getframe=lambda: frame
    )
    monkeypatch.setattr(module, "sys", pretended)
    with found.watching():
        assert current[0] not in (None, before_it)
    assert current == [trace]
    assert frame.f_trace is trace
