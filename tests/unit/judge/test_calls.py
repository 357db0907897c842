"""Bearers that two workers use at once, and bearers that are over: planted bugs are caught, sound twins spared."""

from __future__ import annotations

import pytest

from pytest_claude_tokens.judge.judging import check_co_schedule, judge
from tests.unit.judge.build import history, noted, told

BY_ACCOUNT = {"name": "mine", "key": "account"}

CO_SCHEDULES = {
    "two workers overlap": "a: w0 call at#1\nb: w1 call at#1\na ok\nb ok",
    "the first never ends": "a: w0 call at#1\nb: w1 call at#1",
    "the second waits in the gate": "a: w0 call at#1\nb: w1 call at#1\na ok\nnote queue op=2 waited=2\nb ok",
    "the bearer is dead": "a: w0 call at#1\nb: w1 call at#1\na fail 401 reason=expired\nb fail 401 reason=expired",
    "beside a second call of the first worker": "a: w0 call at#1\nb: w0 call at#1\na ok\nc: w1 call at#1",
}


@pytest.mark.parametrize("story", CO_SCHEDULES.values(), ids=CO_SCHEDULES)
def test_two_workers_with_a_call_on_one_bearer_are_found(story):
    """A call is open from its arrival to its end, its wait included."""
    assert [violation.invariant for violation in judge(history("login\n" + story)).violations] == ["co-schedule"]


NO_CO_SCHEDULES = {
    "one after the other": "a: w0 call at#1\na ok\nb: w1 call at#1\nb ok",
    "the first one's client has gone": "a: w0 call at#1\na info error=gone\nb: w1 call at#1\nb ok",
    "the same worker twice": "a: w0 call at#1\nb: w0 call at#1\na ok\nb ok",
    "two bearers": "a: w0 call at#1\nb: w1 call at#2\na ok\nb ok",
    "the same label of two grants": "login g#2\na: w0 call at#1\nb: w1 call g#2/at#1\na ok\nb ok",
    "a small endpoint": "a: w0 call at#1\nb: w1 other at#1\na ok\nb ok",
    "two small endpoints": "a: w0 other at#1\nb: w1 other at#1\na ok\nb ok",
    "bearers that were not minted here": "a: w0 call unknown\nb: w1 call unknown\na fail 401\nb fail 401",
    "no bearer at all": "a: w0 call\nb: w1 call\na fail 401\nb fail 401",
}


@pytest.mark.parametrize("story", NO_CO_SCHEDULES.values(), ids=NO_CO_SCHEDULES)
def test_what_is_no_co_schedule_is_spared(story):
    """They do not meet, or not on one bearer."""
    assert told(judge(history("login\n" + story))) == []


@pytest.mark.parametrize("name", [name for name in NO_CO_SCHEDULES if name != "two bearers"])
def test_under_a_key_by_account_it_is_spared_as_well(name):
    """All but two bearers of one account."""
    assert told(judge(history("login\n" + NO_CO_SCHEDULES[name], BY_ACCOUNT))) == []


def test_under_a_key_by_account_two_bearers_of_it_are_one():
    """The service serializes by account, so must the dispatcher."""
    story = "login\nlogin g#3\na: w0 call at#1\nb: w1 call g#3/at#1"

    assert told(judge(history(story))) == []
    assert told(judge(history(story, BY_ACCOUNT))) == ["co-schedule: work by w0 (#3) and w1 (#4)"]


def test_a_co_schedule_says_who_when_and_for_how_long():
    """The seconds together are what it cost."""
    story = "login\na: w0 call at#1\nt 2\nb: w1 call at#1\nt 4.5\na ok\nt 9\nb ok"

    (violation,) = judge(history(story)).violations

    assert str(violation) == "at#1 by w0 (#2) and w1 (#3)"
    assert (violation.seq, violation.actors, violation.labels, violation.grant) == (3, ("w0", "w1"), ("at#1",), "g#1")
    assert violation.cause == "w1 began a call on at#1 while #2 was open, for 2.5 s"
    (short,) = judge(history(story.replace("t 4.5", "t 2.5"))).violations
    assert short.cause.endswith(", for 0.5 s")
    (third,) = judge(history("login\n" + "\n".join(f"{n}: w{n} call at#1" for n in range(3))), limit=2).violations
    assert third.cause == "w2 began a call on at#1 while #2, #3 was open"


def test_of_several_calls_of_one_worker_the_oldest_is_told():
    """That is the one which was open first, and which the other worker should have waited for."""
    story = "login\na: w0 call at#1\nb: w0 call at#1\nc: w1 call at#1"

    (violation,) = judge(history(story)).violations

    assert str(violation) == "at#1 by w0 (#2) and w1 (#4)"
    assert [op.opened for op in violation.operations] == [2, 4]
    assert violation.cause == "w1 began a call on at#1 while #2 was open"


@pytest.mark.parametrize("ends", ["", "\na ok", "\na ok\nb ok"])
def test_an_overlap_that_took_no_time_or_has_not_ended_names_no_seconds(ends):
    """Order is all that counts."""
    (violation,) = judge(history("login\na: w0 call at#1\nb: w1 call at#1" + ends)).violations

    assert violation.cause == "w1 began a call on at#1 while #2 was open"


def test_an_overlap_is_told_once_however_many_have_come():
    """Four workers on one bearer are one mistake; two on another one are a second."""
    story = "login\n" + "\n".join(f"{n}: w{n} call at#1" for n in range(4)) + "\na: w0 call at#2\nb: w1 call at#2"
    first, second = judge(history(story)).violations

    assert (str(first), first.more) == ("at#1 by w0 (#2) and w1 (#3)", 2)
    assert (str(second), second.more) == ("at#2 by w0 (#6) and w1 (#7)", 0)


OVERLAP = "{0}a: w0 call at#1\n{0}b: w1 call at#1\n{0}a ok\n{0}b ok\n"


def test_overlaps_are_told_apart():
    """Where nobody had a call open in between, the next time is another mistake."""
    story = "login\n" + "".join(OVERLAP.format(name) for name in "xyz")

    found = judge(history(story)).violations

    assert [(str(one), one.more) for one in found] == [
        ("at#1 by w0 (#2) and w1 (#3)", 0),
        ("at#1 by w0 (#6) and w1 (#7)", 0),
        ("at#1 by w0 (#10) and w1 (#11)", 0),
    ]
    assert found[0].others == found[1:]


def test_an_overlap_lasts_while_anybody_has_a_call_open():
    """One who comes when the first has gone, but not the second, is in the same overlap."""
    story = "login\na: w0 call at#1\nb: w1 call at#1\na ok\nc: w2 call at#1\nb ok\nd: w0 call at#1\nc ok\nd ok"

    (violation,) = judge(history(story)).violations

    assert (str(violation), violation.more) == ("at#1 by w0 (#2) and w1 (#3)", 2)


def test_a_worker_alone_after_an_overlap_adds_nothing():
    """It is told of the overlap, once, and not of what came later."""
    story = "login\n" + OVERLAP.format("x") + "c: w0 call at#1\nc ok\nd: w1 call at#1\nd ok"

    assert told(judge(history(story))) == ["co-schedule: at#1 by w0 (#2) and w1 (#3)"]


THREE = "login\na: w0 call at#1\nb: w1 call at#1\nc: w2 call at#1"


@pytest.mark.parametrize(
    ("header", "given", "expected"),
    [
        ({}, None, "at#1 by w0 (#2) and w1 (#3)"),
        ({"limit": 2}, None, "at#1 by w0 (#2), w1 (#3) and w2 (#4)"),
        ({"limit": 3}, None, None),
        ({"limit": 3}, 1, "at#1 by w0 (#2) and w1 (#3)"),
        ({"limit": 1}, 3, None),
    ],
)
def test_the_limit_is_the_headers_unless_another_is_given(header, given, expected):
    """A service may bear more than one call at a time."""
    found = judge(history(THREE, **header), limit=given).violations

    assert [str(violation) for violation in found] == ([expected] if expected else [])
    assert [str(violation) for violation in check_co_schedule(history(THREE, **header), given)] == [
        str(violation) for violation in found
    ]


def test_many_workers_fit_a_headline():
    """The first one and how many more."""
    story = "login\n" + "\n".join(f"{n}: worker-{n} call at#1" for n in range(9))

    (violation,) = judge(history(story, limit=8)).violations

    assert str(violation) == "at#1 by worker-0 (#2) and 8 more"
    assert len(violation.operations) == 9


# Stale bearers.

TOLD = "login\na: w0 call at#1\na fail 401 reason=expired\n"

STALE = {
    "called again": TOLD + "b: w0 call at#1\nb fail 401 reason=expired",
    "asked the profile": TOLD + "b: w0 other at#1\nb fail 401 reason=expired",
    "told at the profile": TOLD.replace("call", "other") + "b: w0 call at#1\nb fail 401 reason=expired",
    "revoked": TOLD.replace("expired", "revoked") + "b: w0 call at#1\nb fail 401 reason=revoked",
    "revoked, in a 403": TOLD.replace("401 reason=expired", "403 reason=revoked") + "b: w0 call at#1\nb fail 403",
    "after other requests": TOLD + "b: w0 token rt#1\nb ok at#2 rt#2\nc: w0 call at#1\nc fail 401 reason=expired",
    "not answered yet": TOLD + "b: w0 call at#1",
    "met a fault": TOLD + "b: w0 call at#1\nb fail 503 fault=status(503)",
    "told late, by a delay of ours": TOLD.replace("reason", "fault=delay(5) reason") + "b: w0 call at#1\nb info",
}


@pytest.mark.parametrize("story", STALE.values(), ids=STALE)
def test_a_bearer_presented_again_after_its_worker_was_told_is_stale(story):
    """The worker knew."""
    assert [violation.invariant for violation in judge(history(story)).violations] == ["stale-bearer"]


NOT_STALE = {
    "the next bearer": TOLD + "b: w0 token rt#1\nb ok at#2 rt#2\nc: w0 call at#2\nc ok",
    "another worker": TOLD + "b: w1 call at#1\nb fail 401 reason=expired",
    "the same label of another grant": TOLD + "login g#2\nb: w0 call g#2/at#1\nb fail 401 reason=expired",
    "under way when it was told": "login\na: w0 call at#1\nb: w0 call at#1\na fail 401 reason=expired\nb fail 401",
    "a 401 of ours": "login\na: w0 call at#1\na fail 401 fault=status(401)\nb: w0 call at#1\nb fail 503",
    "a 401 without a reason": "login\na: w0 call at#1\na fail 401\nb: w0 call at#1\nb fail 401",
    "a 403 for its scope": "login\na: w0 other at#1\na fail 403\nb: w0 other at#1\nb fail 403",
    "a 403 that says expired": "login\na: w0 call at#1\na fail 403 reason=expired\nb: w0 call at#1\nb fail 403",
    "never told": "login\na: w0 call at#1\na info 401 fault=lost-reply reason=expired\nb: w0 call at#1\nb fail 401",
    "not minted here": "login\na: w0 call unknown\na fail 401 reason=unknown\nb: w0 call unknown\nb fail 401",
    "the clock went back": TOLD + "note advance seconds=-9\nb: w0 call at#1\nb ok",
    "with a token request": TOLD + "b: w0 token rt#1 bearer=at#1\nb fail 400",
    "a token request told": "login\na: w0 token rt#1 bearer=at#1\na fail 401 reason=expired\nb: w0 call at#1\nb fail",
}


@pytest.mark.parametrize("story", NOT_STALE.values(), ids=NOT_STALE)
def test_what_is_no_stale_bearer_is_spared(story):
    """Somebody else was told, or nobody, or it was not true."""
    assert told(judge(history(story))) == []


def test_a_bearer_that_was_good_again_may_expire_again():
    """After a call that succeeded, the worker has to be told anew; a page that greets everybody proves nothing."""
    call = "b: w0 call at#1\nb ok\nc: w0 call at#1\nc fail 401 reason=expired\n"

    assert told(judge(history(TOLD + call))) == []
    assert told(judge(history(TOLD + call + "d: w0 call at#1"))) == [
        "stale-bearer: at#1 by w0 (#6: 401 expired, again #8)"
    ]
    assert told(judge(history(TOLD + call.replace("b: w0 call", "b: w0 other")))) == [
        "stale-bearer: at#1 by w0 (#2: 401 expired, again #6)"
    ]


def test_a_stale_bearer_says_when_the_worker_was_told():
    """Both sides, and how often it went on."""
    (violation,) = judge(history(STALE["called again"] + "\nc: w0 call at#1")).violations

    assert str(violation) == "at#1 by w0 (#2: 401 expired, again #4)"
    assert (violation.seq, violation.actors, violation.labels, violation.more) == (4, ("w0",), ("at#1",), 1)
    assert violation.cause == "w0 presented at#1 (#4) after it was told (#3): expired"


def test_the_judge_notes_nothing_about_sound_calls():
    """Notes are for what a reader should know."""
    assert noted(judge(history(NOT_STALE["the next bearer"]))) == []
