"""The envelope of the service's errors. The token endpoint's OAuth errors have none."""

from __future__ import annotations

from typing import Any

__all__ = ["error_envelope"]


def error_envelope(kind: str, message: str, details: dict[str, Any] | None = None, **beside: Any) -> dict[str, Any]:
    """The body of an error. ``kind``: such as ``not_found_error``; ``beside``: members beside ``error``."""
    error: dict[str, Any] = {"type": kind, "message": message}
    if details:
        error["details"] = details
    return {"type": "error", "error": error, **beside}
