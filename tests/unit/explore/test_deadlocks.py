"""``Deadlock`` says who waits for which lock, who holds it, and at which lines, whoever has taken it."""

from __future__ import annotations

import asyncio
import re
import threading

import pytest
from hypothesis import settings

from pytest_claude_tokens import explore
from pytest_claude_tokens.violations import Deadlock
from tests.unit.explore.common import quick, search
from tests.zoo.common import Login, redeem, redeem_now

FILE = re.escape(__file__.rpartition("/")[2])


def across_an_await():
    """The second task blocks the loop, and with it the first."""

    @explore(workers=2)
    async def test(claude_tokens, workers):
        login, lock = Login.of(claude_tokens.account(expired=True).credentials), threading.Lock()

        async def ask():
            with lock:
                await redeem(login.refresh)

        await workers(ask)

    return test, f"(w\\d) \\({FILE}:28\\) waits for the lock that (w\\d) \\({FILE}:28\\) holds"


def in_an_executor():
    """A job waits for a lock that a task holds, which waits for the job."""

    @explore(workers=2)
    async def test(claude_tokens, workers):
        login, lock = Login.of(claude_tokens.account(expired=True).credentials), threading.Lock()

        def job():
            with lock:
                redeem_now(login.refresh)

        async def ask():
            with lock:
                await asyncio.to_thread(job)

        await workers(ask, lambda: redeem(login.refresh))

    return test, f"(w\\d) \\({FILE}:44\\) waits for the lock that (w\\d) \\({FILE}:48\\) holds"


def in_threads():
    """Two locks, taken in two orders."""

    @explore(workers=2)
    def test(claude_tokens, workers):
        login = Login.of(claude_tokens.account(expired=True).credentials)
        one, two = threading.Lock(), threading.RLock()

        def ask():
            with one:
                redeem_now(login.refresh)
                with two:
                    pass

        def ask_otherwise():
            with two, one:
                pass

        workers(ask, ask_otherwise)

    return test, f"(w0) \\({FILE}:67\\) waits for the lock that (w1) \\({FILE}:71\\) holds"


@pytest.mark.parametrize("kind", [across_an_await, in_an_executor, in_threads])
def test_holder_waiter_and_lines_are_named(kind):
    test, says = kind()
    result = search(settings(quick, max_examples=50)(test), handle={"allow": ["double-spend"]})
    assert type(result.error) is Deadlock
    assert re.search(says, result.error.cause), result.error.cause


@pytest.mark.parametrize("name", ["add_reader", "add_writer", "start_tls", "sock_recv", "create_server"])
def test_what_the_loop_lacks_is_one_sentence(name):
    """It names the worker, the call, and the ways that work."""

    @settings(quick, max_examples=5)
    @explore(workers=2)
    async def test(claude_tokens, workers):
        async def ask():
            await getattr(asyncio.get_running_loop(), name)(None, None, None)

        await workers(ask)

    error = search(test).error
    assert type(error) is NotImplementedError
    remedy = "call what the server calls without a socket" if "server" in name else "explore such a client in "
    assert str(error).startswith(f"w0 calls {name}() of its event loop, which is not simulated: {remedy}")
