"""ccproxy-api's token manager: several tasks of one process ask it for a token at once. ``argv``: file, tasks."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import ccproxy.core.plugins  # type: ignore[import-not-found,unused-ignore]  # noqa: F401 - first, else its imports go in a circle
from ccproxy.plugins.oauth_claude.manager import ClaudeApiTokenManager  # type: ignore[import-not-found,unused-ignore]
from ccproxy.plugins.oauth_claude.storage import ClaudeOAuthStorage  # type: ignore[import-not-found,unused-ignore]


async def main(file: Path, tasks: int) -> None:
    """Wait for all of them, whatever becomes of each."""
    manager = ClaudeApiTokenManager(storage=ClaudeOAuthStorage(file))
    await asyncio.gather(*(manager.get_access_token() for _ in range(tasks)), return_exceptions=True)


asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
