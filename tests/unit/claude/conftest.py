"""Fixtures of the fake claude's tests."""

from __future__ import annotations

import pytest

from tests.unit.claude.world import World


@pytest.fixture
def make_world(tmp_path):
    """Worlds by dialect."""

    def make(dialect="2.1.123", policy=None):
        return World(tmp_path / f"world-{len(list(tmp_path.iterdir()))}", dialect, policy)

    return make


@pytest.fixture
def world(make_world):
    """A world of the default dialect."""
    return make_world()


@pytest.fixture(params=["1.0", "2.1.123", "2.1.330"])
def any_world(request, make_world):
    """A world of each dialect in turn."""
    return make_world(request.param)
