"""Child processes: their environment, their groups, their end. None outlives the handle that started it.

It knows nothing of schedules, verdicts or pytest.
"""

from __future__ import annotations
