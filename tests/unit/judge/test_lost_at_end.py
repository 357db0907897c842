"""Where the newest refresh token is at the end: lost by a bug it is caught, lost by our own doing it is a note."""

from __future__ import annotations

import pytest

from pytest_claude_tokens.judge.judging import judge
from tests.unit.judge.build import REFRESHED, STORED, end, history, invariants, noted, store, told

LOSSES = ["lost-rotation", "forced-login"]


@pytest.mark.parametrize(
    "text",
    [
        STORED + end(),
        REFRESHED + store("rt#2", accepted=True, final=True) + "\n" + end(),
        REFRESHED
        + store("rt#1", accepted=False)
        + "\n"
        + store("rt#2", accepted=True, name="t")
        + "\n"
        + end(stores=("s", "t")),
        REFRESHED + store("rt#1", accepted=True, final=True) + "\n" + end(accepts=("rt#1", "rt#2")),
        "login\n" + store("rt#1", accepted=True) + "\n" + end(accepts=("rt#1",)),
    ],
    ids=[
        "stored",
        "stored at the last look",
        "in one of two stores",
        "an elder that is still accepted",
        "never refreshed",
    ],
)
def test_a_refresh_token_that_is_in_a_store_is_not_lost(text):
    """One that the service accepts, in one store, is enough."""
    assert told(judge(history(text))) == []


@pytest.mark.parametrize(
    ("look", "found"),
    [
        (store("rt#1"), "s has rt#1"),
        (store("unknown"), "s has unknown"),
        (store(state="absent"), "s is absent"),
        (store(state="unreadable"), "s is unreadable"),
        (store(), "s is blank"),
        (store("rt#2", accepted=True) + "\n" + store(state="absent", final=True), "s is absent"),
    ],
)
def test_a_live_grant_whose_token_is_in_no_store_is_lost(look, found):
    """Absent and unreadable are judged at the end."""
    lost, login = judge(history(REFRESHED + look + "\n" + end())).violations

    assert str(lost) == "rt#2 in no store: s"
    assert lost.cause == f"the service accepts only rt#2; {found}"
    assert str(login) == "g#1: no store has rt#2"
    assert login.cause == f"a person has to log in again: no store has rt#2; {found}"
    assert [violation.invariant for violation in (lost, login)] == LOSSES
    assert lost.at_end
    assert login.at_end
    assert [str(op) for op in lost.operations] == [str(op) for op in login.operations] == ["w0 (#2)"]


def test_a_token_that_was_accepted_when_looked_at_but_is_not_at_the_end_is_lost():
    """The last look may be old."""
    text = REFRESHED + store("rt#1", accepted=True) + "\n" + end()

    assert invariants(text) == LOSSES


def test_without_the_end_nothing_is_judged_at_the_end():
    """A history that goes on is not over."""
    assert told(judge(history(REFRESHED + store("rt#1")))) == []


def test_a_store_that_was_never_looked_at_is_no_store():
    """Only facts count: the token did reach a worker."""
    assert told(judge(history(REFRESHED + end()))) == []


def test_a_store_with_another_accounts_token_is_worth_what_that_token_is():
    """A token of `home` in the store of `work`: whether somebody must log in depends on whether it is accepted."""
    look = "login g#2\n" + store("rt#1", accepted=True, final=True, account="home", grant="g#2")

    assert told(judge(history(REFRESHED + look + "\n" + end()))) == []
    assert invariants(REFRESHED + look.replace("true", "false", 1) + "\n" + end()) == LOSSES


def test_a_store_with_a_newer_login_of_the_account_needs_nobody():
    """Whoever logged in again has not lost anything."""
    text = f"login\nlogin g#3\n{store('rt#1', accepted=True, grant='g#3')}\n" + end(accepts=("rt#1",))
    both = text[: text.rindex("}}") + 1] + ',"g#3":{"account":"work","accepts":["rt#1"],"death":null,"stores":["s"]}}'

    assert told(judge(history(both))) == []


def test_without_a_store_a_token_that_reached_a_worker_is_not_lost():
    """What a program keeps in memory is its business."""
    assert told(judge(history(REFRESHED + end(stores=())))) == []
    assert told(judge(history("login\n" + end(accepts=("rt#1",), stores=())))) == []


UNREACHED = "login\na: w0 token rt#1\na commit rotated at#2 rt#2\n"


@pytest.mark.parametrize(
    "end_of_a",
    [
        "a info error=cancelled",
        "a info error=read~timeout",
        "note kill actor=w9\na info",
        "note cancel actor=w1\na info",
    ],
)
def test_a_token_that_reached_no_worker_forces_a_login(end_of_a):
    """The client gave up by itself while the service rotated."""
    (violation,) = judge(history(UNREACHED + end_of_a + "\n" + end(stores=()))).violations

    assert str(violation) == "g#1: rt#2 reached no worker"
    assert violation.cause == "a person has to log in again: rt#2 reached no worker"
    assert (violation.invariant, violation.labels) == ("forced-login", ("rt#2",))


@pytest.mark.parametrize(
    "end_of_a",
    [
        "a info fault=lost-reply committed=true",
        "a info fault=delay(30,~after_commit) error=read~timeout",
        "note kill actor=w0\na info error=gone",
        "a info error=gone\nnote kill actor=w0",
        "note cancel actor=w0\na info error=cancelled",
    ],
)
def test_a_reply_that_we_lost_or_a_worker_that_we_ended_is_a_note(end_of_a):
    """What we took away nobody else has lost."""
    without = judge(history(UNREACHED + end_of_a + "\n" + end(stores=())))
    with_store = judge(history(UNREACHED + end_of_a + "\n" + store("rt#1") + "\n" + end()))

    assert (told(without), noted(without)) == ([], ["excused forced-login"])
    assert (told(with_store), noted(with_store)) == ([], ["excused lost-rotation", "excused forced-login"])
    assert "we did that" in str(without.notes[0])


def test_what_happens_after_our_loss_changes_nothing():
    """The token stays out of reach, however often the old one is refused."""
    text = UNREACHED + "a info fault=lost-reply\nb: w0 token rt#1\nb commit refused\nb fail 400\n" + end(stores=())

    assert noted(judge(history(text))) == ["excused forced-login"]


def test_a_reply_that_is_still_open_at_the_end_never_came():
    """It had its time; nothing of ours stood in its way."""
    assert invariants(UNREACHED + end(stores=())) == ["forced-login"]


def test_a_worker_killed_between_the_reply_and_the_store_is_a_note():
    """It had no time to write."""
    text = REFRESHED + "note kill actor=w0\n" + store("rt#1") + "\n" + end()

    assert noted(judge(history(text))) == ["excused lost-rotation", "excused forced-login"]
    assert told(judge(history(text))) == []
    assert invariants(text.replace("actor=w0", "actor=w1")) == LOSSES


@pytest.mark.parametrize("how", ["kill signal=SIGTERM", "cancel"])
@pytest.mark.parametrize("end_of_a", ["a info error=gone", "a ok at#2 rt#2"])
def test_a_worker_that_survived_our_kill_answers_for_what_it_loses_later(how, end_of_a):
    """It got a signal, or was cancelled, and went on: of the request that it sent after that nothing is our doing."""
    kill = f"note {how} actor=w0\n"
    text = UNREACHED.replace("a: w0", kill + "a: w0") + end_of_a + "\n" + store("rt#1") + "\n" + end()

    assert invariants(text) == LOSSES
    assert noted(judge(history(text))) == []


def test_a_worker_killed_before_it_could_store_is_a_note_although_another_had_lost_the_same_token():
    """An idempotent service gave the token to both: the one that had it would have stored it."""
    text = "login\na: w0 token rt#1\nb: w1 token rt#1\na commit rotated at#2 rt#2\nb commit replayed at#2 rt#2\n"
    text += "a info error=gone\nb ok at#2 rt#2\nnote kill actor=w1\n" + store("rt#1") + "\n" + end()
    verdict = judge(history(text, {"name": "grace", "grace_seconds": 30, "grace_mode": "idempotent"}))

    assert told(verdict) == []
    assert noted(verdict) == ["excused double-spend", "excused lost-rotation", "excused forced-login"]
    assert [str(note.violation.excuse) for note in verdict.notes[1:]] == ["we did that: kill w1 (#8)"] * 2


def test_a_reply_that_we_only_delayed_excuses_nothing():
    """It came, and was not stored."""
    text = REFRESHED.replace("a ok at#2 rt#2", "a ok at#2 rt#2 fault=delay(5)") + store("rt#1") + "\n" + end()

    assert invariants(text) == LOSSES


def test_a_worker_killed_between_its_own_login_and_the_store_is_a_note():
    """The code was exchanged, and nobody has what came of it."""
    text = "a: w0 token grant_type=authorization_code\nlogin op=1\na ok at#1 rt#1 grant=g#1 account=work\n"
    text += "note kill actor=w0\n" + store(state="absent") + "\n" + end(accepts=("rt#1",))

    assert noted(judge(history(text))) == ["excused lost-rotation", "excused forced-login"]
    assert invariants(text.replace("kill actor=w0", "kill actor=w1")) == LOSSES


def test_a_decision_without_its_request_says_nothing_about_who_had_it():
    """A file by another hand."""
    text = 'login\nnote commit grant=g#1 refresh=rt#1 outcome=rotated issued={"access":"at#2","refresh":"rt#2"}\n'

    assert invariants(text + end(stores=())) == ["forced-login"]


def test_a_token_that_had_been_stored_was_not_lost_by_a_kill():
    """It was there; somebody took it out again."""
    text = REFRESHED + store("rt#2", accepted=True) + "\nnote kill actor=w0\n"
    text += store(state="absent", previous="rt#2", previous_accepted=True) + "\n" + end()

    assert invariants(text) == LOSSES


def test_a_token_that_had_been_presented_was_not_lost_by_a_kill():
    """It went from hand to hand."""
    text = REFRESHED + "b: w1 token rt#2\nb fail 503\nnote kill actor=w0\n" + store("rt#1") + "\n" + end()

    assert invariants(text) == LOSSES


def test_the_logins_own_token_is_not_lost_by_a_kill():
    """It was there before anybody was killed."""
    text = "login\nnote kill actor=w0\n" + store(state="absent") + "\n" + end(accepts=("rt#1",))

    assert invariants(text) == LOSSES


def test_of_several_live_tokens_all_must_be_our_doing():
    """One that a worker lost by itself is one too many."""
    ours = UNREACHED + "a info fault=lost-reply\n"
    text = ours + "b: w0 token rt#1\nb commit replayed at#3 rt#3\nb END\n" + end(accepts=("rt#2", "rt#3"), stores=())
    grace = {"name": "grace", "grace_seconds": 30}

    assert told(judge(history(text.replace("END", "info fault=lost-reply"), grace))) == []
    assert told(judge(history(text.replace("END", "info error=gone"), grace))) == [
        "forced-login: g#1: rt#2 and rt#3 reached no worker"
    ]
    assert told(judge(history(text.replace("END", "ok at#3 rt#3"), grace))) == []


def test_the_same_token_in_two_replies_is_lost_only_with_both():
    """An idempotent service gives it again."""
    text = "login\na: w0 token rt#1\nb: w1 token rt#1\na commit rotated at#2 rt#2\nb commit replayed at#2 rt#2\n"
    text += "a info fault=lost-reply\nb END\n" + end(stores=())
    grace = {"name": "grace", "grace_seconds": 30, "grace_mode": "idempotent"}

    assert told(judge(history(text.replace("END", "ok at#2 rt#2"), grace))) == []
    assert noted(judge(history(text.replace("END", "info fault=lost-reply"), grace)))[-1] == "excused forced-login"
    assert invariants(text.replace("END", "info error=gone"), policy=grace) == ["forced-login"]


def test_a_grant_that_accepts_nothing_and_did_not_die_by_itself_forces_a_login():
    """Whatever it died of."""
    stored = REFRESHED + store("rt#2") + "\n" + end(accepts=())

    assert told(judge(history(REFRESHED + end(accepts=(), stores=())))) == [
        "forced-login: g#1: a live refresh token reached no worker"
    ]
    assert told(judge(history(stored))) == ["forced-login: g#1: no store has a live refresh token"]


@pytest.mark.parametrize("death", ["expiry", "revoke"])
def test_a_grant_that_died_by_itself_is_exempt(death):
    """Nobody could have kept it."""
    for accepts in ((), ("rt#2",)):
        assert told(judge(history(REFRESHED + store("rt#1") + "\n" + end(accepts=accepts, death=death)))) == []


def test_a_setup_token_is_exempt():
    """It has no refresh token to lose."""
    text = f"login setup_token=true\n{store(state='absent')}\n" + end(accepts=(), setup_token=True)

    assert told(judge(history(text))) == []


def test_a_setup_token_beside_it_changes_nothing():
    """Its grant has nothing to give."""
    text = "login g#2 setup_token=true\n" + UNREACHED + "a info\n" + end(stores=())

    assert told(judge(history(text))) == ["forced-login: work:g#1: work:rt#2 reached no worker"]


def test_without_commits_the_replies_say_what_was_issued():
    """A file by another hand."""
    text = "login\na: w0 token rt#1\na ok at#2 rt#2\n" + end(stores=())

    assert told(judge(history(text))) == []
    assert invariants(text.replace("rt#2\n", "rt#3\n", 1)) == ["forced-login"]


def test_a_code_exchange_brings_the_logins_own_token():
    """A login in the run counts as one before it."""
    text = "a: w0 token grant_type=authorization_code\nlogin op=1\na ok at#1 rt#1 grant=g#1 account=work\n"

    assert told(judge(history(text + end(accepts=("rt#1",), stores=())))) == []
