"""Random programs of tasks, and what they do, for comparing one event loop with another."""

from __future__ import annotations

import asyncio
import contextvars
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

DELAYS = (0.0, 0.25, 0.5, 1.0, 2.0)  # sums of these are exact

Step = tuple[Any, ...]
Program = list[list[Step]]


def programs(tasks: int = 4) -> st.SearchStrategy[Program]:
    """Some tasks, each a list of steps; a step may hold steps of its own."""
    small = st.integers(0, 1)
    delay = st.sampled_from(DELAYS)
    leaf = st.one_of(
        st.tuples(st.just("sleep"), delay),
        st.tuples(st.just("sleep"), st.just(0)),
        st.tuples(st.sampled_from(["set", "clear"]), small),
        st.tuples(st.just("wait"), small, delay),
        st.tuples(st.just("put"), small),
        st.tuples(st.just("get"), small, delay),
        st.tuples(st.just("notify"), small),
        st.tuples(st.just("resolve"), small),
        st.tuples(st.just("await"), small, delay),
        st.tuples(st.just("soon"), small),
        st.tuples(st.just("later"), delay),
        st.tuples(st.just("cancel"), st.integers(0, tasks - 1)),
        st.tuples(st.just("fail")),
        st.tuples(st.just("context")),
    )

    def nest(steps: st.SearchStrategy[Step]) -> st.SearchStrategy[Step]:
        some = st.lists(steps, min_size=1, max_size=3)
        return st.one_of(
            st.tuples(st.just("lock"), small, some),
            st.tuples(st.just("condition"), small, delay),
            st.tuples(st.just("semaphore"), some),
            st.tuples(st.just("timeout"), delay, some),
            st.tuples(st.just("shield"), some),
            st.tuples(st.sampled_from(["gather", "group", "first", "completed"]), some, some),
            st.tuples(st.just("spawn"), some),
            st.tuples(st.just("generator"), some),
        )

    step = st.recursive(leaf, nest, max_leaves=6)
    return st.lists(st.lists(step, min_size=1, max_size=5), min_size=1, max_size=tasks)


VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@dataclass
class Machine:
    """Runs a program in whichever loop is running; ``trace``: what was done, when and by whom."""

    program: Program
    trace: list[tuple[Any, ...]] = field(default_factory=list)

    async def run(self) -> list[tuple[Any, ...]]:
        self.locks = [asyncio.Lock(), asyncio.Lock()]
        self.events = [asyncio.Event(), asyncio.Event()]
        self.queues: list[asyncio.Queue[str]] = [asyncio.Queue(1), asyncio.Queue()]
        self.conditions = [asyncio.Condition(), asyncio.Condition()]
        self.semaphore = asyncio.Semaphore(2)
        loop = asyncio.get_running_loop()
        self.futures = [loop.create_future(), loop.create_future()]
        self.tasks: list[asyncio.Task[Any]] = []
        self.spawned: list[asyncio.Task[Any]] = []
        for number, steps in enumerate(self.program):
            self.tasks.append(asyncio.create_task(self.steps(f"t{number}", steps)))
        for task in self.tasks:
            try:
                await task
            except (ValueError, asyncio.CancelledError, TimeoutError, BaseExceptionGroup) as error:
                self.say("main", type(error).__name__)
        await asyncio.gather(*self.spawned, return_exceptions=True)
        await asyncio.sleep(8)
        return self.trace

    def say(self, who: str, what: Any) -> None:
        self.trace.append((asyncio.get_running_loop().time(), who, what))

    async def steps(self, who: str, steps: list[Step]) -> str:
        for number, step in enumerate(steps):
            self.say(who, step[0])
            try:
                done = await getattr(self, f"do_{step[0]}")(f"{who}.{number}", *step[1:])
            except (TimeoutError, asyncio.CancelledError) as error:
                self.say(who, type(error).__name__)
                raise
            self.say(who, done)
        return who

    async def limited(self, what: Any, delay: float) -> Any:
        """Wait, with a limit, so that every program comes to an end."""
        try:
            return await asyncio.wait_for(what, delay + 0.5)
        except TimeoutError:
            return "too long"

    async def do_sleep(self, who: str, delay: float) -> None:
        await asyncio.sleep(delay)

    async def do_set(self, who: str, number: int) -> None:
        self.events[number].set()

    async def do_clear(self, who: str, number: int) -> None:
        self.events[number].clear()

    async def do_wait(self, who: str, number: int, delay: float) -> Any:
        return await self.limited(self.events[number].wait(), delay)

    async def do_put(self, who: str, number: int) -> Any:
        return await self.limited(self.queues[number].put(who), 0)

    async def do_get(self, who: str, number: int, delay: float) -> Any:
        return await self.limited(self.queues[number].get(), delay)

    async def do_notify(self, who: str, number: int) -> None:
        async with self.conditions[number] as _:
            self.conditions[number].notify()

    async def do_condition(self, who: str, number: int, delay: float) -> Any:
        async with self.conditions[number]:
            try:  # in this very task: one that is cancelled twice in `wait_for` leaves the lock to nobody
                async with asyncio.timeout(delay + 0.5):
                    return await self.conditions[number].wait()
            except TimeoutError:
                return "too long"

    async def do_resolve(self, who: str, number: int) -> None:
        if not self.futures[number].done():
            self.futures[number].set_result(who)

    async def do_await(self, who: str, number: int, delay: float) -> Any:
        return await self.limited(asyncio.shield(self.futures[number]), delay)

    async def do_soon(self, who: str, cancel: int) -> None:
        handle = asyncio.get_running_loop().call_soon(self.say, who, "soon")
        if cancel:
            handle.cancel()

    async def do_later(self, who: str, delay: float) -> None:
        asyncio.get_running_loop().call_later(delay, self.say, who, "later")

    async def do_cancel(self, who: str, number: int) -> None:
        if number < len(self.tasks):
            self.tasks[number].cancel()

    async def do_fail(self, who: str) -> None:
        raise ValueError(who)

    async def do_context(self, who: str) -> str:
        before = VARIABLE.get()
        VARIABLE.set(who)
        return before

    async def do_lock(self, who: str, number: int, steps: list[Step]) -> str:
        async with self.locks[number]:
            return await self.within(who, steps)

    async def do_semaphore(self, who: str, steps: list[Step]) -> str:
        async with self.semaphore:
            return await self.within(who, steps)

    async def within(self, who: str, steps: list[Step]) -> str:
        """No lock is held for ever: what it protects has a limit."""
        async with asyncio.timeout(4):
            return await self.steps(who, steps)

    async def do_timeout(self, who: str, delay: float, steps: list[Step]) -> Any:
        try:
            async with asyncio.timeout(delay):
                return await self.steps(who, steps)
        except TimeoutError:
            return "too long"

    async def do_shield(self, who: str, steps: list[Step]) -> Any:
        task = asyncio.create_task(self.steps(who, steps))
        self.spawned.append(task)
        return await asyncio.shield(task)

    async def do_gather(self, who: str, one: list[Step], two: list[Step]) -> Any:
        both = await asyncio.gather(self.steps(f"{who}a", one), self.steps(f"{who}b", two), return_exceptions=True)
        return [str(each) for each in both]

    async def do_group(self, who: str, one: list[Step], two: list[Step]) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.steps(f"{who}a", one))
            group.create_task(self.steps(f"{who}b", two))

    async def do_first(self, who: str, one: list[Step], two: list[Step]) -> Any:
        tasks = [
            asyncio.create_task(self.steps(f"{who}{n}", each), name=f"{who}{n}")
            for n, each in zip("ab", (one, two), strict=True)
        ]
        self.spawned += tasks
        done, pending = await asyncio.wait(tasks, timeout=1, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        return [task.get_name() for task in done], [task.get_name() for task in pending]

    async def do_completed(self, who: str, one: list[Step], two: list[Step]) -> Any:
        tasks = [asyncio.create_task(self.steps(f"{who}{n}", each)) for n, each in zip("ab", (one, two), strict=True)]
        self.spawned += tasks
        results = []
        for each in asyncio.as_completed(tasks, timeout=8):
            try:
                results.append(await each)
            except Exception as error:
                results.append(type(error).__name__)
        return results

    async def do_spawn(self, who: str, steps: list[Step]) -> None:
        self.spawned.append(asyncio.create_task(self.steps(f"{who}!", steps)))

    async def do_generator(self, who: str, steps: list[Step]) -> str:
        async def generate() -> Any:
            try:
                for step in steps:
                    await self.steps(who, [step])
                    yield step[0]
            finally:
                self.say(who, "closed")

        async for what in generate():
            return str(what)
        return "nothing"
