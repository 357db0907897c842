"""The fake ``security``: the three commands for generic passwords of macOS's keychain tool, over a file.

For clients that keep their login in a keychain. ``CLAUDE_TOKENS_KEYCHAIN`` names the file. It has mode 0600 and is
replaced by rename, under a ``flock``, so that commands at the same time lose none of each other's items.
"""

from __future__ import annotations

import json
import os
import sys

from pytest_claude_tokens.lease import flock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

__all__ = ["entry", "main"]

_MISSING = "security: SecKeychainSearchCopyNext: The specified item could not be found in the keychain."
_EXISTS = "security: SecKeychainItemCreateFromContent (<default>): The specified item already exists in the keychain."
_TAKES_VALUE = frozenset("aclsjrwXDGCTtp") - {"w"}


class _UsageError(Exception):
    """The command is not one of the three, or not written as it should be."""


def main(arguments: list[str], environ: Mapping[str, str], stdin: TextIO, stdout: TextIO, stderr: TextIO) -> int:
    """Run one command, or with ``-i`` those on standard input; the exit status is the real tool's."""
    path = environ.get("CLAUDE_TOKENS_KEYCHAIN")
    if not path:
        print("security (a stand-in): CLAUDE_TOKENS_KEYCHAIN names no file", file=stderr)
        return 2
    if arguments != ["-i"]:
        return _run(arguments, path, stdout, stderr)
    import shlex

    status = 0
    for line in stdin:
        if line.strip():
            status = _run(shlex.split(line), path, stdout, stderr)
    return status


def entry() -> None:
    """Run the program, and end the process with its exit status."""
    sys.exit(main(sys.argv[1:], os.environ, sys.stdin, sys.stdout, sys.stderr))


def _run(arguments: list[str], path: str, stdout: TextIO, stderr: TextIO) -> int:
    command = arguments[0] if arguments else ""
    try:
        if command not in _COMMANDS:
            raise _UsageError(f"unknown command: it knows {', '.join(_COMMANDS)}")
        given = _parse(arguments[1:], adds=command == "add-generic-password")
    except _UsageError as error:
        print(f"security (a stand-in): {error}", file=stderr)
        return 2
    with flock(f"{path}.lock"):
        items = _read(path)
        return _COMMANDS[command](items, given, path, stdout, stderr)


def _parse(words: list[str], *, adds: bool) -> dict[str, str]:
    """The options by their letters; a keychain's name, which may come last, is left out."""
    given: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or len(word) != 2:
            continue
        letter = word[1]
        if letter in _TAKES_VALUE or (letter == "w" and adds):
            if not rest:
                raise _UsageError(f"{word} needs a value")
            given[letter] = rest.pop(0)
        else:
            given[letter] = ""
    if "X" in given:
        try:
            given["w"] = bytes.fromhex(given["X"]).decode()
        except ValueError:
            raise _UsageError("-X needs hexadecimal digits") from None
    return given


def _find(items: list[dict[str, str]], given: dict[str, str]) -> dict[str, str] | None:
    wanted = {name: given[letter] for letter, name in (("s", "service"), ("a", "account")) if letter in given}
    return next((item for item in items if wanted.items() <= item.items()), None)


def _show(items: list[dict[str, str]], given: dict[str, str], path: str, stdout: TextIO, stderr: TextIO) -> int:
    item = _find(items, given)
    if item is None:
        print(_MISSING, file=stderr)
        return 44
    if "w" in given:
        print(item["password"], file=stdout)
        return 0
    print(f'keychain: "{path}"\nclass: "genp"\nattributes:', file=stdout)
    print(f'    "acct"<blob>="{item["account"]}"\n    "svce"<blob>="{item["service"]}"', file=stdout)
    if "g" in given:
        print(f'password: "{item["password"]}"', file=stderr)
    return 0


def _add(items: list[dict[str, str]], given: dict[str, str], path: str, stdout: TextIO, stderr: TextIO) -> int:
    new = {"service": given.get("s", ""), "account": given.get("a", ""), "password": given.get("w", "")}
    old = _find(items, {"s": new["service"], "a": new["account"]})
    if old is not None:
        if "U" not in given:
            print(_EXISTS, file=stderr)
            return 45
        items.remove(old)
    _write(path, [*items, new])
    return 0


def _delete(items: list[dict[str, str]], given: dict[str, str], path: str, stdout: TextIO, stderr: TextIO) -> int:
    item = _find(items, given)
    if item is None:
        print(_MISSING, file=stderr)
        return 44
    _write(path, [other for other in items if other is not item])
    print("password has been deleted.", file=stderr)
    return 0


_COMMANDS = {"find-generic-password": _show, "add-generic-password": _add, "delete-generic-password": _delete}


def _read(path: str) -> list[dict[str, str]]:
    try:
        with open(path, encoding="utf-8") as file:
            items: list[dict[str, str]] = json.load(file)
    except FileNotFoundError:
        return []
    return items


def _write(path: str, items: list[dict[str, str]]) -> None:
    temporary = f"{path}.{os.getpid()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        json.dump(items, file)
    os.replace(temporary, path)
