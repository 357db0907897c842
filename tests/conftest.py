"""What every test of this suite shares: `pytester` (loaded in pyproject.toml) and the Hypothesis profiles."""

from __future__ import annotations

import asyncio
import importlib
import os
from contextlib import suppress

from hypothesis import settings

settings.register_profile("dev", deadline=None, report_multiple_bugs=False)
# Each push draws the same examples, so that a red build is red again.
settings.register_profile("ci", parent=settings.get_profile("dev"), derandomize=True)
settings.register_profile("nightly", parent=settings.get_profile("dev"), max_examples=2000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))

# A run of pytest inside a test removes from `sys.modules` what it has imported first. A library that others know by its
# classes would then be there twice: an exception of the first one is not caught by name of the second.
for _name in ("anthropic", "httpcore", "httpcore2", "httpx2"):
    with suppress(ImportError):
        importlib.import_module(_name)

# Else Python 3.11 makes a loop for whoever asks for the current one, as older releases of pytest-asyncio do around each
# test. The next `asyncio.run` lets go of it unclosed, and some later test fails by its ResourceWarning.
asyncio.set_event_loop(None)
