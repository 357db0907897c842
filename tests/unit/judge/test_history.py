"""Histories: events in order, operations, labels, and files."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import replace

import pytest

from fake_server.events import Event
from pytest_claude_tokens.judge.history import History, Operation
from pytest_claude_tokens.judge.judging import State, judge
from tests.unit.judge.build import events, history

SPENT_TWICE = """
login
a: w0 token rt#1
b: w1 token rt#1
a ok at#2 rt#2 committed=true
b fail 400 fault=html
c: w0 call at#2
"""


def lines(text: str = SPENT_TWICE) -> list[str]:
    told = history(text)
    return [event.to_json() for event in (told.header, *told)]


def written(tmp_path, text: str):
    path = tmp_path / "history.jsonl"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_it_iterates_over_its_events_without_the_header():
    """Iterating gives what happened; the header is beside it."""
    told = history(SPENT_TWICE)

    assert [event.seq for event in told] == [1, 2, 3, 4, 5, 6]
    assert len(told) == 6
    assert told.header.type == "header"
    assert repr(told) == "<History 6 events, 3 operations>"


def test_an_operation_has_its_two_ends_and_says_how_it_went():
    """A request is one value, from its invoke to its end."""
    a, b, c = history(SPENT_TWICE).operations

    assert (a.actor, a.f, a.account, a.grant, a.refresh, a.bearer) == ("w0", "token", "work", "g#1", "rt#1", None)
    assert (a.opened, a.closed, a.outcome, a.status) == (2, 4, "ok", 200)
    assert a.issued == {"access": "at#2", "refresh": "rt#2"}
    assert (a.committed, a.fault) == (True, None)
    assert (b.outcome, b.status, b.issued, b.committed, b.fault) == ("fail", 400, {}, False, "html")
    assert (c.outcome, c.closed, c.status, c.issued, c.committed, c.fault) == ("open", None, None, {}, False, None)
    assert (c.bearer, str(c)) == ("at#2", "w0 (#6)")


def test_a_login_by_code_belongs_to_the_grant_that_it_made():
    """The request presents nothing; its end knows the grant."""
    (op,) = history("a: w0 token grant_type=authorization_code\na ok at#1 rt#1 grant=g#1 account=work").operations
    (open_one,) = history("a: w0 token grant_type=authorization_code").operations

    assert (op.grant, op.account) == ("g#1", "work")
    assert (open_one.grant, open_one.account) == (None, None)


@pytest.mark.parametrize(("seq", "expected"), [(2, False), (3, True), (4, False), (5, False)])
def test_an_operation_is_open_strictly_between_its_two_events(seq, expected):
    """Order is that of the numbers: what touches does not overlap."""
    assert history(SPENT_TWICE).operations[0].open_at(seq) is expected


def test_an_operation_that_has_not_ended_stays_open():
    """Without an end there is none."""
    assert history(SPENT_TWICE).operations[2].open_at(1000)


def test_one_grant_needs_no_account_in_its_labels():
    """With one grant a label says it all."""
    assert history(SPENT_TWICE).label("g#1", "rt#1") == "rt#1"


def test_with_several_grants_a_label_names_the_account():
    """With several grants people must know whose token it is."""
    told = history("login\nlogin g#2")

    assert told.label("g#2", "rt#1") == "home:rt#1"
    assert told.label(None, "rt#1") == "rt#1"
    assert told.label("g#9", None) == "no token"
    assert told.accounts == {"g#1": "work", "g#2": "home"}


def test_a_grant_whose_account_is_unknown_is_named_by_itself():
    """A file by another hand may leave the account out."""
    told = history("login\nnote expire grant=g#2 account=null")

    assert told.label("g#2", "rt#1") == "g#2:rt#1"


@pytest.mark.parametrize(
    ("policy", "rotates"),
    [
        ("no-rotation", False),
        ({"name": "no-rotation"}, False),
        ({"name": "mine", "rotate": False}, False),
        ("mine", None),
    ],
)
def test_a_policy_may_be_told_by_its_name_alone(policy, rotates):
    """A header by another hand may name a preset and no more."""
    assert history("login", policy).policy.get("rotate") is rotates


def test_a_header_may_have_no_policy():
    """Then the defaults hold."""
    assert History(Event(seq=0, t=0, actor="s", type="header", f="header"), []).policy == {}


def test_operations_survive_a_pickle_and_a_copy():
    """pytest-xdist sends them from one process to another."""
    op = history(SPENT_TWICE).operations[0]

    assert pickle.loads(pickle.dumps(op)) == op == copy.copy(op)
    assert isinstance(op, Operation)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (lambda it: [it[1], it[0]], "#1 comes after #2: events are numbered upwards"),
        (lambda it: [it[0], it[1], it[1]], "#2 comes after #2: events are numbered upwards"),
        (lambda it: [it[0], it[3]], "#4 ends operation 1, which is not under way"),
        (lambda it: [*it[:4], copy_of(it[3], seq=5)], "#5 ends operation 1, which is not under way"),
        (lambda it: [it[1], copy_of(it[2], op=1)], "#3 begins operation 1: each has a number of its own"),
        (lambda it: [copy_of(it[1], op=None)], "#2 begins operation None"),
        (lambda it: [copy_of(it[0], type="header")], "#1 is a header"),
    ],
)
def test_events_that_cannot_be_a_history_are_refused(wrong, why):
    """An operation has two events, and their numbers rise."""
    with pytest.raises(ValueError, match=why):
        History(history("").header, wrong(events(SPENT_TWICE)))


def copy_of(event: Event, **changes) -> Event:
    fields = {name: getattr(event, name) for name in Event.__dataclass_fields__}
    return Event(**(fields | changes))


def test_a_file_gives_the_history_that_was_written(tmp_path):
    """What a run knew, its file says."""
    path = written(tmp_path, "\n\n".join(lines()) + "\n\n")

    loaded = History.load(path)

    assert loaded.events == history(SPENT_TWICE).events
    assert loaded.header == history(SPENT_TWICE).header
    assert (loaded.torn, loaded.notes) == (False, ())


def test_a_last_line_without_its_newline_is_whole(tmp_path):
    """A file that another hand wrote may end without one."""
    loaded = History.load(written(tmp_path, "\n".join(lines())))

    assert (len(loaded), loaded.torn) == (6, False)


@pytest.mark.parametrize("cut", [1, 20, -1])
@pytest.mark.parametrize("end", ["", "\n"])
def test_a_torn_last_line_is_skipped_and_told(tmp_path, cut, end):
    """A killed writer leaves a part of a line; what comes before it counts."""
    *before, last = lines()

    loaded = History.load(written(tmp_path, "\n".join([*before, last[:cut]]) + end))

    assert len(loaded) == 5
    assert loaded.torn
    assert "torn" in loaded.notes[0]
    assert "line 7" in loaded.notes[0]
    assert repr(loaded) == "<History 5 events, 2 operations, torn>"


@pytest.mark.parametrize(
    ("end", "torn"), [([], True), (['{"v":1,"seq":7,"t":9.0,"actor":"service","type":"note","f":"end"}'], False)]
)
def test_an_end_that_was_promised_and_is_not_there_is_a_tear(tmp_path, end, torn):
    """A writer that is killed between two lines leaves whole ones; its header has promised the note `end`."""
    header, *others = lines()
    promising = json.dumps({**json.loads(header), "ends": True})

    loaded = History.load(written(tmp_path, "\n".join([promising, *others, *end])))

    assert (len(loaded), loaded.torn) == (6 + len(end), torn)
    assert loaded.notes == (("it is torn after line 7: its writer was killed, or is still at work",) if torn else ())


def test_a_tear_is_told_once(tmp_path):
    """A line that is cut off says it all."""
    header, *others = lines()
    promising = json.dumps({**json.loads(header), "ends": True})

    loaded = History.load(written(tmp_path, "\n".join([promising, *others[:-1], others[-1][:9]])))

    assert loaded.notes == ("line 7 is torn (its writer was killed) and was skipped",)


@pytest.mark.parametrize("length", [1, 9, 60])
def test_a_header_can_be_torn_itself(tmp_path, length):
    """Nothing is known then: neither valid nor broken."""
    loaded = History.load(written(tmp_path, lines()[0][:length]))

    assert (len(loaded), loaded.torn) == (0, True)
    assert loaded.notes == ("line 1 is torn (its writer was killed) and was skipped",)
    assert loaded.header == Event(seq=0, t=0.0, actor="service", type="header", f="header")
    assert judge(loaded).state is State.UNKNOWN


def test_a_character_cut_in_half_is_a_tear(tmp_path):
    """A tear can go through a character."""
    path = tmp_path / "history.jsonl"
    path.write_bytes(lines()[0].encode() + b'\n{"v":1,"actor":"\xc3')

    assert History.load(path).torn


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (lambda it: [], "is empty"),
        (lambda it: ['{"values": ['], "line 1 is not JSON.*begins with a header"),
        (lambda it: [it[0][:60], *it[1:]], "line 1 is not JSON.*begins with a header"),
        (lambda it: it[1:], "line 1 is not the header"),
        (lambda it: [it[0], "oops", *it[1:]], "line 2 is not JSON.*only a last line may be torn"),
        (lambda it: [*it, '{"v":2}'], 'line 8 is not an event: an event of format 1 has "v": 1'),
        (lambda it: [*it, "[]"], "line 8 is not an event: an event is a JSON object"),
        (lambda it: [it[0], it[2], it[1]], r"line 3 \(#1\) comes after #2"),
        (lambda it: [it[0], it[4]], r"line 2 \(#4\) ends operation 1"),
        (
            lambda it: [it[0], it[1].replace('"t":0.0', '"t":"now"')],
            "line 2 is not an event: not an event: its .t. is .now.",
        ),
    ],
)
def test_a_broken_file_is_refused_by_line_and_with_a_remedy(tmp_path, broken, told):
    """A sentence says which line, what is wrong with it, and what to do."""
    path = written(tmp_path, "\n".join(broken(lines())))

    with pytest.raises(ValueError, match=told) as caught:
        History.load(path)

    assert str(path) in str(caught.value)
    remedies = (
        ": only a last line may be torn; take the file as it was written, or cut it before this line",
        ": a history file begins with a header line; is this one, and is it whole?",
    )
    begun = told.startswith(("line 2", "line 3", "line 8"))
    assert told == "is empty" or str(caught.value).endswith(remedies[not begun])


@pytest.mark.parametrize(("end", "torn"), [("\n", True), (" ", False), (" \n", False), ("X", False)])
def test_a_torn_header_is_the_beginning_of_one_and_nothing_else(tmp_path, end, torn):
    """A newline may follow it; a blank is none of what our writer writes there."""
    path = written(tmp_path, '{"v":1,"seq":0' + end)

    if torn:
        assert History.load(path).torn
    else:
        with pytest.raises(ValueError, match="line 1 is not JSON"):
            History.load(path)


def test_a_name_that_a_terminal_would_obey_is_read_as_text(tmp_path):
    """By another hand: our service escapes it before it writes it."""
    header, *others = lines("a: w\x1b[2J token rt#1\nb: w1 token rt#1")

    assert [event.actor for event in History.load(written(tmp_path, "\n".join([header, *others])))] == [
        "w\\x1b[2J",
        "w1",
    ]


def test_further_facts_come_into_copies_of_the_events():
    """By the number of a request, into its first event; by the number of an event, into that one."""
    told = history(SPENT_TWICE)
    told.quiet = quiet = replace(told.quiet)
    more = told.with_facts({1: {"line": "a.py:1"}, 0: {"line": "?"}}, {1: {"why": "x"}, 2: {"why": "y"}})

    assert [dict(event.data).keys() - old.data.keys() for event, old in zip(more, told, strict=True)] == [
        {"why"},
        {"line", "why"},
        *[set()] * 4,
    ]
    assert (more.events[1].get("line"), more.events[1].get("grant_type")) == ("a.py:1", "refresh_token")
    assert (more.header, more.torn, more.notes, more.quiet) == (told.header, False, (), quiet)
    torn = History(told.header, told.events, torn=True, notes=("why",)).with_facts({})
    assert (torn.torn, torn.notes, torn.events) == (True, ("why",), told.events)
