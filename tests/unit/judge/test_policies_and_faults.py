"""What the judge makes of knobs and faults: true histories of the fake service, and a few by hand."""

from __future__ import annotations

import pytest

from fake_server.faults import Fault
from fake_server.policy import Policy
from pytest_claude_tokens.judge.judging import judge
from tests.unit.judge.build import history, noted, told
from tests.unit.judge.drive import Service

AFTER = Fault.status(503, after_commit=True)


def tried_again(policy: Policy, fault: Fault) -> Service:
    """A client that tries once more after an answer that isn't 200."""
    service = Service(policy)
    token = service.login(expires_in=-1.0).refresh[0].secret
    service.server.faults.add("token", fault)
    for _ in range(2):
        if service.finish(service.token("w0", token)) == 200:
            break
    return service


def test_who_tries_again_after_a_503_may_be_a_thief():
    """The service has spent the token: no client can tell that answer from the other."""
    service = tried_again(Policy(), AFTER)
    (violation,) = judge(service.history).violations

    assert str(violation) == "rt#1 by w0 (#2, 503 once committed) and w0 (#5)"
    assert violation.invariant == "blind-replay"
    assert violation.cause.endswith("whether #2 had spent rt#1 could not be known (503 after the commit)")


@pytest.mark.parametrize("fault", [Fault.status(503), Fault.status(400, body={"error": "use_dpop_nonce"})])
def test_who_tries_again_after_an_answer_that_changed_nothing_is_spared(fault):
    """As clients should."""
    assert told(judge(tried_again(Policy(), fault).history)) == []


@pytest.mark.parametrize(
    ("policy", "why"),
    [(Policy.grace(30), "has a grace window"), (Policy(name="no-rotation", rotate=False), "does not rotate")],
)
def test_a_policy_that_makes_a_replay_harmless_makes_this_one_harmless_too(policy, why):
    """It is a note."""
    verdict = judge(tried_again(policy, AFTER).history)

    assert told(verdict) == []
    assert [str(note).rpartition(": ")[2] for note in verdict.notes] == [f"harmless, as the policy {why}"]


def test_a_login_that_is_lost_by_such_an_answer_is_our_doing():
    """The client did nothing after it."""
    service = Service(Policy())
    token = service.login(expires_in=-1.0).refresh[0].secret
    service.server.faults.add("token", AFTER)
    service.finish(service.token("w0", token))
    service.end()
    verdict = judge(service.history)

    assert told(verdict) == []
    assert [str(note) for note in verdict.notes] == [
        "forced-login: g#1: rt#2 reached no worker: we did that: status(503, after_commit) of #2"
    ]


@pytest.mark.parametrize("code", [400, 401, 409, 503])
def test_a_request_that_was_answered_by_a_fault_is_no_part_of_a_storm(code):
    """Whenever it struck, and whatever the status."""
    end = f"{{n}} commit rotated at#{{m}} rt#{{m}}\n{{n}} fail {code} committed=true replaced=true fault=status({code})"
    lines = [f"{n}: w0 token rt#{n}\n" + end.format(n=n, m=n + 1) for n in range(1, 6)]

    assert [line for line in told(judge(history("login expires=9\n" + "\n".join(lines)))) if "storm" in line] == []


AT_ONCE = Policy(name="at-once", at_once="retry")


def two_at_once() -> tuple[Service, str, str]:
    """``w0`` and ``w1`` refresh at once, and ``w1`` is asked to try again; also the new and the old refresh token."""
    service = Service(AT_ONCE)
    grant = service.login(expires_in=-1.0)
    old = grant.refresh[0].secret
    first, second = service.token("w0", old), service.token("w1", old)
    service.finish(first)
    assert service.finish(second) == 400
    return service, grant.refresh[1].secret, old


def test_two_at_once_are_harmless_where_one_is_asked_to_retry():
    """A note, and no storm: nothing was spent twice."""
    service, _, _ = two_at_once()
    verdict = judge(service.history)

    assert told(verdict) == []
    assert [str(note) for note in verdict.notes] == [
        "double-spend: rt#1 by w0 (#2) and w1 (#3): harmless, as the policy has one of two at once try again"
    ]


def test_who_retries_with_the_token_that_was_spent_meanwhile_is_told():
    """It must look for the new one first."""
    service, _, old = two_at_once()
    service.finish(service.token("w1", old))

    assert told(judge(service.history))[0] == "double-spend: rt#1 by w0 (#2) and w1 (#8)"


def test_a_token_that_was_superseded_is_not_live_and_pays_for_no_refresh():
    """Each refresh ends the access token before it: that is no reason for the next one."""
    chain = "\n".join(
        f'{n}: w0 token rt#{n}\n{n} commit rotated at#{n + 1} rt#{n + 1} superseded=["at#{n}"]\n'
        f"{n} ok at#{n + 1} rt#{n + 1}\nno{n}: w9 other at#{n + 1}\nno{n} fail 403"
        for n in range(1, 4)
    )

    assert told(judge(history("login expires=28800\n" + chain))) == [
        "refresh-storm: g#1: 2 refreshes, 0 access tokens ended"
    ]


def test_a_pair_whose_access_token_was_superseded_may_be_refreshed():
    """In a grace window a sibling ends it: its owner has nothing else left."""
    story = """
        login expires=0
        a: w0 token rt#1
        a commit rotated at#2 rt#2
        a ok at#2 rt#2
        b: w1 token rt#1
        b commit replayed at#3 rt#3 superseded=["at#2"]
        b ok at#3 rt#3
        x: w0 call at#1
        x fail 401
        c: w0 token rt#2
        c commit rotated at#4 rt#4
        c ok at#4 rt#4
    """
    grace = {"name": "grace", "grace_seconds": 30.0}

    story = story.replace("        x: w0 call at#1\n        x fail 401\n", 'note expire ended=["at#0","at#9"]\n')
    assert "still good" in str(told(judge(history(story.replace(' superseded=["at#2"]', ""), grace))))
    assert told(judge(history(story, grace))) == []


def test_a_refresh_token_that_comes_again_in_the_reply_is_not_lost_with_it():
    """Without rotation a lost reply costs nothing, also where it repeats the token."""
    service = Service(Policy(name="no-rotation", rotate=False, repeat_refresh=True))
    token = service.login(expires_in=-1.0).refresh[0].secret
    service.server.faults.add("token", Fault.LOST_REPLY)
    service.finish(service.token("w0", token))
    service.finish(service.token("w0", token))
    service.end({"g#1": ["shared"]})
    verdict = judge(service.history)

    assert told(verdict) == []
    assert "crashed" not in noted(verdict)
