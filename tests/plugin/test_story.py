"""The story of a violation, word for word."""

from __future__ import annotations

import itertools
import re

import pytest

from fake_server import Fault, Policy
from pytest_claude_tokens.report.advice import RULES
from pytest_claude_tokens.report.story import plain_story, story
from pytest_claude_tokens.violations import (
    INVARIANTS,
    VIOLATIONS,
    BlindReplay,
    CoSchedule,
    DoubleSpend,
    ForcedLogin,
    MissingBearer,
    StaleBearer,
    StoreRegression,
)
from tests.plugin.play import Play, expect, found, spend_twice, told


def line(text: str, word: str) -> str:
    """What is told beside `word`, on one line."""
    lines = text.split("\n\n", maxsplit=1)[0].splitlines()
    at = next(index for index, content in enumerate(lines) if content.startswith(word))
    tail = itertools.takewhile(lambda content: content.startswith(" "), lines[at + 1 :])
    return " ".join(part.strip() for part in (lines[at].removeprefix(word), *tail))


def test_a_double_spend_is_told_from_both_sides():
    """Again, first, why, after, replay; the rule; the table; where to look further; how to study it."""
    play = Play(Policy.preset("anthropic-harsh"))
    token = play.login().refresh[0].secret
    first = play.refresh("w0", token)
    play.end(first)
    again = play.refresh("w1", token)
    play.end(again)

    text = told(
        play,
        DoubleSpend,
        first,
        again,
        replay='pytest "test_pool.py::test_it" --claude-tokens-replay=ct1-AAEBAA',
        folder=".claude-tokens/test_it",
        files=["history.jsonl", "timeline.html"],
        facts={1: {"at": "pool.py:88"}, 2: {"at": "pool.py:91"}},
    )

    assert text == expect(
        """
again   #5  +0.002s  w1  pool.py:91  refresh rt#1 -> 400 invalid_grant
first   #2  +0.000s  w0  pool.py:88  refresh rt#1 -> 200 at#2 rt#2
why     as the checker says; it kept using its copy of rt#1 after w0 had received rt#2 (#4)
after   the service detected the reuse: rt#2 at#1 at#2 revoked: a person has to log in again
mend    refresh under one lock of all workers: there, read the login, look whether it is new
        already, else refresh and store it
replay  pytest "test_pool.py::test_it" --claude-tokens-replay=ct1-AAEBAA

double-spend: a refresh token is not sent again while its first request is open, or after that one
succeeded (RFC 9700 s4.14.2)
2 workers, 1 grant; policy anthropic-harsh (reuse revoke-family); virtual clock; no faults

    #       time    w0                     w1                     service
    1       +0.000                                                issued g#1: at#1 rt#1
  * 2       +0.000  refresh rt#1 ... pool.py:88
    3       +0.001                                                rt#1 spent; at#2 rt#2
    4       +0.001  ... 200 at#2 rt#2
  * 5       +0.002                         refresh rt#1 ... pool.py:91
    6       +0.003                                                rt#1 again: reuse; g#1 revoked
    7       +0.003                         ... 400 invalid_grant

.claude-tokens/test_it/  history.jsonl  timeline.html
If this is what you are studying: @pytest.mark.claude_tokens(allow=["double-spend"])
"""
    )


@pytest.mark.parametrize(
    ("first", "again", "told_first", "told_again"),
    [
        (["pool.py:8"], ["pool.py:8"], "pool.py:8  refresh", "pool.py:8  refresh"),
        (["pool.py:8", "pool.py:3"], ["pool.py:8", "pool.py:3"], "pool.py:8  refresh", "pool.py:8  refresh"),
        (
            ["pool.py:8", "pool.py:3"],
            ["pool.py:8", "pool.py:31"],
            "pool.py:8 from pool.py:3   refresh",
            "pool.py:8 from pool.py:31  refresh",
        ),
        (["pool.py:8", "pool.py:3"], ["pool.py:9", "pool.py:31"], "pool.py:8  refresh", "pool.py:9  refresh"),
        (
            ["http.py:8", "pool.py:3"],
            ["pool.py:9"],
            "http.py:8 from pool.py:3  refresh",
            "pool.py:9                 refresh",
        ),
        ([], ["pool.py:9"], "           refresh", "pool.py:9  refresh"),
        (
            [f"{'h' * 30}.py:8", f"{'p' * 30}.py:3"],
            ["pool.py:9"],
            f"{'h' * 30}.py:8  refresh",
            f"pool.py:9{' ' * 28}refresh",
        ),
    ],
    ids=["one line", "one way", "two ways", "two lines", "a helper", "unknown", "no room"],
)
def test_each_side_names_the_line_of_the_users_that_sent_it(first, again, told_first, told_again):
    """In a column. Its caller's beside it, if the line is in another file, or if both sides came to it by two ways."""
    facts = {op: {"at": at[0], "via": at[1:]} for op, at in ((1, first), (2, again)) if at}
    play = Play()
    lines = told(play, DoubleSpend, *spend_twice(play), facts=facts).splitlines()

    assert [line.partition("s  w")[2][3:].partition(" rt#1")[0] for line in lines[:2]] == [told_again, told_first]


def test_calls_together_on_one_bearer_are_drawn_as_bars():
    """With several grants each label says whose it is; what was free and who waited is told."""
    play = Play()
    bearer = play.login("work").access[0].secret
    play.login("spare")
    first, again = play.call("w0", bearer), play.call("w1", bearer)
    first.step()
    play.queue(again)
    play.now += 2.1
    play.end(first)
    play.end(again)

    assert told(play, CoSchedule, first, again) == expect(
        """
again   #4  +0.001s  w1  call work:at#1 -> 200
first   #3  +0.000s  w0  call work:at#1 -> 200
why     as the checker says; spare:at#1 was free
after   in the service's queue w1 waited 2.1 s (#4)
mend    give each bearer to one worker at a time, and take it back when the body of the reply was
        read

co-schedule: no more workers than its limit (1) have a call open on one bearer
2 workers, 2 grants; policy anthropic; virtual clock; no faults

    w0  #3 [========= work:at#1 ==========]
    w1                 #4 [........... queued ...........|= work:at#1 ==]

    #       time    w0                     w1                     service
    1       +0.000                                                issued g#1: work:at#1 work:rt#1
    2       +0.000                                                issued g#2: spare:at#1 spare:rt#1
  * 3       +0.000  call work:at#1 ...
  * 4       +0.001                         call work:at#1 ...
    5       +2.102  ... 200
    6       +2.103                                                queued 2.1 s
    7       +2.103                         ... 200

If this is what you are studying: @pytest.mark.claude_tokens(allow=["co-schedule"])
"""
    )


def test_two_requests_at_once_are_told_as_such():
    """Nothing made the second one wait; inside a grace window no harm is done."""
    play = Play(Policy.grace(30))
    text = told(play, DoubleSpend, *spend_twice(play, overlap=True))

    assert line(text, "why") == "as the checker says"
    assert line(text, "after") == "the service tolerated it: no harm was done here"


def test_a_worker_that_forgot_its_own_new_token_is_told_as_such():
    """It was the same worker, and it had the answer."""
    play = Play()
    text = told(play, DoubleSpend, *spend_twice(play, actor="w0"))

    assert line(text, "why") == (
        "a stale copy: w0 went back to rt#1, as after a restart, although it had rt#2; w0 had received rt#2 (#4)"
    )
    assert line(text, "after") == "refused; rt#2 still works, for w0"


def test_a_worker_that_did_not_look_at_the_store_again_is_told_as_such():
    """The store had the new token before the old one was sent again."""
    play = Play()
    token = play.login().refresh[0].secret
    first = play.refresh("w0", token)
    play.end(first)
    facts = {"account": "work", "grant": "g#1", "store": "shared", "state": "token", "accepted": True}
    play.server.journal.note("store", refresh="rt#1", **facts)
    play.server.journal.note("store", refresh="rt#2", **facts)
    again = play.refresh("w1", token)
    play.end(again)

    text = told(play, DoubleSpend, first, again)

    assert line(text, "why") == "as the checker says; the store shared had held rt#2 since #6"
    assert "store shared: rt#2\n" in text


def test_a_replay_after_a_lost_reply_says_what_nobody_could_know():
    """That the outcome is unknown, and that the new token is nowhere."""
    play = Play()
    play.server.faults.add("token", Fault.LOST_REPLY)
    first, again = spend_twice(play, actor="w0")
    text = told(play, BlindReplay, first, again)

    assert text.splitlines()[:2] == [
        "again   #5  +0.002s  w0  refresh rt#1 -> 400 invalid_grant",
        "first   #2  +0.000s  w0  refresh rt#1 -> ? lost-reply (committed)",
    ]
    assert line(text, "after") == "refused; rt#2 never arrived anywhere: a person has to log in again"
    assert "; faults: lost-reply\n" in text


def test_a_replay_of_what_was_never_committed_says_so():
    """The service had not done it; the worker could not know that either."""
    play = Play()
    play.server.faults.add("token", Fault.RESET)
    text = told(play, BlindReplay, *spend_twice(play, actor="w0"))

    assert "refresh rt#1 -> ? connection reset (not committed)\n" in text
    assert "\nafter" not in text


def test_a_dead_bearer_sent_again_shows_the_reply_that_was_not_heeded():
    """It is the first of the two sides."""
    play = Play()
    bearer = play.login().access[0].secret
    play.server.expire("work")
    first = play.call("w0", bearer)
    play.end(first)
    again = play.call("w0", bearer)
    play.end(again)

    text = told(play, StaleBearer, first, again)

    assert "first   #3  +0.000s  w0  call at#1 -> 401 expired\n" in text
    assert "expire work: at#1\n" in text


def test_one_request_may_be_all_there_is():
    """Then it is told where it stands."""
    play = Play()
    call = play.call("w0", play.login().access[0].secret)
    play.end(call)

    assert told(play, StaleBearer, call).startswith("at      #2  +0.000s  w0  call at#1 -> 200\nwhy     as the checker")


def test_a_cause_is_wrapped_and_plain():
    """Whatever the checker says."""
    play = Play()
    first, again = spend_twice(play, overlap=True)
    text = story(play.history, found(play, DoubleSpend, first, again, cause="because\nof that, é"))

    assert line(text, "why") == r"because of that, \xe9"


def test_bearers_are_all_in_use_where_none_is_said_to_be_free():
    """With one grant there is nothing else to choose."""
    play = Play()
    bearer = play.login().access[0].secret

    assert (
        line(told(play, CoSchedule, play.call("w0", bearer), play.call("w1", bearer)), "why") == "as the checker says"
    )


def test_the_verdict_unknown_is_told_with_its_history():
    """There are no sides to tell; what is known is why nobody can know more."""
    play = Play()
    play.end(play.call("w0", play.login().access[0].secret))

    assert plain_story(
        play.history, "w1 is stuck: in C", replay="pytest x", folder="F", files=["history.jsonl"]
    ) == expect(
        """
verdict w1 is stuck: in C
replay  pytest x

1 worker, 1 grant; policy anthropic; virtual clock; no faults

    #       time    w0                        service
    1       +0.000                            issued g#1: at#1 rt#1
    2       +0.000  call at#1 ...
    3       +0.001  ... 200

F/  history.jsonl
"""
    )
    assert plain_story(play.history, "torn").endswith("... 200")


@pytest.mark.parametrize("invariant", [ForcedLogin, StoreRegression])
def test_what_no_request_did_is_told_by_its_event(invariant):
    """A violation may have no operation: then its completing event is named, and starred."""
    play = Play()
    play.login()
    play.server.journal.note("end", grants={})
    text = story(play.history, invariant("headline", seq=2), in_test=True)

    assert text.startswith("at      #2  +0.000s  service  end\nwhy     cause not recognised\n")
    assert ("after   a person has to log in again" in text) is (invariant is ForcedLogin)
    assert "\n  * 2       +0.000  end of the run\n" in text


def test_a_store_is_told_with_who_wrote_it():
    """By a witness of a search; else with the service, which looked at it. Who sent nothing was there all the same."""
    play = Play()
    play.login()
    play.server.journal.note("store", store="shared", state="blank", accepted=False, account="a", grant="g#1")
    violation = StoreRegression("headline", seq=2, cause="why")
    written = play.history.with_facts({}, {2: {"by": "w1", "at": "pool.py:33"}})
    text = story(written, violation, workers=3)

    assert text.startswith("at      #2  +0.000s  w1  pool.py:33  store shared: no refresh token\n")
    assert "\n  * 2       +0.000  store shared: no refresh token, by w1" in text
    assert "\n3 workers, 1 grant; " in text
    assert story(play.history, violation).startswith("at      #2  +0.000s  service  store shared: no refresh token\n")


def test_a_look_at_a_store_that_has_found_nothing_new_has_no_row():
    """A run ends with one at each store; what is marked is shown whatever it says."""
    play = Play()
    play.login()
    for refresh in ("rt#1", "rt#1", "rt#2", "rt#2"):
        play.server.journal.note("store", store="s", state="token", refresh=refresh, accepted=True, grant="g#1")
    rows = story(play.history, StoreRegression("headline", seq=5, cause="why"))

    assert re.findall(r"^  [ *] (\d+) .* store s: (.*)", rows, re.MULTILINE) == [
        ("2", "rt#1"),
        ("4", "rt#2"),
        ("5", "rt#2"),
    ]


def test_a_violation_of_an_event_that_the_history_has_not_is_told_without():
    """A torn history may lack it."""
    play = Play()
    play.login()

    assert story(play.history, ForcedLogin("headline", seq=9)).startswith("why ")


def test_of_more_than_two_requests_the_last_and_the_first_are_shown():
    """The others are counted, and starred in the table."""
    play = Play(Policy().but(slots=None))
    bearer = play.login().access[0].secret
    calls = [play.call(f"w{number}", bearer) for number in range(4)]
    for call in calls[:2]:
        play.end(call)
    calls[2].abandon("client gone")
    text = told(play, CoSchedule, *calls)

    assert text.splitlines()[:3] == [
        "again   #5  +0.003s  w3  call at#1, still open",
        "first   #2  +0.000s  w0  call at#1 -> 200",
        "        and 2 more between these two",
    ]
    assert [content for content in text.splitlines() if content.startswith("    w")] == [
        "    w0  #2 [============== at#1 ==============]",
        "    w1          #3 [============== at#1 ==============]",
        "    w2                   #4 [============== at#1 ==============~~ ?",
        "    w3                           #5 [=============== at#1 ==============~~ ?",
    ]


def test_bearers_that_have_ended_were_not_free():
    """Expired by the clock, ended by hand, revoked, busy, or issued later: only what could be used is named."""
    play = Play(Policy(expires_in=100))
    bearer = play.login("work").access[0].secret
    for account in ("ended", "spare", "other"):
        play.login(account)
    play.server.login("short", expires_in=1)
    busy = play.login("busy").access[0].secret
    play.server.expire("ended")
    play.now += 2
    play.call("w9", busy)
    first, again = play.call("w0", bearer), play.call("w1", bearer)
    play.login("later")

    why = line(told(play, CoSchedule, first, again), "why")

    assert why == "as the checker says; spare:at#1, other:at#1 were free"


def test_outside_a_test_there_is_no_marker_to_set():
    """A history file that `check` tells of is nobody's test."""
    play = Play()
    violation = found(play, DoubleSpend, *spend_twice(play))

    assert story(play.history, violation, in_test=True).startswith(story(play.history, violation))
    assert "pytest.mark" not in story(play.history, violation)


def test_what_else_was_broken_is_listed_under_it():
    """By number and name; from the eleventh on they are counted."""
    play = Play()
    first, again = spend_twice(play)
    violation = found(play, DoubleSpend, first, again)
    violation.others = tuple(ForcedLogin(f"g#{number}", seq=number) for number in range(1, 13))
    text = story(play.history, violation, in_test=True)

    assert "\n\nalso    #1  forced-login: g#1\nalso    #2  forced-login: g#2\n" in text
    assert "also    #10  forced-login: g#10\n        and 2 more\n\n" in text


def test_a_refused_token_with_nothing_left_says_so():
    """Revoked by hand: nothing of the grant is accepted any more."""
    play = Play()
    token = play.login().refresh[0].secret
    first = play.refresh("w0", token)
    play.end(first)
    play.server.revoke("work")
    again = play.refresh("w1", token)
    play.end(again)

    text = told(play, DoubleSpend, first, again)

    assert line(text, "after") == (
        "refused; no refresh token of this grant works any more: a person has to log in again"
    )
    assert "revoke work: rt#2 at#1 at#2\n" in text


@pytest.mark.parametrize(("others", "shown"), [(0, range(50, 61)), (10, range(40, 61)), (40, range(40, 61))])
def test_a_story_fits_on_a_screen(others, shown):
    """Sixty lines of a hundred columns: the table has what is left, and says how much it leaves out."""
    play = Play()
    first, again = spend_twice(play)
    for number in range(100):
        play.end(play.call(f"worker-of-a-pool-{number % 3}", play.server.authority.grants[-1].access[-1].secret))
    violation = found(play, DoubleSpend, first, again)
    violation.others = tuple(ForcedLogin(f"g#{number}", seq=number) for number in range(1, others + 1))
    remarks = [f"remark {number}" for number in range(others)]
    lines = story(play.history, violation, replay="pytest", error="E", remarks=remarks, folder="F").splitlines()

    assert len(lines) in shown or others == 40
    assert max(map(len, lines)) <= 100
    assert sum(line.startswith("  * ") for line in lines) == 2
    assert any(re.fullmatch(r"    \.\.\. \d+ more events, see the history's file", line) for line in lines)


@pytest.mark.parametrize("invariant", INVARIANTS)
def test_what_there_is_to_do_is_said_of_each(invariant):
    """By the history, or by the kind of violation."""
    play = Play()
    _, again = spend_twice(play)
    text = story(play.history, VIOLATIONS[invariant]("headline", seq=again.op, operations=[play.operation(again)]))

    assert line(text, "after")


def test_every_invariant_has_its_sentence():
    """What was asked for is said in the report."""
    assert tuple(RULES) == INVARIANTS


def test_a_call_without_a_bearer_is_told_beside_the_refresh_that_took_its_token():
    """They don't collide as two requests with one token do, so neither is the first one."""
    play = Play()
    refreshing = play.refresh("w0", play.login().refresh[0].secret)
    without = play.call("w1", "")
    play.end(without)
    play.end(refreshing)
    lines = told(play, MissingBearer, refreshing, without).splitlines()

    assert [" ".join(line.split()[:2]) for line in lines[:2]] == ["at #3", "beside #2"]
    assert any(line.startswith("missing-bearer: no call carries neither bearer nor API key") for line in lines)
