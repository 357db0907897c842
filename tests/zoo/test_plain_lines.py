"""Each race between two lines is found, told with its lines and replayed, and its sound twin is never blamed."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import seed, settings

from pytest_claude_tokens import explore
from pytest_claude_tokens.report.evidence import notes_of
from pytest_claude_tokens.search.context import ExplorationContext
from pytest_claude_tokens.violations import CoSchedule
from tests.zoo.outside import error_of
from tests.zoo.plain_lines import RACES, Race

SCHEDULES = 100
TWIN = 16
each_race = pytest.mark.parametrize("race", RACES, ids=lambda race: race.name)


def searched(body: Any, *, number: int = SCHEDULES, start: int = 1, context: Any = None, **options: Any) -> Any:
    """The error that a search comes to, if any."""
    test = seed(start)(settings(max_examples=number, database=None)(explore(workers=2, **options)(body)))
    return error_of(test, context or ExplorationContext())


@each_race
def test_race_is_found_told_and_replayed(race: Race):
    error = searched(race.planted)
    found = error.claude_tokens_found
    assert found.example <= SCHEDULES
    assert found.replayed == (3, 3)
    told = [getattr(error, "cause", ""), *notes_of(error)][0 if isinstance(error, CoSchedule) else 1]
    if "preempted" in found.schedule.text():
        assert not race.why or told.startswith(race.why), told
        assert {"w0", "w1"} <= set(re.findall(r"w\d", told))
        assert re.search(r"w\d is preempted before plain_lines\.py:\d+ \S", found.schedule.text())
        rows = [row for event in found.history for row in event.get("accesses", ())]
        assert {"w0", "w1"} <= {row["actor"] for row in rows}, "what both did to what they share is in the table"
        assert [row["actor"] for row in rows if row["what"] == "lost its turn before"]
    again = searched(race.planted, context=ExplorationContext(replay=found.token))
    assert type(again) is type(error)
    assert again.claude_tokens_found.history.events == found.history.events


@each_race
def test_sound_twin_is_spared(race: Race):
    assert searched(race.sound, number=TWIN) is None


@pytest.mark.nightly
@pytest.mark.timeout(1200)
@each_race
def test_race_is_found_from_each_seed_and_its_twin_never_blamed(race: Race):
    for start in range(20):
        assert searched(race.planted, start=start).claude_tokens_found.example <= SCHEDULES
    assert searched(race.sound, number=1000) is None
