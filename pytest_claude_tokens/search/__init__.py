"""The search: draws schedules, runs a body under each, shrinks what fails, and says how hard it looked."""

from __future__ import annotations
