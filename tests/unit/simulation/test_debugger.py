"""A debugger stops a thread for as long as somebody looks: nobody is stuck meanwhile."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from pytest_claude_tokens.runs import watchdog
from pytest_claude_tokens.runs.watchdog import Watchdog
from pytest_claude_tokens.simulation.active import ACTIVE


@pytest.mark.parametrize("how", ["nobody", "pdb", "an editor", "ipdb"])
def test_nobody_is_stuck_while_somebody_debugs(monkeypatch, how):
    """Whoever looks at a stopped thread has all the time in the world, and the other threads wait for it."""
    monkeypatch.setattr(watchdog.DEBUGGER, "stopped", how == "pdb")
    if how == "an editor":
        monkeypatch.setitem(sys.modules, "pydevd", ModuleType("pydevd"))
    stack = None
    for name in ("__main__", "bdb" if how == "ipdb" else "queue", "cmd"):
        stack = SimpleNamespace(f_globals={"__name__": name}, f_back=stack, f_code=SimpleNamespace(co_filename=name))
    monkeypatch.setattr(sys, "_current_frames", lambda: {0: stack})
    rescued = []
    asleep = SimpleNamespace(ident=0, native=None)
    sleeping = SimpleNamespace(holder=asleep, handovers=1, steps=1, rescue=rescued.append, root=None, outsiders=list)
    monkeypatch.setattr(watchdog, "_cpu_seconds", lambda record: 1.0)
    monkeypatch.setattr(watchdog, "_patience", lambda world, holder: 9.0)
    monkeypatch.setattr(watchdog, "wants_to_run", lambda record: False)
    monkeypatch.setattr(ACTIVE, "world", sleeping)
    watching, rounds = Watchdog(), iter([False] * 5 + [True])
    monkeypatch.setattr(watching, "_over", SimpleNamespace(wait=lambda seconds: next(rounds)))

    watching._watch()

    assert rescued == ([asleep] if how == "nobody" else [])
