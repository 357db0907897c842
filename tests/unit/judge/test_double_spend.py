"""Double spends: each planted bug is caught, its sound twin spared."""

from __future__ import annotations

import pytest

from pytest_claude_tokens.judge.judging import judge
from tests.unit.judge.build import GRACE, NO_ROTATION, history, noted, told

NO_GRACE_LEFT = {"name": "keycloak", "grace_seconds": "inf", "grace_count": 0}


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
        note expire ended=["at#2"]
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


def test_a_refusal_that_came_before_the_second_request_does_not_complete_the_double_spend():
    """Until the second request is sent, one request for the token is all that there was."""
    story = """
        login
        a: w0 token rt#1
        a commit refused
        b: w1 token rt#1
        b commit refused
        b fail 400
        a fail 400
    """
    (violation,) = judge(history(story, GRACE)).violations

    assert (violation.invariant, violation.seq) == ("double-spend", 4)


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
    both_open = "login\na: w0 token rt#1\nb: w1 token rt#1"
    assert told(judge(history(both_open, policy))) == ["double-spend: rt#1 by w0 (#2) and w1 (#3)"]
    assert told(judge(history(both_open, GRACE))) == []


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
