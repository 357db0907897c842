"""The part of a user's `conftest.py` that makes a campaign of its suite: one example database for many processes."""

from __future__ import annotations

import os
from datetime import timedelta

from hypothesis import settings

if url := os.environ.get("CAMPAIGN_REDIS"):
    from hypothesis.extra.redis import RedisExampleDatabase
    from redis import Redis

    settings.register_profile(
        "campaign",
        database=RedisExampleDatabase(Redis.from_url(url), expire_after=timedelta(days=30)),
        derandomize=False,  # each process searches elsewhere
        max_examples=2_000,
    )
    settings.load_profile("campaign")
