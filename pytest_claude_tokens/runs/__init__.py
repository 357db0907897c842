"""One body under one schedule, in tasks, threads or processes: what it did, and whether anything raced."""

from __future__ import annotations
