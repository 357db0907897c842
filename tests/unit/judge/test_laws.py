"""Laws that hold for any history at all, drawn from the real service and unruly workers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fake_server.events import Event
from pytest_claude_tokens.judge.history import History
from pytest_claude_tokens.judge.judging import judge
from tests.unit.judge.unruly import ACTORS, unruly


def essence(history: History) -> list[tuple]:
    """What is found, without numbers that a further event would shift."""
    return [
        (violation.invariant, violation.grant, [op.op for op in violation.operations], violation.more)
        for violation in judge(history).violations
    ]


@st.composite
def noise(draw, history: History) -> list[list[Event]]:
    """Events that have nothing to do with it, before each event and after the last."""
    kinds = draw(st.lists(st.sampled_from(["", "", "lease", "queue", "login", "other"]), max_size=len(history) + 1))
    found = []
    for n, kind in enumerate([*kinds, *[""] * (len(history) + 1 - len(kinds))]):
        t = history.events[min(n, len(history) - 1)].t if len(history) else 0.0
        about: dict[str, Any] = {"seq": 0, "t": t, "account": "noise", "grant": f"g#{n + 100}"}
        if kind == "other":
            asked = {**about, "actor": draw(st.sampled_from(ACTORS)), "f": "other", "op": 1000 + n, "bearer": "at#1"}
            found.append([Event(**asked, type="invoke"), Event(**asked, type="ok", status=200)])
        elif kind == "login":
            pair = {"access": "at#1", "refresh": "rt#1"}
            found.append([Event(**about, actor="service", type="note", f=kind, issued=pair, data={"expires": 1e9})])
        else:
            found.append([Event(**about, actor="w0", type="note", f=kind)] if kind else [])
    return found


@given(data=st.data(), history=unruly())
@settings(max_examples=80, deadline=None)
def test_what_has_nothing_to_do_with_it_changes_nothing(data, history):
    """Other grants, other requests, other notes."""
    between = data.draw(noise(history))
    events = [event for pair in zip(between, history.events, strict=False) for event in (*pair[0], pair[1])]
    events += between[len(history)]
    louder = History(history.header, [replace(event, seq=seq) for seq, event in enumerate(events, 1)])

    assert essence(louder) == essence(history)
    assert judge(louder).state == judge(history).state


@given(history=unruly())
@settings(max_examples=80, deadline=None)
def test_what_has_been_broken_stays_broken(history):
    """A violation that does not wait for the end is there in each longer history, completed by the same event."""
    before = set()
    for length in range(len(history) + 1):
        part = History(history.header, history.events[:length])
        now = {(it.invariant, it.seq, str(it)) for it in judge(part).violations if not it.at_end}
        assert before <= now
        assert all(seq == length for _, seq, _ in now - before)
        before = now


@given(history=unruly())
@settings(max_examples=60, deadline=None)
def test_a_verdict_is_the_same_from_a_file(tmp_path_factory, history):
    """`check` says what the run said."""
    path = tmp_path_factory.mktemp("history") / "history.jsonl"
    path.write_text("\n".join(event.to_json() for event in (history.header, *history)) + "\n", encoding="utf-8")
    loaded, run = judge(History.load(path)), judge(history)

    assert (loaded.state, [str(it) for it in loaded.violations]) == (run.state, [str(it) for it in run.violations])
    assert [str(note) for note in loaded.notes] == [str(note) for note in run.notes]


@given(history=unruly())
@settings(max_examples=60, deadline=None)
def test_violations_are_in_order_and_fit_their_lines(history):
    """The first to be completed comes first; no headline is longer than a summary can show."""
    found = judge(history).violations

    assert [it.order for it in found] == sorted(it.order for it in found)
    assert all(len(str(it)) <= 60 and it.cause for it in found)
    assert all(it.seq in {event.seq for event in history} for it in found)


@given(history=unruly())
@settings(max_examples=60, deadline=None)
def test_allowing_all_that_was_found_makes_it_valid(history):
    """What is allowed is a note, and no more than that."""
    found = judge(history)
    allowed = judge(history, allow={it.invariant for it in found.violations})

    assert allowed.state == "VALID"
    assert len(allowed.notes) == len(found.violations) + len(found.notes)
