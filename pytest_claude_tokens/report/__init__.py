"""What people read: the story of a violation, the verdict in words, a failed test's section, folder and summary."""

from __future__ import annotations
