"""Two hundred interrupts at random moments of searches: each gets out within two seconds, and leaves all as it was."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import weakref
from contextlib import suppress
from random import Random
from time import monotonic, sleep

import httpx
import pytest
from hypothesis import settings
from hypothesis import strategies as st

from pytest_claude_tokens import explore
from pytest_claude_tokens.violations import DoubleSpend
from tests.unit.explore.common import HELLO_URL, TOKEN_URL, quick, refreshing
from tests.unit.explore.interrupting import assert_interrupted, hello, interrupt

endless = settings(quick, max_examples=1_000_000)
FETCHES = """
import os, time, urllib.request
for _ in range(3):
    urllib.request.urlopen(os.environ["ANTHROPIC_BASE_URL"] + "/api/hello").read()
    time.sleep(0.1)
"""


@endless
@explore(workers=3)
def threads(workers):
    lock, condition = threading.Lock(), threading.Condition()

    def job():
        for _ in range(3):
            with lock:
                hello()
            with condition:
                condition.wait(0.1)

    workers(job)


@endless
@explore(workers=3)
async def tasks(workers):
    lock = asyncio.Lock()

    async def job():
        async with httpx.AsyncClient() as client, lock:
            await client.get(HELLO_URL)
        await asyncio.to_thread(time.sleep, 0.01)

    await workers(job)


@endless
@explore(workers=3, number=st.integers(1, 4), words=st.lists(st.binary()))
def drawn(workers, number, words):
    kept = weakref.WeakKeyDictionary()

    class Thing:
        pass

    def job():
        for _ in range(number):
            kept[Thing()] = words
            hello()

    workers(job)


@endless
@explore(workers=2, number=st.integers(0, 1000))
def failing(claude_tokens, workers, number):
    account = claude_tokens.account(expired=True)

    def job():
        time.sleep(number % 3)
        if number > 10:
            httpx.post(TOKEN_URL, json=refreshing(account.refresh_token))
        hello()

    workers(job)


@endless
@explore(workers=2, processes=True)
def processes(workers):
    workers([sys.executable, "-S", "-c", FETCHES])


def again_and_again(search):
    """A search that finds something is made again, so that the interrupt comes in one."""

    def run():
        while True:
            with suppress(AssertionError):
                search()

    return run


def send(seconds, sent):
    sleep(seconds)
    sent.append(monotonic())
    interrupt()


# Hypothesis reads a project's modules when it draws: an interrupt may fall between a file's opening and its `with`.
OPENED_SOURCE = "ignore:Exception ignored in. <_io.FileIO name=.*[.]py:pytest.PytestUnraisableExceptionWarning"


@pytest.mark.nightly
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings(OPENED_SOURCE)
@pytest.mark.parametrize("search", [threads, tasks, drawn, failing, processes], ids=lambda search: search.__name__)
def test_at_any_moment(search):
    random = Random(search.__name__)
    for _ in range(40):
        sent = []
        sender = threading.Thread(target=send, args=(random.uniform(0, 1.0 if search is processes else 0.4), sent))
        sender.start()
        assert_interrupted(again_and_again(search), found=DoubleSpend if search is failing else None)
        took = monotonic() - sent[0]
        sender.join()
        assert took < 5  # two seconds, on a machine that does nothing else
