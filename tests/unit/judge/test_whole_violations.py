"""Everything that a violation says, word for word, where a second account makes each label name its own."""

from __future__ import annotations

import re
import textwrap

import pytest

from pytest_claude_tokens.judge.judging import judge
from tests.unit.judge.build import REFRESHED, STORED, end, history, invariants, store
from tests.unit.judge.test_missing_bearer import COMMITTED, REFRESHING
from tests.unit.judge.test_refresh_storm import refreshes

REUSED = REFRESHED + 'b: w1 token rt#1\nb commit reused revoked=["at#2","rt#2"]\nb fail 400\n' + end((), "reuse", ())
GONE = "login\na: w0 token rt#1\na commit rotated at#2 rt#2\na info\n" + end(stores=())
BACK = store("rt#1", previous="rt#2", previous_accepted=True)
BLANK = store(previous="rt#2", previous_accepted=True, final=True)


def lost(look: str) -> str:
    return f"{REFRESHED}{look}\n{end()}"


STORIES = {
    "more refreshes than tokens": refreshes("", ""),
    "a fresh pair": REFRESHED + "b: w1 token rt#2\nb ok at#3 rt#3",
    "a file": "login\nnote leak where=file what=x token=rt#1",
    "the open": "login\nnote leak what=x token=rt#1",
    "beside a refresh": REFRESHING.format(before="", after=""),
    "beside a good token": REFRESHING.format(before=COMMITTED + "a ok at#2 rt#2", after=""),
    "an old token at the end": lost(store("rt#1", final=True)),
    "none at the end": lost(store(final=True)),
    "no store": GONE,
    "reuse": REUSED,
    "reuse that is not in the history": REFRESHED + end((), "reuse", ()),
    "a store that goes back": STORED + BACK,
    "a store that is blanked": STORED + BLANK,
}
TOLD = """
more refreshes than tokens
    refresh-storm: work:g#1: 2 refreshes, 0 access tokens ended
    #10 by #3 #8 about work:rt#1 work:rt#2
    2 refresh requests although only 0 access tokens had ended
a fresh pair
    refresh-storm: work:rt#2 by w1 (#6, at#2 still good)
    #7 by #3 #6 about work:rt#2 work:at#2
    w1 refreshed (#6) what w0's refresh #3 had brought (#5): work:at#2 was live, 0 s of 28800 s old, and nobody had \
been refused with it
a file
    token-leak: work:rt#1 in file: x
    #3 by nobody about work:rt#1
    work:rt#1 was seen in file: x, where others can read it
the open
    token-leak: work:rt#1 in the open: x
    #3 by nobody about work:rt#1
    work:rt#1 was seen in the open: x, where others can read it
beside a refresh
    missing-bearer: no bearer by w1 (#4)
    #4 by #3 #4 about work:rt#1
    w1 called (#4) with neither bearer nor API key although the login of work was live: w0 was refreshing work:rt#1 (#3)
beside a good token
    missing-bearer: no bearer by w1 (#6)
    #6 by #3 #6 about work:at#2
    w1 called (#6) with neither bearer nor API key although the login of work was live: work:at#2 was good
an old token at the end
    lost-rotation: work:rt#2 in no store: s
    #7 at the end by #3 about work:rt#2
    the service accepts only work:rt#2; s has work:rt#1
none at the end
    forced-login: work:g#1: no store has work:rt#2
    #7 at the end by #3 about work:rt#2
    a person has to log in again: no store has work:rt#2; s is blank
no store
    forced-login: work:g#1: work:rt#2 reached no worker
    #6 at the end by #3 about work:rt#2
    a person has to log in again: work:rt#2 reached no worker
reuse
    forced-login: work:g#1: revoked, work:rt#1 was reused by w1 (#6)
    #9 at the end by #3 #6 about work:rt#1 work:rt#2
    a person has to log in again: reuse detection revoked the grant when work:rt#1 came again by w1 (#6)
reuse that is not in the history
    forced-login: work:g#1: revoked by reuse detection
    #6 at the end by nobody about nothing
    a person has to log in again: reuse detection revoked the grant
a store that goes back
    store-regression: work:rt#2 -> work:rt#1 in s
    #7 by nobody about work:rt#2 work:rt#1
    s had work:rt#2, which the service accepts, and now has work:rt#1, which it doesn't
a store that is blanked
    store-regression: work:rt#2 -> blank in s
    #7 at the end by nobody about work:rt#2
    s had work:rt#2, which the service accepts, and now has no refresh token at all
"""
WORDS = dict(re.findall(r"^(\w.*)\n((?: .*\n)+)", TOLD, re.MULTILINE))


@pytest.mark.parametrize("name", STORIES)
def test_a_violation_says_who_what_when_and_why(name):
    expected = textwrap.dedent(WORDS[name])
    found = judge(history("login g#2 expires=100\n" + STORIES[name])).violations
    violation = next(it for it in found if it.invariant == expected.split(":")[0])
    by = " ".join(f"#{operation.opened}" for operation in violation.operations) or "nobody"
    when = f"#{violation.seq}" + " at the end" * violation.at_end

    lines = [
        f"{violation.invariant}: {violation}",
        f"{when} by {by} about {' '.join(violation.labels) or 'nothing'}",
        violation.cause,
    ]
    assert lines == expected.splitlines()
    assert (violation.grant, violation.more, violation.at_end) == ("g#1", 0, "at the end by" in expected)


NOWHERE = "unjudged=not~an~endpoint method=POST path=/x"


def test_a_note_on_a_place_says_whose_token_went_there():
    story = f"login g#2\nlogin\na: w0 other refresh=rt#1 grant=g#1 {NOWHERE}\na fail 404\n"
    story += f"b: w1 other bearer=at#1 grant=g#1 {NOWHERE}\nb fail 404"

    where = "to POST /x -> 404: not an endpoint"
    remedy = "say which service it is: service=..., or Service.oauth(token=...)"
    assert [(note.why, str(note)) for note in judge(history(story)).notes] == [
        ("unserved", f"work:rt#1 by w0 (#3) {where}; {remedy}"),
        ("elsewhere", f"work:at#1 by w1 (#5) {where}"),
    ]


def test_the_end_is_judged_once():
    """A history that was written together from two has two."""
    story = lost(store(final=True))

    assert invariants(story + "\n" + end()) == invariants(story) == ["lost-rotation", "forced-login"]


def test_a_store_with_a_token_of_a_grant_that_the_end_does_not_know_keeps_nothing():
    """It was accepted when it was looked at; who accepts it now is not said."""
    look = store("rt#1", accepted=True, grant="g#9")

    assert invariants(lost(look)) == ["lost-rotation", "forced-login"]


def test_a_token_that_somebody_presents_has_reached_a_worker():
    """Whatever became of the reply that brought it."""
    assert invariants(GONE) == ["forced-login"]
    assert invariants(GONE.replace("a info\n", "a info\nb: w1 token rt#2\nb fail 503\n")) == []


def test_a_reply_that_comes_after_the_death_had_not_reached_its_worker_by_then():
    """Two requests brought one token: that the worker of one was killed does not excuse what became of the other."""
    story = """
        login
        a: w0 token rt#1
        c: w1 token rt#1
        a commit rotated at#2 rt#2
        c commit replayed at#2 rt#2
        c info error=gone
        note kill actor=w0
        b: w2 token rt#1
        b commit reused revoked=["rt#2"]
        b fail 400
        a ok at#2 rt#2
    """

    assert "forced-login" in invariants(story + end((), "reuse", ()))
