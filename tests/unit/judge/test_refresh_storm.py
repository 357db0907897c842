"""Refresh storms: each planted bug is caught, its sound twin spared."""

from __future__ import annotations

import pytest

from pytest_claude_tokens.judge.judging import judge
from tests.unit.judge.build import NO_ROTATION, history, told


def refreshes(*between: str, first: str = "login expires=100", end: str = "ok at#{next} rt#{next}") -> str:
    """A chain of proper refreshes, with something before each of them.

    Each pair is refused once with 403, which ends no token: so no refresh is needless, and only their number counts.
    """
    lines = [first]
    for n, before in enumerate(between, 1):
        outcome = end.format(next=n + 1)
        commit = f"{n} commit rotated at#{n + 1} rt#{n + 1} expires={{expires}}" if outcome.startswith("ok") else ""
        lines += [before, f"{n}: w0 token rt#{n}", commit.format(expires=100 * (n + 1)), f"{n} {outcome}"]
        lines += [f"no{n}: w9 other at#{n + 1}", f"no{n} fail 403"]
    return "\n".join(lines)


def storms(story: str, policy=None) -> list[str]:
    return [line for line in told(judge(history(story, policy))) if line.startswith("refresh-storm")]


def test_a_refresh_without_any_need_is_free_once():
    """A client may refresh early; it may not do so over and over."""
    assert storms(refreshes("")) == []
    assert storms(refreshes("", "")) == ["refresh-storm: g#1: 2 refreshes, 0 access tokens ended"]


def test_a_storm_is_told_in_the_order_in_which_it_was_sent():
    """Whoever's reply came first; complete it is with the last reply."""
    story = "login expires=100\n1: w0 token rt#1\n2: w1 token rt#1\n2 ok at#2 rt#2\n1 fail 400 invalid_grant"
    storm = next(found for found in judge(history(story)).violations if found.invariant == "refresh-storm")

    assert [operation.actor for operation in storm.operations] == ["w0", "w1"]
    assert storm.seq == storm.operations[0].closed


def test_each_expiry_pays_for_one_refresh():
    """A client that refreshes a little before each expiry is sound for ever."""
    assert storms(refreshes(*(f"t {100 * n - 5}" for n in range(1, 30)))) == []


def test_a_token_that_expires_while_the_reply_is_under_way_has_ended():
    """What counts is the moment at which the request ends."""
    early = refreshes("t 95", "t 99")

    assert storms(early) == ["refresh-storm: g#1: 2 refreshes, 0 access tokens ended"]
    assert storms(early.replace("2 ok", "t 100\n2 ok")) == []


def test_a_token_ends_at_the_very_second_of_its_expiry():
    """As the service has it: live means before."""
    assert storms(refreshes("t 100", "t 100")) == []


def test_expire_and_revoke_end_tokens():
    """What an administrator ended pays for a refresh, too."""
    assert storms(refreshes("", 'note expire ended=["at#1"]')) == []
    assert storms(refreshes("", 'note revoke ended=["at#1","rt#2"]')) == []
    assert storms(refreshes("", 'note expire ended=["rt#1"]')) != []


def test_a_token_ends_only_once():
    """By expire(), by its time and by a 401: that is one token."""
    twice = 'note expire ended=["at#1"]\nx: w1 call at#1\nx fail 401 reason=expired\nt 101'

    assert storms(refreshes(twice, "")) == []
    assert storms(refreshes(twice, "", "")) == ["refresh-storm: g#1: 3 refreshes, 1 access token ended"]


@pytest.mark.parametrize(
    ("refusal", "ends"),
    [
        ("x: w1 call at#1\nx fail 401 fault=status(401)", True),
        ("x: w1 other at#1\nx fail 401 reason=revoked", True),
        ("x: w1 call at#1\nx fail 401\ny: w1 call at#1\ny fail 401", True),
        ("x: w1 call at#1\nx fail 403 reason=revoked", False),
        ("x: w1 call at#1\nx info fault=lost-reply", False),
        ("x: w1 call unknown\nx fail 401 reason=unknown", False),
        ("x: w1 call\nx fail 401 reason=missing", False),
        ("x: w1 call g#2/at#1\nx fail 401 reason=expired", False),
    ],
)
def test_the_first_401_ends_a_token_also_an_injected_one(refusal, ends):
    """A client that is refused may refresh, whatever the service thinks of the token."""
    found = [line for line in storms(refreshes("", refusal)) if line]

    assert (found == []) is ends


def test_a_revocation_by_reuse_ends_the_tokens_that_it_names():
    """They are dead, so a refresh is no luxury."""
    story = refreshes("", "").replace("2: w0", 'r: w2 token rt#9\nr commit reused revoked=["at#1","rt#2"]\n2: w0')

    assert storms(story) == []


def test_what_has_ended_stays_ended_when_the_clock_goes_back():
    """Time may be put back; a token's end is not undone."""
    back = "t 150\nnote advance seconds=-100\nt 50"

    assert storms(refreshes("", back.replace("note", "x: w9 other\nx ok\nnote"))) == []


def test_a_token_is_not_taken_for_expired_by_a_time_before_it_was_issued():
    """The clock was far ahead, then put back; what is issued now is new."""
    story = refreshes("t 150\nx: w9 other\nx ok\nt 10", "", first="login expires=1000").replace("=200", "=120")

    assert storms(story) == ["refresh-storm: g#1: 2 refreshes, 0 access tokens ended"]


@pytest.mark.parametrize(
    "end",
    [
        "fail 503",
        "fail 500",
        "fail status=null",
        "fail 500 fault=status(500)",
        "fail 429",
        "fail 400 fault=status(400)",
        "fail 403 fault=html",
        "info fault=reset",
        "info fault=lost-reply committed=true",
    ],
)
def test_what_we_spoilt_and_what_the_service_had_no_time_for_does_not_count(end):
    """Injected faults, 429 and 5xx make clients try again, as they should."""
    assert storms(refreshes(*[""] * 6, end=end)) == []


@pytest.mark.parametrize("end", ["fail 400", "fail 401", "info error=gone", "fail 400 fault=delay(5)"])
def test_a_client_that_hammers_a_dead_token_is_a_storm(end):
    """The service answered; asking again changes nothing."""
    decided = "{n} commit refused\n" if "delay" in end else ""
    end += " committed=true" if decided else ""
    story = "login expires=28800\n" + "\n".join(f"{n}: w0 token rt#1\n{decided.format(n=n)}{n} {end}" for n in range(4))

    assert storms(story) == ["refresh-storm: g#1: 2 refreshes, 0 access tokens ended"]


def test_a_storm_is_told_once_with_the_requests_up_to_it():
    """How often it went on is data."""
    (violation,) = judge(history(refreshes(*[""] * 5))).violations

    assert (violation.more, len(violation.operations), violation.grant) == (3, 2, "g#1")
    assert violation.labels == ("rt#1", "rt#2")
    assert violation.seq == violation.operations[-1].closed
    assert violation.cause == "2 refresh requests although only 0 access tokens had ended"


def test_a_request_of_a_worker_that_we_killed_or_cancelled_does_not_count():
    """It could not even read the reply."""
    story = "login expires=28800\n" + "\n".join(
        f"{n}: w{n} token rt#{n}\nnote {how} actor=w{n}\n{n} info" for n, how in enumerate(["kill", "cancel"] * 3)
    )

    assert storms(story) == []


def test_a_kill_before_the_request_excuses_nothing():
    """That worker lives again, or another has its name."""
    story = "login expires=28800\nnote kill actor=w0\na: w0 token rt#1\na info\nb: w0 token rt#1\nb info"

    assert storms(story) != []


def test_a_kill_of_another_worker_excuses_nothing():
    """Each answers for itself."""
    story = "login expires=28800\n" + "\n".join(f"{n}: w0 token rt#1\nnote kill actor=w9\n{n} info" for n in range(3))

    assert storms(story) != []


def test_a_refused_token_request_ends_no_bearer_that_came_with_it():
    """Its 401 speaks of the refresh token."""
    story = "login expires=28800\n" + "\n".join(f"{n}: w0 token rt#1 bearer=at#1\n{n} fail 401" for n in range(2))

    assert storms(story) == ["refresh-storm: g#1: 2 refreshes, 0 access tokens ended"]


def test_a_scope_that_was_refused_does_not_count():
    """Clients answer invalid_scope with a second try, as they should; nothing was redeemed."""
    story = "login expires=28800\n" + "\n".join(
        f"""
        x{n}: w0 token rt#{n}
        x{n} fail 400 committed=true
        {n}: w0 token rt#{n}
        {n} commit rotated at#{n + 1} rt#{n + 1}
        {n} ok at#{n + 1} rt#{n + 1} committed=true
        note expire ended=["at#{n}","at#{n + 1}"]
        """
        for n in range(1, 5)
    )

    assert told(judge(history(story))) == []


def test_a_request_that_the_policy_told_to_try_again_does_not_count():
    """One of two at once is refused so, and its client comes again, as it should."""
    story = "login expires=28800\n" + "\n".join(
        f"{n}: w0 token rt#1\n{n} commit retry\n{n} fail 400 error=invalid_request committed=true" for n in range(4)
    )

    assert storms(story) == []
    assert storms(story.replace("commit retry", "commit refused")) != []


def test_a_reply_that_repeats_the_refresh_token_brings_no_pair():
    """Without rotation each worker may keep a copy of it, and an access token of its own."""
    story = (
        "login expires=9\na: w0 token rt#1\na commit kept at#2 rt#1\na ok at#2 rt#1\nb: w1 token rt#1\nb ok at#3 rt#1"
    )

    assert storms(story.replace("login", "t 10\nlogin"), NO_ROTATION) == []


def test_a_request_that_has_not_ended_does_not_count_yet():
    """Nobody has been answered."""
    assert storms("login expires=28800\na: w0 token rt#1\na ok at#2 rt#2\nb: w0 token rt#2") == []


def test_each_grant_pays_for_its_own_refreshes():
    """Two accounts are two budgets."""
    story = (
        "login expires=9\nlogin g#2 expires=9\na: w0 token rt#1\na ok at#2 rt#2\nb: w0 token g#2/rt#1\nb ok at#2 rt#2"
    )
    more = story + '\nnote expire grant=g#2 ended=["at#1"]\nc: w0 token rt#2\nc ok at#3 rt#3'

    assert storms(story) == []
    assert storms(more) == ["refresh-storm: work:g#1: 2 refreshes, 0 access tokens ended"]


def test_without_notes_tokens_live_as_long_as_the_policy_says():
    """A file by another hand has no expiries; its first access token is taken to have ended."""
    chain = "\n".join(
        f"t {9 * n}\n{n}: w0 token rt#{n}\n{n} ok at#{n + 1} rt#{n + 1}\nno{n}: w1 other at#{n + 1}\nno{n} fail 403"
        for n in range(1, 6)
    )

    assert storms(chain, {"name": "mine", "expires_in": 10}) == []
    assert storms(chain) == ["refresh-storm: g#1: 3 refreshes, 1 access token ended"]
    assert (
        storms("\n".join(f"t {28800 * n}\n{n}: w0 token rt#{n}\n{n} ok at#{n + 1} rt#{n + 1}" for n in range(5))) == []
    )
