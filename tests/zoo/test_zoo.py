"""Every planted bug of the zoo is found under its name, told in a few deviations, and replayed; no twin is blamed."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import settings

from pytest_claude_tokens.report.causes import mistake
from pytest_claude_tokens.report.story import story
from tests.zoo.replaying import in_processes, replayed
from tests.zoo.searching import Search, search
from tests.zoo.table import ZOO

FACTS = 4
SEED = 1
"""Of each search: it is the same in every version of Python, where a derandomized one hashes the bytecode."""
TWIN = 25
"""Schedules that a sound twin has to pass; in the nightly profile, as many as the profile says."""
SOME = ["double takeover of a dead lease", "cancelled leader", "threads: losing worker blanks the store"]
"""Those that are replayed in other processes on each run: jobs in threads, a cancellation, threads and files."""

TWINS = {
    (pair.sound.__module__, pair.sound.__name__, pair.workers, str(pair.handle), str(pair.options)): name
    for name, pair in ZOO.items()
}
"""One pair for each sound twin: some bugs have the same."""

MISTAKES = {
    "no lock": "no lease seen: neither",
    "lock without re-read": "read before acquire, or released before it was kept",
    "lock time-out, then proceed": "gave up waiting",
    "two pools over one store": "different leases",
    "refresh in a thread under a lock of its own": "different leases",
    "single flight cleared early": "stored too late",
    "bearer picked before an await": "chosen while in use",
    "notified once, not looked again": "chosen while in use",
    "permit given back before the streamed body ends": "released before the body ended",
    "two names for one token": "different leases: w0 held Lock 1 ",
    "round robin": "chosen while in use",
    "bearer reclaimed from a slow call": "chosen while in use",
    "bearer given back twice": "chosen while in use",
    "blind retry after a lost reply": "retry after an unknown outcome: w0 sent rt#1 again itself",
    "retry after a time-out": "retry after an unknown outcome: w0 sent rt#1 again itself",
    "cancelled leader": "retry after an unknown outcome: w",
    "shielded request, reply dropped": "reply dropped: w",
    "slow refresh abandoned": "reply dropped: w0 gave up its request #2",
    "401 storm": "refreshed for an old refusal",
    "refresh token not stored": "not stored",
    "save skipped while another is under way": "not stored",
    "A, B, A on a generation counter": "no lease seen: neither",
    "three preemptions in order": "no lease seen: neither",
    "double takeover of a dead lease": "a fresh lease was taken for a stale one",
    "stale takeover of a live holder": "lease expired while held",
    "threads: double takeover of a dead lock": "a fresh lease was taken for a stale one",
    "threads: stale takeover of a live holder": "lease expired while held",
    "threads: lock in a private home": "different leases: w0 held home-0/lock",
    "threads: no lock": "no lease seen: neither",
    "threads: lock without re-read": "read before acquire: w",
    "threads: lock given up before the store is written": "released before the store was written",
    "threads: two pools over one store": "different leases",
    "threads: lock time-out, then proceed": "gave up waiting",
    "threads: bearer looked up, then marked": "chosen while in use",
    "threads: notified once, not looked again": "chosen while in use",
    "threads: 401 storm": "refreshed for an old refusal",
}
"""How the story of a planted bug begins to say why. Of those that are not here, the checker itself says it."""

pytestmark = pytest.mark.timeout(600)  # for the nightly profile; otherwise each takes a second or two
every_pair = pytest.mark.parametrize("name", ZOO)


def nightly() -> bool:
    return settings().max_examples == settings.get_profile("nightly").max_examples


@cache
def found(name: str) -> Search:
    """The search for a planted bug, made once."""
    return search(ZOO[name], ZOO[name].planted, seed=SEED)


@every_pair
def test_planted_bug_is_found_told_shortly_and_replayed(name):
    """The search finds it under the name of its invariant, in at most four deviations, and its token shows it again."""
    pair, result = ZOO[name], found(name)
    assert type(result.error) is pair.invariant
    assert result.example <= pair.schedules
    schedule = result.found.schedule
    assert len(schedule.deviations) + len(schedule.planned_faults) <= FACTS, schedule.text()
    assert result.found.replayed == (3, 3)
    assert mistake(result.found.history, result.error).startswith(MISTAKES.get(name, ""))
    told = story(result.found.history, result.error)
    assert "cause not recognised" not in told
    sides = [line for line in told.splitlines()[:2] if line.startswith(("again", "first"))]
    assert all(re.search(r" [a-z_]+\.py:\d+ ", side) for side in sides)
    again = search(pair, pair.planted, replay=result.found.token)
    assert type(again.error) is pair.invariant
    assert [event.to_json() for event in again.found.history] == [event.to_json() for event in result.found.history]


@pytest.mark.parametrize("name", TWINS.values())
def test_sound_twin_is_spared(name):
    """No schedule blames it, and its workers did race."""
    schedules = settings().max_examples if nightly() else TWIN
    result = search(ZOO[name], ZOO[name].sound, schedules=schedules)
    assert result.error is None
    assert result.report.schedules >= schedules


def test_replays_are_the_same_in_every_process():
    """Replays of a token in processes that hash strings in other ways give one history, to the last byte.

    Each process makes two: the second would show what the first has left behind.
    """
    names = list(ZOO) if nightly() else SOME
    processes, repeats = (20, 2) if nightly() else (2, 2)
    tokens = {name: found(name).found.token for name in names}
    results = Counter((name, history) for name, history in in_processes(tokens, range(1, processes + 1), repeats))
    assert results == {(name, replayed(name, tokens[name])): processes * repeats for name in names}


def test_deepest_bug_needs_three_preemptions():
    """No schedule with at most two deviations from default order shows it; some with three do. Each push tries one."""
    pair = ZOO["three preemptions in order"]
    bound = 2 if nightly() else 1
    fewer = search(replace(pair, options={"exhaustive": bound}), pair.planted)
    assert fewer.error is None
    assert fewer.report.bound == bound
    if nightly():
        three = search(replace(pair, options={"exhaustive": 3}), pair.planted)
        assert type(three.error) is pair.invariant
        assert len(three.found.schedule.deviations) == 3
