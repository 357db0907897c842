"""The executables that are put first on ``PATH``: a fake ``claude``, and a fake ``security``."""

from __future__ import annotations

import os
import shlex
import sys
from importlib.resources import files
from pathlib import Path

__all__ = ["MARK", "install"]

MARK = "# a stand-in of pytest-claude-tokens"
"""The second line of each of the scripts, by which they can be told from the real programs."""

# `exec` keeps the process id, so that a signal reaches the stand-in itself. -I and -S: neither the user's environment
# nor site-packages slow the start or change what is imported.
_SCRIPT = """\
#!/bin/sh
{mark}
{more}exec {python} -I -S {program} "$@"
"""


def install(folder: str | os.PathLike[str]) -> Path:
    """Write the executables into ``folder``, which is made if need be, and return it. Safe to repeat."""
    place = Path(folder).absolute()
    place.mkdir(parents=True, exist_ok=True)
    package = Path(str(files("pytest_claude_tokens"))) / "claude"
    keychain = shlex.quote(str(place / "keychain.json"))
    keeps = f'[ -n "$CLAUDE_TOKENS_KEYCHAIN" ] || export CLAUDE_TOKENS_KEYCHAIN={keychain}\n'
    _write(place / "claude", package / "__main__.py", "")
    _write(place / "security", package / "keychain_main.py", keeps)
    return place


def _write(path: Path, program: Path, more: str) -> None:
    """Write the script and rename it into place: a process that starts meanwhile must not read half of it."""
    python, quoted = shlex.quote(sys.executable), shlex.quote(str(program))
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(_SCRIPT.format(mark=MARK, more=more, python=python, program=quoted), encoding="utf-8")
    temporary.chmod(0o755)
    temporary.replace(path)
