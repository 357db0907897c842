"""A fake Claude token service: it rotates refresh tokens and serializes calls by bearer. It never judges.

A test double for one's own code: it binds loopback only, mints tokens that are unmistakably fake, and forwards
nothing.
"""

from __future__ import annotations

from fake_server.faults import Fault
from fake_server.policy import Policy

__all__ = ["Fault", "Policy"]
