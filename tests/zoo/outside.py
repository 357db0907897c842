"""An explored test outside of pytest: run with the settings that pytest would have handed to it."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from pytest_claude_tokens.search.context import CONTEXT, ExplorationContext


def error_of(
    test: Callable[[], Any], context: ExplorationContext, *, caught: tuple[type[BaseException], ...] = (Exception,)
) -> BaseException | None:
    """What ``test`` raises in this context, if it is one of ``caught``. The context of the caller stays as it is."""

    def run() -> BaseException | None:
        CONTEXT.set(context)
        try:
            test()
        except caught as error:
            return error
        return None

    return copy_context().run(run)
