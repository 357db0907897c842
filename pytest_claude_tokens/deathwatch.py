"""Ends the process groups of a program that was killed, and so could not end them itself.

A shell reads which groups there are from a pipe. Nobody but the program holds the pipe's other end: when that closes
without the last group taken back, the program is gone, however it came to its end.
"""

from __future__ import annotations

import subprocess
from contextlib import suppress

from pytest_claude_tokens import guard

__all__ = ["Deathwatch"]

_SCRIPT = """\
groups=' '
while read -r what group; do
  case $what in
    begun) groups="$groups$group " ;;
    ended) groups="${groups%%" $group "*} ${groups#*" $group "}" ;;
  esac
done
for group in $groups; do kill -s KILL -- "-$group"; done
"""


class Deathwatch:
    """Watches over the groups between :meth:`begun` and :meth:`ended`. :meth:`start` it before the first is made."""

    def __init__(self) -> None:
        self._shell: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Be ready; nothing happens where it is."""
        if self._shell is None:
            with guard.unheard():
                self._shell = subprocess.Popen(
                    ["/bin/sh", "-c", _SCRIPT],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    bufsize=0,
                    start_new_session=True,  # what ends our own group spares it
                )

    def begun(self, group: int) -> None:
        """A process group was made, just now."""
        self._say(f"begun {group}")

    def ended(self, group: int) -> None:
        """Nothing of the group is left: its number may become another one's."""
        self._say(f"ended {group}")

    def close(self) -> None:
        """All have ended."""
        if self._shell is not None:
            self._shell.communicate()
            self._shell = None

    def _say(self, line: str) -> None:
        if self._shell is not None and self._shell.stdin is not None:
            with suppress(BrokenPipeError):  # somebody has ended the shell: then nobody watches
                self._shell.stdin.write(f"{line}\n".encode())
