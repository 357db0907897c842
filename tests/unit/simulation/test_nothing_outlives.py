"""Nothing that a search patches outlives it, and nothing shows meanwhile: no stand-in that anybody could trip over."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import datetime as dt
import importlib
import os
import pickle
import queue
import random
import selectors
import socket
import ssl
import sys
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta

import pytest

from pytest_claude_tokens.simulation import native, patches
from pytest_claude_tokens.simulation.patches import patched
from pytest_claude_tokens.simulation.scheduler import EPOCH
from tests.unit.simulation.worlds import run_threads, stage

REAL = {name: getattr(time, name) for name in ("time", "monotonic", "sleep", "time_ns", "gmtime", "localtime")}
CLASSES = (
    *(datetime, date, queue.SimpleQueue, threading.Thread, ThreadPoolExecutor, random.Random),
    *(socket.socket, ssl.SSLContext, selectors.SelectSelector, selectors.PollSelector, selectors.EpollSelector),
)


def inside(job):
    """What a job returns, as the only worker of a world."""
    with stage():
        (result,) = run_threads(job)
    return result


# The property: all as it was.


def everything():
    """Each global of each module, by identity; and of each class that is changed in place, all that makes it."""
    names = {
        name: {key: id(value) for key, value in list(vars(module).items()) if callable(value)}
        for name, module in list(sys.modules.items())
        if isinstance(module, types.ModuleType)
    }
    classes = [(cls, cls.__module__, cls.__qualname__, cls.__mro__, dict(vars(cls))) for cls in CLASSES]
    return names, classes


def changed(before):
    names = everything()[0]
    return [name for name in before[0] if names[name] != before[0][name]]


def test_everything_is_put_back():
    """Each global of each module, and what was patched in classes; after an error, too."""
    with stage():
        pass  # whatever is imported by the way is imported now
    before = everything()
    with stage():
        assert "time" in changed(before)
        assert everything()[1] != before[1]
    assert changed(before) == []
    assert everything()[1] == before[1]
    with pytest.raises(RuntimeError), patched():
        raise RuntimeError
    assert changed(before) == []
    assert everything()[1] == before[1]


def test_each_replaced_thing_is_told_from_the_real_one_by_nobody_afterwards():
    """The same object, of the same type, from the same module, under each of its public names."""
    pairs = patches._replacements()
    before = [(id(real), type(real), real.__name__, getattr(real, "__module__", None)) for real, _ in pairs]
    inside(lambda: None)
    assert before == [(id(real), type(real), real.__name__, getattr(real, "__module__", None)) for real, _ in pairs]
    for real, fake in pairs:
        owner = importlib.import_module(getattr(real, "__module__", None) or "random")
        assert getattr(owner, real.__name__) in (real, native.allocate_lock)
        assert getattr(owner, real.__name__) is not fake


# Meanwhile.


def test_stand_ins_go_by_the_names_of_the_real_things():
    """In a traceback or a log they don't surprise; pickled or copied, they are the public name."""

    def job():
        assert [time.time.__name__, time.monotonic.__qualname__, time.gmtime.__name__] == [
            "time",
            "monotonic",
            "gmtime",
        ]
        assert time.time.__doc__ == REAL["time"].__doc__
        assert copy.deepcopy({"clock": time.time})["clock"]() == EPOCH
        assert pickle.loads(pickle.dumps(time.time)) == time.time
        return pickle.dumps([time.time, time.sleep, os.urandom, asyncio.new_event_loop])

    found = pickle.loads(inside(job))
    assert found == [REAL["time"], REAL["sleep"], os.urandom, asyncio.new_event_loop]


class Before(datetime):
    """A subclass from before."""


@dataclasses.dataclass
class Row:
    """With a field of each class, and a default that was looked up before."""

    at: datetime = dataclasses.field(default_factory=lambda: datetime.now(dt.UTC))
    on: date | None = None


def test_dates_are_real_ones():
    """The class is the real one: made, copied, compared, pickled and subclassed as ever, and told simulated time."""

    def job():
        assert datetime is native.REAL_DATES["datetime"] is dt.datetime
        assert repr(datetime) == "<class 'datetime.datetime'>"

        class Inner(datetime):
            pass

        value = datetime(2026, 1, 2, tzinfo=dt.UTC)
        assert [type(one) for one in (value, datetime.now(), datetime.fromtimestamp(0))] == [datetime] * 3
        assert [type(one) for one in (Inner.now(), Inner.utcnow(), Inner.today())] == [Inner] * 3
        assert [type(one) for one in (Before.now(dt.UTC), date.today())] == [Before, date]
        assert not isinstance(value, Inner)
        assert not issubclass(Before, Inner)
        assert value - timedelta(days=1) == datetime(2026, 1, 1, tzinfo=dt.UTC)
        assert copy.deepcopy(value) == value
        assert Row().at.timestamp() == Inner.now().timestamp() == Before.today().timestamp() == EPOCH
        assert dataclasses.replace(Row(), on=date.today()).on == date.fromtimestamp(EPOCH)
        return pickle.dumps([value, datetime, Row()])

    value, kind, row = pickle.loads(inside(job))
    assert value == datetime(2026, 1, 2, tzinfo=dt.UTC)
    assert kind is datetime
    assert type(row.at) is datetime
    assert abs(Row().at.timestamp() - REAL["time"]()) < 5


def test_clocks_by_number_and_the_written_time_are_simulated():
    """All that tell the present time; a time that is given is told as it is."""

    def job():
        time.sleep(60)
        return [
            time.clock_gettime(time.CLOCK_REALTIME), time.clock_gettime(time.CLOCK_MONOTONIC),
            time.clock_gettime_ns(time.CLOCK_REALTIME), time.clock_gettime_ns(time.CLOCK_MONOTONIC),
            time.strftime("%Y"), time.ctime(), time.asctime(), time.strftime("%Y", (1999,) + (1,) * 8), time.ctime(0),
            0 <= time.clock_gettime(time.CLOCK_PROCESS_CPUTIME_ID) != 60,
        ]  # fmt: skip

    written = time.asctime(time.localtime(EPOCH + 60))
    wall = EPOCH + 60
    year = str(time.localtime(EPOCH).tm_year)
    told = [wall, 60, round(wall * 1e9), 60 * 10**9, year, written, written, "1999", time.ctime(0), True]
    assert inside(job) == told
    assert abs(time.clock_gettime(time.CLOCK_REALTIME) - REAL["time"]()) < 5
    with patched():  # for a thread that is in no world
        assert abs(time.clock_gettime(time.CLOCK_REALTIME) - REAL["time"]()) < 5
        assert time.strftime("%Y") == time.strftime("%Y", time.localtime())


def test_class_in_place_of_the_lock_means_the_real_one():
    """Python 3.13 has a class for a lock: it can be asked for, compared and joined with other types."""
    cls, lock = patches._LockClass, type(native.allocate_lock())

    def job():
        made = cls()
        assert isinstance(made, cls)
        assert isinstance(made, lock)
        assert isinstance(threading.RLock(), type(native.allocate_rlock()))
        assert not isinstance(1, cls)
        assert isinstance(None, cls | None)
        assert issubclass(lock, cls)
        assert cls == lock
        assert cls not in (int, None)
        assert {cls: 1}[lock] == 1
        return repr(made)

    assert inside(job) == "<SimulatedLock free>"
    assert type(cls()) is lock


MODULE = """
import asyncio, dataclasses, queue, threading, time
from datetime import date, datetime
from queue import SimpleQueue
from threading import Lock, RLock
from time import monotonic, sleep
from time import time as now

Numbers = SimpleQueue[int]
lock = Lock()


class Mine(SimpleQueue):
    pass


class Moment(datetime):
    pass


class Clock:
    now, sleep, make = time.time, time.sleep, threading.Lock
    lock = RLock()


@dataclasses.dataclass
class Row:
    at: datetime = dataclasses.field(default_factory=datetime.now)
    read: object = time.time
    lock: object = dataclasses.field(default_factory=Lock)


def waited(read=monotonic, event=threading.Event()):
    return read()
"""


def test_module_that_is_first_imported_inside_keeps_nothing(tmp_path, monkeypatch):
    """It works inside, and has the real things afterwards, in its classes, too; it is not imported again."""
    (tmp_path / "imported_inside.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)

    def job():
        module = importlib.import_module("imported_inside")
        box = module.Mine()
        threading.Thread(target=lambda: (module.sleep(9), box.put(1))).start()
        assert box.get() == 1
        assert isinstance(box, queue.SimpleQueue)
        with module.lock, module.Clock.lock, module.Clock().make():
            module.Clock().sleep(1)
        assert module.Moment.now().timestamp() == module.Row().at.timestamp() == module.Row().read()
        return [module.now(), module.Clock().now(), module.waited()]

    assert inside(job) == [EPOCH + 10, EPOCH + 10, 10]
    module = sys.modules.pop("imported_inside")
    assert [module.now, module.sleep, module.monotonic] == [REAL["time"], REAL["sleep"], REAL["monotonic"]]
    assert [module.Lock, module.RLock, module.SimpleQueue] == [threading.Lock, threading.RLock, queue.SimpleQueue]
    assert [module.Clock.now, module.Clock.sleep, module.Clock.make] == [REAL["time"], REAL["sleep"], threading.Lock]
    assert module.Moment.__mro__[1] is module.datetime is datetime
    assert module.Mine.__mro__[1] is queue.SimpleQueue
    assert type(module.lock) is type(native.allocate_lock())
    assert type(module.Clock.lock) is type(native.allocate_rlock())
    for tell in (module.now, module.Clock().now, module.Row().read, module.Row().at.timestamp):
        assert abs(tell() - REAL["time"]()) < 5
    assert abs(module.waited() - REAL["monotonic"]()) < 5
    assert module.Row().lock.acquire(timeout=1)


def test_compiled_code_uses_the_real_class_before_meanwhile_and_after():
    """It takes the class for a date at its first use, and keeps it for good."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())

    def sign():
        now = datetime.now(dt.UTC)
        builder = x509.CertificateBuilder(x509.Name([]), x509.Name([]), key.public_key(), 1)
        made = builder.not_valid_before(now).not_valid_after(now + timedelta(1)).sign(key, hashes.SHA256())
        return made.not_valid_before_utc.timestamp()

    assert abs(sign() - REAL["time"]()) < 5
    assert inside(sign) == EPOCH
    assert abs(sign() - REAL["time"]()) < 5
