"""A fake token service: it rotates refresh tokens, as Claude's or any other OAuth service, and never judges.

A test double for one's own code: it binds loopback only, mints tokens that are unmistakably fake, and forwards
nothing.
"""

from __future__ import annotations

from fake_server.faults import Fault
from fake_server.policy import Policy
from fake_server.service import Service

__all__ = ["Fault", "Policy", "Service"]
