"""The table of a thread's life: spelled out a second time, and fired row by row in worlds with real threads.

``python -m tests.unit.simulation.test_thread_states`` writes the diagram in ``docs/threads.md`` anew.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from time import sleep  # in a world: simulated seconds, which pass at once
from typing import Any

import pytest

from pytest_claude_tokens.simulation import baton, native
from pytest_claude_tokens.simulation.loop import SimulatedLoop
from pytest_claude_tokens.simulation.thread_record import TABLE, ThreadEvent, ThreadRecord, ThreadState, diagram
from pytest_claude_tokens.simulation.threads import bind_thread
from pytest_claude_tokens.simulation.world import World
from tests.unit.simulation.thread_events import fired_events, off_the_table
from tests.unit.simulation.worlds import world

pytestmark = pytest.mark.usefixtures("staged")

ROOT = Path(__file__).parents[3]
DOCUMENT = ROOT / "docs" / "threads.md"
MERMAID = re.compile(r"(?<=```mermaid\n).*?(?=```\n)", re.DOTALL)

EXPECTED = """
         queue    run      wait     wake     idle     lose     come_back  kill    end
new      ready    running  -        -        -        -        -          -       done
ready    -        running  -        -        -        -        -          killed  -
running  ready    running  waiting  -        at_loop  outside  -          killed  done
waiting  -        running  -        ready    -        -        -          killed  -
at_loop  -        running  -        -        -        -        -          -       -
outside  ready    running  -        -        -        -        -          lost    done
killed   -        killed   -        -        -        lost     killed     -       done
lost     -        -        -        -        -        -        killed     -       done
done     -        -        -        -        -        -        -          -       -
"""

HEAD, *LINES = (line.split() for line in EXPECTED.strip().splitlines())
GRID = {
    (ThreadState(state), ThreadEvent(event)): cell
    for state, *cells in LINES
    for event, cell in zip(HEAD, cells, strict=True)
}


class Blocked:
    """A thread of worker w0 that blocks on a real lock, where the simulation does not see it, and then yields."""

    def __init__(self, new: World) -> None:
        self.lock = native.allocate_lock()  # not by its name here, which a world replaces
        self.lock.acquire()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.record = bind_thread(new, self.thread, "w0", "w0")

    def _run(self) -> None:
        self.lock.acquire()
        sleep(0)

    def come_back(self) -> None:
        """Let it go on, and wait until it has come to its switch point, or to its end."""
        self.lock.release()
        while self.record.outside:
            REAL_EVENT.wait(0.001)

    def come_back_to_no_holder(self, new: World) -> None:
        """Let it go on, from elsewhere, when nobody holds the baton."""

        def release() -> None:
            while new.holder is not None:
                REAL_EVENT.wait(0.001)
            self.lock.release()

        thread = threading.Thread(target=release, daemon=True)
        native.REAL_START(thread)
        self.thread.join()


REAL_EVENT = threading.Event()


def job(new: World, *steps: Callable[[], Any]) -> ThreadRecord:
    """A thread of worker w0 that takes these steps, once the root waits."""
    return bind_thread(new, threading.Thread(target=lambda: [step() for step in steps], daemon=True), "w0", "w0")


class Untraceable:
    """Stands for ``sys`` in ``threading``: it refuses to trace, as CPython does where two threads begin at once."""

    def __getattr__(self, name: str) -> Any:
        return getattr(sys, name)

    def settrace(self, function: object) -> None:
        raise RuntimeError("another trace function is being installed")


def one_that_dies_before_its_first_line(new: World) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(threading, "_sys", Untraceable())
        monkeypatch.setattr(threading, "_trace_hook", lambda *event: None)
        monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: None)
        with pytest.raises(RuntimeError, match="w0 died before its first line"):
            job(new)
    sleep(1)  # nobody waits for it


def one_that_runs(new: World) -> None:
    job(new, lambda: sleep(0))
    sleep(1)


def one_that_yields(new: World) -> None:
    job(new, lambda: sleep(0))
    job(new)
    sleep(1)


def one_that_waits(new: World) -> None:
    job(new, lambda: sleep(1))
    sleep(2)


def one_that_waits_at_the_end(new: World) -> None:
    job(new, lambda: sleep(100))
    sleep(1)
    new.stop()


def one_that_waits_and_dies(new: World) -> None:
    job(new, lambda: sleep(100))
    sleep(1)
    new.drop(0)


def one_that_is_ready_and_dies(new: World) -> None:
    job(new)
    new.drop(0)


def one_that_kills_itself(new: World) -> None:
    job(new, lambda: new.drop(0), lambda: sleep(1))
    sleep(2)


def one_on_a_loop(new: World) -> None:
    async def body() -> None:
        job(new)

    loop = SimulatedLoop(new)
    loop.run(body())
    loop.shut()


def one_outside_that_queues_up(new: World) -> None:
    blocked = Blocked(new)
    sleep(1)
    blocked.come_back()
    sleep(1)


def one_outside_that_takes_the_baton(new: World) -> None:
    blocked = Blocked(new)
    sleep(1)
    blocked.come_back_to_no_holder(new)


def one_outside_that_dies_and_comes_back(new: World) -> None:
    blocked = Blocked(new)
    sleep(1)
    new.drop(0)
    blocked.come_back()


def one_outside_at_the_end(new: World) -> None:
    blocked = Blocked(new)
    sleep(1)
    assert new.stop() == [blocked.record]
    blocked.come_back()


def one_lost_at_the_end(new: World) -> None:
    blocked = Blocked(new)
    sleep(1)
    new.drop(0)
    assert new.stop() == [blocked.record]
    blocked.come_back()


def one_killed_that_does_not_end(new: World) -> None:
    lock = native.allocate_lock()  # not by its name here, which a world replaces
    lock.acquire()

    def refuse() -> None:
        try:
            sleep(100)
        finally:
            lock.acquire()

    record = job(new, refuse)
    sleep(1)
    new.drop(0)
    with short_end():
        assert new.stop() == [record]
    lock.release()
    while not record.done:
        REAL_EVENT.wait(0.001)


@contextmanager
def short_end() -> Iterator[None]:
    """A twentieth of a second for a thread to end in."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(baton, "END_TIMEOUT_SECONDS", 0.05)
        yield


STORIES: dict[tuple[str, str], Callable[[World], None]] = {
    ("new", "queue"): one_that_runs,
    ("new", "run"): one_that_runs,
    ("new", "end"): one_that_dies_before_its_first_line,
    ("ready", "run"): one_that_runs,
    ("ready", "kill"): one_that_is_ready_and_dies,
    ("running", "queue"): one_that_yields,
    ("running", "run"): one_that_waits_at_the_end,
    ("running", "wait"): one_that_waits,
    ("running", "idle"): one_on_a_loop,
    ("running", "lose"): one_outside_that_queues_up,
    ("running", "kill"): one_that_kills_itself,
    ("running", "end"): one_that_runs,
    ("waiting", "run"): one_that_waits_at_the_end,
    ("waiting", "wake"): one_that_waits,
    ("waiting", "kill"): one_that_waits_and_dies,
    ("at_loop", "run"): one_on_a_loop,
    ("outside", "queue"): one_outside_that_queues_up,
    ("outside", "run"): one_outside_that_takes_the_baton,
    ("outside", "kill"): one_outside_that_dies_and_comes_back,
    ("outside", "end"): one_outside_at_the_end,
    ("killed", "run"): one_that_waits_and_dies,
    ("killed", "lose"): one_killed_that_does_not_end,
    ("killed", "come_back"): one_that_kills_itself,
    ("killed", "end"): one_that_waits_and_dies,
    ("lost", "come_back"): one_outside_that_dies_and_comes_back,
    ("lost", "end"): one_lost_at_the_end,
}


def test_the_table_is_the_grid() -> None:
    """Spelled out twice: every state and every event is there, and each pair that is not a row never happens."""
    assert set(GRID) == set(product(ThreadState, ThreadEvent))
    assert {row: after.value for row, after in TABLE.items()} == {
        row: cell for row, cell in GRID.items() if cell != "-"
    }


def test_every_row_has_a_story() -> None:
    """A row that is added to the table must be fired by a story here."""
    assert {(state.value, event.value) for state, event in TABLE} == set(STORIES)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row[0].value}-{row[1].value}")
def test_a_row_is_fired_in_a_world(row: tuple[ThreadState, ThreadEvent]) -> None:
    """What happens to a real thread is what the grid says, and nothing besides."""
    with fired_events() as fired, world() as new:
        STORIES[row[0].value, row[1].value](new)

    assert (*row, ThreadState(GRID[row])) in fired
    assert off_the_table(fired) == set()


def test_one_that_ends_just_when_it_is_given_up_is_not_left() -> None:
    """Its time is up, and it ends before that is noted: the root takes the baton that it hands back."""
    with world() as new:
        record = new.register("late", -1)
        real = new.root.run_lock

        class Late:
            """The root's lock, whose first wait is in vain."""

            def acquire(self, timeout: float = -1) -> bool:
                if timeout > 0:
                    record.end()
                    real.release()
                    return False
                return real.acquire()

        new.root.run_lock = Late()  # type: ignore[assignment]
        assert new.stop() == []
        assert real.locked()


@pytest.mark.skipif(not (ROOT / "fake_server").is_dir(), reason="not in a checkout: the documents are not here")
def test_the_document_shows_the_table() -> None:
    """The diagram in ``docs/threads.md`` is the one that the table gives."""
    shown = MERMAID.search(DOCUMENT.read_text(encoding="utf-8"))

    assert shown
    assert shown[0] == diagram(), "out of date; run: python -m tests.unit.simulation.test_thread_states"


if __name__ == "__main__":
    DOCUMENT.write_text(MERMAID.sub(lambda _: diagram(), DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
