"""From checkers to a verdict: order, allowances, notes, and what makes it UNKNOWN."""

from __future__ import annotations

import pytest

from pytest_claude_tokens.judge import judging
from pytest_claude_tokens.judge.history import History
from pytest_claude_tokens.judge.judging import State, Verdict, judge
from pytest_claude_tokens.violations import INVARIANTS
from tests.unit.judge.build import history, noted, told

SOUND = "login\na: w0 token rt#1\na ok at#2 rt#2\nb: w0 call at#2\nb ok"
SPENT_TWICE = "login\na: w0 token rt#1\nb: w1 token rt#1\na ok at#2 rt#2\nb fail 400"
SHARED_BEARER = "\nc: w0 call at#2\nd: w1 call at#2"
OTHERS = "login expires=100\nlogin g#2 expires=100\n"


def torn(text: str, **header) -> History:
    whole = history(text, **header)
    return History(whole.header, whole.events, torn=True, notes=["line 9 is torn"])


def test_a_sound_history_is_valid_with_nothing_to_tell():
    """No violation, no note, exit status 0."""
    assert judge(history(SOUND)) == Verdict(State.VALID)
    assert judge(history(SOUND)).exit_status == 0
    assert judge(history("")).state == "VALID"


def test_a_violation_makes_it_invalid():
    """Exit status 1, and the others hang on the first."""
    verdict = judge(history(SPENT_TWICE + SHARED_BEARER))

    assert (verdict.state, verdict.exit_status) == ("INVALID", 1)
    assert verdict.violations[0].others == verdict.violations[1:]
    assert [violation.invariant for violation in verdict.violations] == ["double-spend", "co-schedule"]


def test_violations_come_in_the_order_of_the_events_that_complete_them():
    """The first to happen is the first to be told."""
    early = "login\nc: w0 call at#1\nd: w1 call at#1\nc ok\nd ok\na: w0 token rt#1\nb: w1 token rt#1"

    assert [violation.invariant for violation in judge(history(early)).violations] == ["co-schedule", "double-spend"]


def test_ties_are_broken_by_the_table():
    """Two invariants may be broken by one event."""
    story = "login expires=9\na: w0 token rt#1\na fail 400\nb: w0 token rt#1\nb info\nc: w0 token rt#1\nc fail 400"
    found = judge(history(story)).violations

    assert [(violation.invariant, violation.seq) for violation in found] == [("refresh-storm", 5), ("blind-replay", 6)]
    note = 'note end grants={"g#1":{"account":"work","accepts":["rt#2"],"death":null,"stores":["s"]}}'
    lost = judge(history(f"login\na: w0 token rt#1\na info\nnote store store=s state=absent\n{note}")).violations
    assert [(violation.invariant, violation.seq) for violation in lost] == [("lost-rotation", 5), ("forced-login", 5)]


def test_what_comes_with_a_double_spend_is_told_after_it():
    """A needless refresh of the same login, and a leak, though both were complete before; another login's was first."""
    story = """
        login expires=0
        login g#2 expires=0
        note leak token=rt#1 where=log what=x
        a: w0 token g#2/rt#1
        a ok at#2 rt#2
        b: w0 token g#2/rt#2
        b ok at#3 rt#3
        c: w0 token rt#1
        c ok at#2 rt#2
        d: w0 token rt#2
        d ok at#3 rt#3
        e: w1 token rt#2
        e fail 400
    """
    found = judge(history(story)).violations

    assert [(violation.invariant, violation.grant) for violation in found] == [
        ("refresh-storm", "g#2"),
        ("double-spend", "g#1"),
        ("refresh-storm", "g#1"),
        ("token-leak", "g#1"),
    ]


def test_those_of_the_end_come_last():
    """Whatever number they have."""
    story = """
        login
        note end grants={"g#1":{"account":"work","accepts":[],"death":null,"stores":[]}}
        note leak where=file token=rt#1
    """

    assert [violation.invariant for violation in judge(history(story)).violations] == ["token-leak", "forced-login"]


@pytest.mark.parametrize("given", [True, False])
def test_what_is_allowed_is_a_note(given):
    """By the header, or as given."""
    allow = ["double-spend"]
    verdict = judge(history(SPENT_TWICE), allow=allow) if given else judge(history(SPENT_TWICE, allow=allow))

    assert (verdict.state, noted(verdict)) == ("VALID", ["allowed double-spend"])
    assert str(verdict.notes[0]) == "double-spend: rt#1 by w0 (#2) and w1 (#3): allowed"
    assert str(verdict.notes[0].violation) == "rt#1 by w0 (#2) and w1 (#3)"


def test_what_is_given_replaces_what_the_header_allows():
    """`check` may ask another question than the run did."""
    assert judge(history(SPENT_TWICE, allow=["double-spend"]), allow=[]).state == "INVALID"


def test_allowing_one_invariant_leaves_the_others():
    """The next one is raised."""
    verdict = judge(history(SPENT_TWICE + SHARED_BEARER, allow=["double-spend", "no-such"]))

    assert [violation.invariant for violation in verdict.violations] == ["co-schedule"]


def test_what_the_header_does_not_ask_for_is_a_note():
    """The header says which invariants fail a test."""
    verdict = judge(history(SPENT_TWICE, default=["co-schedule"]))

    assert (verdict.state, noted(verdict)) == ("VALID", ["unjudged double-spend"])
    assert str(verdict.notes[0]) == "double-spend: rt#1 by w0 (#2) and w1 (#3): not judged here"
    assert judge(history(SPENT_TWICE, default=list(INVARIANTS))).state == "INVALID"
    assert judge(history(SPENT_TWICE, default=[])).state == "VALID"


def test_the_store_invariants_count_as_soon_as_a_store_is_known():
    """The header is written before there is any store."""
    story = "login\nnote store store=s state=blank previous=rt#1 previous_accepted=true"

    assert told(judge(history(story, default=["double-spend"]))) == ["store-regression: rt#1 -> blank in s"]


def test_a_torn_history_without_a_violation_is_unknown():
    """What was torn off might have been the bug."""
    verdict = judge(torn(SOUND))

    assert (verdict.state, verdict.exit_status, noted(verdict)) == ("UNKNOWN", 3, ["torn"])
    assert "torn" in str(verdict.notes[0])


def test_a_violation_before_the_tear_is_a_violation():
    """It did happen."""
    verdict = judge(torn(SPENT_TWICE))

    assert (verdict.state, verdict.exit_status, noted(verdict)) == ("INVALID", 1, ["torn"])


def test_an_allowed_violation_before_the_tear_leaves_it_unknown():
    """What is only noted decides nothing."""
    assert judge(torn(SPENT_TWICE, allow=["double-spend"])).state == "UNKNOWN"


def test_a_stuck_worker_makes_it_unknown_unless_something_is_violated():
    """Nobody knows what it would have done."""
    stuck = "\nnote stuck actor=w1 why=waits~for~a~C~lock"
    verdict = judge(history(SOUND + stuck))

    assert (verdict.state, noted(verdict)) == ("UNKNOWN", ["stuck"])
    assert str(verdict.notes[0]) == "w1 is stuck: waits for a C lock"
    assert judge(history(SPENT_TWICE + stuck)).state == "INVALID"


@pytest.fixture
def broken_checker(monkeypatch):
    def check(history):
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(judging, "CHECKERS", {**judging.CHECKERS, "blind-replay": check})


def test_a_checker_that_crashes_makes_it_unknown(broken_checker):
    """A defect of ours is no violation of theirs, and no exception out of the judge."""
    verdict = judge(history(SOUND))

    assert (verdict.state, noted(verdict)) == ("UNKNOWN", ["crashed"])
    assert str(verdict.notes[0]) == "blind-replay could not be judged: ZeroDivisionError: oops"


def test_a_checker_that_crashes_does_not_hide_what_the_others_found(broken_checker):
    """INVALID outranks UNKNOWN, and those that come after it in the table are asked all the same."""
    assert judge(history(SPENT_TWICE)).state == "INVALID"
    assert told(judge(history("login" + SHARED_BEARER))) == ["co-schedule: at#2 by w0 (#2) and w1 (#3)"]


@pytest.mark.parametrize("header", [{"allow": 5}, {"default": 5}, {"allow": [[]]}, {"policy": 5}, {"limit": "many"}])
def test_a_header_that_makes_no_sense_makes_it_unknown(header):
    """Never an exception out of the judge."""
    assert judge(history(SOUND + SHARED_BEARER.replace("d:", "x: w0 call at#2\nd:"), **header)).state in (
        "UNKNOWN",
        "INVALID",
    )
    assert judge(history(SOUND, **header)).state in ("UNKNOWN", "VALID")


def test_a_header_that_makes_no_sense_is_told_with_its_error():
    """Beside whatever else makes it unknown."""
    verdict = judge(torn(SOUND, allow=5))

    assert noted(verdict) == ["crashed", "torn"]
    assert str(verdict.notes[0]) == "the header can't be read: TypeError: 'int' object is not iterable"


@pytest.mark.parametrize(
    ("story", "what"),
    [
        ("a: w0 token g#2/rt#1\nb: w1 token g#2/rt#1", "double-spend: home:rt#1 by w0 (#3) and w1 (#4)"),
        (
            "a: w0 token g#2/rt#1\na info\nb: w1 token g#2/rt#1",
            "blind-replay: home:rt#1 by w0 (#3, unknown outcome) and w1 (#5)",
        ),
        ("a: w0 call g#2/at#1\nb: w1 call g#2/at#1", "co-schedule: home:at#1 by w0 (#3) and w1 (#4)"),
        (
            "a: w0 call g#2/at#1\na fail 401 reason=expired\nb: w0 call g#2/at#1",
            "stale-bearer: home:at#1 by w0 (#3: 401 expired, again #5)",
        ),
    ],
)
def test_of_several_logins_the_violation_names_the_one(story, what):
    """Each has an rt#1; the headline, the labels and the grant say whose it was."""
    verdict = judge(history(OTHERS + story))

    (violation,) = verdict.violations
    assert told(verdict) == [what]
    assert (violation.grant, violation.labels) == ("g#2", (what.split()[1],))


def test_who_was_told_to_try_again_collided_without_harm():
    """Under a policy that asks one of two at once to; which of them had come first makes no difference."""
    story = "login\na: w0 token rt#1\nb: w1 token rt#1\n{0} commit rotated at#2 rt#2\n{1} commit retry\n{1} fail 400"
    for winner, loser in ("ab", "ba"):
        verdict = judge(history(story.format(winner, loser)))
        assert (verdict.state, noted(verdict)) == ("VALID", ["excused double-spend"])
        assert str(verdict.notes[0]).endswith(": harmless, as the policy has one of two at once try again")
