"""Twenty ways for a refresher to spend a token twice, each with its sound twin, for :mod:`benchmarks.population`."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.faults import flights, leases, locks
from benchmarks.faults.site import Dispatcher, Site, Step

__all__ = ["FAULTS", "HELD_OUT", "Dispatcher", "Fault", "Site", "Step"]


@dataclass(frozen=True)
class Fault:
    """A planted fault and its sound twin.

    ``pools``: over how many dispatchers the workers are spread (0: one for each). ``workers``, ``accounts``: it needs
    at least so many. ``dead``: a lease is there, of somebody who died long ago. ``rounds``: it needs logins that
    expire again. ``patience``: seconds, from which to which, of which one is drawn for each program.
    """

    planted: type[Dispatcher]
    sound: type[Dispatcher]
    pools: int = 1
    workers: int = 2
    accounts: int = 1
    dead: bool = False
    rounds: int = 1
    patience: tuple[float, float] = (5.0, 20.0)


TUNED = {
    "no lock": Fault(locks.NoLock, Dispatcher),
    "lock without re-read": Fault(locks.NoReread, Dispatcher),
    "two pools over one store": Fault(locks.OwnLock, Dispatcher, pools=2),
    "single flight cleared early": Fault(flights.ClearedEarly, flights.ClearedLast),
    "double takeover of a dead lease": Fault(leases.Lease, leases.TakenOverOnce, pools=0, dead=True),
    "stale lock under a live holder": Fault(leases.StaleTooSoon, leases.Lease, pools=0),
    "goes on without the lock": Fault(locks.Impatient, Dispatcher),
    "account checked out across an await": Fault(locks.Checkout, locks.CheckoutLocal, accounts=2),
    "sent again after a time-out": Fault(flights.Resent, Dispatcher),
    "refresher in the background": Fault(flights.Background, flights.BackgroundLocked),
    "semaphore of two": Fault(locks.TwoSlots, Dispatcher),
    "leader gives up": Fault(flights.LeaderGivesUp, flights.LeaderStays),
}
"""The search was made with these in view."""
HELD_OUT = {
    "lock made across an await": Fault(locks.LazyLock, locks.LazyLockOnce),
    "flag set after another step": Fault(flights.FlaggedLate, flights.Flagged),
    "written outside of the lock": Fault(locks.WrittenOutside, Dispatcher),
    "torn store": Fault(locks.TornStore, locks.TornStoreWaits),
    "claim that can be overwritten": Fault(leases.Claimed, leases.ClaimedAtOnce, pools=0),
    "short lease renewed by hand": Fault(leases.Renewed, leases.TakenOverOnce, pools=0),
    "next account when busy": Fault(locks.NextWhenBusy, locks.NextWhenBusyLocked, accounts=2, workers=3),
    "debounced by time": Fault(locks.Debounced, locks.DebouncedByToken, patience=(1.0, 10.0)),
    "generation of one bit": Fault(locks.SameParity, locks.SameGeneration, rounds=3),
}
"""Of these only the results were looked at, and nothing was changed to make them better."""
FAULTS = {**TUNED, **HELD_OUT}
