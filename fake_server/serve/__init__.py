"""The service as a process: its command line, its admin endpoints, its end."""

from __future__ import annotations
