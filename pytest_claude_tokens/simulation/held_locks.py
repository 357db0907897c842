"""Which locks each worker holds in one run that is watched, and when it last read the file with the login.

A lock is an object that the user's own code acquires, or a path that a worker makes with ``mkdir`` or ``O_EXCL``, or
locks with ``flock`` or ``lockf``: see :mod:`pytest_claude_tokens.simulation.lock_patches`. Its key is the object's
identity, or the path.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from fake_server.genuine import os
from fake_server.protocol.actors import WORKER
from fake_server.secrecy import redact
from pytest_claude_tokens.simulation.lines import Line, lines_up_from, text

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_claude_tokens.simulation.files import OpenFile

__all__ = ["Act", "HeldLocks", "Hold"]

_NEVER = 1 << 60


@dataclass(slots=True, eq=False)
class Hold:
    """A lock that a worker has, had or wants. ``tick``: when it got it, by number; ``since``: in seconds.

    ``released``: the tick at which it gave it back; ``taken_by``: who took it away, and after how many seconds.
    ``file``: the open file that is locked, of a lock that ends with it.
    """

    key: Any
    line: Line
    tick: int
    since: float
    waited: bool = False
    released: int | None = None
    taken_by: tuple[str, float, Line] | None = None
    file: OpenFile | None = None


@dataclass(slots=True)
class _Known:
    """What is known of one worker. ``read``: for each file, the tick of its last reading."""

    holds: list[Hold] = field(default_factory=list)
    gave_up: list[Hold] = field(default_factory=list)
    read: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Sent:
    """A request: who sent it, what its worker had read by then, and the ticks of its two ends."""

    worker: str
    tick: int
    read: dict[str, int]
    ended: int = _NEVER


class Act(NamedTuple):
    """What a worker did to a lock: ``did`` is a verb in the past tense. ``after``: how many steps had been noted."""

    worker: str
    did: str
    key: Any
    line: Line | None
    after: int


class HeldLocks:
    """The locks of one run. ``now`` reads the run's time, in seconds, ``steps`` how many steps its watch has noted."""

    def __init__(self, now: Callable[[], float], steps: Callable[[], int] = int) -> None:
        self._now = now
        self._steps = steps
        self.acts: list[Act] = []
        self._tick = 0
        self._workers: dict[str, _Known] = {}
        self._names: dict[Any, str] = {}
        self._kept: list[Any] = []
        self._contended: set[str] = set()
        self._requests: dict[int, _Sent] = {}
        self.wrote: list[tuple[int, str, str]] = []
        """Tick, worker and path of each writing of a file."""
        self._lines: dict[int, tuple[Line, ...]] = {}
        """The lines behind each of them, by its tick."""
        self._looked: dict[str, int] = {}

    def tick(self) -> int:
        """A number that rises with each call: the order of what is noted."""
        self._tick += 1
        return self._tick

    def of(self, worker: str) -> _Known:
        """What is known of a worker."""
        return self._workers.setdefault(worker, _Known())

    def name(self, key: Any) -> str:
        """A lock's name in reports: its class and a number, or its path's last part, after its folder if need be."""
        name = self._names[key]
        if not isinstance(key, str):
            return name
        last = os.path.basename(name)
        alike = [other for other in self._names.values() if os.path.basename(other) == last]
        return last if len(alike) == 1 else name

    def is_lock(self, key: Any) -> bool:
        """Whether a path was used as one: a second worker wanted it, or its name says so."""
        return (
            not isinstance(key, str)
            or key in self._contended
            or any(word in os.path.basename(key).lower() for word in ("lock", "lease"))
        )

    # What happens.

    def waits(self, key: Any, line: Line) -> None:
        """The calling worker will wait for a lock that is taken, unless by itself: it may enter that again."""
        worker = WORKER.get()
        if worker is not None and all(hold.key != key or hold.released for hold in self.of(worker).holds):
            self._did(worker, "waited for", key, line)

    def got(
        self, key: Any, line: Line, *, waited: bool = False, file: OpenFile | None = None, alone: bool = False
    ) -> None:
        """The calling worker has got a lock; that of a ``file`` is shared unless it has it ``alone``."""
        if file is not None:
            self._look_at_files(file if alone else None)
            self._contended.add(key)
        if (worker := WORKER.get()) is not None:
            self.of(worker).holds.append(Hold(key, line, self.tick(), self._now(), waited=waited, file=file))
            self._did(worker, "took", key, line)

    def _did(self, worker: str, did: str, key: Any, line: Line | None) -> None:
        """Note an act, unless the same one was that worker's last: who polls does it hundreds of times."""
        act = Act(worker, did, key, line, self._steps())
        last = next((one for one in reversed(self.acts) if one.worker == worker), None)
        if last is None or act[:3] != last[:3]:
            self.acts.append(act)

    def _look_at_files(self, taken: OpenFile | None = None) -> None:
        """Locks of files that were closed are over; whoever else held the one that was ``taken`` has let it go."""
        for worker, known in self._workers.items():
            for hold in known.holds:
                if hold.released is None and hold.file and (not hold.file.is_open or hold.file.is_same(taken)):
                    hold.released = self.tick()
                    self._did(worker, "let go of", hold.key, None)

    def missed(self, key: Any, line: Line) -> None:
        """The calling worker has waited for a lock in vain."""
        if isinstance(key, str):
            self._contended.add(key)
        if (worker := WORKER.get()) is not None:
            self._did(worker, "found taken:" if isinstance(key, str) else "gave up on", key, line)
            known = self.of(worker)
            if known.gave_up and known.gave_up[-1].key == key:  # it tries again and again
                known.gave_up.pop()
            known.gave_up.append(Hold(key, line, self.tick(), self._now()))

    def let_go(self, key: Any, line: Line) -> None:
        """The calling worker gives a lock back, or takes it from another."""
        mine = WORKER.get()
        for worker, known in sorted(self._workers.items(), key=lambda pair: pair[0] != mine):
            for hold in known.holds[::-1]:
                if hold.key == key and hold.released is None:
                    hold.released = self.tick()
                    if worker != mine and mine is not None and isinstance(key, str):
                        hold.taken_by = mine, self._now() - hold.since, line
                        self._did(mine, f"took from {worker}:", key, line)
                    elif mine is not None:
                        self._did(mine, "let go of", key, line)
                    return

    def object(self, lock: Any, kind: str) -> int:
        """The key of a lock that is an object."""
        key = id(lock)
        if key not in self._names:
            self._kept.append(lock)  # so that no other object gets its identity
            number = 1 + sum(name.startswith(f"{kind} ") for name in self._names.values())
            self._names[key] = f"{kind} {number}"
        return key

    def path(self, path: Any) -> str:
        """The key of a lock that is a path."""
        key = os.path.abspath(os.fsdecode(path))
        self._names.setdefault(key, redact("/".join(key.split(os.sep)[-2:])))
        return key

    def file(self, event: str, args: tuple[Any, ...]) -> None:
        """An audit event: a file is opened, or renamed."""
        worker = WORKER.get()
        path = args[1] if event == "os.rename" else args[0]
        if worker is None or not isinstance(path, str) or not (lines := lines_up_from(sys._getframe())):
            return
        writes = event == "os.rename" or (isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR))
        if writes:
            self.wrote.append((self.tick(), worker, os.path.abspath(path)))
            self._lines[self._tick] = lines
        else:
            self.of(worker).read[os.path.abspath(path)] = self.tick()

    def written(self, store: str) -> dict[str, str]:
        """Who has written the file of a store since the last call for it, if that is clear, and at which line.

        ``store`` is only a name: it is the one file that was written and is still there, or the one that says
        "credentials".
        """
        since, self._looked[store] = self._looked.get(store, 0), self.tick()
        new = {path: (tick, worker) for tick, worker, path in self.wrote if tick > since}
        paths = [path for path in new if not self.is_lock(path) and os.path.exists(path)]
        named = [path for path in paths if "credentials" in os.path.basename(path)]
        if len(paths := named or paths) != 1:
            return {}
        tick, worker = new[paths[0]]
        at, *via = map(text, self._lines[tick])
        elsewhere = [f" from {line}" for line in via if line.rpartition(":")[0] != at.rpartition(":")[0]]
        return {"by": worker, "at": at + "".join(elsewhere[:1])}

    def sent(self, op: int, worker: str) -> None:
        """A request begins."""
        self._look_at_files()
        self._requests[op] = _Sent(worker, self.tick(), dict(self.of(worker).read))

    def ended(self, op: int) -> None:
        """A request has ended."""
        self._look_at_files()
        self._requests[op].ended = self.tick()

    # What came of it.

    def seen(self) -> dict[int, dict[str, Any]]:
        """For each request's number: the locks that its worker ``held``, had ``lost`` or ``gave_up`` waiting for.

        ``read`` and ``wrote``: when its worker had last read the login's file, and when it wrote it after the reply.
        Times are numbers that rise in the order of events, as are those of the request itself, ``sent`` and ``ended``.
        """
        return {op: self._seen(one) for op, one in self._requests.items()}

    def _seen(self, one: _Sent) -> dict[str, Any]:
        known = self.of(one.worker)
        before = [hold for hold in known.holds if hold.tick < one.tick and self.is_lock(hold.key)]
        stores = {path for _, _, path in self.wrote}
        read = max(((tick, path) for path, tick in one.read.items() if path in stores), default=None)
        wrote = [tick for tick, worker, path in self.wrote if worker == one.worker and read and path == read[1]]
        last = max(
            (other.tick for other in self._requests.values() if other.worker == one.worker and other.tick < one.tick),
            default=0,
        )
        seen: dict[str, Any] = {
            "sent": one.tick,
            "ended": None if one.ended == _NEVER else one.ended,
            "held": [self._told(hold) for hold in before if (hold.released or _NEVER) > one.tick],
            "lost": [self._told(hold) for hold in before if hold.taken_by and (hold.released or 0) < one.ended],
            "gave_up": [
                self._told(hold)
                for hold in known.gave_up
                if last < hold.tick < one.tick and all(hold.key != got.key or got.tick < hold.tick for got in before)
            ],
        }
        if read is not None:
            seen["read"] = {"file": os.path.basename(read[1]), "tick": read[0]}
            seen["wrote"] = min((tick for tick in wrote if tick > one.ended), default=None)
        return seen

    def _told(self, hold: Hold) -> dict[str, Any]:
        told: dict[str, Any] = {
            "lock": self.name(hold.key),
            "at": text(hold.line) if hold.line[1] else "",
            "tick": hold.tick,
            "released": hold.released,
            "waited": hold.waited,
        }
        if hold.taken_by is not None:
            worker, seconds, line = hold.taken_by
            told |= {"taken_by": worker, "after": round(seconds, 6), "taken_at": text(line)}
        return told
