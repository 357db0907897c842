"""``workers``: what it runs, what it returns, and what comes of jobs that raise."""

from __future__ import annotations

import asyncio
import sys

import httpx
import pytest
from hypothesis import settings

from pytest_claude_tokens import explore
from pytest_claude_tokens.violations import DoubleSpend
from tests.unit.explore.common import HELLO_URL, TOKEN_URL, hello, refreshing, search, unsound

quick = settings(database=None, derandomize=True, max_examples=10)


def ask():
    """A thread's request."""
    return httpx.get(HELLO_URL).json()["message"]


def in_tasks(job, **options):
    """Explore ``await workers(*job(tokens))`` in tasks; the results of all runs, and what it came to."""
    results = []

    async def test_it(claude_tokens, workers):
        results.append(await workers(*job(claude_tokens), **options))

    return results, search(quick(explore(workers=3)(test_it)))


def in_threads(job, **options):
    """The same in threads."""
    results = []

    def test_it(claude_tokens, workers):
        results.append(workers(*job(claude_tokens), **options))

    return results, search(quick(explore(workers=3)(test_it)))


# Results.


def test_one_function_runs_in_every_worker():
    """Its results come by worker."""
    for results, searched in (in_tasks(lambda _: [hello]), in_threads(lambda _: [ask])):
        assert searched.error is None
        assert all(result == ["hello"] * 3 for result in results)


def test_so_many_functions_run_one_in_each_worker():
    """Whoever is ready first: the first result is that of the first worker."""

    def task(number):
        async def job():
            await hello()
            return number

        return job

    def thread(number):
        def job():
            ask()
            return number

        return job

    for results, searched in (
        in_tasks(lambda _: [task(n) for n in range(3)]),
        in_threads(lambda _: [thread(n) for n in range(3)]),
    ):
        assert searched.error is None
        assert all(result == [0, 1, 2] for result in results)


def test_several_calls_of_one_worker_give_a_list_each():
    """One after the other, in that worker."""
    for results, searched in (in_tasks(lambda _: [hello], per_worker=2), in_threads(lambda _: [ask], per_worker=2)):
        assert searched.error is None
        assert all(result == [["hello", "hello"]] * 3 for result in results)


def test_a_plain_function_may_be_the_job_of_a_task():
    """Its value is the result, awaited or not."""
    results, searched = in_tasks(lambda _: [lambda: 1, hello, hello])
    assert searched.error is None
    assert all(result == [1, "hello", "hello"] for result in results)


def test_the_body_knows_how_many_workers_it_has():
    """``len(workers)`` and ``workers.size``."""

    async def test_it(claude_tokens, workers):
        assert len(workers) == workers.size == 3
        await workers(hello)

    assert search(quick(explore(workers=3)(test_it))).error is None


@pytest.mark.parametrize("search_in", [in_tasks, in_threads])
@pytest.mark.parametrize(
    ("jobs", "options", "says"),
    [
        (2, {}, "workers() takes one function, or one for each of the 3 workers"),
        (4, {}, "workers() takes one function, or one for each of the 3 workers"),
        (0, {}, "workers() takes one function, or one for each of the 3 workers"),
        (1, {"per_worker": 0}, "per_worker must be 1 or more"),
    ],
)
def test_wrong_numbers_are_refused(search_in, jobs, options, says):
    """In the body's line that says them."""
    job = hello if search_in is in_tasks else ask
    _, searched = search_in(lambda _: [job] * jobs, **options)
    assert isinstance(searched.error, (TypeError, ValueError))
    assert str(searched.error) == says


# Errors.


def test_the_first_error_is_that_of_the_lowest_worker_and_the_others_are_notes():
    """All workers have run to their end before it is raised."""
    ended = []

    def task(number):
        async def job():
            await hello()
            ended.append(number)
            if number:
                raise ValueError(f"of w{number}")

        return job

    def thread(number):
        def job():
            ask()
            ended.append(number)
            if number:
                raise ValueError(f"of w{number}")

        return job

    for searched in (
        in_tasks(lambda _: [task(n) for n in range(3)])[1],
        in_threads(lambda _: [thread(n) for n in range(3)])[1],
    ):
        assert type(searched.error) is ValueError
        assert str(searched.error) == "of w1"
        assert searched.notes == ["w2 raised ValueError: of w2"]
        assert sorted(ended[-3:]) == [0, 1, 2]


def test_a_violation_outranks_the_error_that_the_loser_died_of():
    """Which stays attached as its cause."""

    def spend(tokens):
        secret = tokens.account(expired=True).refresh_token
        return [lambda: httpx.post(TOKEN_URL, json=refreshing(secret)).raise_for_status()]

    tasks = in_tasks(lambda tokens: [unsound(tokens).token])[1]
    threads = in_threads(spend)[1]
    for searched in (tasks, threads):
        assert isinstance(searched.error, DoubleSpend)
        assert isinstance(searched.error.__cause__, httpx.HTTPStatusError)


class Interrupted(BaseException):
    """As a debugger's or a runner's own signal."""


@pytest.mark.parametrize("where", ["body", "job"])
@pytest.mark.parametrize("kind", ["tasks", "threads"])
@pytest.mark.parametrize(
    "raised", [pytest.skip.Exception("not here"), pytest.xfail.Exception("not yet"), KeyboardInterrupt(), Interrupted()]
)
def test_what_is_no_failure_ends_the_search_at_once(where, kind, raised):
    """A skip, an expected failure, an interruption: they are let through, from the first schedule, as they are."""
    runs = []

    def stop():
        runs.append(1)
        raise raised

    async def tasks(claude_tokens, workers):
        async def job():
            await hello()
            stop()

        if where == "body":
            stop()
        await workers(job)

    def threads(claude_tokens, workers):
        def job():
            ask()
            stop()

        if where == "body":
            stop()
        workers(job)

    test = quick(explore()(tasks if kind == "tasks" else threads))
    with pytest.raises(type(raised)) as caught:
        test()
    assert caught.value is raised
    assert len(runs) <= 2


def test_a_skip_late_in_the_search_ends_it_as_well():
    """Whichever gear it is in."""
    runs = []

    @settings(quick, max_examples=40)
    @explore()
    async def test_it(claude_tokens, workers):
        runs.append(1)
        if len(runs) == 20:
            pytest.skip("enough")
        await workers(hello)

    with pytest.raises(pytest.skip.Exception):
        test_it()
    assert len(runs) == 20


@pytest.mark.parametrize("where", ["body", "job"])
@pytest.mark.parametrize("kind", ["tasks", "threads"])
def test_pytest_fail_is_a_failure_like_any_other(where, kind):
    """Also where ``pytest.raises`` has waited in vain: the schedule is told, and can be replayed."""

    async def tasks(claude_tokens, workers):
        async def job():
            await hello()
            if where == "job":
                pytest.fail("too few")

        await workers(job)
        with pytest.raises(ValueError):
            pass

    def threads(claude_tokens, workers):
        def job():
            ask()
            if where == "job":
                pytest.fail("too few")

        workers(job)
        with pytest.raises(ValueError):
            pass

    test = quick(explore()(tasks if kind == "tasks" else threads))
    with pytest.raises(pytest.fail.Exception) as caught:
        test()
    assert caught.value.claude_tokens_found.replayed == (3, 3)
    assert ("too few" if where == "job" else "DID NOT RAISE") in str(caught.value)


@pytest.mark.parametrize("kind", ["tasks", "threads"])
def test_a_worker_that_calls_exit_has_failed(kind):
    """``SystemExit`` ends a test as it ends any other: nothing waits for that worker."""

    async def tasks(claude_tokens, workers):
        async def job():
            await hello()
            sys.exit(3)

        await workers(job)

    def threads(claude_tokens, workers):
        def job():
            ask()
            sys.exit(3)

        workers(job)

    with pytest.raises(SystemExit):
        quick(explore()(tasks if kind == "tasks" else threads))()


def test_a_task_that_cancels_itself_has_no_result():
    """It asked for that, so it is no failure of the test's."""

    async def cancelled():
        await hello()
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    results, searched = in_tasks(lambda _: [cancelled, hello, hello])
    assert searched.error is None
    assert all(result == [None, "hello", "hello"] for result in results)
