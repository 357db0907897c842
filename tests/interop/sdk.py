"""The official SDK as a dispatcher under test: a login in its own file format, and clients that share it.

Also a program: `python sdk.py CREDENTIALS` is one process that makes one call at `ANTHROPIC_BASE_URL`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anthropic
from anthropic.lib.credentials import InMemoryConfig

if TYPE_CHECKING:
    from pytest_claude_tokens.handle.claude_tokens import Account, ClaudeTokens

REAL = "https://api.anthropic.com"
MESSAGE: dict[str, Any] = {
    "model": "claude-fake",
    "max_tokens": 8,
    "messages": [{"role": "user", "content": "Reply: A"}],
}


def login_file(tokens: ClaudeTokens, account: Account) -> Path:
    """The account's login as the SDK keeps it, watched as a store."""
    file: Path = tokens.tmp_path / f"{account.name}.json"
    login = {
        "version": "1.0",
        "type": "oauth_token",
        "access_token": account.access_token,
        "refresh_token": account.refresh_token,
        "expires_at": int(account.expires_at),
    }
    file.touch(mode=0o600)
    file.write_text(json.dumps(login))
    tokens.watch_store(lambda: json.loads(file.read_text())["refresh_token"], account)
    return file


def config(file: Path | str, base_url: str = REAL) -> InMemoryConfig:
    """Credentials that are refreshed by `client_id`, at `base_url`, and kept in `file`."""
    authentication = {"type": "user_oauth", "client_id": "interop", "credentials_path": os.fspath(file)}
    return InMemoryConfig({"authentication": authentication, "base_url": base_url})


def client(file: Path | str, base_url: str = REAL, **options: Any) -> anthropic.Anthropic:
    """A client that does not retry unless told to."""
    return anthropic.Anthropic(credentials=config(file, base_url), **{"max_retries": 0, **options})


def async_client(file: Path | str, base_url: str = REAL, **options: Any) -> anthropic.AsyncAnthropic:
    """The same for tasks."""
    return anthropic.AsyncAnthropic(credentials=config(file, base_url), **{"max_retries": 0, **options})


def text(message: Any) -> str:
    """What the model said."""
    said: str = message.content[0].text
    return said


if __name__ == "__main__":
    with client(sys.argv[1], os.environ["ANTHROPIC_BASE_URL"]) as one:
        print(text(one.messages.create(**MESSAGE)))
