"""Ends the process groups of a program that was killed, and so could not end them itself.

A shell reads the numbers of the groups from a pipe whose other end only the program holds (a forked child closes its
copy at once). If the pipe ends without the final message, the program has died, by whatever cause, and the shell kills
the groups that are left. Unlike ``PR_SET_PDEATHSIG`` this works beyond Linux and reaches grandchildren.
"""

from __future__ import annotations

import subprocess
from contextlib import suppress
from weakref import WeakSet

from fake_server.genuine import os, threading
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
"""Real seconds that the shell has to end after the final message."""
_all: WeakSet[Reaper] = WeakSet()


class Reaper:
    """Kills groups between their :meth:`begun` and :meth:`ended` if this process dies. Call :meth:`start` first."""

    def __init__(self) -> None:
        self._shell: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start the shell, unless it is running."""
        with self._lock, audit.muted():
            if self._shell is None:
                _all.add(self)
                self._shell = subprocess.Popen(
                    ["/bin/sh", "-c", _SCRIPT],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    bufsize=0,
                    start_new_session=True,  # signals to our own group must not reach it
                )

    def begun(self, group: int) -> None:
        """Register a process group that was just created."""
        self._write(f"begun {group}")

    def ended(self, group: int) -> None:
        """Unregister a group that has ended: a later group may get its number."""
        self._write(f"ended {group}")

    def close(self) -> None:
        """Kill the registered groups, and end the shell."""
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

        A forked child calls this for its copy of the pipe: while that copy is open, the pipe does not end, and the
        shell would kill nothing when the program dies.
        """
        shell, self._shell = self._shell, None
        if shell is not None and shell.stdin is not None:
            shell.stdin.close()
        return shell

    def _write(self, line: str) -> None:
        with self._lock:
            if self._shell is not None and self._shell.stdin is not None:
                with suppress(BrokenPipeError):  # the shell was killed from outside: there is no reaper then
                    self._shell.stdin.write(f"{line}\n".encode())


def _after_fork() -> None:
    for watch in list(_all):
        shell = watch.release()
        if shell is not None:
            shell.returncode = 0  # not a child of this process: without a status, `Popen` would warn that it runs


os.register_at_fork(after_in_child=_after_fork)
