"""The overlaps on each bearer, told apart."""

from __future__ import annotations

from pytest_claude_tokens.judge.judging import judge
from pytest_claude_tokens.judge.overlaps import overlaps
from pytest_claude_tokens.report.contention import contention
from pytest_claude_tokens.report.wording import WIDTH
from tests.unit.judge.build import history

LOGINS = "login g#1\nlogin g#2\n"
OVERLAP = """
t {0}
a{0}: p{0}a call at#1
b{0}: p{0}b call at#1
t {0}.5
a{0} ok
note queue op={op} waited=0.5
t {0}.75
b{0} ok
"""


def told(count):
    """So many overlaps, one after the other."""
    return LOGINS + "".join(OVERLAP.format(number, op=2 * number) for number in range(1, count + 1))


def test_overlaps_are_told_apart():
    """Who came first, how long each took, and who waited for how long."""
    assert contention(history(told(2))) == [
        "claude-tokens: calls of several workers overlapped on one bearer 2 times",
        "  overlap  1  work:at#1  p1a 0.50 s; p1b 0.75 s, waited 0.50 s",
        "  overlap  2  work:at#1  p2a 0.50 s; p2b 0.75 s, waited 0.50 s",
    ]


def test_they_are_those_that_the_judge_finds():
    """One violation for each."""
    found = history(told(3))

    assert [group[-1].opened for group in overlaps(found)] == [one.seq for one in judge(found).violations]


def test_one_overlap_is_one_time():
    """In the singular; a call that has not ended says so."""
    story = LOGINS + "a: w0 call at#1\nb: w1 call at#1\nt 2\na ok"

    assert contention(history(story)) == [
        "claude-tokens: calls of several workers overlapped on one bearer 1 time",
        "  overlap  1  work:at#1  w0 2.00 s; w1 still open",
    ]


def test_nobody_met():
    """One after the other, two bearers, one worker's own two calls, bearers that were not minted here: no table."""
    story = """
a: w0 call at#1
a ok
b: w1 call at#1
c: w0 call g#2/at#1
d: w0 call g#2/at#1
b ok
e: w1 call unknown
f: w2 call unknown
g: w1 call
h: w2 call
i: w1 token rt#1
"""
    assert contention(history(LOGINS + story)) == []


def test_where_calls_are_serialized_by_account_its_bearers_are_one():
    """As the judge has it."""
    story = "login g#1\nlogin g#3\na: w0 call at#1\nb: w1 call g#3/at#1"

    assert list(overlaps(history(story))) == []
    assert len(list(overlaps(history(story, {"name": "mine", "key": "account"})))) == 1


def test_a_crowd_fits_the_page():
    """Long lines are wrapped, and what is too much is counted."""
    crowd = "".join(f"{n}: worker-{n} call at#1\n" for n in range(20))
    lines = contention(history(LOGINS + crowd))

    assert max(map(len, lines)) <= WIDTH
    assert "worker-19 still open" in lines[-1]
    assert contention(history(told(45)))[-1] == "  and 5 more"
