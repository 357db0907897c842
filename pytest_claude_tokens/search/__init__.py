"""The search: draws schedules, runs a body under each, shrinks a failing one, and reports how much was tried.

It does not know pytest: the plugin hands it settings and callbacks in an ``ExplorationContext``.
"""

from __future__ import annotations
