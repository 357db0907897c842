"""A canary for each private name of the standard library that the simulation rests on.

One that fails says what to do. Until that is done the simulation must not be used on that version of Python.
"""

from __future__ import annotations

import asyncio
import concurrent.futures.thread
import inspect
import logging
import re
import socket
import ssl
import threading
from asyncio import base_events, events
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

import pytest_claude_tokens
from pytest_claude_tokens.simulation import internals

SOURCE = Path(internals.__file__).read_text(encoding="utf-8")


Base: Any = base_events.BaseEventLoop


async def nothing() -> None:
    """A coroutine."""


# Each name, where it must be, and what to do when it is there no more.

ON_CLASSES: list[tuple[Any, str, str]] = [
    (events.Handle, "_run", "find how the loop of this version runs a handle, for run_handle"),
    (Base, "_check_closed", "raise in check_open where is_closed() says so"),
    (Base, "_check_thread", "find what refuses call_soon of another thread in debug mode"),
    (Base, "_process_events", "find what _run_once does with what its selector returns"),
    (Base, "_write_to_self", "find what call_soon_threadsafe wakes the loop with"),
    (Base, "_make_subprocess_transport", "find what subprocess_exec makes its transport with"),
    (Base, "_asyncgen_firstiter_hook", "find what run_forever gives to sys.set_asyncgen_hooks"),
    (Base, "_asyncgen_finalizer_hook", "find what run_forever gives to sys.set_asyncgen_hooks"),
    (events, "_get_running_loop", "find what tells the running loop without raising"),
    (events, "_set_running_loop", "find what makes get_running_loop answer in run_forever"),
    (asyncio.Lock, "_wake_up_first", "find how release() wakes the next one, for leave_lock"),
    (threading.Condition, "wait", "find what a condition waits with, for what a deadlock says"),
    (type(threading.RLock()), "_is_owned", "find what a Condition asks of an RLock"),
    (type(threading.RLock()), "_release_save", "find what a Condition asks of an RLock"),
    (type(threading.RLock()), "_acquire_restore", "find what a Condition asks of an RLock"),
    (type(threading.RLock()), "_recursion_count", "find what multiprocessing's resource tracker asks of an RLock"),
    (concurrent.futures.thread, "_threads_queues", "find which threads the interpreter joins at exit"),
    (socket.socket, "_real_close", "find what closes a socket when the last file made of it is closed, too"),
    (concurrent.futures.thread, "_global_shutdown_lock", "find what submit() locks, and have a simulated lock there"),
]


@pytest.mark.parametrize(("owner", "name", "remedy"), ON_CLASSES, ids=[name for _, name, _ in ON_CLASSES])
def test_name_of_a_class_or_module_is_there(owner: Any, name: str, remedy: str) -> None:
    """It is used by its name, in ``internals`` only."""
    assert hasattr(owner, name), f"{owner.__name__}.{name} is gone: {remedy}"


ON_LOOPS = {
    "_ready": "find where _run_once takes its handles from, for use_queues",
    "_scheduled": "find where call_at puts its timers, for use_queues",
    "_asyncgens": "find where the loop keeps its asynchronous generators: their order must not be a weak set's",
    "_thread_id": "find what run_forever notes the loop's thread with",
    "_closed": "find what is_closed() reads, for as_open and call_soon",
    "_debug": "read get_debug() in call_soon",
    "_default_executor": "find where set_default_executor puts it",
}
ON_HANDLES = {
    "_context": "ask get_context(), new in Python 3.12, for context_of",
    "_cancelled": "ask cancelled(), for is_cancelled",
    "_callback": "find what a handle calls, for callback_of",
    "_scheduled": "find what TimerHandle.cancel() tells the loop by, for pop_timer",
    "_when": "find what when() returns, for postpone",
}
ON_TASKS = {
    "_callbacks": "find whom a task calls when it is done, for done_callbacks_of",
    "_exception": "find what exception() returns, without its counting as retrieved",
    "_log_traceback": "find what keeps the destructor from logging the exception",
    "_log_destroy_pending": "find what keeps the destructor of a pending task from logging",
}
ON_THREADS = {
    "_started": "find what start() waits for: the machinery needs a real event there",
    "_daemonic": "find what daemon is read from: it can't be set once the thread runs",
}
begun: list[str] = []
ON_EXECUTORS = {
    "_shutdown": "find what submit() refuses by",
    "_max_workers": "find how many threads a pool may have, for like()",
}
ON_SSL_SOCKETS = {
    "_sslobj": "find what an SSLSocket reads from and writes to",
    "_connected": "find what an SSLSocket knows by that it is connected",
}
ON_LOCKS = {"_waiters": "find the queue of an asyncio.Lock", "_locked": "ask locked()"}


def made() -> list[tuple[Any, dict[str, str]]]:
    """One of each, and the names that it must have."""
    loop = Base()
    task = loop.create_task(nothing())
    task.cancel()
    timer = events.TimerHandle(1.0, print, (), loop)
    internals.ignore_destruction(task)
    coroutine: Any = task.get_coro()
    coroutine.close()
    loop.close()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with socket.socket() as plain:
        secure = context.wrap_socket(plain, server_hostname="localhost")
    secure.close()
    return [
        (secure, ON_SSL_SOCKETS),
        (loop, ON_LOOPS),
        (timer, ON_HANDLES),
        (task, ON_TASKS),
        (threading.Thread(), ON_THREADS),
        (ThreadPoolExecutor(1), ON_EXECUTORS),
        (asyncio.Lock(), ON_LOCKS),
    ]


def test_names_of_instances_are_there() -> None:
    """They are made in constructors, so there is no class to ask."""
    for owner, names in made():
        for name, remedy in names.items():
            assert hasattr(owner, name), f"{type(owner).__name__}.{name} is gone: {remedy}"


@pytest.mark.parametrize("arguments", [{"initializer": begun.append, "initargs": ("hello",)}, {}])
def test_a_pool_that_is_like_another_begins_its_threads_in_the_same_way(arguments: dict[str, Any]) -> None:
    """Else ``like`` must find what each thread of a pool begins with."""
    begun.clear()
    with internals.like(ThreadPoolExecutor(3, **arguments)) as pool:
        pool.submit(int).result()

    assert begun == [*arguments.get("initargs", ())]


@dataclass(frozen=True)
class Frozen:
    x: int


@dataclass(slots=True)
class Slotted:
    x: int = 0


def test_the_constructors_of_dataclasses_have_a_name_of_their_own() -> None:
    """Else find how their code differs from the author's, which ``exec`` may have made, too."""
    assert {cls.__init__.__code__.co_qualname for cls in (Frozen, Slotted)} == {internals.INIT_OF_DATACLASS}
    assert Frozen.__eq__.__code__.co_qualname != internals.INIT_OF_DATACLASS


def test_lock_of_asyncio_keeps_its_waiter_in_known_locals() -> None:
    """Else ``leave_lock`` must find the future of one that waits in another way."""
    assert {"self", "fut"} <= set(asyncio.Lock.acquire.__code__.co_varnames)


def test_loop_asks_its_selector_for_no_more_than_select() -> None:
    """Else ``ThreadLoop`` must answer that as well."""
    assert "self._selector.select(timeout)" in inspect.getsource(Base._run_once)


def test_pools_log_where_it_is_listened() -> None:
    """What a pool says of jobs that end with their world is filtered there."""
    assert isinstance(internals.FUTURES_LOGGER, logging.Logger)
    assert internals.FUTURES_LOGGER.name == "concurrent.futures"


@pytest.mark.parametrize(("cls", "name"), [(datetime, "now"), (date, "today"), (SimpleQueue, "get")])
def test_method_of_a_class_in_c_can_be_replaced_in_place(cls: Any, name: str) -> None:
    """Also for a caller that has looked it up often. Else its stand-in must be a class, with all that this brings."""

    class Sub(cls):
        """A subclass, which inherits it."""

    def look(owner: Any) -> Any:
        return getattr(owner, name)

    before = vars(cls)[name]
    for _ in range(100):
        look(cls), look(Sub)
    with internals.methods_replaced(cls, {name: staticmethod(lambda: "mine")}):
        assert [look(cls)(), look(Sub)()] == ["mine", "mine"]
    for _ in range(100):
        assert vars(cls)[name] is before
        assert look(cls) == look(cls)
    assert look(Sub).__name__ == name


PRIVATE = re.compile(r"""[.\s"'](_[a-z]\w*)\b""", re.IGNORECASE)
WATCHED = {
    *(name for _, name, _ in ON_CLASSES),
    *ON_LOOPS, *ON_HANDLES, *ON_TASKS, *ON_THREADS, *ON_EXECUTORS, *ON_SSL_SOCKETS, *ON_LOCKS,
}  # fmt: skip
OURS = {
    "_base",
    "_LOCK_ACQUIRE",
    "_Ordered",
    "_RLock",
    "_Base",
    "_held",
    "_modified",
    "_recorded",
    "_selector",
    "_thread",
}
"""What ``internals`` defines itself, a module that is imported by its name, and what ``select`` is tried for above."""


def test_every_private_name_has_its_canary() -> None:
    """None is used in ``internals`` that is not watched here, and none is watched in vain."""
    used = set(PRIVATE.findall(SOURCE)) - {"_global_shutdown_lock", "_create_worker_context"}  # tried above
    assert used - OURS == WATCHED - {"wait", "_global_shutdown_lock"}
    assert "_global_shutdown_lock" in SOURCE


@pytest.mark.parametrize("room", ["simulation", "runs"])
def test_no_other_module_uses_a_private_name_of_the_standard_library(room: str) -> None:
    """A new one goes into ``internals``, with a canary here."""
    for path in Path(pytest_claude_tokens.__file__).with_name(room).glob("*.py"):
        if path.name not in ("internals.py", "trio_runs.py"):  # trio has a module of the same name as a method here
            text = path.read_text(encoding="utf-8")
            # What a class of ours calls its own may have the same name, but not where it is one of asyncio's loops.
            used = {name for name in re.findall(r"(?<!\bself)\.(_[a-z]\w*)\b", text) if name in WATCHED}
            if path.name in ("loop.py", "thread_loop.py"):
                used |= {name for name in re.findall(r"\bself\.(_[a-z]\w*)\b", text) if name in WATCHED}
            assert used == set(), path.name
