"""The sans-IO core: who may refresh, who may call now, what goes wrong, what happened. It waits for nothing."""

from __future__ import annotations
