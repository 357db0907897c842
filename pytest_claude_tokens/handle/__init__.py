"""``ClaudeTokens``: one fake service, and everything that a test does with it."""

from __future__ import annotations
