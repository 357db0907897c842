"""The mkdir lease and flock: rules, weaknesses, and agreement with npm's proper-lockfile."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pytest_claude_tokens.lease import FlockTimeout, Lease, LeaseHeld, LeaseLost, flock

NODE = shutil.which("node")
NODE_MODULES = os.environ.get("CLAUDE_TOKENS_NODE_MODULES", "")


class Time:
    """A clock that only moves when somebody sleeps."""

    def __init__(self) -> None:
        self.seconds = 1_000_000.25

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "config"
    folder.mkdir()
    return folder


def lease(folder, time, **options) -> Lease:
    return Lease(folder, heartbeat=False, now=time.now, **options)


def test_the_lease_is_a_sibling_directory_and_goes_with_its_release(folder, time):
    """The lock on DIR is the directory DIR.lock beside it, there while it is held and gone afterwards."""
    with lease(folder, time) as held:
        assert held.path == f"{folder}.lock"
        assert Path(held.path).is_dir()
        assert repr(held) == f"<Lease {folder}.lock: held>"
    assert not Path(held.path).exists()
    assert repr(held) == f"<Lease {folder}.lock: not held>"


def test_two_symlinks_to_one_directory_share_the_lease(folder, time, tmp_path):
    """The path is resolved first, so that a symlinked directory has the lock of the real one."""
    (tmp_path / "link").symlink_to(folder)
    with lease(tmp_path / "link", time):
        assert not lease(folder, time).try_acquire()


def test_a_missing_directory_cannot_be_locked(tmp_path, time):
    """What is locked must exist, as its real path is the lock's name."""
    with pytest.raises(FileNotFoundError):
        lease(tmp_path / "nowhere", time).try_acquire()


def test_the_lock_directory_can_be_named(folder, time):
    """An explicit lock path is used as it is, without asking whether anything else exists."""
    held = Lease("nowhere", lock_path=folder / ".oauth_refresh.lock", heartbeat=False, now=time.now)
    assert held.try_acquire()
    assert (folder / ".oauth_refresh.lock").is_dir()
    held.release()


def test_a_contender_tries_again_and_gives_up(folder, time):
    """acquire() pauses between its attempts and raises LeaseHeld after the last."""
    pauses = []
    with lease(folder, time):
        with pytest.raises(LeaseHeld, match="is held"):
            lease(folder, time).acquire(retries=2, pause=lambda n: n * 0.5, sleep=pauses.append)
        with pytest.raises(LeaseHeld):
            lease(folder, time).acquire(retries=1, sleep=pauses.append)
    assert pauses == [0.5, 1.0, 1.0]


def test_a_fresh_lease_has_its_time_in_the_next_second(folder, time):
    """The first mtime is 5 ms past the next whole second, by which the original probes the file system."""
    with lease(folder, time) as held:
        assert os.stat(held.path).st_mtime_ns == 1_000_001_005_000_000


def test_a_lease_is_stale_after_ten_seconds_and_not_before(folder, time):
    """A contender takes over a lease whose time lies more than ten seconds back."""
    dead = lease(folder, time)
    assert dead.try_acquire()
    time.seconds = 1_000_011.0
    assert not lease(folder, time).try_acquire()
    time.seconds = 1_000_011.006
    assert lease(folder, time).try_acquire()


def test_a_touched_lease_stays(folder, time):
    """A holder that touches its lease keeps it past the stale time, even if it was late."""
    held = lease(folder, time)
    held.try_acquire()
    time.sleep(30)
    assert held.touch()
    assert os.stat(held.path).st_mtime_ns == 1_000_030_250_000_000
    time.sleep(10)
    assert not lease(folder, time).try_acquire()


def test_a_holder_learns_that_it_was_taken_over(folder, time):
    """A foreign time on the directory compromises the lease; its release says so and removes nothing."""
    slow = lease(folder, time)
    slow.try_acquire()
    time.sleep(20)
    second = lease(folder, time)
    assert second.try_acquire()
    assert not slow.touch()
    assert not slow.touch()
    assert slow.compromised == "taken over by another process"
    with pytest.raises(LeaseLost, match="taken over"):
        slow.release()
    assert Path(second.path).exists()
    assert slow.try_acquire() is False


def test_a_holder_learns_that_its_lease_was_removed(folder, time):
    """A directory that is gone compromises the lease."""
    held = lease(folder, time)
    held.try_acquire()
    os.rmdir(held.path)
    assert not held.touch()
    assert held.compromised == "removed by another process"


def test_a_holder_cannot_see_a_takeover_within_one_second(folder, time):
    """Both leases then have the same first time, and the old holder takes the new lease for its own."""
    slow, second = lease(folder, time), lease(folder, time)
    slow.try_acquire()
    os.rmdir(slow.path)
    second.try_acquire()
    assert slow.touch()
    assert slow.compromised is None


def test_a_release_removes_whatever_has_the_name(folder, time):
    """Unless it noticed the take-over, a late holder removes the lease of the next one, as the original does."""
    slow = lease(folder, time)
    slow.try_acquire()
    time.sleep(20)
    second = lease(folder, time)
    second.try_acquire()
    slow.release()
    assert not Path(second.path).exists()
    second.release()  # nothing to remove is no error


def test_releasing_what_is_not_held_is_an_error(folder, time):
    """release() is for the holder."""
    with pytest.raises(LeaseLost, match="not held"):
        lease(folder, time).release()
    assert not lease(folder, time).touch()


def test_a_touch_that_fails_is_forgiven_until_it_is_overdue(folder, time, monkeypatch):
    """An error of the file system compromises the lease only after the stale time."""
    held = lease(folder, time)
    held.try_acquire()

    def fail(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("pytest_claude_tokens.lease.os.utime", fail)
    assert held.touch()
    time.sleep(11)
    assert not held.touch()
    assert held.compromised == "could not be touched: Input/output error"


def test_a_lease_whose_time_cannot_be_set_is_given_back(folder, time, monkeypatch):
    """Where the new directory can't be given its time, it is removed and the error raised."""

    def fail(*_, **__):
        raise PermissionError(errno.EPERM, "no")

    monkeypatch.setattr("pytest_claude_tokens.lease.os.utime", fail)
    held = lease(folder, time)
    with pytest.raises(PermissionError):
        held.try_acquire()
    assert not held.held
    assert not Path(held.path).exists()


def test_two_takers_of_one_stale_lease_can_both_get_it(folder, time, monkeypatch):
    """stat, rmdir, mkdir are three steps: the slower taker removes the faster one's fresh lease."""
    dead = lease(folder, time)
    dead.try_acquire()
    time.sleep(20)
    fast, slow = lease(folder, time), lease(folder, time)
    rmdir, raced = os.rmdir, []

    def overtaken(path):
        if not raced:  # the slow taker has seen the stale time, and stands before its rmdir
            raced.append(path)
            assert fast.try_acquire()
        rmdir(path)

    monkeypatch.setattr("pytest_claude_tokens.lease.os.rmdir", overtaken)
    assert slow.try_acquire()
    assert fast.held
    assert slow.held


def test_a_lease_that_vanishes_while_it_is_looked_at_is_free(folder, time, monkeypatch):
    """A holder that releases between mkdir and stat leaves the way free."""
    held = lease(folder, time)
    held.try_acquire()
    stat = os.stat

    def late(path, *args, **kwargs):
        if held.held and os.fspath(path) == held.path:
            held.release()
        return stat(path, *args, **kwargs)

    monkeypatch.setattr("pytest_claude_tokens.lease.os.stat", late)
    assert lease(folder, time).try_acquire()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (10.0, 5.0)),
        ({"stale": 60.0, "update": 5.0}, (60.0, 5.0)),
        ({"stale": 0.5}, (2.0, 1.0)),
        ({"update": 9.0}, (10.0, 5.0)),
        ({"update": 0.1}, (10.0, 1.0)),
    ],
)
def test_times_have_the_bounds_of_the_original(options, expected):
    """stale is at least 2 s; update at least 1 s and at most half of stale."""
    made = Lease("x", **options)
    assert (made.stale, made.update) == expected


def test_the_heartbeat_touches_the_lease_and_ends_with_it(folder, monkeypatch):
    """Without being told otherwise, a thread touches the lease until it is released or lost."""
    held = Lease(folder, stale=2.0)
    touched = threading.Event()
    touch = held.touch

    def touch_and_tell():
        done = touch()
        touched.set()
        return done

    monkeypatch.setattr(held, "touch", touch_and_tell)
    held.update = 0.01
    held.try_acquire()
    (thread,) = (thread for thread in threading.enumerate() if thread.name == "lease-heartbeat")
    assert touched.wait(10)
    held.release()
    thread.join(10)
    assert not thread.is_alive()


# flock.


def test_flock_excludes_and_lets_go(tmp_path):
    """The second holder waits; with a time-out it gives up with FlockTimeout and then succeeds when free."""
    path, naps = tmp_path / "session.lock", []
    with flock(path) as fd:
        assert os.fstat(fd).st_mode & 0o777 == 0o600
        with pytest.raises(FlockTimeout, match="locked by another process"), flock(path, timeout=0.0):
            pass  # pragma: no cover - never entered
        with pytest.raises(FlockTimeout), flock(path, timeout=0.02, poll=0.01):
            pass  # pragma: no cover - never entered
        with pytest.raises(InterruptedError), flock(path, timeout=600, sleep=interrupt(naps)):
            pass  # pragma: no cover - never entered
    assert naps == [0.05]
    with flock(path, timeout=0.0):
        assert path.exists()


def interrupt(naps):
    def sleep(seconds):
        naps.append(seconds)
        raise InterruptedError

    return sleep


# Together with the original.

with_node = pytest.mark.skipif(
    NODE is None or not Path(NODE_MODULES, "proper-lockfile").is_dir(),
    reason="needs node, and CLAUDE_TOKENS_NODE_MODULES naming a node_modules folder with proper-lockfile 4.1.2",
)

LOCK_JS = """
const lockfile = require(process.argv[1]);
(async () => {
  const [dir, what] = process.argv.slice(2);
  try {
    const release = await lockfile.lock(dir, {update: 1000, onCompromised: (e) => console.log('compromised')});
    console.log('acquired');
    if (what === 'kill') process.kill(process.pid, 'SIGKILL');
    for await (const line of process.stdin) break;
    await release();
    console.log('released');
  } catch (e) { console.log(e.code); }
})();
"""


def node(folder, what="wait", **options):
    module = os.path.abspath(os.path.join(NODE_MODULES, "proper-lockfile"))
    argv = [str(NODE), "-e", LOCK_JS, module, str(folder), what]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)


@with_node
def test_a_lease_of_ours_keeps_the_original_out_and_the_other_way_round(folder):
    """Each side finds the other's lease held, and free after its release."""
    ours = Lease(folder)
    with ours, node(folder) as contender:
        assert contender.communicate()[0] == "ELOCKED\n"
    with node(folder) as holder:
        assert holder.stdout.readline() == "acquired\n"
        assert not ours.try_acquire()
        assert holder.communicate("\n")[0] == "released\n"
    assert ours.try_acquire()
    ours.release()


@with_node
def test_the_lease_of_a_killed_holder_is_taken_over_by_either_side_when_stale(folder):
    """Neither side takes a killed holder's fresh lease; both take it once its time is old."""
    with node(folder, "kill") as killed:
        assert killed.communicate()[0] == "acquired\n"
    ours = Lease(folder, heartbeat=False)
    assert not ours.try_acquire()
    os.utime(f"{folder}.lock", (1, 1))
    assert ours.try_acquire()
    os.utime(f"{folder}.lock", (1, 1))
    with node(folder) as taker:
        assert taker.communicate("\n")[0] == "acquired\nreleased\n"


@with_node
def test_the_original_notices_that_we_took_its_lease_over(folder):
    """A take-over by us compromises the original's lease at its next update."""
    with node(folder) as holder:
        assert holder.stdout.readline() == "acquired\n"
        os.utime(f"{folder}.lock", (1, 1))
        ours = Lease(folder, heartbeat=False)
        assert ours.try_acquire()
        os.utime(f"{folder}.lock", (2, 2))
        assert holder.stdout.readline() == "compromised\n"
        ours.release()
        holder.communicate("\n")


def test_the_module_is_cheap_to_import():
    """Threads and fcntl are imported on first use: the fake claude starts with this module."""
    code = "import sys, pytest_claude_tokens.lease; print({'threading', 'fcntl', 'subprocess'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert found.stdout == "set()\n"


ROOT = Path(__import__("pytest_claude_tokens.lease").lease.__file__).parent.parent
