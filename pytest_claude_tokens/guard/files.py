"""The part of the guard that refuses access to the files of the user's real login."""

from __future__ import annotations

import pwd
import re
import sys
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

from fake_server.genuine import os
from pytest_claude_tokens.guard.refusal import refuse

if TYPE_CHECKING:
    from pytest_claude_tokens.guard.audit import Args, Check

__all__ = ["CHECKS", "check_path"]

_PLACES = (".claude", ".claude.json", ".claude.lock", os.path.join(".config", "anthropic"))
"""Paths below a home folder: the login, its lock, and the folder of the service's other clients."""
_SCRATCH = ("/tmp", "/var/tmp")  # noqa: S108 - compared with, never written to
_HOME = os.environ.get("HOME", "")


def check_path(path: object) -> None:
    """Refuse a path that leads to the user's real login. Anything but a path is ignored."""
    protected, exempt = _guarded_places(os.environ.get("TMPDIR", ""), sys.prefix, tuple(sys.path))
    for place in _spellings(path):
        if _below(place, protected) and not _below(place, exempt):
            from fake_server.secrecy import redact  # late: the guard is loaded without the service

            refuse(
                f"to touch {redact(place)}",
                "the user's real Claude login is not for tests; give the code under test tokens.config_dir(account), "
                "or run it inside tokens.environ()",
            )


@cache
def _guarded_places(scratch: str, prefix: str, path: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The protected paths, and the paths below them that are exempt, as this project or its Python lives there."""
    protected = _places(_homes(scratch))
    return protected, _inside(protected, (os.getcwd(), prefix, *path))


def _homes(scratch: str) -> list[str]:
    """The user's real home folders: the account's, and ``HOME`` at the start of the process.

    ``HOME`` does not count if it is a scratch folder: a test may have set it, and the user's login is not in it.
    """
    homes = []
    with suppress(KeyError):  # a container's user may have no entry
        homes.append(pwd.getpwuid(os.getuid()).pw_dir)
    if not _inside([scratch or _SCRATCH[0], *_SCRATCH, os.getcwd()], (_HOME,)):
        homes.append(_HOME)
    return [home for home in homes if os.path.isabs(home)]


def _places(homes: list[str]) -> tuple[str, ...]:
    """The protected paths below these homes, both as spelled and with symbolic links resolved."""
    places = [os.path.join(home, place) for home in homes for place in _PLACES]
    return tuple(dict.fromkeys([*map(os.path.normpath, places), *map(os.path.realpath, places)]))


def _inside(places: Any, paths: Any) -> tuple[str, ...]:
    """Those of ``paths`` (a project, an interpreter) that lie below one of ``places``."""
    real = [os.path.realpath(path) for path in paths if path]
    return tuple(path for path in real if _below(path, places) and path not in places)


def _below(path: str, places: Any) -> bool:
    return any(path == place or path.startswith(place.rstrip("/") + "/") for place in places)


def _spellings(path: object) -> tuple[str, ...]:
    """The absolute path as spelled, and as resolved if its last part or the one before it is a symbolic link."""
    if isinstance(path, int):
        return ()
    try:
        text = os.fsdecode(path)  # type: ignore[arg-type]  # anything but a path raises TypeError
        spelled = os.path.abspath(text)
    except (TypeError, ValueError, OSError):  # OSError: the working directory is gone
        return ()
    if os.path.islink(spelled) or os.path.islink(os.path.dirname(spelled)):
        return spelled, os.path.realpath(spelled)
    return (spelled,)


def _on_path(event: str, args: Args) -> None:
    check_path(args[0])


def _on_two_paths(event: str, args: Args) -> None:
    check_path(args[0])
    check_path(args[1])


def _on_database(event: str, args: Args) -> None:
    """``sqlite3`` opens its file without an ``open`` event; the name may be a URI."""
    name = args[0]
    if isinstance(name, str) and name.startswith("file:"):
        from urllib.parse import unquote  # seldom needed

        name = unquote(name.removeprefix("file:").partition("?")[0])
        name = re.sub("^/+", "/", name)
    check_path(name)


CHECKS: dict[str, Check] = {
    "open": _on_path,
    "os.rename": _on_two_paths,  # os.replace, too
    "os.remove": _on_path,
    "os.rmdir": _on_path,
    "os.mkdir": _on_path,
    "os.truncate": _on_path,
    "os.link": _on_two_paths,
    "os.symlink": _on_two_paths,
    "os.chmod": _on_path,
    "os.utime": _on_path,
    "shutil.rmtree": _on_path,
    "sqlite3.connect": _on_database,
}
"""The check of each audit event."""
