"""What a witness of one run sees: whose line is behind each request, whatever has sent it."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import urllib.request
import weakref
from functools import partial
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from fake_server.events import Event
from fake_server.protocol.actors import WORKER
from pytest_claude_tokens.runs import outcome
from pytest_claude_tokens.simulation.chooser import Chooser
from pytest_claude_tokens.simulation.schedule import DEFAULT_ORDER
from pytest_claude_tokens.simulation.witness import Witness, witnessed
from tests.unit.simulation.worlds import outcome_of
from tests.zoo.common import HELLO_URL

aiohttp = pytest.importorskip("aiohttp")

pytestmark = pytest.mark.usefixtures("staged")


def watched(body):
    """What is known of each request of a run of ``body``, in order."""
    with witnessed() as witness:
        outcome_of(body)
    return [{"at": facts["at"], "via": facts["via"]} for _, facts in sorted(witness.facts().items())]


def line(function, after=1):
    """The line so many lines after the beginning of a function, as it is shown."""
    return f"test_witness.py:{function.__code__.co_firstlineno + after}"


def test_a_request_through_a_client_has_the_line_that_called_it():
    """And the lines that called this one, up to the worker's job."""

    async def fetch():
        async with httpx.AsyncClient() as client:
            await client.get(HELLO_URL)

    async def job():
        await fetch()

    async def body(workers):
        await workers(job)

    assert watched(body) == [{"at": line(fetch, 2), "via": [line(job)]}] * 2


async def by_httpx():
    async with httpx.AsyncClient() as client:
        await client.get(HELLO_URL)


async def by_aiohttp():
    async with aiohttp.ClientSession() as session:
        await session.get(HELLO_URL)


async def in_a_thread():
    await asyncio.to_thread(urllib.request.urlopen, HELLO_URL)


@pytest.mark.parametrize("fetch", [by_httpx, by_aiohttp, in_a_thread])
def test_a_witness_keeps_nothing_of_what_the_user_drops(fetch):
    """An asynchronous generator that is dropped is closed then, as in the runs before: else the two would differ."""
    gone = []

    async def job():
        kept = set()
        await fetch()
        return weakref.ref(kept)

    async def dropped():
        reference = await job()
        gone.append(reference() is None)

    async def body(workers):
        await workers(dropped)

    gc.disable()
    try:
        assert len(watched(body)) == len(gone) == 2
    finally:
        gc.enable()
    assert all(gone)


def test_a_request_that_is_read_from_a_connection_has_the_line_at_which_its_worker_waits():
    """The client wrote it from a task of its own. Another task of the worker, that waits for no client, isn't it."""

    async def fetch():
        async with aiohttp.ClientSession() as session, session.get(HELLO_URL) as response:
            return response.status

    async def job():
        return await asyncio.create_task(fetch())

    async def body(workers):
        await workers(job)

    assert watched(body) == [{"at": line(fetch), "via": []}] * 2


def test_a_thread_has_its_own_line():
    """Its client may be a blocking one."""

    def fetch():
        with httpx.Client() as client:
            client.get(HELLO_URL)

    def job():
        fetch()

    def body(workers):
        workers(job)

    assert watched(body) == [{"at": line(fetch, 2), "via": [line(job)]}] * 2


def test_a_loop_of_a_threads_own_is_no_caller():
    """What runs it is not what has sent the request, and neither is another task that waits for none."""

    async def fetch():
        async with aiohttp.ClientSession() as session, session.get(HELLO_URL) as response:
            return response.status

    async def both():
        await asyncio.gather(asyncio.sleep(9), fetch())

    def job():
        asyncio.run(both())

    def body(workers):
        workers(job)

    assert watched(body) == [{"at": line(fetch), "via": []}] * 2


@pytest.mark.parametrize("worker", [0, 1, -1])
def test_a_thread_is_looked_up_where_no_task_is(worker):
    """The service may have read its request in another thread. Of no worker, nothing is known."""
    waiting, over = threading.Event(), threading.Event()

    def job():
        waiting.set()
        over.wait()

    thread = threading.Thread(target=job, daemon=True)
    thread.start()
    waiting.wait()
    witness = Witness()
    record = SimpleNamespace(worker=0, ident=thread.ident)
    world = SimpleNamespace(loops=[SimpleNamespace()], all=[record], chooser=Chooser(DEFAULT_ORDER, 2), watch=None)
    witness.attend(world, SimpleNamespace(observers=[]))
    event = Event(seq=1, t=0.0, actor=f"w{worker}" if worker >= 0 else "c1", type="invoke", f="call", op=1)
    outcome.call(partial(witness.observe, event), {})
    witness.leave()
    over.set()
    thread.join()

    assert [facts.get("at") in (line(job, 1), line(job, 2)) for facts in witness.facts().values()] == [worker == 0]


LIBRARY = """
def twice(job):
    job()
    return job()

async def twice_in_tasks(job):
    await job()
    return await job()

async def get_twice(session, url):
    for _ in range(2):
        async with session.get(url):
            pass
"""
again: dict[str, Any] = {"__name__": "again.retries"}
exec(compile(LIBRARY, "/env/site-packages/again/retries.py", "exec"), again)


def calls_of(body):
    """The calls of libraries that led to the requests of the one worker in ``body``, in order."""
    with witnessed() as witness:
        outcome_of(body, workers=1)
    return [facts["seen"]["calls"] for _, facts in sorted(witness.facts().items())]


def fetch():
    """A function of the user's."""
    return httpx.get(HELLO_URL)


async def fetch_in_a_task():
    """A function of the user's."""
    async with httpx.AsyncClient() as client:
        return await client.get(HELLO_URL)


@pytest.mark.parametrize("tasks", [False, True])
def test_a_library_that_calls_the_users_function_again_is_seen(tasks):
    """By its own call, which lasts, and by the function's calls, of which there are two."""

    async def job():
        await again["twice_in_tasks"](fetch_in_a_task)

    async def body_in_tasks(workers):
        await workers(job)

    def body(workers):
        workers(lambda: again["twice"](fetch))

    (sent, around), (sent_later, around_later) = calls_of(body_in_tasks if tasks else body)
    assert (sent["library"], sent["inner"], sent["call"] == sent_later["call"]) == ("httpx", None, False)
    assert (around["library"], around["of"]) == ("again", "fetch_in_a_task" if tasks else "fetch")
    assert around["call"] == around_later["call"]
    assert around["inner"] != around_later["inner"]
    assert around["at"] == (line(job) if tasks else line(body))


def test_a_library_that_sends_again_over_connections_is_seen():
    """The loop took the request from a connection: the call is on the stack of the worker, which waits."""

    async def job():
        async with aiohttp.ClientSession() as session:
            await again["get_twice"](session, HELLO_URL)

    async def body(workers):
        await workers(job)

    (sent,), (sent_later,) = calls_of(body)
    assert sent == sent_later
    assert (sent["library"], sent["at"], sent["inner"]) == ("again", line(job, 2), None)


def test_a_look_at_a_store_knows_who_has_written_it_since_the_last_one(tmp_path):
    """One that nobody wrote meanwhile has no writer."""
    witness, store = Witness(), tmp_path / "login"
    store.touch()
    token = WORKER.set("w1")
    try:
        witness.locks.file("open", (str(store), "w", os.O_WRONLY))
    finally:
        WORKER.reset(token)
    for seq in (1, 2):
        witness.observe(Event(seq=seq, t=0.0, actor="service", type="note", f="store", data={"store": "login"}))
    assert {seq: written["by"] for seq, written in witness.written.items()} == {1: "w1"}
