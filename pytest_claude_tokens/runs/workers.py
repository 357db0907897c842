"""The ``workers`` of one run: runs their jobs, cancels and kills them, and records whether anything raced."""

from __future__ import annotations

import contextvars
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from fake_server.genuine import asyncio
from fake_server.protocol.actors import WORKER
from pytest_claude_tokens.report.evidence import notes_of, set_notes
from pytest_claude_tokens.runs.outcome import is_time_out
from pytest_claude_tokens.simulation.interrupts import calls_foreign_code
from pytest_claude_tokens.simulation.thread_record import Stopped, worker_number
from pytest_claude_tokens.simulation.threads import bind_thread, new_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from fake_server.events import Event
    from fake_server.server import Server
    from pytest_claude_tokens.simulation.world import World

__all__ = ["Workers", "is_race"]


class Workers:
    """Runs functions in all workers at once; ``raced``: a request was open while another worker's job was under way."""

    def __init__(self, world: World, size: int, server: Server, *, simulated_loop: bool) -> None:
        self.size = size
        self.raced: bool = False
        self._world = world
        self._server = server
        self._journal = server.journal
        self._loop = simulated_loop
        self._working = [0] * size
        self._open: dict[int, int] = {}
        self._tasks: dict[int, asyncio.Task[Any]] = {}
        self._struck: set[int] = set()
        self._errors: dict[int, BaseException] = {}
        """For each task that died of a ``CancelledError`` which nobody had asked for: that error."""
        self._dead: set[int] = set()
        self._when_dead: list[Callable[[int], None]] = []
        self._journal.observers.append(self._observe)

    def __call__(self, *functions: Callable[[], Any], per_worker: int = 1) -> Any:
        """Run one function in every worker, or one function for each; in an ``async def`` the result is awaited.

        Returns the results in order of worker. All jobs run to their end; then the first exception, in order of worker,
        is raised.
        """
        if len(functions) not in (1, self.size):
            raise TypeError(f"workers() takes one function, or one for each of the {self.size} workers")
        if per_worker < 1:
            raise ValueError("per_worker must be 1 or more")
        jobs = list(functions) * (self.size if len(functions) == 1 else 1)
        return self._run_tasks(jobs, per_worker) if self._loop else self._run_threads(jobs, per_worker)

    def __len__(self) -> int:
        return self.size

    def detach(self) -> None:
        """Break the references to the world and its parts, so that they are freed without the collector."""
        self._journal.observers.remove(self._observe)
        self._tasks.clear()
        self._errors.clear()
        self._when_dead.clear()

    # Tasks.

    async def _run_tasks(self, jobs: list[Callable[[], Awaitable[Any]]], count: int) -> list[Any]:
        tasks = []
        for number, job in enumerate(jobs):
            context = contextvars.copy_context()
            context.run(WORKER.set, f"w{number}")
            task = asyncio.get_running_loop().create_task(
                self._task(number, job, count), name=f"w{number}", context=context
            )
            self._tasks[number] = task
            tasks.append(task)
        waiting = asyncio.get_running_loop().create_future()

        def ended(_: object) -> None:
            if not waiting.done() and all(task.done() or n in self._dead for n, task in enumerate(tasks)):
                waiting.set_result(None)

        for task in tasks:
            task.add_done_callback(ended)
        self._when_dead.append(lambda number: ended(None))
        ended(None)  # all of them may have been killed before
        try:
            await waiting
        except asyncio.CancelledError:  # as gather does
            for task in tasks:
                task.cancel()
            raise
        _raise_first([self._error_of(number, task) for number, task in enumerate(tasks)])
        return [task.result() if task.done() and not task.cancelled() else None for task in tasks]

    @calls_foreign_code
    async def _task(self, number: int, job: Callable[[], Any], count: int) -> Any:
        results = []
        self._begin(number)
        try:
            for _ in range(count):
                value = job()
                results.append(await value if hasattr(value, "__await__") else value)
        except asyncio.CancelledError as error:
            if number not in self._struck and not self._tasks[number].cancelling():
                self._errors[number] = error
            raise
        finally:
            self._end(number)
        return results if count > 1 else results[0]

    def _error_of(self, number: int, task: asyncio.Task[Any]) -> BaseException | None:
        """The exception of which a worker died, if any."""
        if not task.done() or task.cancelled():
            return self._errors.get(number)
        return task.exception()

    # Threads.

    def _run_threads(self, jobs: list[Callable[[], Any]], count: int) -> list[Any]:
        size = len(jobs)
        results: list[Any] = [None] * size
        errors: list[BaseException | None] = [None] * size
        world = self._world
        caller = world.me() or world.root
        left = set(range(size)) - self._dead

        def work(number: int, job: Callable[[], Any]) -> None:
            self._begin(number)
            try:
                values = [job() for _ in range(count)]
                results[number] = values if count > 1 else values[0]
            except Stopped:
                raise
            except BaseException as error:
                errors[number] = error
            finally:
                self._end(number)
            done(number)

        def done(number: int) -> None:
            if number in left:
                left.remove(number)
                if not left:
                    world.wake(caller)

        self._when_dead.append(done)
        for number, job in enumerate(jobs):
            if number in self._dead:
                continue
            thread = new_thread(partial(work, number, job), f"w{number}")
            bind_thread(world, thread, f"w{number}", f"w{number}")
        while left:
            world.block(caller, "its workers")
        if caller is world.root and world.follow is not None and not world.is_alone:
            world.follow(sys._getframe())
        _raise_first(errors)
        return results

    # Cancelled or killed by the schedule.

    def end_worker(self, what: str, number: int) -> None:
        """Cancel or kill a worker. A killed one never runs again, not even its ``finally`` blocks."""
        name = f"w{number}"
        if number >= self.size or not self._working[number]:
            return
        self._journal.note(what, actor=name)
        if what == "cancel":
            task = self._tasks.get(number)
            if task is not None:
                self._struck.add(number)
                task.cancel()
            return
        self._dead.add(number)
        self._world.drop(number)
        self._end(number)
        self._server.abandon(name, "killed")
        for tell in self._when_dead:
            tell(number)

    # Races.

    def _begin(self, number: int) -> None:
        self._world.progress()
        self._working[number] += 1
        self.raced = self.raced or any(other not in (number, -1) for other in self._open.values())

    def _end(self, number: int) -> None:
        self._world.progress()
        self._working[number] -= 1

    def _observe(self, event: Event) -> None:
        self._world.progress()
        if event.type == "invoke" and event.op is not None:
            if event.data.get("unjudged"):
                return
            number = worker_number(event.actor)
            self._open[event.op] = number
            if not self.raced:
                self.raced = is_race(number, self._working)
        elif event.type in ("ok", "fail", "info") and event.op is not None:
            self._open.pop(event.op, None)


def is_race(asking: int, working: Sequence[object]) -> bool:
    """Whether a request of worker ``asking`` is open during another worker's job; ``working`` tells which have one.

    A request of no worker (-1), such as that of a dispatcher's shared task, races where two workers have a job.
    """
    at_work = [number for number, works in enumerate(working) if works]
    return any(number != asking for number in at_work) if asking >= 0 else len(at_work) > 1


def _raise_first(errors: list[BaseException | None]) -> None:
    """Raise the first exception, with the others as notes. It carries the name of its worker, for its story.

    Time-outs come last, as they may be the search's own doing.
    """
    found = [(number, error) for number, error in enumerate(errors) if error is not None]
    found.sort(key=lambda one: is_time_out(one[1]))
    if found:
        first = found[0][1]
        first.__dict__["claude_tokens_worker"] = f"w{found[0][0]}"
        if len(found) > 1:
            others = [f"w{number} raised {type(error).__name__}: {_words(error)}" for number, error in found[1:]]
            set_notes(first, [*notes_of(first), *others])
        raise first


def _words(error: BaseException) -> str:
    """The message of an exception, which may be of a class of the user's that can't tell one."""
    try:
        return str(error)
    except Exception as failed:
        return f"<its message can't be told: {type(failed).__name__}>"
