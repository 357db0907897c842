"""Logins as files, for programs that read theirs from a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fake_server.genuine import json, os
from fake_server.secrecy import is_name, shown
from pytest_claude_tokens.claude.credentials import FILE, write_new

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_claude_tokens.handle.accounts import Account
    from pytest_claude_tokens.handle.stores import Stores

__all__ = ["VARIABLE", "config_dir", "login_file"]

VARIABLE = "CLAUDE_TOKENS_LOGIN"
"""The variable that names the file of :func:`login_file`."""


def config_dir(root: Path, login: Account, name: str, stores: Stores) -> Path:
    """A ``CLAUDE_CONFIG_DIR`` of that name below ``root``, with the login's credentials, and watched.

    Written once; an existing one is returned untouched. Raises ``ValueError`` for an invalid name.
    """
    if not name or name.startswith(".") or os.path.basename(name) != name or not is_name(name):
        raise ValueError(f"config_dir(name={shown(name)}): must be the name of a folder, such as shared")
    folder = root / "config" / login.name / name
    if not folder.exists():
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700)
        write_new(folder / FILE, login.credentials)
        stores.watch(folder / FILE, login.name, name)
    return folder


def login_file(root: Path, login: Account) -> Path:
    """A JSON file with what a client of a standard service stores; readable by its owner only. Written once."""
    path = root / "logins" / f"{login.name}.json"
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump(login.login, file)
    return path
