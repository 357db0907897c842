"""An asyncio event loop in simulated time, whose every choice is the schedule's.

It has no selector: nothing outside the process can wake it. Tasks are numbered in the order of their creation, and
that number is their hash, so that sets of tasks (``asyncio.wait``, cancellation) have the same order in every run.
Executor jobs are threads under the same baton as everything else.
"""

from __future__ import annotations

import asyncio
import contextvars
import socket
import sys
from asyncio import base_events, events
from threading import Thread
from typing import TYPE_CHECKING, Any

from fake_server.actors import WORKER
from pytest_claude_tokens.simulation.carrier import Stuck
from pytest_claude_tokens.simulation.threads import adopt_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from pytest_claude_tokens.simulation.network import Network
    from pytest_claude_tokens.simulation.world import World

__all__ = ["SimulatedLoop", "SimulatedTask"]


class SimulatedTask(asyncio.Task[Any]):
    """A task whose hash is its number."""

    def __init__(self, coro: Coroutine[Any, Any, Any], *, number: int, **options: Any) -> None:
        self.number = number
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self.number


class SimulatedLoop(base_events.BaseEventLoop):
    """A loop for one run. Use :meth:`run`, then :meth:`shut`."""

    def __init__(self, world: World, network: Network | None = None) -> None:
        super().__init__()
        self._network = network
        if network is not None:
            network.loop = self
        self.world = world
        self._ready = world.ready  # handles and threads queue up in one line
        self._scheduled = world.loop_timers
        self._made: list[SimulatedTask] = []
        self.failures: list[dict[str, Any]] = []
        self.set_task_factory(self._make_task)
        self.set_exception_handler(lambda _, context: self.failures.append(context))

    def time(self) -> float:
        """Simulated seconds."""
        return self.world.now

    def run(self, main: Coroutine[Any, Any, Any]) -> Any:
        """Run ``main`` to its end and return its result. Raises :class:`Stuck` where nothing can ever run again."""
        world = self.world
        world.loop_carrier = world.root
        before = sys.get_asyncgen_hooks()
        base: Any = self
        sys.set_asyncgen_hooks(firstiter=base._asyncgen_firstiter_hook, finalizer=base._asyncgen_finalizer_hook)
        events._set_running_loop(self)
        try:
            task = self.create_task(main)
            self._turn(task.done)
            return task.result()
        finally:
            events._set_running_loop(None)
            sys.set_asyncgen_hooks(*before)

    def pending(self) -> list[str]:
        """Which tasks have not ended, and where each of them waits."""
        waits = []
        for task in self._made:
            place = "" if task.done() else _place(task.get_coro())
            if place:
                waits.append(f"{task.get_name()} waits at {place}")
        return waits

    def shut(self) -> None:
        """Cancel what is left, let it end in stock order, and close. Whatever does not end is dropped."""
        world = self.world
        left = [task for task in self._made if not task.done()]
        events._set_running_loop(self)
        try:
            for task in left:
                task.cancel()
            steps = iter(range(10_000))
            try:
                self._turn(lambda: all(task.done() for task in left) or next(steps, None) is None)
                generators: Any = self
                if generators._asyncgens:
                    closing = self.create_task(self.shutdown_asyncgens())
                    self._turn(lambda: closing.done() or next(steps, None) is None)
            except Stuck:
                pass
            for task in self._made:
                task._log_destroy_pending = False  # type: ignore[attr-defined]  # its death is our doing
        finally:
            events._set_running_loop(None)
            world.ready.clear()
            world.loop_timers.clear()
            self._scheduled = []
            self.close()

    def _turn(self, done: Callable[[], bool]) -> None:
        world = self.world
        dead = world.dead
        while not done():
            handle = world.loop_next()
            if handle is None:
                raise Stuck
            if not handle._cancelled and not (dead and world.target_of(handle) in dead):
                handle._run()

    def _make_task(self, loop: Any, coro: Any, **options: Any) -> asyncio.Task[Any]:
        number = len(self._made) + 1
        if options.get("name") is None:
            options["name"] = f"task-{number}"
        task = SimulatedTask(coro, loop=loop, number=number, **options)
        self._made.append(task)
        return task

    # Threads.

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: contextvars.Context | None = None) -> Any:  # type: ignore[override]
        """As :meth:`call_soon`: under the baton only one thread runs."""
        return self.call_soon(callback, *args, context=context)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """A job in a thread of its own, whatever the executor: it yields at each of its requests and locks."""
        del executor
        future: asyncio.Future[Any] = self.create_future()
        context = contextvars.copy_context()

        def settle(value: Any, error: BaseException | None) -> None:
            if not future.done():
                if error is None:
                    future.set_result(value)
                else:
                    future.set_exception(error)

        def job() -> None:
            try:
                value = func(*args)
            except Exception as error:
                self.call_soon(settle, None, error, context=context)
            else:
                self.call_soon(settle, value, None, context=context)

        thread = Thread(target=job, daemon=True)
        adopt_thread(self.world, thread, f"executor-{len(self.world.all)}", WORKER.get())
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Nothing to do: there is no executor."""

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
            try:
                network.look_up(host)
            except socket.gaierror as error:
                raise OSError(str(error)) from error
        return network.connect(protocol_factory, sock=sock, secure=bool(ssl))

    def _net(self) -> Network:
        if self._network is None:
            raise OSError("this loop has no network")
        return self._network

    # What BaseEventLoop leaves to its subclasses.

    def _process_events(self, event_list: Any) -> None:
        """There are no events."""

    def _write_to_self(self) -> None:
        """There is no selector to wake."""

    def _check_closed(self) -> None:
        if self.is_closed():
            raise RuntimeError("Event loop is closed")


def _place(coro: Any) -> str:
    """The innermost line of the test's own code at which a suspended coroutine waits; empty where there is none."""
    place = ""
    while coro is not None:
        frame = getattr(coro, "cr_frame", None) or getattr(coro, "gi_frame", None) or getattr(coro, "ag_frame", None)
        if frame is not None and not any(part in frame.f_code.co_filename for part in ("/asyncio/", "/simulation/")):
            code = frame.f_code
            place = f"{code.co_filename.rpartition('/')[2]}:{frame.f_lineno} in {code.co_name}"
        coro = getattr(coro, "cr_await", None) or getattr(coro, "gi_yieldfrom", None)
    return place
