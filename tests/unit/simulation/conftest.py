"""Every test here runs on the stage of a search."""

from __future__ import annotations

import pytest

from tests.unit.simulation.worlds import stage


@pytest.fixture(scope="module")
def staged():
    """The stage, set up once for a module: its patches take some milliseconds."""
    with stage():
        yield
