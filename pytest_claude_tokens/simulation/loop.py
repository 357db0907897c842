"""An asyncio event loop in simulated time: the schedule makes its every choice.

It has no selector: nothing outside the process can wake it. Tasks and futures are numbered in the order of their
creation, and that number is their hash, so that sets of them (``asyncio.wait``, cancellation) have the same order in
every run. Executor jobs are threads under the same baton as everything else.
"""

from __future__ import annotations

import contextvars
import itertools
from math import isnan
from typing import TYPE_CHECKING, Any

from fake_server.genuine import asyncio, socket
from fake_server.protocol.actors import WORKER
from pytest_claude_tokens.simulation.frames import coroutine_frames, innermost_place
from pytest_claude_tokens.simulation.internals import (
    BareLoop,
    exception_of,
    ignore_exception,
    is_cancelled,
    leave_lock,
    run_handle,
    unreported,
)
from pytest_claude_tokens.simulation.interrupts import INTERRUPT, calls_foreign_code
from pytest_claude_tokens.simulation.tasks import SimulatedFuture, SimulatedTask, close_task, has_ended, worker_of
from pytest_claude_tokens.simulation.thread_record import Stopped, Stuck
from pytest_claude_tokens.simulation.threads import bind_thread, new_thread
from pytest_claude_tokens.simulation.timeouts import LONGEST_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from pytest_claude_tokens.simulation.network import Network
    from pytest_claude_tokens.simulation.world import World

__all__ = ["NumberedLoop", "SimulatedLoop"]

_MAX_LAST_STEPS = 10_000
"""Decisions within which the remaining tasks must end once they have been cancelled."""
_EAGER = getattr(asyncio, "eager_task_factory", None)  # new in Python 3.12


class NumberedLoop(BareLoop):
    """The base of all loops of a world: its clock, threads and network; tasks and futures are numbered."""

    def __init__(self, world: World, network: Network | None = None) -> None:
        super().__init__()
        self.world = world
        world.loops.append(self)
        self._network = network
        if network is not None:
            network.loop = self
        self._numbers = itertools.count(2)  # -1 is not a valid hash
        self._made: list[asyncio.Task[Any]] = []
        self._kept: list[asyncio.Task[Any]] = []
        """Keeps tasks made by a user's own factory alive, so that the garbage collector does not finalize them at an
        arbitrary moment, which would make two runs differ.
        """
        self._factory: Any = None

    def time(self) -> float:
        """Simulated seconds."""
        return self.world.now

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """As usual; where nothing has happened for long, a delay lasts as long as a look at least."""
        if self.world.is_idle:
            delay = max(delay, self.world.patience.capped(self.world.now, self.world.look_seconds))
        return super().call_later(delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: contextvars.Context | None = None) -> Any:  # type: ignore[override]
        """As usual; the world takes note of the seconds, and of time-outs."""
        world = self.world
        if isnan(when):  # as Python says from 3.13 on: no clock ever comes to it
            raise ValueError("Invalid delay: NaN (not a number)")
        when = min(when, world.now + LONGEST_SECONDS)
        world.slept.add(when - world.now)
        handle = super().call_at(when, callback, *args, context=context)
        world.patience.note_timer(handle, callback, asyncio.current_task(self))
        return handle

    def left(self) -> list[asyncio.Task[Any]]:
        """The tasks that have not ended, in creation order."""
        others = asyncio.all_tasks(self).difference(self._made)  # a user's own task factory made them
        return [task for task in self._made if not task.done()] + sorted(others, key=lambda task: task.get_name())

    def drop(self, worker: int) -> None:
        """Take the tasks of ``worker``, which was killed, out of lock queues: a dead task must not be handed a lock."""
        for task in self._made:
            if not task.done() and worker_of(task) == worker:
                leave_lock(coroutine_frames(task.get_coro()))

    @property
    def unfinished(self) -> bool:
        """Whether there are tasks that have not ended, or that ended only because the world did."""
        return not all(map(has_ended, self._made))

    def close_pending_tasks(self) -> None:
        """Close the coroutines of tasks that have not ended. Otherwise the collector would, at an arbitrary moment."""
        if self.is_in_thread:  # a thread that was given up is still running the loop
            return
        self.set_exception_handler(lambda loop, context: None)
        # The loop must seem open to the coroutines closed here: if their waits failed at once, one might spin for ever.
        with self.as_open():
            for task in self._made:
                if not task.done():
                    close_task(task)
                else:
                    ignore_exception(task)
        self._kept.clear()
        self._made.clear()  # frees what they hold now, while the exception handler is silent
        if self._network is not None:
            self._network.close()

    def disconnect(self) -> None:
        """Let go of the network. It refers back to its loop: without this only the collector would free the two."""
        self._network = None

    def close(self) -> None:
        """As usual; also drops tasks that have ended from ``asyncio``'s set of all tasks and from the list here.

        Otherwise they would stay until they are collected. Each run's tasks have the same few hashes, so the set would
        become slower with every run.
        """
        super().close()
        for task in self._made:
            asyncio._unregister_task(task)  # documented, for extending asyncio
        self._made = [task for task in self._made if not has_ended(task)]
        self._kept.clear()

    # Tasks and futures.

    def set_task_factory(self, factory: Any) -> None:
        """As usual; with no factory, or the eager one of ``asyncio``, tasks are still numbered."""
        super().set_task_factory(factory)
        self._factory = factory

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        """As usual."""
        self.check_open()
        if self._factory is None:
            return self._make_task(coro, **options)
        if self._factory is _EAGER:
            return self._make_task(coro, **{"eager_start": True, **options})
        task = super().create_task(coro, **options)
        self._kept.append(task)
        return task

    def create_future(self) -> asyncio.Future[Any]:
        """A numbered future."""
        future = SimulatedFuture(loop=self)
        future.number = -next(self._numbers)
        return future

    def _make_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        self.world.progress()
        number = len(self._made) + 1
        if options.get("name") is None:
            options["name"] = f"task-{number}"
        task = SimulatedTask.__new__(SimulatedTask)
        task.number = number
        self._made.append(task)  # before its first step: an eager task takes it at once
        self.world.patience.note_task(task, asyncio.current_task(self) or self._asking())
        task.__init__(coro, loop=self, number=number, **options)  # type: ignore[misc]
        return task

    def _asking(self) -> Any:
        """The task of another loop for which this thread does a job: ``asyncio.to_thread(asyncio.run, …)``."""
        record = self.world.me()
        return None if record is None else record.asking

    # Threads.

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """A job in the given thread pool, else in a thread of its own; its requests and locks are switch points."""
        self.check_open()
        executor = executor or self.default_executor
        future = self.create_future()
        context = contextvars.copy_context()
        asking = asyncio.current_task(self)

        def resolve(value: Any, error: BaseException | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(value)
            elif isinstance(error, asyncio.CancelledError):
                future.cancel()
            else:
                future.set_exception(error)

        def job() -> None:
            value, error = None, None
            if (record := self.world.me()) is not None:
                record.asking = asking
            try:
                value = func(*args)
            except Stopped:
                raise
            except BaseException as raised:
                error = raised
            if not self.is_closed():
                self.call_soon_threadsafe(resolve, value, error, context=context)

        if executor is None or type(executor).__module__ == "concurrent.futures.process":
            name = f"executor-{len(self.world.all)}"
            bind_thread(self.world, new_thread(job, name), name, WORKER.get()).asking = asking
        else:
            queued = executor.submit(job)
            future.add_done_callback(lambda ended: queued.cancel() if ended.cancelled() else None)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Do nothing: remaining threads end with the world."""

    # The network.

    async def getaddrinfo(self, host: Any, port: Any, **hints: Any) -> list[Any]:
        """Look a name up in the simulated network, which knows the served hosts only."""
        address = self._net().look_up(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, int(port or 0)))]

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Connect in memory; the socket itself stays unconnected."""
        self._net().bind(sock, address)

    async def create_connection(  # type: ignore[override]
        self, protocol_factory: Any, host: Any = None, port: Any = None, *, ssl: Any = None, **options: Any
    ) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
        """A connection to the fake, by name or over a socket that was connected with :meth:`sock_connect`."""
        network = self._net()
        sock = options.get("sock")
        if sock is None:
            network.look_up(host, port)
        return network.connect(protocol_factory, sock=sock, secure=ssl or None)

    def _net(self) -> Network:
        if self._network is None:
            raise OSError("this loop has no network")
        return self._network


_REMEDY = (
    "explore such a client in threads (a def), in processes (processes=True), or let it reach tokens.url outside of a "
    "search"
)
_REMEDY_OF_SERVERS = (
    "call what the server calls without a socket (an ASGI application by httpx.ASGITransport), or explore it in "
    "processes (processes=True)"
)


def _lacking(name: str) -> Callable[..., Any]:
    """The method of that name, which a simulated loop has not, as it watches nothing outside of the process."""
    remedy = _REMEDY_OF_SERVERS if "server" in name else _REMEDY

    def lacking(self: NumberedLoop, *args: Any, **options: Any) -> Any:
        who = getattr(asyncio.current_task(self), "get_name", lambda: "somebody")()
        raise NotImplementedError(f"{who} calls {name}() of its event loop, which is not simulated: {remedy}")

    lacking.__name__ = name
    return lacking


for _name in (
    "add_reader",
    "add_writer",
    "start_tls",
    "sock_recv",
    "sock_recv_into",
    "sock_recvfrom",
    "sock_recvfrom_into",
    "sock_sendall",
    "sock_sendto",
    "sock_accept",
    "create_server",
    "create_datagram_endpoint",
    "connect_accepted_socket",
    "connect_read_pipe",
    "connect_write_pipe",
    "create_unix_connection",
    "create_unix_server",
):
    setattr(NumberedLoop, _name, _lacking(_name))


class SimulatedLoop(NumberedLoop):
    """The loop of one run; its handles share one ready queue with the threads. Call :meth:`run`, then :meth:`shut`."""

    def __init__(self, world: World, network: Network | None = None) -> None:
        super().__init__(world, network)
        self.use_queues(world.ready, world.loop_timers)

    def run(self, main: Coroutine[Any, Any, Any]) -> Any:
        """Run ``main`` to its end and return its result. Raises :class:`Stuck` where nothing can ever run again."""
        self.world.loop_record = self.world.root
        task = self.create_task(main)
        self._turn(task.done)
        return task.result()

    def pending(self) -> list[str]:
        """The tasks that have not ended, with the place where each waits."""
        waits = []
        for task in self.left():
            place = innermost_place(task.get_coro())
            if place:
                waits.append(f"{task.get_name()} waits at {place}")
        return waits

    def shut(self) -> None:
        """Cancel the remaining tasks, let them end in default order, and close. Tasks that do not end are dropped."""
        world = self.world
        world.drain()
        left = [task for task in self.left() if worker_of(task) not in world.dead]
        for task in left:
            task.cancel()
        steps = iter(range(_MAX_LAST_STEPS))

        def is_over() -> bool:
            return next(steps, None) is None or INTERRUPT.is_due

        try:
            self._turn(lambda: all(task.done() for task in left) or is_over())
            if self.has_generators:
                closing = self.create_task(self.shutdown_asyncgens())
                self._turn(lambda: closing.done() or is_over())
        except Stuck:
            pass
        finally:
            self._log_unretrieved()
            world.ready.clear()
            world.loop_timers.clear()
            self.use_queues(type(world.ready)(), [])
            self.close()

    @calls_foreign_code
    def _turn(self, done: Callable[[], bool]) -> None:
        """Run until ``done``."""
        if done():
            return
        world = self.world
        dead = world.dead
        with self.as_running():
            while not done():
                handle = world.loop_next()
                if handle is None:
                    raise Stuck
                if not is_cancelled(handle) and not (dead and world.worker_of(handle) in dead):
                    run_handle(handle)

    def _log_unretrieved(self) -> None:
        """Log exceptions that were never retrieved, in order; the collector would do so at arbitrary moments."""
        for task in self._made:
            if task.done() and unreported(task):
                ignore_exception(task)
                message = "Task exception was never retrieved"
                self.call_exception_handler({"message": message, "exception": exception_of(task), "task": task})

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: contextvars.Context | None = None) -> Any:  # type: ignore[override]
        """As :meth:`call_soon`, which is safe here: under the baton only one thread runs."""
        return self.call_soon(callback, *args, context=context)
