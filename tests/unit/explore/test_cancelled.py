"""Cancellation: a worker that dies of one which nobody asked for has died; one worker alone is cancelled, too."""

from __future__ import annotations

import asyncio
import warnings

import httpx
import pytest
from hypothesis import settings

from pytest_claude_tokens import explore
from pytest_claude_tokens.violations import DoubleSpend
from tests.unit.explore.common import HELLO_URL, hello, search, unsound

quick = settings(database=None, derandomize=True, max_examples=10)


async def cancelled() -> None:
    """Awaits a task that was cancelled: nobody cancels the worker itself."""
    await hello()
    task = asyncio.ensure_future(asyncio.sleep(9))
    task.cancel()
    await task


def cancelled_thread() -> None:
    """The same in a thread."""
    httpx.get(HELLO_URL)
    raise asyncio.CancelledError


def searched(jobs, **options):
    """What a search of these jobs came to, one in each worker."""

    async def test_tasks(claude_tokens, workers):
        await workers(*jobs(claude_tokens))

    def test_threads(claude_tokens, workers):
        workers(*jobs(claude_tokens))

    test = test_tasks if options.pop("tasks", True) else test_threads
    return search(quick(explore(workers=len(jobs(None)), **options)(test)))


def test_task_that_dies_of_it_has_died():
    """It is the worker's exception like any other; another worker's is told beside it."""

    async def other():
        await hello()
        raise LookupError("mine")

    result = searched(lambda _: [cancelled, other])
    assert type(result.error) is asyncio.CancelledError
    assert result.error.__notes__ == ["w1 raised LookupError: mine"]


def test_thread_that_dies_of_it_has_died():
    """A thread's, too, is a failure of the test, with its story, and no interruption of the search."""
    result = searched(lambda _: [cancelled_thread, cancelled_thread], tasks=False)
    assert type(result.error) is asyncio.CancelledError
    assert result.error.claude_tokens_found.example == 1


def test_violation_outranks_it():
    """The author must read what was done wrong; what became of the worker is its cause."""

    def jobs(tokens):
        login = tokens and unsound(tokens)

        async def job():
            await login.token()
            raise asyncio.CancelledError

        return [job, job]

    result = searched(jobs)
    assert type(result.error) is DoubleSpend


def test_worker_whose_cancellation_somebody_asked_for_is_spared():
    """A dispatcher may cancel its own workers, and the body may cancel them all."""

    async def cancelling():
        await hello()
        for task in asyncio.all_tasks():
            if task.get_name() in ("w0", "w1") and task is not asyncio.current_task():
                task.cancel()

    async def waiting():
        await hello()
        await asyncio.sleep(60)

    assert searched(lambda _: [cancelling, waiting]).error is None

    async def test_body(claude_tokens, workers):
        crew = asyncio.ensure_future(workers(waiting))
        await asyncio.sleep(30)
        crew.cancel()
        await asyncio.wait([crew])

    assert search(quick(explore(workers=2)(test_body))).error is None


@pytest.mark.parametrize("workers", [1, 2])
def test_one_worker_is_cancelled_like_several(workers):
    """In the middle of its request, too; and nobody is told that one worker can't race."""
    places = set()

    async def job():
        for place in range(3):
            try:
                await hello()
            except asyncio.CancelledError:
                places.add(place)
                raise

    async def test_it(claude_tokens, workers):
        await workers(job)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert search(settings(quick, max_examples=60)(explore(workers=workers, cancel=True)(test_it))).error is None
    assert len(places) >= 2
