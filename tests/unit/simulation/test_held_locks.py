"""Which locks a witness sees in the hands of each worker, and when it sees them read and write a file."""

from __future__ import annotations

import asyncio
import fcntl
import os
import queue
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import httpx
import pytest

from fake_server.protocol.actors import as_worker
from pytest_claude_tokens.runs import outcome
from pytest_claude_tokens.simulation import files
from pytest_claude_tokens.simulation.files import OpenFile
from pytest_claude_tokens.simulation.held_locks import HeldLocks
from pytest_claude_tokens.simulation.lock_patches import noticed
from pytest_claude_tokens.simulation.witness import witnessed
from tests.unit.simulation.worlds import outcome_of
from tests.zoo.common import HELLO_URL

pytestmark = pytest.mark.usefixtures("staged")


def ask():
    with httpx.Client() as client:
        client.get(HELLO_URL)


async def ask_async():
    async with httpx.AsyncClient() as client:
        await client.get(HELLO_URL)


def watched(body, workers=2):
    """What was seen of each request, in order."""
    with witnessed() as witness:
        ran = outcome_of(body, workers=workers)
    assert ran.error is None
    return [facts["seen"] for _, facts in sorted(witness.facts().items())]


def held(seen, which="held"):
    """The names of the locks that were held, and whether their holder had waited for them."""
    return [[(hold["lock"], hold["waited"]) for hold in one[which]] for one in seen]


def test_a_lock_of_asyncio_is_seen_with_its_line():
    """And when it was given back: after the request."""

    async def body(workers):
        lock = asyncio.Lock()

        async def job():
            async with lock:
                await ask_async()

        await workers(job)

    first, second = watched(body)
    assert held([first, second]) == [[("Lock 1", False)], [("Lock 1", True)]]
    (hold,) = first["held"]
    assert hold["at"] == f"test_held_locks.py:{body.__code__.co_firstlineno + 4}"
    assert hold["tick"] < first["sent"] < first["ended"] < hold["released"] < second["held"][0]["tick"]


def test_a_condition_is_seen_as_its_lock_and_only_while_it_is_held():
    """A wait gives it back meanwhile. Semaphores have names of their own."""

    async def body(workers):
        turn, permits = asyncio.Condition(), asyncio.Semaphore(2)
        ready = False

        async def waits():
            async with turn:
                await turn.wait_for(lambda: ready)
                await ask_async()

        async def notifies():
            nonlocal ready
            async with permits:
                await ask_async()
            async with turn:
                ready = True
                turn.notify()

        await workers(waits, notifies)

    assert held(watched(body)) == [[("Semaphore 1", False)], [("Lock 1", False)]]


def test_who_gives_up_waiting_is_seen():
    """``wait_for`` may make a task for it, in which there is no line of the user's."""

    async def body(workers):
        lock = asyncio.Lock()

        async def holds():
            async with lock:
                await asyncio.sleep(9)
                await ask_async()

        async def gives_up():
            with suppress(TimeoutError):
                await asyncio.wait_for(lock.acquire(), 2)
            await ask_async()
            await ask_async()

        await workers(holds, gives_up)

    seen = watched(body)
    assert held(seen, "gave_up") == [[("Lock 1", False)], [], []]
    assert held(seen) == [[], [], [("Lock 1", False)]]


def test_locks_of_threads_are_seen():
    """One that may be taken twice is held until it was given back as often; a condition, while nobody waits on it."""

    def body(workers):
        lock, again, turn = threading.Lock(), threading.RLock(), threading.Condition()

        def job():
            with lock:
                ask()
            with again, again:
                pass
            with again:
                ask()
            with turn:
                turn.wait(1)
                ask()
            assert not lock.acquire(timeout=0.1) or lock.release() is None
            ask()

        workers(job)

    seen = watched(body, workers=1)
    assert held(seen) == [[("Lock 1", False)], [("Lock 2", False)], [("Lock 3", False)], []]


def test_a_thread_that_gives_up_waiting_is_seen():
    """One that only tried hasn't waited."""

    def body(workers):
        lock = threading.Lock()

        def holds():
            with lock:
                time.sleep(9)

        def gives_up():
            time.sleep(1)
            assert not lock.acquire(blocking=False)
            assert not lock.acquire(timeout=2)
            ask()

        workers(holds, gives_up)

    assert held(watched(body), "gave_up") == [[("Lock 1", False)]]


@pytest.mark.parametrize("patience", [2, 12])
def test_who_does_not_get_a_lock_of_the_file_system_has_given_up(tmp_path, patience):
    """It tries again and again; if the last try was in vain, it goes on without."""

    def body(workers):
        def works(seconds, after):
            time.sleep(after)
            with open(tmp_path / "file", "w") as file:
                for _ in range(patience):
                    with suppress(BlockingIOError):
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        break
                    time.sleep(1)
                time.sleep(seconds)
                ask()

        workers(partial(works, 9, 0), partial(works, 0, 0.5))

    taken = [("file", False)]
    seen = sorted(watched(body), key=lambda one: one["sent"])
    first = [taken, taken] if patience > 9 else [[], taken]
    assert (held(seen), held(seen, "gave_up")) == (first, [[], []] if patience > 9 else [taken, []])


def test_a_lock_of_the_file_system_is_seen(tmp_path):
    """Made by ``mkdir`` or ``O_EXCL``, or locked; what is made for another purpose is none."""

    def body(workers):
        def job():
            tempfile.mkdtemp(dir=tmp_path)
            os.mkdir(tmp_path / "home.lock")
            os.close(os.open(tmp_path / "lease", os.O_CREAT | os.O_EXCL))
            os.close(os.open(tmp_path / "other.lock", os.O_CREAT))
            with open(tmp_path / "file", "w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                ask()
                fcntl.flock(file, fcntl.LOCK_UN)
            os.rmdir(tmp_path / "home.lock")
            os.remove(tmp_path / "lease")
            ask()

        workers(job)

    names = [("home.lock", False), ("lease", False), ("file", False)]
    assert held(watched(body, workers=1)) == [names, []]


def test_a_record_lock_is_told_as_what_it_is(tmp_path):
    """Threads of one process have it together, so that nobody waits for it and taking it ends nobody's."""

    def body(workers):
        def job():
            with open(tmp_path / "file", "w") as file:
                fcntl.lockf(file, fcntl.LOCK_EX)
                ask()
                fcntl.lockf(file, fcntl.LOCK_UN)
            ask()

        workers(job)

    told = [("file (a record lock, which keeps processes apart and not threads)", False)]
    seen = watched(body)
    assert held(seen) == [told, told, [], []]
    assert seen[0]["held"][0]["released"] > seen[1]["sent"]


@pytest.mark.parametrize(
    "make", [partial(os.makedirs, exist_ok=True), partial(Path.mkdir, parents=True, exist_ok=True)]
)
def test_a_folder_that_may_be_there_already_is_no_lock(tmp_path, make):
    """Whoever comes later does not wait for it, and goes on."""

    def body(workers):
        def job():
            make(tmp_path / "home" / "locks", exist_ok=True)
            ask()

        workers(job)

    assert held(watched(body)) == [[], []]


def test_a_path_that_another_wanted_is_a_lock_whatever_its_name(tmp_path):
    """And it is known who took it away, and after how long."""

    def body(workers):
        def slow():
            os.mkdir(tmp_path / "turn")
            time.sleep(9)
            ask()

        def takes():
            time.sleep(1)
            with suppress(FileExistsError):
                os.mkdir(tmp_path / "turn")
            time.sleep(5)
            os.rmdir(tmp_path / "turn")
            ask()

        workers(slow, takes)

    early, late = watched(body)
    assert held([early, late]) == [[], []]
    (lost,) = late["lost"]
    assert (lost["lock"], lost["taken_by"], lost["after"]) == ("turn", "w1", 6.0)
    assert lost["taken_at"].startswith("test_held_locks.py:")
    assert early["lost"] == []


def test_the_file_with_the_login_is_one_that_is_written(tmp_path):
    """By which name it does not matter: when it was last read, and when it was written after the reply."""
    (tmp_path / "login").write_text("old")
    (tmp_path / "settings").write_text("old")

    def body(workers):
        def job():
            (tmp_path / "login").read_text()
            (tmp_path / "settings").read_text()
            ask()
            (tmp_path / "new").write_text("new")
            os.replace(tmp_path / "new", tmp_path / "login")
            ask()

        workers(job)

    first, second = watched(body, workers=1)
    assert first["read"]["file"] == "login"
    assert first["read"]["tick"] < first["sent"] < first["ended"] < first["wrote"] < second["sent"]
    assert (second["read"], second["wrote"]) == (first["read"], None)


def test_what_libraries_and_the_body_lock_is_not_told():
    """A client has locks for its own purposes, and the body is no worker."""

    async def body(workers):
        lock = asyncio.Lock()
        async with lock, asyncio.timeout(1):
            await asyncio.to_thread(os.mkdir, tempfile.mktemp())

        async def job():
            await of_a_library(lock)

        await workers(job)

    code = compile("async def of_a_library(lock):\n async with lock:\n  await ask()", "/x/site-packages/lib.py", "exec")
    exec(code, names := {"ask": ask_async})
    of_a_library = names["of_a_library"]

    assert held(watched(body)) == [[], []]


def test_who_waits_for_a_future_holds_no_lock():
    """Nor does who waits for an event, a barrier, a queue or a thread: theirs are nobody's lease."""

    def body(workers):
        def job():
            done, jobs = threading.Event(), queue.Queue()
            thread = threading.Thread(target=lambda: [jobs.get(), done.set()])
            with ThreadPoolExecutor(1) as pool:
                thread.start()
                jobs.put(1)
                done.wait()
                pool.submit(ask).result()
            thread.join()

        workers(job)

    assert held(watched(body)) == [[], []]


def test_requests_within_one_call_of_a_library_have_one_number():
    """A loop of the user's own has another one for each of its rounds."""
    source = "async def twice(client, url):\n await client.get(url)\n await client.get(url)"
    exec(compile(source, "/x/site-packages/retrying.py", "exec"), names := {"__name__": "retrying.inner"})

    async def body(workers):
        async def job():
            async with httpx.AsyncClient() as client:
                for _ in range(2):
                    await names["twice"](client, HELLO_URL)
                await client.get(HELLO_URL)

        await workers(job)

    calls = [[(call["library"], call["call"]) for call in one["calls"]] for one in watched(body, workers=1)]
    assert calls == [[("retrying", 0)], [("retrying", 0)], [("retrying", 2)], [("retrying", 2)], [("httpx", 4)]]


def test_a_file_without_a_path_has_a_name(monkeypatch, tmp_path):
    """Where the system does not tell it."""
    monkeypatch.setattr(files.os, "readlink", lambda path: (_ for _ in ()).throw(OSError))
    with open(tmp_path / "x", "w") as file:
        assert OpenFile.of(file.fileno()).path.startswith("/flock/")


def test_a_lock_of_a_file_ends_with_it(tmp_path):
    """Closed, or closed and its number given to another; where another gets the lock, the first has let it go."""
    locks, line = HeldLocks(lambda: 0.0), (compile("", "pool.py", "exec"), 1)
    paths = [tmp_path / name for name in ("a", "b", "c")]

    def held_by(worker):
        return [hold.key for hold in locks.of(worker).holds if hold.released is None]

    def lock(path, worker, *, taken=True):
        file = open(path, "w")  # noqa: SIM115 - closed by the test
        with as_worker(worker):
            opened = OpenFile.of(file.fileno())
            locks.got(locks.path(path), line, file=opened, alone=taken)
        return file

    first, second = lock(paths[0], "w0"), lock(paths[1], "w0")
    first.close()
    locks.sent(1, "w0")
    assert held_by("w0") == [str(paths[1])]
    other = lock(paths[2], "w1")  # it has the number of the first
    second.close()
    locks.ended(1)
    assert (held_by("w0"), held_by("w1")) == ([], [str(paths[2])])
    shared = lock(paths[2], "w0", taken=False)
    assert (held_by("w0"), held_by("w1")) == ([str(paths[2])], [str(paths[2])])
    again = lock(paths[2], "w2")
    assert (held_by("w0"), held_by("w1"), held_by("w2")) == ([], [], [str(paths[2])])
    for file in (other, shared, again):
        file.close()


def test_locks_that_end_with_their_files_are_not_told_as_held_at_once(tmp_path):
    """The usual way to lock a file: one after the other has it."""

    def body(workers):
        def job():
            with open(tmp_path / "x.lock", "w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                ask()
            ask()

        workers(job)

    name = [("x.lock", False)]
    assert sorted(held(watched(body))) == [[], [], name, name]


def test_only_workers_are_watched_and_only_where_the_user_asks(tmp_path):
    """The body may hold and want locks, too; the simulation tries file locks on behalf of those who wait."""
    locks, key, line = HeldLocks(lambda: 0.0), "x.lock", (compile("", "pool.py", "exec"), 1)
    locks.missed(1, line)
    locks.got(key, line, waited=False)
    locks.let_go(key, line)
    with as_worker("w0"), noticed(locks), open(tmp_path / "file", "w") as file:
        for call in (
            partial(os.mkdir, tmp_path / "x.lock"),
            partial(os.rmdir, tmp_path / "x.lock"),
            partial(fcntl.flock, file, fcntl.LOCK_EX),
        ):
            outcome.call(call, {})
    assert (locks.of("w0").holds, locks.of("w0").gave_up) == ([], [])


def test_a_lock_is_given_back_by_who_holds_it():
    """If that is another worker, it was taken away, where it is a path. What nobody holds is nobody's to give back."""
    locks, line = HeldLocks(lambda: 5.0), (compile("", "pool.py", "exec"), 1)
    for worker, key in (("w0", "a.lock"), ("w1", "b.lock"), ("w1", 7)):
        with as_worker(worker):
            locks.got(key, line, waited=False)
    with as_worker("w0"):
        for key in (7, "b.lock", "c.lock"):
            locks.let_go(key, line)
    assert [hold.released is None for hold in locks.of("w0").holds] == [True]
    assert [hold.taken_by for hold in locks.of("w1").holds] == [("w0", 0.0, line), None]
    assert all(hold.released for hold in locks.of("w1").holds)


def test_an_event_of_a_file_is_a_reading_or_a_writing(tmp_path):
    """Of a worker, by a path, on behalf of the user."""
    locks = HeldLocks(lambda: 0.0)
    login, other = str(tmp_path / "login"), str(tmp_path / "other")
    for args in ((login, "r", os.O_RDONLY), (login, None, None), (other, "w", os.O_WRONLY), (3, "r", os.O_RDONLY)):
        locks.file("open", args)  # nobody's
        with as_worker("w0"):
            locks.file("open", args)
            outcome.call(partial(locks.file, "open", (login, "w", os.O_RDWR)), {})
    with as_worker("w1"):
        locks.file("os.rename", (other, login, -1, -1))
    assert list(locks.of("w0").read) == [login]
    assert [(worker, path) for _, worker, path in locks.wrote] == [("w0", other), ("w1", login)]


def test_who_wrote_a_store_is_known_where_one_file_was_written_since_the_last_look(tmp_path):
    """One that is still there, and no lock; of several the one that says what it is. The last writer counts."""
    locks = HeldLocks(lambda: 0.0)
    login, other, gone, lock = (str(tmp_path / name) for name in (".credentials.json", "notes", "gone", "it.lock"))
    for path in (login, other, lock):
        Path(path).touch()

    def looks(*writes):
        for worker, path in writes:
            with as_worker(worker):
                locks.file("open", (path, "w", os.O_WRONLY))
        return locks.written("shared")

    mine = f"test_held_locks.py:{looks.__code__.co_firstlineno + 3}"
    assert looks() == {}
    found = looks(("w0", other), ("w1", other), ("w1", gone), ("w0", lock))
    assert found == {"by": "w1", "at": mine}
    assert looks() == {}
    assert looks(("w0", login), ("w1", other))["by"] == "w0"
    Path(second := str(tmp_path / "more")).touch()
    assert looks(("w0", second), ("w1", other)) == {}


def test_the_line_that_wrote_a_store_has_its_caller_in_another_file(tmp_path):
    """A helper that writes files says little by itself."""
    locks, store = HeldLocks(lambda: 0.0), tmp_path / "login"
    store.touch()
    helper = compile("def write(do):\n    do()\ndef save(do):\n    write(do)\n", str(tmp_path / "helper.py"), "exec")
    names = {}
    exec(helper, names)
    with as_worker("w0"):
        names["save"](partial(locks.file, "open", (str(store), "w", os.O_WRONLY)))
    line = sys._getframe().f_lineno - 1
    assert locks.written("shared") == {"by": "w0", "at": f"helper.py:2 from test_held_locks.py:{line}"}
