"""What every test of this suite shares: `pytester` (loaded in pyproject.toml) and the Hypothesis profiles."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("dev", deadline=None, report_multiple_bugs=False)
# Each push draws the same examples, so that a red build is red again.
settings.register_profile("ci", parent=settings.get_profile("dev"), derandomize=True)
settings.register_profile("nightly", parent=settings.get_profile("dev"), max_examples=2000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))
