"""The command line: ``claude-tokens`` and its commands. Each is loaded when it is asked for."""

from __future__ import annotations
