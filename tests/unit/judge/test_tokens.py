"""Double spends, blind replays and refresh storms: each planted bug is caught, its sound twin spared."""

from __future__ import annotations

import pytest

from pytest_claude_tokens.judge.judging import judge
from tests.unit.judge.build import history, noted, told

GRACE = {"name": "grace", "grace_seconds": 30.0, "reuse": "revoke-family"}
NO_GRACE_LEFT = {"name": "keycloak", "grace_seconds": "inf", "grace_count": 0}
NO_ROTATION = {"name": "no-rotation", "rotate": False}

DOUBLE_SPENDS = {
    "two workers overlap": """
        login
        a: w0 token rt#1
        b: w1 token rt#1
        a ok at#2 rt#2
        b fail 400
    """,
    "an overlap whose winner's reply is lost": """
        login
        a: w0 token rt#1
        b: w1 token rt#1
        a info error=lost fault=lost-reply
        b fail 400
    """,
    "an overlap that has not ended": """
        login
        a: w0 token rt#1
        b: w1 token rt#1
    """,
    "sent again after the success had reached another worker": """
        login
        a: w0 token rt#1
        a ok at#2 rt#2
        b: w1 token rt#1
    """,
    "one worker overlaps with itself": """
        login
        a: w1 token rt#1
        b: w1 token rt#1
    """,
    "sent after a success, though an earlier try had failed": """
        login
        x: w0 token rt#1
        x fail 503 fault=status(503)
        a: w0 token rt#1
        a ok at#2 rt#2
        b: w1 token rt#1
    """,
}


@pytest.mark.parametrize("story", DOUBLE_SPENDS.values(), ids=DOUBLE_SPENDS)
def test_a_double_spend_is_found(story):
    """The same refresh token while the first request is open, or after its success."""
    verdict = judge(history(story))

    assert [violation.invariant for violation in verdict.violations] == ["double-spend"]


NO_DOUBLE_SPENDS = {
    "the second is sent at the event after the first one's failure": """
        login
        a: w0 token rt#1
        a fail 503 fault=status(503)
        b: w1 token rt#1
        b ok at#2 rt#2
    """,
    "a dead token again": """
        login
        a: w0 token rt#1
        a fail 400
        b: w1 token rt#1
        b fail 400
    """,
    "a scope that the service does not know, then another": """
        login
        a: w0 token rt#1
        a fail 400 committed=true
        b: w0 token rt#1
        b commit rotated at#2 rt#2
        b ok at#2 rt#2
    """,
    "two tokens, each once": """
        login
        a: w0 token rt#1
        a ok at#2 rt#2
        b: w1 token rt#2
        b ok at#3 rt#3
    """,
    "the same label in two grants": """
        login
        login g#2
        a: w0 token rt#1
        b: w1 token g#2/rt#1
        a ok at#2 rt#2
        b ok at#2 rt#2
    """,
    "tokens that were not minted here": """
        login
        a: w0 token unknown
        b: w1 token unknown
        a fail 400
        b fail 400
    """,
    "a revocation while it is refreshed": """
        login
        a: w0 token rt#1
        b: w1 other path=/v1/oauth/token/revoke refresh=rt#1 grant=g#1
        b ok
        a fail 400
    """,
    "a code exchange that mentions a refresh token": """
        login
        a: w0 token rt#1
        b: w1 token rt#1 grant_type=authorization_code
        a ok at#2 rt#2
        b fail 400
    """,
}


@pytest.mark.parametrize("story", NO_DOUBLE_SPENDS.values(), ids=NO_DOUBLE_SPENDS)
def test_what_is_no_double_spend_is_spared(story):
    """A first request that failed and is over, another token, or none of ours."""
    verdict = judge(history(story))

    assert told(verdict) == []
    assert noted(verdict) == []


def test_a_double_spend_says_who_and_whether_they_overlapped():
    """Overlap and reuse have different cures, so the cause names the one."""
    (overlap,) = judge(history(DOUBLE_SPENDS["two workers overlap"])).violations
    (reuse,) = judge(history(DOUBLE_SPENDS["sent again after the success had reached another worker"])).violations
    (own,) = judge(history(DOUBLE_SPENDS["one worker overlaps with itself"])).violations

    assert str(overlap) == "rt#1 by w0 (#2) and w1 (#3)"
    assert (overlap.seq, overlap.actors, overlap.labels, overlap.grant) == (3, ("w0", "w1"), ("rt#1",), "g#1")
    assert overlap.cause == "overlap: w1 sent rt#1 while w0's request #2 with it was open"
    assert reuse.cause == "reuse: w1 sent rt#1 after w0's request #2 with it had succeeded"
    assert own.cause == "overlap: w1 sent rt#1 while its own request #2 with it was open"
    assert own.actors == ("w1",)


def test_each_refresh_token_is_told_once_with_its_first_pair():
    """Eight workers on one token are one mistake."""
    story = "login\n" + "\n".join(f"{n}: w{n} token rt#1" for n in range(4))

    (violation,) = judge(history(story)).violations

    assert (str(violation), violation.more) == ("rt#1 by w0 (#2) and w1 (#3)", 2)


def test_with_two_grants_a_double_spend_names_the_account():
    """A label alone would not say whose token it was."""
    story = "login\nlogin g#2\na: w0 token g#2/rt#1\nb: w1 token g#2/rt#1"

    assert told(judge(history(story))) == ["double-spend: home:rt#1 by w0 (#3) and w1 (#4)"]


def test_long_names_lose_their_middle_and_never_their_numbers():
    """A headline has 60 characters."""
    story = "login\na: ThreadPoolExecutor-0_0 token rt#1\nb: ThreadPoolExecutor-0_1 token rt#1"

    (violation,) = judge(history(story)).violations

    assert str(violation) == "rt#1 by ThreadPo..utor-0_0 (#2) and ThreadPo..utor-0_1 (#3)"
    assert violation.actors == ("ThreadPoolExecutor-0_0", "ThreadPoolExecutor-0_1")


REPLAY = """
    login
    a: w0 token rt#1
    b: w1 token rt#1
    a commit rotated at#2 rt#2
    b commit {outcome}
    a ok at#2 rt#2
    b {end}
"""


def test_a_replay_that_a_grace_window_tolerates_is_a_note():
    """Both got what they asked for."""
    story = REPLAY.format(outcome="replayed at#3 rt#3", end="ok at#3 rt#3")
    verdict = judge(history(story, GRACE))

    assert (told(verdict), noted(verdict)) == ([], ["excused double-spend"])
    assert "grace window" in str(verdict.notes[0])


@pytest.mark.parametrize("outcome", ["reused", "refused"])
def test_a_replay_that_the_grace_window_did_not_cover_is_a_double_spend(outcome):
    """It is known to be wrong when the service refuses."""
    (violation,) = judge(history(REPLAY.format(outcome=outcome, end="fail 400"), GRACE)).violations

    assert (violation.invariant, violation.seq) == ("double-spend", 5)


def test_where_both_are_refused_the_first_refusal_shows_it():
    """Two workers and a token that is dead for both."""
    story = REPLAY.format(outcome="refused", end="fail 400").replace("rotated at#2 rt#2", "refused")
    (violation,) = judge(history(story.replace("a ok at#2 rt#2", "a fail 400"), GRACE)).violations

    assert violation.seq == 4


def test_a_window_for_one_replay_is_a_window():
    """A count of one is not none."""
    story = REPLAY.format(outcome="replayed at#3 rt#3", end="ok at#3 rt#3")

    assert told(judge(history(story, {**GRACE, "grace_count": 1}))) == []


@pytest.mark.parametrize(
    "story",
    [
        "login\na: w0 token rt#1\nb: w1 token rt#1\na commit rotated at#2 rt#2",
        "login\na: w0 token rt#1\nb: w1 token rt#1\na commit rotated at#2 rt#2\na ok at#2 rt#2\nb info fault=reset",
        "login\na: w0 token rt#1\nb: w1 token rt#1\nb fail 503 fault=status(503)\na commit rotated at#2 rt#2",
    ],
)
def test_under_a_grace_window_one_that_never_committed_is_harmless(story):
    """Nothing was spent twice, and would not have been."""
    verdict = judge(history(story, GRACE))

    assert (told(verdict), noted(verdict)) == ([], ["excused double-spend"])


def test_a_later_pair_counts_where_the_first_was_tolerated():
    """Tolerating one replay does not tolerate the next."""
    story = REPLAY.format(outcome="replayed at#3 rt#3", end="ok at#3 rt#3") + "\nc: w2 token rt#1\nc commit reused"
    verdict = judge(history(story, GRACE))

    assert told(verdict) == ["double-spend: rt#1 by w0 (#2) and w2 (#8)"]
    assert verdict.violations[0].seq == 9


@pytest.mark.parametrize(
    ("end", "found"),
    [
        ("fail 400", ["double-spend"]),
        ("fail 401", ["double-spend"]),
        ("ok at#3 rt#3", []),
        ("fail 429", []),
        ("fail 503", []),
        ("fail 400 fault=status(400)", []),
        ("info error=gone", []),
        ("fail 400 committed=true", []),
        ("fail 500", []),
        ("fail status=null", []),
    ],
)
def test_under_a_grace_window_a_history_without_commits_is_judged_by_its_replies(end, found):
    """A file by another hand may not say what the service decided; a 4xx of its own says enough."""
    story = f"login\na: w0 token rt#1\na ok at#2 rt#2\nb: w1 token rt#1\nb {end}"

    assert [violation.invariant for violation in judge(history(story, GRACE)).violations] == found


@pytest.mark.parametrize("policy", [NO_GRACE_LEFT, {"name": "keycloak"}, {"name": "grace", "grace_seconds": 0.0}])
def test_a_policy_without_any_grace_makes_nothing_harmless(policy):
    """A window of no seconds, or one for no replay, is none."""
    assert told(judge(history(DOUBLE_SPENDS["two workers overlap"], policy))) == [
        "double-spend: rt#1 by w0 (#2) and w1 (#3)"
    ]


def test_without_rotation_any_reuse_is_one_note():
    """The refresh token is meant to be used again."""
    story = "login expires=0\n" + "\n".join(
        f'{n}: w0 token rt#1\n{n} commit kept at#{n}\n{n} ok at#{n}\nnote expire ended=["at#{n}"]' for n in range(2, 6)
    )
    verdict = judge(history(story, NO_ROTATION))

    assert (told(verdict), noted(verdict)) == ([], ["excused double-spend"])
    assert (verdict.notes[0].violation.more, "does not rotate" in str(verdict.notes[0])) == (2, True)


def test_without_rotation_nothing_is_told_of_a_token_that_only_failed():
    """There is no reuse where nothing succeeded."""
    story = "login\na: w0 token rt#1\na fail 503 fault=status(503)\nb: w0 token rt#1\nb ok at#2"

    assert noted(judge(history(story, NO_ROTATION))) == []


# Blind replays.

LOST = "login\na: w0 token rt#1\na info error=lost-reply fault=lost-reply committed=true\n"

BLIND_REPLAYS = {
    "by the same worker": LOST + "b: w0 token rt#1\nb fail 400",
    "by another worker": LOST + "b: w1 token rt#1\nb fail 400",
    "after a request that was never answered": "login\na: w0 token rt#1\na info fault=timeout\nb: w0 token rt#1",
    "after the client had given up": "login\na: w0 token rt#1\na info error=cancelled\nb: w0 token rt#1",
    "although it turned out well": "login\na: w0 token rt#1\na info fault=reset\nb: w1 token rt#1\nb ok at#2 rt#2",
}


@pytest.mark.parametrize("story", BLIND_REPLAYS.values(), ids=BLIND_REPLAYS)
def test_a_blind_replay_is_found(story):
    """Nobody could know whether the token was spent."""
    assert [violation.invariant for violation in judge(history(story)).violations] == ["blind-replay"]


NO_BLIND_REPLAYS = {
    "another token": LOST + "b: w0 token rt#2\nb fail 400",
    "nothing more": LOST,
    "after a failure that was told": "login\na: w0 token rt#1\na fail 500\nb: w0 token rt#1",
    "a token of which nothing is known": "login\na: w0 token unknown\na info\nb: w0 token unknown",
}


@pytest.mark.parametrize("story", NO_BLIND_REPLAYS.values(), ids=NO_BLIND_REPLAYS)
def test_what_is_no_blind_replay_is_spared(story):
    """The outcome was known, or the token is another one."""
    assert told(judge(history(story))) == []


def test_a_blind_replay_says_what_was_unknown():
    """The cause names the request and how its reply was lost."""
    (violation,) = judge(history(BLIND_REPLAYS["by another worker"])).violations
    (silent,) = judge(history(BLIND_REPLAYS["after a request that was never answered"])).violations

    assert str(violation) == "rt#1 by w0 (#2, unknown outcome) and w1 (#4)"
    assert violation.cause == ("replay after an unknown outcome: whether #2 spent rt#1 nobody could know (lost-reply)")
    assert (violation.seq, violation.actors) == (4, ("w0", "w1"))
    assert "(no reply)" in silent.cause


def test_blind_replays_of_one_token_are_told_once():
    """Ten retries are one mistake."""
    (violation,) = judge(history(LOST + "b: w0 token rt#1\nb info\nc: w1 token rt#1\nc fail 400")).violations

    assert (str(violation), violation.more) == ("rt#1 by w0 (#2, unknown outcome) and w0 (#4)", 1)


def test_a_request_that_was_sent_before_the_loss_is_a_double_spend_only():
    """Whoever sends at the same time is not blind."""
    story = "login\na: w0 token rt#1\nb: w1 token rt#1\na info\nb ok at#2 rt#2"

    assert told(judge(history(story))) == ["double-spend: rt#1 by w0 (#2) and w1 (#3)"]


def test_after_a_success_it_is_a_double_spend_and_not_blind():
    """The success says that the token is spent."""
    story = "login\na: w0 token rt#1\nb: w1 token rt#1\na info\nb ok at#2 rt#2\nc: w2 token rt#1"

    (violation,) = judge(history(story)).violations

    assert (violation.invariant, violation.more) == ("double-spend", 1)


def test_the_first_success_is_the_one_that_counts():
    """Under a grace window there may be several; whoever sends after one of them is not blind."""
    story = """
        login
        a: w0 token rt#1
        b: w1 token rt#1
        c: w2 token rt#1
        a info fault=lost-reply
        b ok at#2 rt#2
        d: w3 token rt#1
        d commit reused
        c ok at#3 rt#3
    """

    assert [it.invariant for it in judge(history(story, GRACE)).violations] == ["double-spend"]


def test_a_blind_replay_inside_a_grace_window_is_a_note():
    """That is what the window is for."""
    story = LOST + "b: w0 token rt#1\nb commit replayed at#3 rt#3\nb ok at#3 rt#3"
    verdict = judge(history(story, GRACE))

    assert (told(verdict), noted(verdict)) == ([], ["excused blind-replay"])


def test_a_blind_replay_after_the_grace_window_counts_when_it_is_refused():
    """The window was over."""
    (violation,) = judge(history(LOST + "b: w0 token rt#1\nb commit reused\nb fail 400", GRACE)).violations

    assert (violation.invariant, violation.seq) == ("blind-replay", 5)


def test_a_blind_replay_without_rotation_is_a_note():
    """Nothing is spent by its use."""
    verdict = judge(history(LOST + "b: w0 token rt#1\nb ok at#3", NO_ROTATION))

    assert (told(verdict), noted(verdict)) == ([], ["excused blind-replay"])


# Refresh storms.


def refreshes(*between: str, first: str = "login expires=100", end: str = "ok at#{next} rt#{next}") -> str:
    """A chain of proper refreshes, with something before each of them."""
    lines = [first]
    for n, before in enumerate(between, 1):
        outcome = end.format(next=n + 1)
        commit = f"{n} commit rotated at#{n + 1} rt#{n + 1} expires={{expires}}" if outcome.startswith("ok") else ""
        lines += [before, f"{n}: w0 token rt#{n}", commit.format(expires=100 * (n + 1)), f"{n} {outcome}"]
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
        note expire ended=["at#{n}"]
        """
        for n in range(1, 5)
    )

    assert told(judge(history(story))) == []


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
    chain = "\n".join(f"t {9 * n}\n{n}: w0 token rt#{n}\n{n} ok at#{n + 1} rt#{n + 1}" for n in range(1, 6))

    assert storms(chain, {"name": "mine", "expires_in": 10}) == []
    assert storms(chain) == ["refresh-storm: g#1: 3 refreshes, 1 access token ended"]
    assert (
        storms("\n".join(f"t {28800 * n}\n{n}: w0 token rt#{n}\n{n} ok at#{n + 1} rt#{n + 1}" for n in range(5))) == []
    )
