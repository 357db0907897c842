"""What threads did to what they share, as rows between the events of a run, and in the table of its story."""

from __future__ import annotations

import ast
from dataclasses import replace
from typing import Any

import pytest

from pytest_claude_tokens.report.accessed import accesses_before, merged
from pytest_claude_tokens.report.raced_lines import Touch, name_of, told_interpreter_lock
from pytest_claude_tokens.report.story import plain_story, story
from pytest_claude_tokens.report.table import table, who_accessed
from pytest_claude_tokens.report.timeline import timeline
from pytest_claude_tokens.simulation.accesses import Access
from pytest_claude_tokens.simulation.watch import Step
from pytest_claude_tokens.violations import CoSchedule, DoubleSpend
from tests.plugin.play import Play, found, spend_twice

BUSY, HIS = (1, "set"), (2, "Pool")


def step(thread: int, what: str, line: int, *, of: Any = BUSY, worker: int | None = None, **facts: Any) -> Step:
    """A step of a thread: ``read``, ``add`` (to the set), ``write`` (the attribute), or ``turn``, which it loses."""
    base = ast.parse("self.busy", mode="eval").body
    access = Access(
        place=f"pool.py:{line}:{what}",
        kind="call" if what == "add" else "item" if of is BUSY else "attribute",
        write=what != "read",
        name="add" if what == "add" else "",
        line=f"pool.py:{line}",
        words=f"pool.py:{line} ...",
        base=base,
        function="Pool.choose",
        tests=what == "read",
        **{"offset": line, **facts},
    )
    touched = () if what == "turn" else ((of, "[]" if of is BUSY else "busy", "*", what != "read"),)
    return Step(thread, thread if worker is None else worker, access, 0, touched, frozenset(), 0, True)


CHECKED = [step(0, "read", 31), step(0, "turn", 32), step(1, "read", 31), step(1, "add", 32), step(0, "add", 32)]


def test_each_conflicting_access_has_a_row_before_the_event_that_followed():
    """Of one thread at one line to one thing, one row; what nobody else touched has none."""
    steps = [step(0, "write", 30, of=HIS), *CHECKED, step(0, "read", 32)]
    assert merged(accesses_before(steps, {1: 0, 2: 5, 3: 7})) == {
        2: [
            {"actor": "w0", "what": "read Pool.busy", "at": "pool.py:31"},
            {"actor": "w0", "what": "lost its turn before", "at": "pool.py:32"},
            {"actor": "w1", "what": "read Pool.busy", "at": "pool.py:31"},
            {"actor": "w1", "what": "added to Pool.busy", "at": "pool.py:32"},
        ],
        3: [{"actor": "w0", "what": "added to and read Pool.busy", "at": "pool.py:32"}],
    }


@pytest.mark.parametrize("inner", ["", ".<locals>.<listcomp>", ".<locals>.<lambda>.<locals>.<genexpr>"])
def test_a_thing_has_the_name_of_the_class_whose_method_a_comprehension_is_in(inner):
    read = step(0, "read", 31)
    inside = replace(read, access=replace(read.access, function=f"Pool.choose{inner}"))
    assert name_of(Touch(inside, inside.touched[0])) == "Pool.busy"


def test_without_a_preemption_nothing_is_told():
    assert accesses_before([step(0, "read", 31), step(1, "add", 32)], {1: 0}) == {}
    assert accesses_before(CHECKED, {}) == {}


def test_of_many_accesses_those_near_the_lost_turn_are_told_and_the_others_counted():
    """They stand at both ends; what happened after the last event is told before it."""
    loop = [step(thread, "add", line) for line in range(10) for thread in (0, 1)]
    [rows] = merged(accesses_before([*loop, *CHECKED, *loop], {1: 0})).values()
    assert len(rows) == 18
    assert rows[0] == {"actor": "", "what": "... 13 more accesses", "at": ""}
    assert rows[-1] == {"actor": "", "what": "... 16 more accesses", "at": ""}
    assert {"actor": "w0", "what": "lost its turn before", "at": "pool.py:32"} in rows


def test_a_thing_has_one_name_in_all_rows():
    """``len(self.busy)`` alone knows only that it is a set."""
    alone = step(0, "read", 30)
    alone = replace(alone, access=replace(alone.access, kind="call", base=ast.parse("len", mode="eval").body))
    [rows] = merged(accesses_before([alone, *CHECKED], {1: 9})).values()
    assert rows[0]["what"] == "read Pool.busy"


def rows(accesses: Any, **options: Any) -> list[str]:
    play = Play()
    play.end(play.call("w1", play.login().access[0].secret))
    return [row[20:] for row in table(play.history.with_facts({}, {2: {"accesses": accesses}}), {2}, **options)]


def test_the_table_shows_them_in_the_columns_of_their_workers():
    """Who has sent nothing has one, too; a thread that is no worker is named."""
    told = [
        {"actor": "w0", "what": "read Pool.busy", "at": "pool.py:31"},
        {"actor": "a thread of the test", "what": "wrote Pool.open", "at": "pool.py:50"},
        {"actor": "", "what": "... 3 more accesses", "at": ""},
    ]
    assert rows(told) == [
        "w0                     w1                     service",
        "                                              issued g#1: at#1 rt#1",
        "read Pool.busy pool.py:31",
        "a thread of the test: wrote Pool.open pool.py:50",
        "... 3 more accesses",
        "                       call at#1 ...",
        "                       ... 200",
    ]
    play = Play()
    play.end(play.call("w1", play.login().access[0].secret))
    assert who_accessed(play.history.with_facts({}, {2: {"accesses": told}})) == {"w0"}


def test_they_have_half_of_the_rows_at_most():
    """And leave the others to the requests."""
    told = [{"actor": "w0", "what": f"read {number}", "at": ""} for number in range(9)]
    assert [row.strip() for row in rows(told, rows=6)] == [
        "w0                     w1                     service",
        "issued g#1: at#1 rt#1",
        *(f"read {number}" for number in (6, 7, 8)),
        "call at#1 ...",
        "... 200",
    ]


@pytest.mark.parametrize("odd", ["text", [1, "text"], [{}], [{"actor": 5, "what": None}]])
def test_a_file_that_others_wrote_may_hold_anything_there(odd: Any):
    assert "call at#1 ..." in rows(odd)[-2]


def test_the_timeline_tells_them_with_the_event_that_followed():
    play = Play()
    play.end(play.call("w1", play.login().access[0].secret))
    told = [{"actor": "w0", "what": "read Pool.busy", "at": "pool.py:31"}, {"actor": "", "what": "... 3 more accesses"}]
    page = timeline(play.history.with_facts({}, {2: {"accesses": told}}))
    assert "call at#1 ... (before: w0 read Pool.busy pool.py:31; ... 3 more accesses)" in page


def lock(*steps: Step) -> str:
    return told_interpreter_lock(steps)


def test_the_interpreter_lock_is_said_to_help_where_it_never_changes_hands():
    """Where there is no call and no end of a loop between the two accesses, on a build that has such a lock."""
    assert lock(*CHECKED) == (
        "interpreter lock: this build never hands it on by itself between pool.py:31 and pool.py:32; "
        "free-threaded Python has none, and the language promises nothing"
    )
    after_a_call = replace(CHECKED[-1], access=replace(CHECKED[-1].access, stretch=1))
    assert lock(*CHECKED[:-1], after_a_call).startswith("interpreter lock: no help, it may be handed on between")
    once_more = [*CHECKED[:-1], step(0, "read", 40, of=HIS), CHECKED[-1]]  # another round of a loop
    assert lock(*once_more).startswith("interpreter lock: no help")
    around_a_loop = replace(CHECKED[-1], access=replace(CHECKED[-1].access, rounds=((0, 31),)))
    assert "by itself between" in lock(*CHECKED[:-1], around_a_loop)
    after_a_loop = replace(CHECKED[-1], access=replace(CHECKED[-1].access, rounds=((32, 33),), offset=40))
    assert lock(*CHECKED[:-1], after_a_loop).startswith("interpreter lock: no help")
    one_line = [replace(one, access=replace(one.access, line="pool.py:5")) for one in CHECKED]
    assert "by itself within pool.py:5; " in lock(*one_line)


def test_of_the_interpreter_lock_nothing_is_said_without_a_race_or_without_a_lock(monkeypatch: pytest.MonkeyPatch):
    assert lock(step(0, "read", 31), step(1, "add", 32)) == ""
    assert lock(*CHECKED[:-1]) == ""  # it went on with what it had read
    monkeypatch.setattr("sys._is_gil_enabled", lambda: False, raising=False)
    assert lock(*CHECKED) == ""


RACE = (
    "check, then act: w1 added to Pool.busy (pool.py:32) between w0's test (pool.py:31) and w0's own add (pool.py:32)"
)


@pytest.mark.parametrize(("cls", "then"), [(CoSchedule, "chosen while in use"), (DoubleSpend, "no lease seen")])
def test_the_race_comes_first_in_why(cls: Any, then: str):
    """Without it, nothing else would have happened; the rest of the cause follows."""
    play = Play()
    first, again = spend_twice(play, overlap=True)
    seen = {"seen": {"sent": 1, "ended": 9, "held": [], "lost": [], "gave_up": []}}
    violation = found(play, cls, first, again, cause=f"{RACE}; the rest of it")
    text = " ".join(story(play.history.with_facts({first.op or 0: seen, again.op or 0: seen}), violation).split())
    assert f"why {RACE}; {then}" in text


def test_a_finding_that_is_no_violation_has_a_why_too():
    assert f"why {RACE}" in " ".join(plain_story(Play().history, "RuntimeError: changed", why=RACE).split())
