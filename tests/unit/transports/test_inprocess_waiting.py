"""In-process: waiting in real time, and clients that cost no TLS context."""

from __future__ import annotations

import asyncio
import ssl
import time
from threading import Event, Thread
from threading import enumerate as enumerate_threads

import httpx
import httpx2
import pytest
from freezegun import freeze_time

from fake_server.clock import stopwatch
from fake_server.effects import Signal, Wait
from fake_server.transports.inprocess import RealWaiter, shared_ssl_context
from tests.unit.transports.inprocess_world import CALL, LIBRARIES, MODES, TOKEN, World, ask

both = pytest.mark.parametrize("library", LIBRARIES, ids=["httpx", "httpx2"])
either = pytest.mark.parametrize("mode", MODES)
LONG = 30.0  # seconds that no test waits


def wait(mode, what):
    """Wait in that mode, and tell the real seconds that it took."""
    read = stopwatch()
    begun = read()
    if mode == "sync":
        RealWaiter().wait(what)
    else:
        asyncio.run(RealWaiter().wait_async(what))
    return read() - begun


@either
def test_a_moment_takes_no_time(mode):
    """What has no duration is over at once."""
    assert wait(mode, Wait("request")) < LONG


def test_a_moment_gives_way_to_other_tasks():
    """A task that waits for a moment lets the others run."""
    order = []

    async def other():
        order.append("other")

    async def main():
        task = asyncio.create_task(other())
        await RealWaiter().wait_async(Wait("reply"))
        order.append("waiter")
        await task

    asyncio.run(main())
    assert order == ["other", "waiter"]


@either
@pytest.mark.parametrize("frozen", [False, True])
def test_a_duration_is_real(mode, frozen):
    """Seconds pass in real time, also where a test has frozen the clock."""
    if not frozen:
        assert wait(mode, Wait("latency", 0.02)) >= 0.019
        return
    with freeze_time("2026-01-01"):
        assert wait(mode, Wait("latency", 0.02)) >= 0.019


@either
@pytest.mark.parametrize("seconds", [LONG, None])
@pytest.mark.parametrize("frozen", [False, True])
def test_a_signal_ends_the_wait(mode, seconds, frozen):
    """A signal that another thread fires ends a wait before its time; a timer thread ends with it."""
    subscribed = Event()

    class Watched(Signal):
        def subscribe(self, callback):
            super().subscribe(callback)
            subscribed.set()

    signal = Watched()

    def fire():
        subscribed.wait()
        signal.fire()

    before = set(enumerate_threads())
    thread = Thread(target=fire)
    thread.start()
    if frozen:
        with freeze_time("2026-01-01"):
            assert wait(mode, Wait("hold", seconds, signal)) < LONG
    else:
        assert wait(mode, Wait("hold", seconds, signal)) < LONG
    for started in set(enumerate_threads()) - before:
        started.join(LONG / 2)
        assert not started.is_alive()


@either
def test_a_signal_that_has_fired_does_not_wait(mode):
    """Nor does one that fires between the question and the subscription."""

    class Races(Signal):
        def subscribe(self, callback):
            self.fired = True  # as another thread does, just before the callback could be kept

    fired = Signal()
    fired.fire()
    assert wait(mode, Wait("gate", LONG, fired)) < LONG
    assert wait(mode, Wait("gate", LONG, Races())) < LONG


def test_a_signal_may_fire_twice_or_after_the_loop_has_gone(caplog):
    """Neither a second call nor one for a loop that is closed disturbs the one who fires."""

    class Keeps(Signal):
        def subscribe(self, callback):
            self.callback = callback
            callback()
            callback()

    signal = Keeps()
    assert wait("async", Wait("gate", LONG, signal)) < LONG
    signal.callback()
    assert caplog.records == []  # where a loop tells of errors in callbacks


def test_a_cancelled_wait_takes_its_timer_along():
    """A task that is cancelled while it waits leaves no timer in the loop."""

    async def main():
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(RealWaiter().wait_async(Wait("latency", LONG)))
        await asyncio.sleep(0)
        (timer,) = [handle for handle in loop._scheduled if handle.when() - loop.time() > LONG / 2]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return timer.cancelled()

    assert asyncio.run(main())


@both
@either
def test_a_frozen_clock_freezes_no_queue(library, mode):
    """Latency passes in real time under freezegun, while the journal's time stands still."""
    with freeze_time("2026-01-01"):
        world = World(latency=0.02)
        read = stopwatch()
        begun = read()
        with world.interceptor:
            assert ask(library, mode, "POST", TOKEN, json=world.refresh).status_code == 200
            assert ask(library, mode, "POST", CALL, **world.message()).status_code == 200
        assert read() - begun >= 0.039
        assert time.time() == world.server.clock.now()
    assert {event.t for event in world.events()} == {0.0}


@both
def test_clients_share_one_context(library):
    """While it lasts, clients with default settings get one ready context, which verifies as theirs would."""
    with shared_ssl_context():
        first, second = library.create_ssl_context(), library.create_ssl_context(verify=True, trust_env=True)
        with library.Client() as client:
            assert client._transport._pool._ssl_context is first
        assert first is second
        assert first.verify_mode is ssl.CERT_REQUIRED
        assert first.check_hostname


@both
def test_other_settings_get_contexts_of_their_own(library, monkeypatch, tmp_path):
    """A client that asks for something else gets what it asks for."""
    mine = ssl.create_default_context()
    with shared_ssl_context():
        assert library.create_ssl_context(verify=mine) is mine
        assert library.create_ssl_context(verify=False).verify_mode is ssl.CERT_NONE
        assert library.create_ssl_context(trust_env=False) is not library.create_ssl_context()
        before = library.create_ssl_context()
        monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
        assert library.create_ssl_context() is not before


def test_nothing_of_it_remains():
    """Afterwards, also after an error and when nested, each module has its own function again."""
    places = [
        (module, vars(module)["create_ssl_context"])
        for library in (httpx, httpx2)
        for module in (library, library._config, library._transports.default)
    ]
    with pytest.raises(ZeroDivisionError), shared_ssl_context(), shared_ssl_context():
        assert all(vars(module)["create_ssl_context"] is not original for module, original in places)
        raise ZeroDivisionError
    assert all(vars(module)["create_ssl_context"] is original for module, original in places)
