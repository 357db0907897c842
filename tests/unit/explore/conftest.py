"""The stage of a search, for the tests that drive a part of one by itself."""

from __future__ import annotations

from tests.unit.simulation.conftest import staged

__all__ = ["staged"]
