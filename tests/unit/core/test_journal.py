"""The journal and its lines: in order, on disk at once, read back as they were."""

from __future__ import annotations

import io
import json
from contextlib import suppress
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from fake_server.clock import Clock
from fake_server.core.journal import SERVICE, Journal, lines
from fake_server.events import FORMAT, Event
from fake_server.secrecy import is_name
from tests.unit.core.harness import World

GOOD = {"v": 1, "seq": 7, "t": 1.25, "actor": "w1", "type": "invoke", "f": "token", "op": 3}


def test_every_event_is_a_line_before_anything_can_follow_from_it() -> None:
    """The sink has it, flushed, when the observers are called; the header is line 0."""
    seen: list[tuple[Event, str]] = []
    flushed: list[str] = []

    class Sink(io.StringIO):
        def flush(self) -> None:
            flushed.append(self.getvalue())

    journal = Journal(Clock(lambda: 10.0), {"policy": {"name": "anthropic"}}, Sink())
    journal.observers.append(lambda event: seen.append((event, flushed[-1])))
    op = journal.operation()
    first = journal.add("invoke", "call", actor="w0", op=op)
    second = journal.note("queue", op=op, waited=1.5, bearer="at#1")

    assert [event for event, _ in seen] == [first, second] == journal.events
    assert all(text.endswith(event.to_json() + "\n") for event, text in seen)
    assert [json.loads(line)["seq"] for line in flushed[-1].splitlines()] == [0, 1, 2]
    assert (journal.operation(), op) == (2, 1)


def test_a_file_promises_its_end_and_a_history_in_memory_does_not() -> None:
    """A reader of a file without the note `end` knows that it is not whole; a copy made on the way is none the less."""
    sink = io.StringIO()
    journal = Journal(Clock(lambda: 10.0), {"limit": 1}, sink)

    assert json.loads(sink.getvalue()) == json.loads(journal.header.to_json()) | {"ends": True}
    assert "ends" not in journal.header.data


def test_the_header_tells_what_was_tested() -> None:
    """Policy, clock, and whatever the caller adds."""
    world = World("keycloak", latency=1)
    header = json.loads(world.lines[0])

    assert (header["type"], header["f"], header["seq"], header["actor"]) == ("header", "header", 0, SERVICE)
    assert header["policy"] == {
        "name": "keycloak",
        "reuse": "revoke-family",
        "grace_mode": "previous-only",
        "grace_count": 0,
        "latency": 1,
    }
    assert header["clock"] == {"kind": "virtual", "start": 1_700_000_000.0}


def test_time_is_told_since_the_journal_was_opened() -> None:
    """In microseconds at most, and backwards where the clock goes so."""
    times = iter([100.0, 100.1234567, 99.0])
    journal = Journal(Clock(lambda: next(times)), {})
    assert [journal.note("x").t, journal.note("x").t] == [0.123457, -1.0]


def test_a_note_has_its_known_fields_apart() -> None:
    """What every event may have is a field, the rest is extra; both are top-level in the line."""
    journal = Journal(Clock(lambda: 0.0), {})
    note = journal.note("leak", actor="w1", account="alice", grant="g#1", status=3, where="log", what=None)

    assert (note.type, note.actor, note.account, note.grant, note.status) == ("note", "w1", "alice", "g#1", 3)
    assert note.data == {"where": "log", "what": None}
    assert (note.get("where"), note.get("nothing"), note.get("nothing", 5)) == ("log", None, 5)
    assert json.loads(note.to_json())["where"] == "log"


TEXTS = st.text().filter(is_name)  # a secret in a line does not come back
LABELS = st.none() | TEXTS
EXTRA = st.dictionaries(
    TEXTS.filter(lambda name: name not in {"v", *Event.__slots__}),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
        max_leaves=5,
    ),
    max_size=4,
)
EVENTS = st.builds(
    Event,
    seq=st.integers(),
    t=st.floats(allow_nan=False, allow_infinity=False),
    actor=TEXTS,
    type=st.sampled_from(["header", "invoke", "ok", "fail", "info", "note"]),
    f=TEXTS,
    op=st.none() | st.integers(),
    account=LABELS,
    grant=LABELS,
    refresh=LABELS,
    bearer=LABELS,
    issued=st.none() | st.dictionaries(st.sampled_from(["access", "refresh"]), LABELS),
    status=st.none() | st.integers(),
    error=LABELS,
    data=EXTRA,
)


@given(EVENTS)
def test_an_event_comes_back_from_its_line(event: Event) -> None:
    """Whatever names it has in it, the line is one line of ASCII."""
    line = event.to_json()
    assert line.isascii()
    assert len(line.splitlines()) == 1
    assert Event.from_json(line) == event
    assert Event.from_json(line).to_json() == line


def test_a_line_begins_with_its_version_and_has_every_field() -> None:
    """Readers in other languages rely on it."""
    line = json.loads(Event(seq=1, t=0.0, actor="w0", type="ok", f="call").to_json())
    names = ["v", "seq", "t", "actor", "type", "f", "op", "account", "grant", "refresh", "bearer", "issued", "status"]
    assert list(line) == [*names, "error"]
    assert line["v"] == FORMAT


def test_a_minimal_line_will_do() -> None:
    """What is left out is ``None``, what is unknown is extra."""
    event = Event.from_json(json.dumps({**GOOD, "wait": 3}))
    assert (event.seq, event.grant, event.data) == (7, None, {"wait": 3})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        '{"v":1,"seq":7',
        "[]",
        "7",
        "null",
        "[" * 100_000,
        "{}",
        *[json.dumps({name: value for name, value in GOOD.items() if name != missing}) for missing in [*GOOD][:6]],
        *[
            json.dumps({**GOOD, name: value})
            for name, value in [
                ("v", 2),
                ("v", "1"),
                ("seq", "7"),
                ("seq", True),
                ("seq", 7.0),
                ("seq", None),
                ("t", "now"),
                ("t", True),
                ("t", float("nan")),
                ("t", float("inf")),
                ("actor", 5),
                ("type", "begin"),
                ("type", []),
                ("f", None),
                ("op", "3"),
                ("status", 2.5),
                ("account", 5),
                ("grant", []),
                ("refresh", {}),
                ("bearer", False),
                ("error", 5),
                ("issued", "at#1"),
                ("issued", {"access": 1}),
            ]
        ],
    ],
    ids=lambda text: text[:60],
)
def test_a_line_that_is_no_event_is_a_value_error(text: str) -> None:
    """Torn, of another format, or with a field of a wrong type: never another exception, never an event."""
    with pytest.raises(ValueError):
        Event.from_json(text)


@pytest.mark.parametrize("depth", [100, 500, 950, 5000])
def test_a_line_nested_deeply_is_an_event_or_a_value_error(depth: int) -> None:
    """How deeply depends on the interpreter; where the reader does not give up, what redacts its texts may."""
    deep = json.dumps(GOOD)[:-1] + ',"wait":' + "[" * depth + "]" * depth + "}"
    with suppress(ValueError):
        assert isinstance(Event.from_json(deep).get("wait"), list)


@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=4).map(json.dumps))
def test_no_text_makes_the_reader_raise_anything_else(text: str) -> None:
    """A history file may hold anything."""
    with pytest.raises(ValueError):
        Event.from_json(text)


@given(st.dictionaries(st.sampled_from([*GOOD, "issued", "status", "error"]), st.none() | st.integers() | st.text()))
def test_no_object_makes_the_reader_raise_anything_else(changes: dict[str, Any]) -> None:
    """It is an event, or a ``ValueError``."""
    try:
        event = Event.from_json(json.dumps({**GOOD, **changes}))
    except ValueError:
        return
    assert isinstance(event, Event)


def test_what_comes_after_the_end_is_no_part_of_the_file() -> None:
    """It was not judged, either; so the file ends in the line that says so."""
    sink = io.StringIO()
    journal = Journal(Clock(lambda: 10.0), {}, sink)
    journal.note("end", grants={})
    journal.note("late")

    assert [json.loads(line)["f"] for line in sink.getvalue().splitlines()] == ["header", "end"]
    assert [event.f for event in journal.events] == ["end", "late"]


def test_a_history_of_no_events_has_an_end() -> None:
    """The header promises it, and the end follows it."""
    journal = Journal(Clock(lambda: 10.0), {})
    header, end = map(json.loads, lines(journal.header, []))

    assert (header["ends"], end["f"], end["seq"], end["so_far"]) == (True, "end", 1, True)
