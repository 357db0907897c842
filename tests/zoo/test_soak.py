"""Two thousand schedules over each sound twin, however slow its workers may be: none is blamed that survives that."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.zoo import leases
from tests.zoo.searching import search
from tests.zoo.table import ZOO

SHORT_LEASES = {pair.name for pair in leases.PAIRS}
"""Twins with a lease of less than three minutes: they do not claim to survive a worker that is slower."""


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("slow", [5, 60, 600])
@pytest.mark.parametrize("name", ZOO)
def test_sound_twin_is_spared_however_slow_its_workers_are(name, slow):
    if slow == 600 and name in SHORT_LEASES:
        pytest.skip("its lease is shorter")
    pair = ZOO[name]
    result = search(replace(pair, options={**pair.options, "slow": slow}), pair.sound, schedules=2000, seed=7)
    assert result.error is None
