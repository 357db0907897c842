"""Calls without a credential: a token that was taken away is told, a client that never had one is spared."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fake_server.policy import Policy
from fake_server.protocol.wire import Request, has_credentials
from pytest_claude_tokens.judge.history import History
from pytest_claude_tokens.judge.judging import judge
from tests.unit.judge.build import history, told
from tests.unit.judge.drive import Service

REFRESHING = """
    login expires=0
    a: w0 token rt#1
    {before}
    b: w1 call credentials=false
    b fail 401 reason=missing
    {after}
"""
TOLD = "missing-bearer: no bearer by w1 (#{})"


def missing(story: str, **header) -> list[str]:
    return [line for line in told(judge(history(story, **header))) if line.startswith("missing-bearer")]


def test_a_call_beside_a_refresh_is_told_with_the_refresh():
    """The token is taken away while it is refreshed: the other worker has nothing to send."""
    (violation,) = judge(history(REFRESHING.format(before="", after=""))).violations

    assert str(violation) == "no bearer by w1 (#3)"
    assert [operation.actor for operation in violation.operations] == ["w0", "w1"]
    assert (violation.actors, violation.labels, violation.grant, violation.more) == (("w1",), ("rt#1",), "g#1", 0)
    assert violation.cause == (
        "w1 called (#3) with neither bearer nor API key although the login of work was live: "
        "w0 was refreshing rt#1 (#2)"
    )


COMMITTED = 'a commit rotated at#2 rt#2 expires=100 accepts=["rt#2"]\n'


@pytest.mark.parametrize(
    ("before", "good"),
    [
        (COMMITTED, "w0 was refreshing rt#1 (#2)"),
        (COMMITTED + "a ok at#2 rt#2", "at#2 was good"),
        (COMMITTED + "a ok at#2 rt#2\nt 200", "rt#2 was good"),
        (COMMITTED + 'a ok at#2 rt#2\nnote expire ended=["at#2"] accepts=["rt#2"]', "rt#2 was good"),
        ("a fail 503 fault=status(503)", "rt#1 was good"),
        ("note advance seconds=1\nnote store store=s state=blank\na fail 503 fault=status(503)", "rt#1 was good"),
    ],
)
def test_it_is_told_what_was_good_at_the_time(before, good):
    """A token that has reached a worker, or will as soon as the refresh ends."""
    (violation,) = judge(history(REFRESHING.format(before=before, after=""))).violations

    assert violation.cause.endswith(f"was live: {good}")


@pytest.mark.parametrize(
    "before",
    [
        COMMITTED + "a info fault=lost-reply",
        'a commit reused revoked=["at#1","rt#2"] accepts=[]',
        'note revoke ended=["at#1","rt#1"] accepts=[]',
        "a commit refused accepts=[]\na fail 400 error=invalid_grant",
    ],
)
def test_a_login_that_is_over_needs_no_bearer(before):
    """It was lost, revoked or refused: there is nothing that the worker could have sent."""
    assert missing(REFRESHING.format(before=before, after="")) == []


def test_a_login_that_nobody_uses_is_none_of_the_dispatchers():
    """A test of what an unauthenticated client is told, beside an account that is for something else."""
    assert missing("login expires=100\nb: w1 call credentials=false\nb fail 401") == []


def test_who_asks_first_and_authenticates_when_told_to_is_spared():
    """As HTTP authentication has it: the first call goes without, also that of a second worker."""
    asks = "login expires=100\nx: w0 call credentials=false\nx fail 401\n"

    assert missing(asks + REFRESHING.replace("login expires=0", "").format(before="", after="")) == []


@pytest.mark.parametrize(
    ("use", "told"),
    [
        ("a: w0 call at#1\nb fail 401 reason=missing\na ok", [TOLD.format(2)]),
        ("a: w0 token rt#1\nb fail 401 reason=missing", [TOLD.format(2)]),
        ("b info\na: w0 call at#1\na ok", []),
        ("b fail 401 reason=missing\na: w0 call at#1\na ok", []),
        ("a: w0 call at#1\nb fail 401\na ok\nc: w1 call credentials=false\nc fail 401", [TOLD.format(2)]),
    ],
)
def test_who_presents_a_token_before_anybody_was_told_to_has_not_asked_first(use, told):
    """So the other worker's call, which came first and went without, is one that met a login half-made."""
    assert missing("login expires=100\nb: w1 call credentials=false\n" + use) == told


def test_a_login_that_comes_while_the_call_is_open_is_too_late_for_it():
    """The call could not have carried what was not there."""
    assert missing("b: w1 call credentials=false\nlogin expires=100\na: w0 call at#1\nb fail 401\na ok") == []


def test_a_login_by_code_is_in_use_from_its_reply_on():
    """The worker that logged in has the tokens, and so have those that share its dispatcher."""
    story = """
        c: w0 token grant_type=authorization_code
        login op=1 expires=100
        c ok at#1 rt#1 grant=g#1 account=work
        b: w0 call credentials=false
        b fail 401
    """

    assert missing(story) == ["missing-bearer: no bearer by w0 (#4)"]
    assert missing(story.replace("c ok at#1 rt#1 grant=g#1 account=work", "c info")) == []


def test_a_setup_token_is_a_login_too():
    """It has an access token only."""
    story = "login setup_token=true expires=100\na: w0 call at#1\na ok\nt {t}\nb: w0 call credentials=false\nb fail 401"

    assert missing(story.format(t=99)) == ["missing-bearer: no bearer by w0 (#4)"]
    assert missing(story.format(t=100)) == []


def test_it_is_told_once_for_each_worker_with_the_login_that_it_uses_itself():
    """The rest is counted."""
    story = REFRESHING.format(
        before="login g#2 expires=100\nx: w1 call g#2/at#1\nx ok",
        after="c: w1 call credentials=false\nc fail 401\nd: w2 call credentials=false\nd fail 401",
    )
    violations = judge(history(story)).violations

    assert [(violation.actors, violation.grant, violation.more) for violation in violations] == [
        (("w1",), "g#2", 1),
        (("w2",), "g#1", 0),
    ]


def test_each_further_call_of_a_worker_is_counted():
    """However many there are."""
    calls = "".join(f"{name}: w1 call credentials=false\n{name} fail 401\n" for name in "cde")
    (violation,) = judge(history(REFRESHING.format(before="", after=calls))).violations

    assert violation.more == 3


@pytest.mark.parametrize("expires", ["expires=null", "{}"])
def test_a_token_of_which_no_end_is_known_is_good(expires):
    """A history by another hand need not say when a token expires; only what ends it does."""
    told = history("login\na: w0 call at#1\na ok\nb: w1 call credentials=false\nb fail 401")
    login, *others = told.events
    data = {name: value for name, value in login.data.items() if name != "expires"}
    data |= {"expires": None} if expires != "{}" else {}
    again = History(told.header, [replace(login, data=data), *others])

    assert [str(violation) for violation in judge(again).violations] == ["no bearer by w1 (#4)"]


def test_a_token_that_was_superseded_is_good_no_more():
    """By a refresh that took it out of service: the next one is what there was to send."""
    before = COMMITTED + 'a ok at#2 rt#2\nnote revoke superseded=["at#2"]'
    (violation,) = judge(history(REFRESHING.format(before=before, after=""))).violations

    assert violation.cause.endswith("was live: rt#2 was good")


def test_only_the_service_claude_is_judged():
    """Elsewhere a client learns from a 401 where to log in."""
    story = REFRESHING.format(before="", after="")

    assert missing(story, service="mcp") == []
    assert missing(story, service="claude") == [TOLD.format(3)]


def test_a_call_that_says_nothing_about_its_credentials_is_spared():
    """A history by another hand; and one with an API key."""
    assert missing(REFRESHING.format(before="", after="").replace("credentials=false", "")) == []


@pytest.mark.parametrize(
    ("headers", "has"),
    [
        ({}, False),
        ({"authorization": ""}, False),
        ({"authorization": "Bearer "}, False),
        ({"authorization": "Bearer None"}, False),
        ({"authorization": "bearer undefined"}, False),
        ({"x-api-key": " "}, False),
        ({"authorization": "Bearer x"}, True),
        ({"authorization": "Basic eDp5"}, True),
        ({"x-api-key": "mine"}, True),
    ],
)
def test_what_counts_as_a_credential(headers, has):
    """A header that was made of a token that is not there is none."""
    request = Request("POST", "/v1/messages", tuple(headers.items()))

    assert has_credentials(request) is has


def test_the_service_journals_a_call_without_and_nothing_of_one_with():
    """What the judge goes by is in the history, whatever the transport."""
    service = Service(Policy())
    grant = service.login(expires_in=100.0)
    service.finish(service.call("w0", grant.access[0].secret))
    service.finish(service.call("w1", ""))

    assert [operation.invoke.get("credentials") for operation in service.history.operations] == [None, False]
    assert told(judge(service.history)) == [TOLD.format(4)]
