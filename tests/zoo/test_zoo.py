"""Every planted bug of the zoo is found under its own name, told in a few facts, and replayed; no twin is blamed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import settings

from tests.zoo.searching import search
from tests.zoo.table import ZOO

FACTS = 4
TWIN = 150
"""Schedules that a sound twin has to pass; in the nightly profile, as many as the profile says."""

every_pair = pytest.mark.parametrize("pair", ZOO.values(), ids=list(ZOO))


@every_pair
def test_planted_bug_is_found_told_shortly_and_replayed(pair):
    """The search finds it under the name of its invariant, in at most four facts, and its token shows it again."""
    result = search(pair, pair.planted)
    assert type(result.error) is pair.invariant
    assert result.example <= pair.schedules
    schedule = result.found.schedule
    assert len(schedule.facts) + len(schedule.mishaps) <= FACTS, schedule.text()
    assert result.found.replayed == (3, 3)
    again = search(pair, pair.planted, replay=result.found.token)
    assert type(again.error) is pair.invariant
    assert [event.to_json() for event in again.found.history] == [event.to_json() for event in result.found.history]


def test_three_preemptions_are_needed_and_three_are_enough():
    """No schedule with two departures from stock order shows the deepest bug, and one with three does."""
    pair = ZOO["three preemptions in order"]
    two = search(replace(pair, options={"exhaustive": 2}), pair.planted)
    assert two.error is None
    assert two.report.bound == 2
    three = search(replace(pair, options={"exhaustive": 3}), pair.planted)
    assert type(three.error) is pair.invariant
    assert len(three.found.schedule.facts) == 3


@every_pair
def test_sound_twin_is_spared(pair):
    """No schedule blames it, and its workers did race."""
    profile = settings.get_current_profile_name()
    schedules = settings().max_examples if profile == "nightly" else TWIN
    result = search(pair, pair.sound, schedules=schedules)
    assert result.error is None
    assert result.report.schedules >= schedules
