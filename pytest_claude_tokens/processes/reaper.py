"""Ends the process groups of a program that was killed, and so could not end them itself.

A shell reads which groups there are from a pipe, and the program alone holds the pipe's other end (a fork of it closes
its copy at once). When the pipe ends without the word that all is over, the program has died, however that came about,
and the shell kills the groups that are left. Unlike ``PR_SET_PDEATHSIG`` this works beyond Linux and reaches
grandchildren.
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


_SHELL_TIMEOUT_SECONDS = 2.0
"""Real time that the shell gets to end in, once it was told that all is over."""
_all: WeakSet[Reaper] = WeakSet()


class Reaper:
    """Watches over the groups between :meth:`begun` and :meth:`ended`. :meth:`start` it before the first is made."""

    def __init__(self) -> None:
        self._shell: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start the shell, unless it runs."""
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
        self._write(f"begun {group}")

    def ended(self, group: int) -> None:
        """Nothing of the group is left: its number may become another one's."""
        self._write(f"ended {group}")

    def close(self) -> None:
        """End those that have not ended, and the watch."""
        self._write("over")
        shell = self.release()
        if shell is not None:
            try:
                shell.wait(_SHELL_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                shell.kill()
                shell.wait()

    def release(self) -> subprocess.Popen[bytes] | None:
        """Close this end of the pipe, and return the shell.

        A forked child does so with its copy of the pipe: were that open, the shell would take the child for the
        program, and kill nothing when the program dies.
        """
        shell, self._shell = self._shell, None
        if shell is not None and shell.stdin is not None:
            shell.stdin.close()
        return shell

    def _write(self, line: str) -> None:
        with self._lock:
            if self._shell is not None and self._shell.stdin is not None:
                with suppress(BrokenPipeError):  # the shell was ended from outside: nothing watches then
                    self._shell.stdin.write(f"{line}\n".encode())


def _after_fork() -> None:
    for watch in list(_all):
        shell = watch.release()
        if shell is not None:
            shell.returncode = 0  # not a child of this process: without a status, `Popen` warns that it still runs


os.register_at_fork(after_in_child=_after_fork)
