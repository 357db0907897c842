"""What a request must be to count: a token that was not looked at was not presented, and a place that is not served."""

from __future__ import annotations

import pytest

from pytest_claude_tokens.judge import State, judge
from pytest_claude_tokens.judge.earning import earned, missed, refusals, told_missed
from pytest_claude_tokens.judge.history import UNREAD
from pytest_claude_tokens.judge.judging import check_co_schedule
from tests.unit.judge.build import events, history

LOGIN = "login expired=true\n"


def states(text, **header):
    verdict = judge(history(text, **header))
    return verdict.state, [violation.invariant for violation in verdict.violations]


@pytest.mark.parametrize("error", sorted(UNREAD))
def test_a_token_that_was_not_looked_at_was_not_presented(error):
    """Neither a double spend nor a blind replay: the same token, sent before, beside or after."""
    story = LOGIN + (
        f"a: w0 token rt#1\nb: w1 token rt#1\na fail status=400 error={error} committed=true\n"
        "b commit rotated at#2 rt#2\nb ok at#2 rt#2 committed=true\n"
        f"c: w0 token rt#1\nc fail status=401 error={error} committed=true\nnote end grants={{}}"
    )
    found = history(story)
    assert [len(sent) for sent in found.presentations.values()] == [1]
    assert judge(found).state is State.VALID


def test_one_that_was_refused_as_dead_was_presented():
    """`invalid_grant` is what the token itself earned."""
    story = LOGIN + (
        "a: w0 token rt#1\nb: w1 token rt#1\na commit rotated at#2 rt#2\na ok at#2 rt#2 committed=true\n"
        "b commit reused\nb fail status=400 error=invalid_grant committed=true\n"
    )
    assert "double-spend" in states(story)[1]


def test_one_of_two_that_is_told_to_retry_was_presented():
    """Its code says `invalid_request`; but the service looked at the token, and says so."""
    story = LOGIN + (
        "a: w0 token rt#1\nb: w1 token rt#1\na commit rotated at#2 rt#2\na ok at#2 rt#2 committed=true\n"
        "b commit retry\nb fail status=400 error=invalid_request committed=true\n"
    )
    assert [len(sent) for sent in history(story).presentations.values()] == [2]


def test_a_token_that_was_not_minted_here_is_none_to_withdraw():
    """It was never among those that were presented."""
    story = LOGIN + "a: w0 token unknown\na fail status=401 error=invalid_client committed=true"
    assert history(story).presentations == {}


def test_without_a_queue_two_calls_at_once_are_no_matter():
    """A header that says `limit: null`; one that says nothing means one."""
    story = "login\na: w0 call at#1\nb: w1 call at#1\na ok\nb ok"
    assert states(story, limit=None) == (State.VALID, [])
    assert states(story) == (State.INVALID, ["co-schedule"])
    assert len(list(check_co_schedule(history(story, limit=None), 1))) == 1


NOWHERE = "unjudged=not~an~endpoint~of~service~'claude'"


def test_a_refresh_token_that_went_elsewhere_keeps_a_history_from_being_valid():
    """A bearer there is a note, and no reason; what has no token is neither; a token request is none of these."""
    story = (
        f"login\na: w0 other rt#1 {NOWHERE}\na fail status=404\nb: w0 call at#1\nb ok\n"
        f"c: w1 other {NOWHERE} bearer=at#1\nc fail status=404\nd: w1 other {NOWHERE}\nd fail status=404\n"
        f"e: w1 other {NOWHERE} refresh=unknown bearer=unknown\ne fail status=404\n"
    )
    verdict = judge(history(story.replace("other rt#1", "other refresh=rt#1")))
    assert (verdict.state, [note.why for note in verdict.notes]) == (State.UNKNOWN, ["unserved", "elsewhere"])


def test_what_came_instead_is_told_by_kind():
    """The most frequent first; of very many kinds, only their number."""
    story = "".join(
        f"o{n}: w0 other method=GET host=h path=/{n % 7} {NOWHERE}\no{n} fail status=404\n" for n in range(8)
    )
    found = history("login\n" + story)
    first, *others, last = told_missed(missed(found))
    assert first == "GET h/0 -> 404 (2 times): not an endpoint of service 'claude'"
    assert (len(others), last) == (4, "and 2 more kinds of requests")
    (reason,) = earned(found, judge(found)).reasons
    assert str(reason).startswith("no request was judged, so nothing was proved; GET h/0 -> 404 (2 times)")
    one_kind_less = "".join(
        f"o{n}: w0 other method=GET host=h path=/{n} {NOWHERE}\no{n} fail status=404\n" for n in range(5)
    )
    assert len(told_missed(missed(history(one_kind_less)))) == 5
    one_more = one_kind_less + f"o6: w0 other method=GET path=/6 {NOWHERE}\n"
    assert told_missed(missed(history(one_more)))[5:] == ["and 1 more kinds of requests"]
    open_still = history(f"login\na: w0 other method=GET path=/x {NOWHERE}")
    assert told_missed(missed(open_still)) == ["GET /x -> no reply (once): not an endpoint of service 'claude'"]


def test_a_404_in_a_file_by_another_hand_is_no_endpoint():
    """It says nothing of what could be judged: an unknown path can't."""
    story = """
        a: w0 other method=GET path=/a
        a fail 404
        b: w0 other method=GET path=/b
        b fail 405
        c: w0 call at#1 method=POST path=/c
        c fail 404
        d: w0 other method=GET path=/d
        d ok
    """
    assert told_missed(missed(history("login\n" + story))) == ["GET /a -> 404 (once): no endpoint of the service"]


def test_what_was_refused_is_told_by_kind_with_its_remedy():
    """How often, and what to do; other notes are none of it."""
    story = """
        note refused host=api.example.com port=443 remedy=say~so
        note refused host=api.example.com port=443 remedy=say~so
        note refused what=to~start~curl remedy=allow~it
        note expire host=x remedy=y
    """
    kinds = {("requests to api.example.com", "say so"): 2, ("an attempt to start curl", "allow it"): 1}
    assert refusals(events(story)) == kinds
    found = history(story)
    verdict = earned(found, judge(found))
    assert (verdict.state, [note.why for note in verdict.notes]) == (State.UNKNOWN, ["unearned"])
    assert str(verdict.notes[0]).endswith(
        "no request reached the service, so nothing was proved; requests to api.example.com refused (2 times): say so; "
        "an attempt to start curl refused (once): allow it"
    )


def test_a_violation_needs_no_request_to_stand():
    """Of a token in a log it matters little who has sent what; and what is valid by one request stays so."""
    leak = history("login\nnote leak where=log token=rt#1")
    verdict = judge(leak)
    assert earned(leak, verdict) is verdict
    good = history("login expires=100\na: w0 call at#1\na ok\nb: w0 other method=GET path=/b\nb fail 404")
    verdict = judge(good)
    assert earned(good, verdict) is verdict
    assert verdict.state is State.VALID
