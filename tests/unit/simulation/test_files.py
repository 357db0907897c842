"""Threads are switched at file operations; a lock on a file is waited for without stopping the others."""

from __future__ import annotations

import asyncio
import fcntl
import importlib
import os
import shutil
import sys
import threading
from contextlib import suppress
from time import monotonic, sleep  # in a world: simulated seconds, which pass at once

import pytest
from hypothesis import HealthCheck, given, settings

from pytest_claude_tokens.guard import audit
from pytest_claude_tokens.simulation.schedule import DEFAULT_ORDER, Deviation, Schedule
from tests.unit.simulation.worlds import run_tasks, run_threads, schedules, workers_of, world

pytestmark = pytest.mark.usefixtures("staged")


@pytest.fixture(autouse=True)
def traceable(monkeypatch):
    """Let a tracer see what is done at an audit event; Python turns it off there."""
    monkeypatch.setattr(audit._hook, "__cantrace__", True, raising=False)


OTHER_FIRST = Schedule(deviations=(Deviation(1, "freeze", 0, 1),))


def switched(operation):
    """Whether another thread can come between a line and a file operation after it."""
    order = []

    def one():
        order.append("before")
        with suppress(OSError):
            operation()
        order.append("after")

    run_threads(one, lambda: order.append("other"), schedule=OTHER_FIRST)
    return order == ["before", "other", "after"]


@pytest.mark.parametrize(
    "operation",
    [
        lambda path: open(path / "file").close(),
        lambda path: open(os.fsencode(path / "file")).close(),
        lambda path: os.close(os.open(path / "file", os.O_RDONLY)),
        lambda path: (path / "file").read_text(),
        lambda path: os.rename(path / "file", path / "new"),
        lambda path: os.replace(path / "file", path / "new"),
        lambda path: os.remove(path / "file"),
        lambda path: (path / "file").unlink(),
        lambda path: os.mkdir(path / "folder"),
        lambda path: (path / "folder").mkdir(),
        lambda path: os.rmdir(path / "nothing"),
        lambda path: os.link(path / "file", path / "link"),
        lambda path: os.symlink(path / "file", path / "link"),
        lambda path: os.truncate(path / "file", 0),
        lambda path: os.utime(path / "file"),
        os.listdir,
        lambda path: list(os.scandir(path)),
        lambda path: shutil.copy(path / "file", path / "copy"),
    ],
)
def test_file_operation_is_a_switch_point(tmp_path, operation):
    """Whatever way leads to it; one that fails, too."""
    (tmp_path / "file").write_text("x")
    assert switched(lambda: operation(tmp_path))


@pytest.mark.parametrize(
    "operation",
    [
        lambda: None,
        lambda: open(os.devnull).close(),
        lambda: open(__file__).close(),
        lambda: open("/etc/passwd").close(),
        lambda: os.path.exists(__file__),
        os.getpid,
    ],
)
def test_what_the_interpreter_opens_for_itself_is_none(operation):
    """Code, devices, and what is below the interpreter's own folder."""
    assert not switched(operation)


def test_file_in_shared_memory_is_a_file():
    """Temporary files may be there."""
    path = f"/dev/shm/claude-tokens-{os.getpid()}"
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("there is no /dev/shm to write to")

    def touch():
        os.close(os.open(path, os.O_CREAT | os.O_RDWR))

    assert switched(touch)
    os.remove(path)


def test_no_switch_inside_an_import(tmp_path, monkeypatch):
    """It lists folders and writes caches; whoever imports the same meanwhile would block in the interpreter."""
    (tmp_path / "package_of_ours").mkdir()
    (tmp_path / "package_of_ours" / "__init__.py").write_text("from package_of_ours import inner\n")
    (tmp_path / "package_of_ours" / "inner.py").write_text("import os\nos.listdir('/')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    assert not switched(lambda: importlib.import_module("package_of_ours"))
    assert sys.modules.pop("package_of_ours.inner")
    assert sys.modules.pop("package_of_ours")


def test_no_switch_on_a_loop(tmp_path):
    """A coroutine is interrupted where it awaits, and nowhere else."""
    order = []

    async def task(name):
        for _ in range(3):
            order.append(name)
            (tmp_path / name).write_text("x")

    async def body():
        await asyncio.gather(task("a"), task("b"))

    run_tasks(body, Schedule(kind="walk", seed=1))
    assert order in (["a"] * 3 + ["b"] * 3, ["b"] * 3 + ["a"] * 3)


def test_threads_from_elsewhere_are_not_switched(tmp_path):
    """They write their files as ever."""
    thread = threading.Thread(target=(tmp_path / "file").write_text, args=["x"])
    before = threading.Event()
    late = threading.Thread(target=lambda: (before.wait(5), (tmp_path / "late").write_text("x")))
    late.start()
    thread.start()
    with world():
        before.set()
        (tmp_path / "mine").write_text("x")
        while not (tmp_path / "late").exists():
            sleep(0.01)
    late.join()
    thread.join()
    assert [(tmp_path / name).read_text() for name in ("file", "late", "mine")] == ["x"] * 3


# Locks on files.


@pytest.fixture(params=["flock", "lockf"])
def way(request):
    return getattr(fcntl, request.param)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(schedule=schedules())
def test_flock_excludes_under_every_schedule(tmp_path, schedule):
    """One at a time, and all of them in the end."""
    inside, most = [0], [0]

    def job():
        with open(tmp_path / "lock", "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            sleep(3)
            inside[0] -= 1
        return True

    assert run_threads(job, job, job, schedule=schedule) == [True] * 3
    assert most == [1]


def test_time_passes_while_a_flock_is_waited_for(tmp_path):
    """Nobody tells when it is free: it is looked at from time to time, less and less often."""

    def holder():
        with open(tmp_path / "lock", "a") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX)
            sleep(100)

    def waiter():
        sleep(1)
        with open(tmp_path / "lock", "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            return monotonic()

    _, when = run_threads(holder, waiter)
    assert 100 <= when <= 105


def test_shared_flocks_are_shared(tmp_path):
    """Readers don't wait for one another."""

    def job():
        with open(tmp_path / "lock", "a") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            sleep(1)
            fcntl.flock(file, fcntl.LOCK_UN)
            return monotonic()

    assert run_threads(job, job, job) == [1, 1, 1]


def test_flock_that_is_not_to_wait_does_not(tmp_path):
    """The code under test asked for its own way to wait."""

    def holder():
        with open(tmp_path / "lock", "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            sleep(10)

    def other():
        sleep(1)
        with open(tmp_path / "lock", "a") as file:
            with pytest.raises(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return monotonic()

    assert run_threads(holder, other)[1] == 1


def test_record_locks_are_taken_as_ever(tmp_path, way):
    """They are the process's, so its threads never wait for one another; a range stays what it is."""

    def job():
        with open(tmp_path / "lock", "a+") as file:
            way(file, fcntl.LOCK_EX)
            if way is fcntl.lockf:
                fcntl.lockf(file, fcntl.LOCK_EX, 10, 5)
            way(file, fcntl.LOCK_UN)
        return True

    assert run_threads(job) == [True]


def test_flock_that_is_never_released_ends_as_starved(tmp_path):
    """It is no deadlock that could be seen: another process might release it."""
    with open(tmp_path / "lock", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)

        def job():
            with open(tmp_path / "lock", "a") as mine:
                fcntl.flock(mine, fcntl.LOCK_EX)

        with world(DEFAULT_ORDER, 1) as new:
            with suppress(BaseException):
                workers_of(new, 1, simulated_loop=False)(job)
            assert new.starved == "no end after 86,400 s"
