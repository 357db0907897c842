"""litellm-mysubs' refresher: several tasks of one process ask it for a token at once. ``argv``: file, tasks.

The file is in its own format, and is made from the login where it is missing.
"""

from __future__ import annotations

import asyncio
import sys

from litellm_mysubs.credentials.file_store import FileCredentialStore  # type: ignore[import-not-found,unused-ignore]
from litellm_mysubs.credentials.refresher import fresh  # type: ignore[import-not-found,unused-ignore]


async def main(file: str, tasks: int) -> None:
    """Wait for all of them; those of one process share its store."""
    store = FileCredentialStore(file)
    await asyncio.gather(*(fresh(store, "anthropic") for _ in range(tasks)))


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
