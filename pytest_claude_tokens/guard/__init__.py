"""The guard: no request reaches the real service, and no code touches the real login."""

from __future__ import annotations
