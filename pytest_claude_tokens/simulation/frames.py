"""Which frames of a traceback are worth showing to the author of a test: those of neither ours nor asyncio."""

from __future__ import annotations

import asyncio
import os
import threading
from types import TracebackType

import fake_server

__all__ = ["of_the_user"]

_HIDDEN = (
    *(os.path.dirname(path) + os.sep for path in (__file__, fake_server.__file__, asyncio.__file__)),
    threading.__file__,
)


def of_the_user(traceback: TracebackType | None) -> TracebackType | None:
    """``traceback`` without what stands between a test, its workers and what they call."""
    kept = []
    while traceback is not None:
        if not traceback.tb_frame.f_code.co_filename.startswith(_HIDDEN):
            kept.append(traceback)
        traceback = traceback.tb_next
    shown = None
    for one in reversed(kept):
        shown = TracebackType(shown, one.tb_frame, one.tb_lasti, one.tb_lineno)
    return shown
