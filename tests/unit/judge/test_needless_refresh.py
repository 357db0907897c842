"""The second clause of `refresh-storm`: what a refresh has just brought is not refreshed again."""

from __future__ import annotations

import pytest

from pytest_claude_tokens.judge.judging import judge
from tests.unit.judge.build import NO_ROTATION, history, told

TWICE = """
    login expires=0
    t 10
    a: w0 token rt#1
    a commit rotated at#2 rt#2 expires=1010
    a ok at#2 rt#2
    {between}
    b: w1 token rt#2
    b commit rotated at#3 rt#3 expires=2010
    b {end}
"""


def twice(between: str = "", end: str = "ok at#3 rt#3", **how) -> list[str]:
    return told(judge(history(TWICE.format(between=between, end=end), **how)))


NEEDLESS = ["refresh-storm: rt#2 by w1 (#5, at#2 still good)"]


def test_two_workers_and_one_needless_refresh_are_enough():
    """The first clause would forgive it: one token has ended, and one refresh is free."""
    (storm,) = judge(history(TWICE.format(between="", end="ok at#3 rt#3"))).violations

    assert [operation.opened for operation in storm.operations] == [2, 5]
    assert (storm.seq, storm.labels, storm.grant, storm.more) == (7, ("rt#2", "at#2"), "g#1", 0)
    assert storm.cause == (
        "w1 refreshed (#5) what w0's refresh #2 had brought (#4): at#2 was live, 0 s of 1000 s old, and nobody had "
        "been refused with it"
    )


@pytest.mark.parametrize("seconds", [10, 509.9])
def test_it_is_needless_in_the_first_half_of_the_access_tokens_life(seconds):
    """Whoever sends it: also the worker that the pair was brought to."""
    assert twice(f"t {seconds}") != []
    assert (
        "what its own refresh"
        in judge(history(TWICE.format(between="", end="ok").replace("w1", "w0"))).violations[0].cause
    )


@pytest.mark.parametrize(
    "between",
    [
        "t 510",
        "t 810",
        "t 1010",
        'note expire ended=["at#2"]',
        'note revoke ended=["at#2","rt#2"]',
        "x: w2 call at#2\nx fail 401 reason=revoked",
        "x: w2 call at#2\nx fail 401 fault=status(401)",
        "x: w0 other at#2\nx fail 403",
        "note cancel actor=w0",
        "note kill actor=w0",
    ],
)
def test_a_refresh_that_somebody_had_a_reason_for_is_spared(between):
    """Half its life is over (clients refresh ahead of time), it has ended, it was refused, if only by a fault of ours;
    or we took a worker's life, and with it perhaps the access token that only that one held."""
    assert twice(between) == []


@pytest.mark.parametrize(
    "between",
    [
        "x: w2 call at#1\nx fail 401 reason=expired",
        "x: w2 call at#2\nx ok",
        "x: w2 call at#2\nx fail 429",
        "x: w2 call at#2\nx fail 503",
        "x: w2 call at#2\nx info fault=lost-reply",
        "x: w2 call at#2",
        "x: w2 call g#2/at#2\nx fail 403",
    ],
)
def test_what_says_nothing_against_the_new_access_token_is_no_reason(between):
    """That the old one was refused is known already; a busy service refuses nobody's token."""
    assert len(twice(between)) == 1


@pytest.mark.parametrize(
    ("end", "counts"),
    [
        ("ok at#3 rt#3", True),
        ("fail 400 error=invalid_grant", True),
        ("info", True),
        ("info fault=reset", False),
        ("fail 503 fault=status(503)", False),
        ("fail 429", False),
        ("fail 500", False),
    ],
)
def test_a_request_that_we_spoilt_or_the_service_had_no_time_for_does_not_count(end, counts):
    """As in the first clause; who tries again and gets through is told by that request."""
    assert (twice(end=end) != []) is counts


def test_the_pair_of_a_login_may_be_refreshed_at_once():
    """Clients refresh when they start, or keep nothing but the refresh token."""
    assert told(judge(history("login expires=28800\na: w0 token rt#1\na ok at#2 rt#2"))) == []


def test_the_pair_that_a_code_brought_is_that_of_a_login():
    """An authorization code is no refresh."""
    code = "c: w0 token rt#9 grant_type=authorization_code\nc ok at#2 rt#2\n"

    assert told(judge(history("login expires=0\n" + code + "b: w1 token rt#2\nb ok at#3 rt#3"))) == []


def test_without_rotation_each_worker_may_have_an_access_token_of_its_own():
    """All share one refresh token there: nobody can tell for which access token it was sent."""
    kept = TWICE.replace("rt#2", "rt#1").replace("rotated at#2 rt#1", "kept at#2").replace("ok at#2 rt#1", "ok at#2")

    assert told(judge(history(kept.format(between="t 20", end="ok at#3"), NO_ROTATION))) == []


def test_a_pair_whose_reply_never_came_is_nobodys():
    """The next refresh with the lost token is another rule's matter."""
    lost = TWICE.format(between="", end="ok at#3 rt#3").replace("a ok at#2 rt#2", "a info fault=lost-reply")

    assert [line for line in told(judge(history(lost))) if line.startswith("refresh-storm")] == []


def test_time_that_was_put_back_makes_no_token_young_again():
    """The service's clock goes back by an hour, the clients' own go on."""
    assert twice("t 600\nx: w0 call at#2\nx ok\nnote advance seconds=-590\nt 10\ny: w0 call at#2\ny ok") == []


def test_later_ones_are_counted():
    """One violation for each grant, whichever clause they break."""
    more = TWICE.format(between="", end="ok at#3 rt#3") + "c: w0 token rt#3\nc ok at#4 rt#4\nd: w0 token rt#4\nd ok"
    more += '\nnote expire ended=["at#4","at#5","at#6"]\ne: w0 token rt#5\ne ok at#6 rt#6'
    (storm,) = judge(history(more)).violations

    assert (str(storm), storm.more) == ("rt#2 by w1 (#5, at#2 still good)", 2)


ALONE = "note store store=s state=token grant=g#1 refresh=rt#2 alone=true"


@pytest.mark.parametrize(
    ("between", "spared"),
    [
        (ALONE, True),
        ("x: w2 call at#1\nx fail 401 reason=expired\n" + ALONE, True),
        (ALONE + "\n" + ALONE.replace("=s", "=t"), True),
        (ALONE.replace("alone=true", ""), False),
        (ALONE.replace("rt#2", "rt#1"), False),
        (ALONE + "\n" + ALONE.replace("=s", "=t").replace("true", "false"), False),
        (ALONE.replace("true", "false") + "\n" + ALONE.replace("=s", "=t"), False),
        ("x: w1 call at#1\nx fail 401 reason=expired\n" + ALONE, False),
        ("x: w1 call at#2\nx ok\n" + ALONE, True),
        ("x: w1 token rt#9\nx fail 401 fault=status(401)\n" + ALONE, True),
    ],
)
def test_a_worker_that_shares_nothing_but_a_refresh_token_needs_one_of_its_own(between, spared):
    """All stores hold it alone, and it has had no access token: neither one that was refused, nor by a refresh."""
    assert (twice(between) == []) is spared
    own = TWICE.format(between=between, end="ok at#3 rt#3").replace("b: w1", "b: w0")
    assert told(judge(history(own))) != []
