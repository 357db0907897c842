"""An asyncio event loop in simulated time, whose every choice is the schedule's.

It has no selector: nothing outside the process can wake it. Tasks and futures are numbered in the order of their
creation, and that number is their hash, so that sets of them (``asyncio.wait``, cancellation) have the same order in
every run. Executor jobs are threads under the same baton as everything else.
"""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import itertools
import os
import socket
import sys
from asyncio import base_events, events
from contextlib import suppress
from threading import Thread, get_ident
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from fake_server.protocol.actors import WORKER
from pytest_claude_tokens.simulation.thread_record import Stopped, Stuck, target
from pytest_claude_tokens.simulation.threads import bind_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from types import FrameType

    from pytest_claude_tokens.simulation.network import Network
    from pytest_claude_tokens.simulation.world import World

__all__ = ["NumberedLoop", "SimulatedLoop", "SimulatedTask", "close_quietly"]

_TRIES = 100
_HIDDEN = tuple(os.path.dirname(path) + os.sep for path in (__file__, asyncio.__file__))
_ACQUIRE = asyncio.Lock.acquire.__code__
_EAGER = getattr(asyncio, "eager_task_factory", None)  # new in Python 3.12


class SimulatedTask(asyncio.Task[Any]):
    """A task whose hash is its number."""

    def __init__(self, coro: Coroutine[Any, Any, Any], *, number: int, **options: Any) -> None:
        self.number = number
        context = options.get("context")
        self.worker = target(WORKER.get() if context is None else context.get(WORKER))
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self.number


class SimulatedFuture(asyncio.Future[Any]):
    """A future whose hash is its number."""

    number = 0

    def __hash__(self) -> int:
        return self.number


class _Ordered(WeakKeyDictionary[Any, None]):
    """A weak set that keeps the order: generators are closed in the order in which they were begun."""

    def add(self, item: Any) -> None:
        self[item] = None

    def discard(self, item: Any) -> None:
        self.pop(item, None)


class NumberedLoop(base_events.BaseEventLoop):
    """What all loops of a world have in common: its clock, its threads, its network, and numbers for names."""

    def __init__(self, world: World, network: Network | None = None) -> None:
        super().__init__()
        self.world = world
        world.loops.append(self)
        self._network = network
        if network is not None:
            network.loop = self
        self._asyncgens = _Ordered()
        self._numbers = itertools.count(2)  # -1 is no hash
        self._made: list[asyncio.Task[Any]] = []
        self._kept: list[asyncio.Task[Any]] = []
        """Those of somebody's own factory: when the collector finds one, must not be a matter of chance."""
        self._factory: Any = None

    def time(self) -> float:
        """Simulated seconds."""
        return self.world.now

    def left(self) -> list[asyncio.Task[Any]]:
        """The tasks that have not ended, in the order of their creation."""
        others = asyncio.all_tasks(self).difference(self._made)  # somebody's own task factory made them
        return [task for task in self._made if not task.done()] + sorted(others, key=lambda task: task.get_name())

    def drop(self, worker: int) -> None:
        """The tasks of ``worker`` have died. One that queues for a lock must not be handed it."""
        for task in self._made:
            if not task.done() and getattr(task, "worker", -1) == worker:
                _leave_lock(task.get_coro())

    @property
    def unfinished(self) -> bool:
        """Whether there are tasks that have not ended, or that the end of the world has ended."""
        return not all(map(_has_ended, self._made))

    def bury(self) -> None:
        """The world has ended: close the coroutines of tasks that have not; the collector would, some time."""
        base: Any = self
        if base._thread_id is not None:  # its thread has been given up, and is still in it
            return
        self.set_exception_handler(lambda loop, context: None)
        # To those that are closed here the loop is as ever: one that did not wait any more might spin for ever.
        before, closed = events._get_running_loop(), base._closed
        base._closed = False
        events._set_running_loop(self)
        try:
            for task in self._made:
                if not task.done():
                    close_quietly(task)
                else:
                    task._log_traceback = False
        finally:
            events._set_running_loop(before)
            base._closed = closed
        self._kept.clear()
        self._made.clear()  # what they hold dies here, where nobody is told of it
        if self._network is not None:
            self._network.close()

    def disconnect(self) -> None:
        """No connection is made any more: the network, which knows its loop, is let go."""
        self._network = None

    def close(self) -> None:
        """As usual; and what has ended is forgotten, by ``asyncio`` and here.

        Until it is collected it would stay in weak sets of all tasks, here and there: under the same few hashes in
        each run, so that they become slower with each of them.
        """
        super().close()
        for task in self._made:
            asyncio._unregister_task(task)  # documented, for those who extend asyncio
        self._made = [task for task in self._made if not _has_ended(task)]
        self._kept.clear()

    def _check_thread(self) -> None:
        """In debug mode any thread may call: under the baton only one runs."""

    # Tasks and futures.

    def set_task_factory(self, factory: Any) -> None:
        """As usual; with none, or the eager one of ``asyncio``, tasks still have numbers."""
        super().set_task_factory(factory)
        self._factory = factory

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        """As usual."""
        self._check_closed()  # type: ignore[attr-defined]
        if self._factory is None:
            return self._make_task(coro, **options)
        if self._factory is _EAGER:
            return self._make_task(coro, **{"eager_start": True, **options})
        task = super().create_task(coro, **options)
        self._kept.append(task)
        return task

    def create_future(self) -> asyncio.Future[Any]:
        """A future with a number."""
        future = SimulatedFuture(loop=self)
        future.number = -next(self._numbers)
        return future

    def _make_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        number = len(self._made) + 1
        if options.get("name") is None:
            options["name"] = f"task-{number}"
        task = SimulatedTask.__new__(SimulatedTask)
        self._made.append(task)  # before its first step, which is taken at once if it is an eager one
        task.__init__(coro, loop=self, number=number, **options)  # type: ignore[misc]
        return task

    # Threads.

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """A job in the given pool of threads, else in a thread of its own: it yields at its requests and locks."""
        self._check_closed()  # type: ignore[attr-defined]
        executor = executor or self._default_executor  # type: ignore[attr-defined]
        future = self.create_future()
        context = contextvars.copy_context()

        def settle(value: Any, error: BaseException | None) -> None:
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
            try:
                value = func(*args)
            except Stopped:
                raise
            except BaseException as raised:
                error = raised
            if not self.is_closed():
                self.call_soon_threadsafe(settle, value, error, context=context)

        if executor is None or type(executor).__module__ == "concurrent.futures.process":
            bind_thread(self.world, Thread(target=job, daemon=True), f"executor-{len(self.world.all)}", WORKER.get())
        else:
            queued = executor.submit(job)
            future.add_done_callback(lambda ended: queued.cancel() if ended.cancelled() else None)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Nothing to do: threads that are left end with the world."""

    # The network.

    async def getaddrinfo(self, host: Any, port: Any, **hints: Any) -> list[Any]:
        """The served hosts only."""
        address = self._net().look_up(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, int(port or 0)))]

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Connect in memory: the socket itself stays where it is."""
        self._net().bind(sock, address)

    async def create_connection(  # type: ignore[override]
        self, protocol_factory: Any, host: Any = None, port: Any = None, *, ssl: Any = None, **options: Any
    ) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
        """A connection with the fake, by name or over a socket that was connected with :meth:`sock_connect`."""
        network = self._net()
        sock = options.get("sock")
        if sock is None:
            network.look_up(host)
        return network.connect(protocol_factory, sock=sock, secure=ssl or None)

    def _net(self) -> Network:
        if self._network is None:
            raise OSError("this loop has no network")
        return self._network

    async def _make_subprocess_transport(self, *args: Any, **options: Any) -> Any:
        raise NotImplementedError("a simulated loop starts no processes: explore(processes=True) is for those")

    # What BaseEventLoop leaves to its subclasses.

    def _process_events(self, event_list: Any) -> None:
        """There are no events."""

    def _write_to_self(self) -> None:
        """There is no selector to wake."""


class SimulatedLoop(NumberedLoop):
    """The loop of one run, whose handles queue up in one line with the threads. :meth:`run`, then :meth:`shut`."""

    def __init__(self, world: World, network: Network | None = None) -> None:
        super().__init__(world, network)
        self._ready = world.ready
        self._scheduled = world.loop_timers

    def run(self, main: Coroutine[Any, Any, Any]) -> Any:
        """Run ``main`` to its end and return its result. Raises :class:`Stuck` where nothing can ever run again."""
        self.world.loop_record = self.world.root
        task = self.create_task(main)
        self._turn(task.done)
        return task.result()

    def pending(self) -> list[str]:
        """Which tasks have not ended, and where each of them waits."""
        waits = []
        for task in self.left():
            place = _place(task.get_coro())
            if place:
                waits.append(f"{task.get_name()} waits at {place}")
        return waits

    def shut(self) -> None:
        """Cancel what is left, let it end in default order, and close. Whatever does not end is dropped."""
        world = self.world
        world.settle()
        left = [task for task in self.left() if getattr(task, "worker", -1) not in world.dead]
        for task in left:
            task.cancel()
        steps = iter(range(10_000))
        try:
            self._turn(lambda: all(task.done() for task in left) or next(steps, None) is None)
            if self._asyncgens:
                closing = self.create_task(self.shutdown_asyncgens())
                self._turn(lambda: closing.done() or next(steps, None) is None)
        except Stuck:
            pass
        finally:
            self._tell_of_failures()
            world.ready.clear()
            world.loop_timers.clear()
            self._ready, self._scheduled = type(world.ready)(), []
            self.close()

    def _turn(self, done: Callable[[], bool]) -> None:
        """Run until ``done``."""
        world = self.world
        dead = world.dead
        before = sys.get_asyncgen_hooks()
        base: Any = self
        sys.set_asyncgen_hooks(firstiter=base._asyncgen_firstiter_hook, finalizer=base._asyncgen_finalizer_hook)
        events._set_running_loop(self)
        base._thread_id = get_ident()
        try:
            while not done():
                handle = world.loop_next()
                if handle is None:
                    raise Stuck
                if not handle._cancelled and not (dead and world.target_of(handle) in dead):
                    handle._run()
        finally:
            base._thread_id = None
            events._set_running_loop(None)
            sys.set_asyncgen_hooks(*before)

    def _tell_of_failures(self) -> None:
        """Exceptions that nobody has asked for are logged now, in order, and not when the collector comes."""
        for task in self._made:
            if task.done() and task._log_traceback:
                task._log_traceback = False
                message = "Task exception was never retrieved"
                self.call_exception_handler({"message": message, "exception": task._exception, "task": task})

    def call_soon(self, callback: Any, *args: Any, context: contextvars.Context | None = None) -> Any:  # type: ignore[override]
        """As usual, in one step: this is done for each step of each task of each run."""
        if self._debug:  # type: ignore[attr-defined]
            return super().call_soon(callback, *args, context=context)
        self._check_closed()  # type: ignore[attr-defined]
        handle = events.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: contextvars.Context | None = None) -> Any:  # type: ignore[override]
        """As :meth:`call_soon`: under the baton only one thread runs."""
        self._check_closed()  # type: ignore[attr-defined]
        return self._call_soon(callback, args, context)  # type: ignore[attr-defined]


def _has_ended(task: Any) -> bool:
    """Whether a task is over, and not just because its world is."""
    return task.done() and (task.cancelled() or not isinstance(task._exception, Stopped))


def close_quietly(task: Any) -> None:
    """End a task that has been given up: its death is our doing, and what its ``finally`` blocks say to it nobody's."""
    task._log_destroy_pending = False
    coroutine = task.get_coro()
    for _ in range(_TRIES):
        with suppress(BaseException):  # one that awaits in a ``finally`` block refuses
            coroutine.close()
            return
    # Python would close it once more when it is deleted, at exit at the latest, where it might spin for ever.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(coroutine))


def _leave_lock(coro: Any) -> None:
    """Take a suspended coroutine out of the queue of an ``asyncio.Lock``. Had its turn come, it is the next one's."""
    for frame in _frames(coro):
        if frame.f_code is _ACQUIRE:
            lock, future = frame.f_locals["self"], frame.f_locals["fut"]
            lock._waiters.remove(future)
            if not lock._locked:
                lock._wake_up_first()


def _frames(coro: Any) -> Iterator[FrameType]:
    """Where a suspended coroutine is, from the outside in."""
    while coro is not None:
        frame = getattr(coro, "cr_frame", None) or getattr(coro, "gi_frame", None) or getattr(coro, "ag_frame", None)
        if frame is not None:
            yield frame
        coro = getattr(coro, "cr_await", None) or getattr(coro, "gi_yieldfrom", None) or getattr(coro, "ag_await", None)


def _place(coro: Any) -> str:
    """The innermost line of the test's own code at which a suspended coroutine waits; empty where there is none."""
    place = ""
    for frame in _frames(coro):
        code = frame.f_code
        if not code.co_filename.startswith(_HIDDEN):
            place = f"{code.co_filename.rpartition('/')[2]}:{frame.f_lineno} in {code.co_name}"
    return place
