"""Which calls are refused for their number, by account: bursts, usage windows, and too many at once. Sans-IO.

A refused call is answered at once, before any queue, as by a fault that somebody had planned. Not thread-safe: the
server holds the lock.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from fake_server.faults import Fault

if TYPE_CHECKING:
    from fake_server.policy import Policy

__all__ = ["MASKED", "CallLimits"]

_WINDOW_SECONDS = {"five_hour": 18000.0, "seven_day": 604800.0}
MASKED = "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade."
"""What a refused fan-out is told (ScreamingFace/screamingface, pull request 245)."""


class CallLimits:
    """Counts the calls of each account under one policy. Times are seconds of the service's clock."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._let_in: dict[str, deque[float]] = {}
        self._windows: dict[str, tuple[float, int]] = {}

    def refusal(self, account: str, now: float, open_calls: int) -> Fault | None:
        """Count a call that arrives while so many others of its account are open; the answer if it is refused."""
        policy = self.policy
        if policy.fan_out is not None and open_calls >= policy.fan_out:
            error = {"type": "invalid_request_error", "message": MASKED}
            return Fault.status(400, body={"type": "error", "error": error})
        if self._is_burst(account, now):
            return Fault.BURST
        began, number = self._windows.get(account, (now, 0))
        if now >= began + _WINDOW_SECONDS[policy.quota_window]:
            began, number = now, 0
        if policy.quota is not None and number >= policy.quota:
            return Fault.quota(policy.quota_window)
        self._windows[account] = began, number + 1
        self._let_in.setdefault(account, deque()).append(now)
        return None

    def _is_burst(self, account: str, now: float) -> bool:
        let_in = self._let_in.get(account)
        while let_in and let_in[0] + self.policy.burst_seconds <= now:
            let_in.popleft()
        return self.policy.burst is not None and len(let_in or ()) >= self.policy.burst
