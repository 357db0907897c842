"""The lock around a refresh: one directory beside the config directory, or for 2.1.330 another one inside it first."""

from __future__ import annotations

import json
import os
from contextlib import suppress

from pytest_claude_tokens.lease import Lease, LeaseLost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pytest_claude_tokens.claude.dialects import Dialect
    from pytest_claude_tokens.claude.process import Machine
    from pytest_claude_tokens.claude.telemetry import Telemetry

__all__ = ["RefreshLock"]


class RefreshLock:
    """The leases that a process holds while it refreshes, and the events that report them.

    The lease that every release takes lies in the *parent* of the folder. Processes that share the folder alone, as in
    containers that mount nothing else, each take a lease of their own and refresh at the same time.
    """

    def __init__(self, folder: str, dialect: Dialect, machine: Machine, telemetry: Telemetry) -> None:
        self._machine = machine
        self._telemetry = telemetry
        self._outer = Lease(folder, now=machine.now)
        self._inner: Lease | None = None
        if dialect.inner_lock:
            self._inner = Lease(folder, lock_path=os.path.join(folder, ".oauth_refresh.lock"), now=machine.now)
        self._owner = os.path.join(folder, ".oauth_refresh.lock.owner")

    @property
    def compromised(self) -> bool:
        """Whether another process has taken a lease over; only 2.1.330 checks that."""
        return any(lease.held and not lease.touch() for lease in self._leases())

    def try_acquire(self) -> bool:
        """Take all leases, or none. Raises ``OSError`` where one can't be made."""
        if self._inner is not None and not self._inner.try_acquire():
            return False
        try:
            acquired = self._outer.try_acquire()
        except OSError:
            self._release_inner()
            raise
        if not acquired:
            if self._inner is not None:
                self._telemetry.emit("refresh_legacy_lock_contended")
            self._release_inner()
            return False
        if self._inner is not None:
            with suppress(OSError), open(self._owner, "w", encoding="utf-8") as file:
                json.dump({"pid": os.getpid(), "acquiredAt": int(self._machine.now() * 1000)}, file)
        return True

    def release(self) -> None:
        """Release all leases. An error is reported as an event, and not raised: the refresh is over by then."""
        self._telemetry.emit("token_refresh_lock_releasing")
        try:
            if self._inner is not None:
                with suppress(OSError):
                    os.unlink(self._owner)
            try:
                self._outer.release()
            finally:
                self._release_inner()
        except (OSError, LeaseLost):
            self._telemetry.emit("token_refresh_lock_release_error")
        else:
            self._telemetry.emit("token_refresh_lock_released")

    def abandoned(self) -> bool:
        """Whether no live process is named as the lock's owner.

        Checked twice, with a pause: an owner writes its process id only after it has made the lock.
        """
        if self._is_abandoned():
            self._machine.pause(0.1)
            return self._is_abandoned()
        return False

    def _is_abandoned(self) -> bool:
        if not any(os.path.isdir(lease.path) for lease in self._leases() if lease.path):
            return False
        try:
            with open(self._owner, encoding="utf-8") as file:
                os.kill(int(json.load(file)["pid"]), 0)
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            return True
        return False

    def _leases(self) -> list[Lease]:
        return [self._outer] if self._inner is None else [self._inner, self._outer]

    def _release_inner(self) -> None:
        if self._inner is not None:
            self._inner.release()
