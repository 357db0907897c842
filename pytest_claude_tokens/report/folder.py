"""The folder of a failed test: its history, and further files such as the schedule."""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from fake_server.core.journal import lines
from fake_server.genuine import os

if TYPE_CHECKING:
    from pytest_claude_tokens.report.evidence import Evidence

__all__ = ["folder_name", "open_folder", "save", "write"]


def folder_name(nodeid: str) -> str:
    """A name for the folder of that test, valid on any file system and different for each test."""
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "-", nodeid.rpartition("::")[2]).strip("-.")[:60]
    return f"{readable}-{hashlib.sha256(nodeid.encode()).hexdigest()[:8]}"


def open_folder(root: Path, name: str) -> Path:
    """The folder of that name below ``root``, which tells git to leave it alone. Raises ``OSError``."""
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    write(root / ".gitignore", "# Written by pytest-claude-tokens.\n*\n")
    return folder


def save(root: Path, nodeid: str, evidence: Evidence) -> tuple[Path, dict[str, OSError]]:
    """Write the files of a failure into its folder below ``root``, each of them whole or not at all.

    Files of an earlier failure of that test are replaced. Returns the folder, and which of the further files are not in
    it, with the reason. Raises ``OSError`` where the history is not.
    """
    folder = open_folder(root, folder_name(nodeid))
    write(folder / evidence.name, "".join(lines(evidence.history.header, evidence.history.events)))
    missing = {}
    for name, text in evidence.files.items():
        try:
            write(folder / name, text)
        except OSError as error:
            missing[name] = error
            with suppress(OSError):  # that of an earlier failure does not belong to this history
                (folder / name).unlink()
    return folder, missing


def write(path: Path, text: str) -> None:
    """Write a file: whole, or not at all. Raises ``OSError``."""
    part = path.with_name(f".{path.name}.{os.getpid()}")  # unique to this process: workers of xdist share the root
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError:
        with suppress(OSError):
            part.unlink()
        raise
