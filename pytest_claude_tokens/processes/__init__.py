"""Child processes: their environment, their groups, their end. None outlives the handle that started it."""

from __future__ import annotations
