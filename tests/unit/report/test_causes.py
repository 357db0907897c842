"""Each mistake is named where the history shows it, and not where it shows something close to it."""

from __future__ import annotations

import inspect

import pytest

from fake_server import Fault, Policy
from pytest_claude_tokens.report import causes
from pytest_claude_tokens.report.advice import MEND, MEND_CAUSE, what_to_mend
from pytest_claude_tokens.report.causes import mistake
from pytest_claude_tokens.violations import (
    BlindReplay,
    CoSchedule,
    DoubleSpend,
    ForcedLogin,
    LostRotation,
    RefreshStorm,
    StaleBearer,
)
from tests.plugin.play import Play, found, spend_twice


def hold(lock, tick, released, *, by=None, after=0.0):
    """A lock that was got at ``tick`` and given back, or taken away by another worker, at ``released``."""
    told = {"lock": lock, "at": f"{lock}.py:{tick}", "tick": tick, "released": released, "waited": False}
    return told | ({"taken_by": by, "after": after, "taken_at": "pool.py:9"} if by else {})


def seen(sent, ended, held=(), *, lost=(), gave_up=(), **more):
    return {"sent": sent, "ended": ended, "held": [*held], "lost": [*lost], "gave_up": [*gave_up], **more}


def read(tick, wrote=None):
    return {"read": {"file": "login.json", "tick": tick}, "wrote": wrote}


def why(play, violation, *seen_of):
    """The mistake, of which a witness saw so much in the first requests."""
    facts = {op: {"at": "pool.py:1", "seen": one} for op, one in enumerate(seen_of, 1)}
    return mistake(play.history.with_facts(facts), violation)


def double_spend(*seen_of, overlap, actor="w1"):
    play = Play()
    first, again = spend_twice(play, overlap=overlap, actor=actor)
    return why(play, found(play, DoubleSpend, first, again), *seen_of)


A, B = "A", "B"
TOGETHER = [
    ("no lease seen: neither w0 nor w1 held a lock", seen(1, 9), seen(2, 8)),
    (
        "different leases: w0 held A (A.py:1) and w1 held B (B.py:3)",
        seen(2, 9, [hold(A, 1, 10)]),
        seen(4, 8, [hold(B, 3, 11)]),
    ),
    ("no lease on one side: w0 held A (A.py:1), and w1", seen(2, 9, [hold(A, 1, 10)] * 2), seen(4, 8)),
    ("no lease on one side: w1 held A (A.py:1), and w0", seen(2, 9), seen(4, 8, [hold(A, 1, 10)])),
    (
        "gave up waiting: w1 did not get A, which w0 held (A.py:1), and went on without it (A.py:3)",
        seen(2, 9, [hold(A, 1, 10)]),
        seen(4, 8, gave_up=[hold(A, 3, None)]),
    ),
    ("no lease on one side", seen(2, 9, [hold(A, 1, 10)]), seen(4, 8, gave_up=[hold(B, 3, None)])),
    (
        "different leases",
        seen(2, 9, [hold(A, 1, 10)]),
        seen(5, 8, [hold(B, 4, 11)], gave_up=[hold(A, 3, None)]),
    ),
    (
        "lease expired while held: w1 took A away after 11 s, while w0 was slow and not done (pool.py:9)",
        seen(2, 9, [gone := hold(A, 1, 3, by="w1", after=11.0)], lost=[gone]),
        seen(5, 8, [hold(A, 4, 10)]),
    ),
    (
        "a fresh lease was taken for a stale one: w1 removed A, which w0 had just made (pool.py:9)",
        seen(2, 9, lost=[hold(A, 1, 1, by="w1", after=0.5)]),
        seen(5, 8, [hold(A, 4, 10)]),
    ),
    (
        "lease expired while held: w2 took A away",  # a third one did, and w1 got it
        seen(2, 9, [gone := hold(A, 1, 3, by="w2", after=11.0)], lost=[gone]),
        seen(5, 8, [hold(A, 4, 10)]),
    ),
    (
        "a fresh lease was taken for a stale one: w2 removed A, which w0 had just made (pool.py:9)",
        seen(2, 9, lost=[hold(A, 1, 1, by="w2", after=0.5)]),
        seen(5, 8, [hold(A, 4, 10)]),
    ),
    (
        "different leases",  # whatever a third one took, w1 had something else
        seen(2, 9, [hold(A, 1, 10)], lost=[hold("C", 1, 1, by="w2", after=0.5)]),
        seen(5, 8, [hold(B, 4, 11)]),
    ),
    (
        "no lease on one side",  # it was taken away, but after w1 had sent its request
        seen(2, 9, [gone := hold(A, 1, 7, by="w1", after=11.0)], lost=[gone]),
        seen(5, 8),
    ),
    (
        "released before the body ended: w0 let A go (A.py:1) before it had its reply (#2), and w1 got it",
        seen(2, 9, [hold(A, 1, 3)]),
        seen(5, 8, [hold(A, 4, 10)]),
    ),
    ("a lock for several: w0 and w1 both held A (A.py:1)", seen(2, 9, [hold(A, 1, 10)]), seen(5, 8, [hold(A, 4, 11)])),
    ("a lock for several", seen(2, 9, [hold(A, 1, None)]), seen(5, 8, [hold(A, 4, 11)])),
    ("", seen(2, 9), {}),
]
AFTER = [
    ("no lease seen: neither w0 nor w1 held a lock", seen(1, 2), seen(3, 4)),
    (
        "read before acquire: w1 had read login.json before it got A (A.py:7), and did not look again",
        seen(2, 3, [hold(A, 1, 6)], **read(1, 4)),
        seen(8, 9, [hold(A, 7, 10)], **read(5)),
    ),
    (
        "released before the store was written: w0 let A go (A.py:1), and w1 read login.json before rt#2 was in it",
        seen(2, 3, [hold(A, 1, 4)], **read(1, 9)),
        seen(7, 8, [hold(A, 5, 10)], **read(6)),
    ),
    (
        "released before the store was written",  # it never was
        seen(2, 3, [hold(A, 1, 4)], **read(1)),
        seen(7, 8, [hold(A, 5, 10)], **read(6)),
    ),
    (
        "lease expired while held: w1 took A away after 11 s",  # between the reply and the store
        seen(2, 3, [hold(A, 1, 4, by="w1", after=11.0)], **read(1, 9)),
        seen(7, 8, [hold(A, 5, 10)], **read(6)),
    ),
    (
        "read before acquire, or released",  # it was taken when the store had it: nothing was lost by that
        seen(2, 3, [hold(A, 1, 5, by="w1", after=11.0)], **read(1, 4)),
        seen(8, 9, [hold(A, 6, 10)], **read(7)),
    ),
    (
        "read before acquire, or released before it was kept: w1 got A (A.py:5) after w0 had got rt#2, and sent rt#1",
        seen(2, 3, [hold(A, 1, 4)]),
        seen(7, 8, [hold(A, 5, 10)]),
    ),
    (
        "read before acquire, or released",  # the file had it: w1 did not use what it had read
        seen(2, 3, [hold(A, 1, 5)], **read(1, 4)),
        seen(8, 9, [hold(A, 6, 10)], **read(7)),
    ),
    (
        "stored too late: w0 had rt#2 (#4) and had not written it to login.json when w1 read it",
        seen(2, 3, **read(1, 6)),
        seen(5, 7, **read(4)),
    ),
    ("stored too late", seen(2, 3, **read(1)), seen(5, 7, **read(4))),
    ("no lease", seen(2, 3, **read(1, 6)), seen(5, 7, **read(1))),
    ("no lease", seen(2, 3, **read(1, 4)), seen(6, 7, **read(5))),
    ("a lock for several", seen(2, 3, [hold(A, 1, 9)]), seen(5, 7, [hold(A, 4, 8)])),
    ("gave up waiting", seen(2, 3, [hold(A, 1, 9)]), seen(5, 7, gave_up=[hold(A, 4, None)])),
    ("gave up waiting", seen(2, 3, [hold(A, 1, None)]), seen(5, 7, gave_up=[hold(A, 4, None)])),
    ("no lease on one side", seen(2, 3, [hold(A, 1, 5)]), seen(6, 7, gave_up=[hold(A, 4, None)])),
]


@pytest.mark.parametrize(("expected", "first", "again"), TOGETHER)
def test_two_requests_at_once_are_told_by_the_locks_that_were_held(expected, first, again):
    """And by what was taken away, or given up on. Without a witness nothing is said."""
    told = double_spend(first, again, overlap=True)

    assert told.startswith(expected)
    assert told.endswith("; #2 was still open") is bool(expected)


@pytest.mark.parametrize(("expected", "first", "again"), AFTER)
def test_a_second_request_is_told_by_when_its_worker_had_read(expected, first, again):
    """Before or under the lock, before or after the first worker wrote."""
    told = double_spend(first, again, overlap=False)

    assert told.startswith(expected)
    assert told.endswith("; w0 had received rt#2 (#4)")


@pytest.mark.parametrize(("seconds", "told"), [(0.5, False), (9.999, True)])
def test_a_lease_that_no_witness_sees_may_have_expired(seconds, told):
    """One in a database, say: time has passed between the two."""
    play = Play()
    token = play.login().refresh[0].secret
    first = play.refresh("w0", token)
    play.now += seconds
    again = play.refresh("w1", token)
    why_so = why(play, found(play, DoubleSpend, first, again), seen(1, 9), seen(2, 8))

    assert (", and 10 s lay between: a lease of another kind may have expired;" in why_so) is told


def test_who_is_done_has_lost_no_lease():
    """However long ago that was."""
    play = Play()
    token = play.login().refresh[0].secret
    first = play.refresh("w0", token)
    play.end(first)
    play.now += 10
    again = play.refresh("w1", token)
    why_so = why(play, found(play, DoubleSpend, first, again), seen(1, 9), seen(2, 8))

    assert why_so.startswith("no lease seen: neither w0 nor w1 held a lock")
    assert "may have expired" not in why_so


@pytest.mark.parametrize(
    ("actor", "overlap", "expected"),
    [
        ("w0", False, "a stale copy: w0 went back to rt#1, as after a restart, although it had rt#2"),
        ("w0", True, "no lease seen: w0 sent rt#1 twice at once, and held no lock"),
        ("w0.2", False, "a copy in two processes (a fork, or a second start): w0 and w0.2 are of one worker"),
    ],
)
def test_a_worker_may_collide_with_itself(actor, overlap, expected):
    """It had the new token, or did not wait for it."""
    assert double_spend(seen(1, 3), seen(2, 4), overlap=overlap, actor=actor).startswith(expected)


def test_two_tasks_of_one_worker_are_not_kept_apart_by_the_lock_that_it_holds():
    """Twice under one lock; a semaphore that it got twice lets several in."""
    under = [hold(A, 1, 11)]
    told = "twice under one lock: w0 sent both while it held A (A.py:1)"
    assert double_spend(seen(2, 9, under), seen(5, 8, under), overlap=True, actor="w0").startswith(told)
    twice = double_spend(seen(2, 9, under), seen(5, 8, [hold(A, 4, 10)]), overlap=True, actor="w0")
    assert twice.startswith("a lock for several")


@pytest.mark.parametrize(("one", "other", "copied"), [("w0.1", "w0.2", True), ("w0.1", "w1.1", False)])
def test_processes_of_one_worker_have_a_copy_each(one, other, copied):
    """By a fork, or as it was started twice."""
    play = Play()
    token = play.login().refresh[0].secret
    first, again = play.refresh(one, token), play.refresh(other, token)
    told = why(play, found(play, DoubleSpend, first, again))

    assert told.startswith("a copy in two processes (a fork, or a second start): w0.1 and w0.2 are of") is copied


@pytest.mark.parametrize("kept", [None, "presented", "stored"])
@pytest.mark.parametrize(("how", "ended"), [("cancel", "cancelled"), ("kill", "killed")])
def test_a_reply_is_dropped_by_a_worker_that_was_ended(how, ended, kept):
    """Unless somebody had the new token."""
    play = Play()
    token = play.login().refresh[0].secret
    first = play.refresh("w0", token)
    play.server.journal.note("kill", actor="w9")
    play.server.journal.note(how, actor="w0")
    play.end(first)
    if kept == "presented":
        play.refresh("w2", play.server.authority.grants[-1].refresh[-1].secret)
    elif kept == "stored":
        play.server.journal.note("store", grant="g#1", refresh="rt#2", store="s", state="token", accepted=True)
    again = play.refresh("w1", token)
    told = why(play, found(play, DoubleSpend, first, again))

    dropped = f"reply dropped: w0 was {ended} (#4), and nobody kept rt#2 of its request"
    assert told == ("" if kept else f"{dropped}; w0 had received rt#2 (#6)")


def lost(play, *, actor="w0", before=None):
    """A token request without a reply, and one after it."""
    token = play.login().refresh[0].secret
    if before:
        play.server.journal.note(before, actor="w0")
    first = play.refresh("w0", token)
    first.step()
    first.step()
    if not before and actor != "w0":
        play.server.journal.note("cancel", actor="w0")
    first.abandon("cancelled")
    again = play.refresh(actor, token)
    return found(play, BlindReplay, first, again)


@pytest.mark.parametrize(
    ("actor", "calls", "before", "expected"),
    [
        (
            "w0",
            (7, 7),
            None,
            "a retry of the transport's: httpx sent rt#1 again by itself, within one call (pool.py:1)",
        ),
        ("w0", (7, 8), None, "retry after an unknown outcome: w0 sent rt#1 again itself"),
        ("w0", (5, 6), None, "retry after an unknown outcome: w0 sent rt#1 again itself"),
        (
            "w1",
            (7, 7),
            None,
            "retry after an unknown outcome: w0 was cancelled (#4) while its request was under way, and w1",
        ),
        (
            "w1",
            (7, 7),
            "cancel",
            "retry after an unknown outcome: w1 took rt#1 for unspent, as w0 had no reply with it",
        ),
        ("w0.1", (7, 7), None, "retry after an unknown outcome: w0"),
    ],
)
def test_a_retry_says_who_sent_it_again(actor, calls, before, expected):
    """The library within one call, the worker itself, or another one, as the first was cancelled."""
    play = Play()
    violation = lost(play, actor=actor, before=before)
    told = why(play, violation, *(seen(n, n, calls=[called(call, "httpx")]) for n, call in enumerate(calls)))

    assert told.startswith(expected)


def called(number, library, inner=None):
    return {"call": number, "library": library, "at": "pool.py:1", "of": inner and "renew", "inner": inner}


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        ((3, 4), "a retry of a library's: tenacity called renew() again by itself, within one call (pool.py:1)"),
        ((3, 3), "retry after an unknown outcome: w0 sent rt#1 again itself"),
    ],
)
def test_a_retry_of_a_library_that_called_the_users_code_again(inner, expected):
    """A function that the library has called once, and which sends twice, tries again itself."""
    play = Play()
    violation = lost(play)
    both = (seen(n, n, calls=[called(n, "httpx"), called(9, "tenacity", inner[n])]) for n in range(2))

    assert why(play, violation, *both).startswith(expected)


def test_connections_may_be_those_of_one_client():
    """Where the service knows nothing better of who has sent a request, it is called after its connection."""
    play = Play()
    violation = lost(play, actor="c2")
    for operation in violation.operations:
        object.__setattr__(operation.invoke, "actor", {"w0": "c1"}.get(operation.actor, operation.actor))

    assert why(play, violation).startswith(
        "retry after an unknown outcome: rt#1 came again on another connection (c2), as that on c1 had no reply: by a"
    )


def calls(*seen_of, bearers=1, rounds=1):
    play = Play(Policy().but(slots=None))
    secrets = [play.login(f"a{n}").access[0].secret for n in range(bearers)]
    for _ in range(rounds - 1):
        for secret in secrets:
            play.end(play.call("w2", secret))
    first, *between = [play.call("w0", secret) for secret in secrets]
    again = play.call("w1", secrets[0])
    offset = (rounds - 1) * bearers
    facts = {offset + 1: {"seen": seen_of[0]}, offset + bearers + 1: {"seen": seen_of[-1]}}
    del between
    return mistake(play.history.with_facts(facts), found(play, CoSchedule, first, again))


@pytest.mark.parametrize(
    ("expected", "first", "again"),
    [
        (
            "different leases: w0 held A (A.py:1) and w1 held B (B.py:3): two names, or two pools, for at#1",
            seen(2, 9, [hold(A, 1, 10)]),
            seen(4, 8, [hold(B, 3, 11)]),
        ),
        (
            "released before the body ended: w0 let A go (A.py:1) before it had the body of its reply (#2), and w1",
            seen(2, 9, [hold(A, 1, 3)]),
            seen(5, 8, [hold(A, 4, 10)]),
        ),
        ("chosen while in use: w1 took at#1, which w0 was still using", seen(2, 9), seen(5, 8)),
        ("no lease on one side", seen(2, 9), seen(5, 8, [hold(A, 4, 10)])),
    ],
)
def test_calls_on_one_bearer_are_told_by_their_locks(expected, first, again):
    """As are token requests; where there were none, the bearer was chosen wrongly."""
    assert calls(first, again).startswith(expected)


@pytest.mark.parametrize(("bearers", "rounds", "told"), [(2, 2, True), (2, 1, False), (1, 3, False)])
def test_bearers_taken_in_turn_are_told(bearers, rounds, told):
    """Over two rounds of several: one bearer has no turns, and one round may be chance."""
    assert ("as in a blind round-robin" in calls(seen(1, 9), seen(2, 8), bearers=bearers, rounds=rounds)) is told


@pytest.mark.parametrize("tried", [False, True])
def test_a_refresh_for_an_old_refusal_is_told(tried):
    """The worker was refused the bearer before; where it was refused the new one, that is another matter."""
    play = Play()
    grant = play.login()
    play.server.expire("work")
    play.end(play.call("w1", grant.access[0].secret)) if not tried else None
    first = play.refresh("w0", grant.refresh[0].secret)
    play.end(first)
    again = play.refresh("w1", grant.refresh[-1].secret)
    told = why(play, found(play, RefreshStorm, first, again))

    assert told == (
        ""
        if tried
        else "refreshed for an old refusal: w1 had been refused at#1 (#4), and did not see that at#2 had taken its "
        "place"
    )


@pytest.mark.parametrize("invariant", [LostRotation, ForcedLogin])
@pytest.mark.parametrize(
    ("fault", "stored", "expected"),
    [
        (None, False, "not stored: w0 received rt#2 (#4), and no store got it"),
        (None, True, "overwritten: shared had rt#2 (#6)"),
        ("abandoned", False, "reply dropped: w0 gave up its request #2 (cancelled), which had spent rt#1"),
        ("lost", False, ""),
    ],
)
def test_a_token_that_is_nowhere_was_dropped_not_stored_or_overwritten(invariant, fault, stored, expected):
    """A reply that a fault has lost was not dropped by anyone."""
    play = Play()
    token = play.login().refresh[0].secret
    if fault == "lost":
        play.server.faults.add("token", Fault.LOST_REPLY)
    request = play.refresh("w0", token)
    if fault == "abandoned":
        request.step()
        request.step()
        request.abandon("cancelled")
    else:
        play.end(request)
    facts = {"account": "work", "grant": "g#1", "store": "shared", "state": "token", "accepted": True}
    play.server.journal.note("store", refresh="rt#1", **facts)
    if stored:
        play.server.journal.note("store", refresh="rt#2", **facts)

    assert why(play, found(play, invariant, request)) == expected


def test_of_other_violations_their_checker_says_enough():
    """And of one without requests."""
    play = Play()
    first, again = spend_twice(play)

    assert why(play, found(play, StaleBearer, first, again)) == ""
    assert why(play, ForcedLogin("g#1", seq=1)) == ""
    assert why(play, found(play, DoubleSpend, first)) == ""


@pytest.mark.parametrize("cause", MEND_CAUSE)
def test_what_there_is_to_mend_belongs_to_a_cause_that_is_told(cause):
    assert f'"{cause}: ' in inspect.getsource(causes)
    assert what_to_mend("double-spend", f"{cause}: w0 and w1") == MEND_CAUSE[cause]


def test_what_there_is_to_mend_fits_the_mistake_else_the_invariant():
    expired = double_spend(
        seen(2, 9, lost=[hold("A", 1, 3, by="w1", after=60.0)]), seen(4, 8, [hold("A", 3, None)]), overlap=True
    )
    assert what_to_mend("double-spend", expired).startswith("renew the lease while its holder is at work")
    assert what_to_mend("double-spend", "no lease seen: neither held one") == MEND["double-spend"]
    assert what_to_mend("co-schedule", "") == MEND["co-schedule"]
