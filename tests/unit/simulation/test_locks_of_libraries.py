"""A witness sees the locks of anyio and trio as it sees those of asyncio: who holds which, and who has given one up."""

from __future__ import annotations

from functools import partial

import anyio
import anyio.to_thread
import httpx
import pytest

from pytest_claude_tokens.simulation.witness import witnessed
from tests.unit.simulation.worlds import outcome_of
from tests.zoo.common import HELLO_URL

trio = pytest.importorskip("trio")
pytestmark = pytest.mark.usefixtures("staged")


async def ask():
    async with httpx.AsyncClient() as client:
        await client.get(HELLO_URL)


def seen(body, which="held"):
    """The names of the locks, for each request."""
    with witnessed() as witness:
        ran = outcome_of(body, workers=2)
    assert ran.error is None
    facts = [facts["seen"] for _, facts in sorted(witness.facts().items())]
    return [[hold["lock"] for hold in one[which]] for one in facts]


OF_ANYIO = [
    (anyio.Lock, "Lock 1"),
    (partial(anyio.Semaphore, 1), "Semaphore 1"),
    (partial(anyio.CapacityLimiter, 1), "CapacityLimiter 1"),
    (anyio.Condition, "Lock 1"),
]
OF_TRIO = [
    (trio.Lock, "Lock 1"),
    (trio.StrictFIFOLock, "Lock 1"),
    (partial(trio.Semaphore, 1), "Semaphore 1"),
    (partial(trio.CapacityLimiter, 1), "CapacityLimiter 1"),
    (trio.Condition, "Lock 1"),
]


@pytest.mark.parametrize(("make", "name"), OF_ANYIO)
def test_a_lock_of_anyio_is_seen_in_tasks(make, name):
    """Also where it was made before there was a loop."""
    early = make()

    async def body(workers):
        late = make()

        async def job():
            async with late:
                await ask()
            await ask()
            async with early:
                await ask()

        await workers(job)

    told = seen(body)
    assert sorted(map(str, told)) == sorted(map(str, [[], [], *[[name]] * 2, *[[name.replace("1", "2")]] * 2]))


@pytest.mark.parametrize(("make", "name"), OF_ANYIO)
def test_it_is_seen_where_it_is_had_at_once(make, name):
    async def body(workers):
        lock = make()

        async def job():
            lock.acquire_nowait()
            await ask()
            lock.release()

        async def waits():
            await lock.acquire()
            await ask()
            lock.release()

        await workers(job, waits)

    assert seen(body) == [[name], [name]]


@pytest.mark.parametrize(
    ("run", "make", "name"),
    [(trio.run, *made) for made in OF_TRIO]
    + [(partial(anyio.run, backend="trio"), *made) for made in OF_ANYIO + OF_TRIO],
)
def test_a_lock_in_a_run_of_trio_is_seen(run, make, name):
    """Each worker has a run of its own, and so a lock."""

    async def job():
        async with make():
            await ask()
        await ask()

    def body(workers):
        workers(lambda: run(job))

    assert sorted(seen(body)) == [[], [], [name], [name.replace("1", "2")]]


def test_who_gives_up_waiting_is_seen():
    """A scope of anyio's ends the wait."""

    async def body(workers):
        lock = anyio.Lock()

        async def holds():
            async with lock:
                await anyio.sleep(9)
                await ask()

        async def gives_up():
            with anyio.move_on_after(2):
                await lock.acquire()
            await ask()

        await workers(holds, gives_up)

    assert seen(body, "gave_up") == [["Lock 1"], []]


def test_what_a_library_limits_for_itself_is_no_lock():
    """Jobs in threads have a limiter: it is nobody's lock."""

    async def body(workers):
        with httpx.Client() as client:
            await workers(lambda: anyio.to_thread.run_sync(client.get, HELLO_URL))

    assert seen(body) == [[], []]
