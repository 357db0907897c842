"""Runs one body under one schedule, in tasks, threads or processes, and returns its outcome.

It does not know how schedules are drawn or shrunk, and nothing of pytest or Hypothesis.
"""

from __future__ import annotations
