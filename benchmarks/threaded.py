"""The dispatchers of the population as threads: the same source without ``async`` and ``await``, written to a folder.

A thread can lose its turn between any two lines, so what is sound in one thread need not be in several. Four of the
sound twins of :mod:`benchmarks.faults` are planted faults here.
"""

from __future__ import annotations

import atexit
import importlib
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.faults import Fault
from benchmarks.planted import Login

if TYPE_CHECKING:
    from benchmarks.population import Shape

__all__ = ["ThreadedProgram", "faults"]

_REWRITTEN = (
    (r"\basync (def|with)\b", r"\1"),
    (r"\bawait ", ""),
    (r"=asyncio\.Lock\b", "=lambda: threading.Lock()"),  # looked up when a lock is made: a search has its own
    (r"\basyncio\.(Lock|Semaphore|Event)\b", r"threading.\1"),
    (r"\basyncio\.sleep\b", "time.sleep"),
    (r"\bimport asyncio\n", "import asyncio\nimport threading\nimport time\n"),
    (r"\bLogin, now\n", "Login\n\n\ndef now() -> float:\n    return time.monotonic()\n\n"),
    (r"\bbenchmarks\.faults\.site\b", "threaded_site"),
)


@cache
def faults() -> dict[str, Fault]:
    """The faults, by name."""
    source, folder = Path(__file__).parent / "faults", Path(tempfile.mkdtemp(prefix="threaded-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name in ("site", "locks", "flights", "leases"):
        text = (source / f"{name}.py").read_text()
        for pattern, by in _REWRITTEN:
            text = re.sub(pattern, by, text)
        (folder / f"threaded_{name}.py").write_text(text)
    sys.path.insert(0, str(folder))
    site, locks, flights, leases = (importlib.import_module(f"threaded_{name}") for name in
                                    ("site", "locks", "flights", "leases"))  # fmt: skip
    sound = site.Dispatcher
    return {
        "no lock": Fault(locks.NoLock, sound),
        "lock without re-read": Fault(locks.NoReread, sound),
        "two pools over one store": Fault(locks.OwnLock, sound, pools=2),
        "account checked out across a step": Fault(locks.Checkout, locks.CheckoutLocal, accounts=2),
        "written outside of the lock": Fault(locks.WrittenOutside, sound),
        "torn store": Fault(locks.TornStore, locks.TornStoreWaits),
        "semaphore of two": Fault(locks.TwoSlots, sound),
        "next account when busy": Fault(locks.NextWhenBusy, locks.NextWhenBusyLocked, accounts=2, workers=3),
        "debounced by time": Fault(locks.Debounced, locks.DebouncedByToken, patience=(1.0, 10.0)),
        "lock made between two lines": Fault(locks.LazyLockOnce, sound),
        "flag set between two lines": Fault(flights.Flagged, sound),
        "claimed between two lines": Fault(leases.ClaimedAtOnce, sound, pools=0),
        "generation read after the login": Fault(locks.SameGeneration, sound),
    }


@dataclass(frozen=True)
class ThreadedProgram:
    """A dispatcher with its workers, which are threads."""

    name: str
    fault: Fault
    shape: Shape
    threads = True

    @property
    def accounts(self) -> int:
        return self.shape.accounts

    @property
    def planted(self) -> Any:
        return self.fault.planted

    @property
    def sound(self) -> Any:
        return self.fault.sound

    def jobs(self, make: Any, refreshes: Sequence[str], connect: Any, workers: int) -> list[Callable[[], object]]:
        """What each worker has to do."""
        shape, there = self.shape, sys.modules["threaded_site"]
        steps = {name: there.Step(one.trips, one.seconds) for name, one in shape.steps.items()}
        sites = [there.Site(Login(one), steps, connect, shape.patience, shape.life) for one in refreshes]
        pools = [make(sites[0], sites) for _ in range(self.fault.pools or workers)]
        return [self._job(pools[number % len(pools)], number) for number in range(workers)]

    def _job(self, dispatcher: Any, number: int) -> Callable[[], object]:
        shape = self.shape

        before = sys.modules["threaded_site"].Step(shape.before[number].trips, shape.before[number].seconds)

        def job() -> None:
            time.sleep(shape.arrivals[number])
            for call in range(shape.calls):
                if call:
                    time.sleep(shape.pause)
                before.take()
                dispatcher.get()

        return job
