"""Ends the process groups of a program that was killed, and so could not end them itself.

A shell reads which groups there are from a pipe. Nobody but the program holds the pipe's other end (a fork of it lets
go at once): when that closes without the last group taken back, the program is gone, however it came to its end.
"""

from __future__ import annotations

import os
import subprocess
import threading
from contextlib import suppress
from weakref import WeakSet

from pytest_claude_tokens.guard import audit

__all__ = ["Reaper"]

_SCRIPT = """\
groups=' '
while read -r what group; do
  case $what in
    begun) groups="$groups$group " ;;
    ended) case "$groups" in *" $group "*) groups="${groups%%" $group "*} ${groups#*" $group "}" ;; esac ;;
    over) break ;;
  esac
done
for group in $groups; do kill -s KILL -- "-$group"; done
"""


_PATIENCE = 2.0
"""Seconds that the shell gets to end in."""
_all: WeakSet[Reaper] = WeakSet()


class Reaper:
    """Watches over the groups between :meth:`begun` and :meth:`ended`. :meth:`start` it before the first is made."""

    def __init__(self) -> None:
        self._shell: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Be ready; nothing happens where it is."""
        with self._lock, audit.muted():
            if self._shell is None:
                _all.add(self)
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
        """End those that have not ended, and the watch."""
        self._say("over")
        shell = self.let_go()
        if shell is not None:
            try:
                shell.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                shell.kill()
                shell.wait()

    def let_go(self) -> subprocess.Popen[bytes] | None:
        """Close this end of the pipe. A fork does so with its copy, or it would count as this process."""
        shell, self._shell = self._shell, None
        if shell is not None and shell.stdin is not None:
            shell.stdin.close()
        return shell

    def _say(self, line: str) -> None:
        with self._lock:
            if self._shell is not None and self._shell.stdin is not None:
                with suppress(BrokenPipeError):  # somebody has ended the shell: then nobody watches
                    self._shell.stdin.write(f"{line}\n".encode())


def _after_fork() -> None:
    for watch in list(_all):
        shell = watch.let_go()
        if shell is not None:
            shell.returncode = 0  # it is no child of this process: nothing to wait for, or to warn of


os.register_at_fork(after_in_child=_after_fork)
