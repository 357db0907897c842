"""Whole processes: shared and copied logins, killed holders, signals, the proxy, and how fast they start."""

from __future__ import annotations

import importlib
import io
import os
import runpy
import signal
import subprocess
import sys
import threading
import time

import pytest

from fake_server.policy import Policy
from pytest_claude_tokens.claude import install, keychain
from pytest_claude_tokens.claude import main as program
from tests.unit.claude.processes import Site

DIALECTS = ["1.0", "2.1.123", "2.1.330"]
SLOW = Policy(latency={"token": 20.0})


@pytest.fixture
def site(tmp_path):
    """Sites, closed at the end."""
    made = []

    def make(dialect="2.1.123", policy=None, **options):
        made.append(Site(tmp_path / f"site-{len(made)}", dialect, policy, **options))
        return made[-1].__enter__()

    yield make
    for each in made:
        each.__exit__()


# The two layouts.


@pytest.mark.parametrize(("dialect", "count"), [("1.0", 4), ("2.1.123", 8), ("2.1.330", 6)])
def test_processes_that_share_a_directory_make_one_token_request(site, dialect, count):
    """All find the lock taken, all wait, one refreshes, the others adopt: one POST, every exit status 0."""
    here = site(dialect)
    config = here.config("shared")
    lock = config.parent / "config.lock"
    lock.mkdir()
    for number in range(count):
        here.start(config, f"w{number}")
    here.until(lambda: len(set(here.told("token_refresh_lock_retry"))) == count)
    lock.rmdir()
    assert here.finish() == [(0, "A\n")] * count
    assert here.tokens() == [200]
    assert len(here.told("token_refresh_lock_acquired")) == 1
    assert len(set(here.told("token_refresh_lock_race_resolved"))) == count - 1
    assert here.told("token_refresh_lock_retry_limit_reached") == []
    assert sorted(os.listdir(config.parent)) == ["config"]
    assert sorted(os.listdir(config)) == [".credentials.json"]


@pytest.mark.parametrize(
    ("dialect", "left"),
    [("1.0", "both"), ("2.1.123", "access"), ("2.1.330", "none")],
)
def test_processes_with_copies_of_one_login_spend_its_refresh_token_again(site, dialect, left):
    """As many POSTs as processes (more from 1.0), one success; each loser fails and leaves what its release leaves."""
    here = site(dialect)
    configs = [here.config(f"copy-{number}") for number in range(4)]
    for number, config in enumerate(configs):
        here.start(config, f"w{number}")
    done = here.finish()
    assert sorted(code for code, _ in done) == [0, 1, 1, 1]
    assert here.tokens().count(200) == 1
    assert here.tokens().count(400) == (12 if dialect == "1.0" else 3)
    for (code, _), config in zip(done, configs, strict=True):
        if code:
            stored = here.stored(config)
            assert bool(stored["accessToken"]) is (left != "none")
            assert bool(stored["refreshToken"]) is (left == "both")


# Killed, and stopped.


def test_a_killed_holders_lock_is_taken_over_when_it_is_stale(site):
    """SIGKILL leaves the lock; the next process takes it over, and asks with the token that was not spent."""
    here = site(policy=SLOW)
    config = here.config("shared")
    holder = here.start(config, "w0")
    here.until(here.asked)
    holder.kill()
    holder.communicate()
    here.running.clear()
    here.until(lambda: here.tokens() == ["client gone"])
    lock = config.parent / "config.lock"
    assert lock.is_dir()
    os.utime(lock, (1, 1))
    here.server.policy = Policy()
    here.start(config, "w1")
    assert here.finish() == [(0, "A\n")]
    assert not lock.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_2_1_123_at_once_and_removes_its_lock(site, number):
    """143 or 130, and no answer is waited for."""
    here = site(policy=SLOW)
    config = here.config("shared")
    process = here.start(config, "w0")
    here.until(here.asked)
    process.send_signal(number)
    assert here.finish() == [(128 + number, "")]
    assert sorted(os.listdir(config.parent)) == ["config"]


def test_2_1_330_saves_its_answer_before_it_obeys_sigterm(site):
    """143, with the new pair in the store."""
    here = site("2.1.330")
    hold = here.hold()
    config = here.config("shared")
    process = here.start(config, "w0")
    here.until(lambda: hold.waited)
    process.terminate()
    here.release(hold)
    assert here.finish() == [(143, "")]
    assert here.stored(config)["accessToken"] == here.grant.access[1].secret


def test_2_1_330_waits_for_a_lock_no_longer_than_until_sigterm(site):
    """Only an answer is worth the wait."""
    here = site("2.1.330")
    config = here.config("shared")
    lock = config.parent / "config.lock"
    lock.mkdir()
    os.utime(lock, (4e9, 4e9))  # never stale
    process = here.start(config, "w0", CLAUDE_TOKENS_TIME_SCALE="1000")
    here.until(lambda: here.told("token_refresh_lock_retry"))
    process.terminate()
    assert here.finish() == [(143, "")]
    assert lock.is_dir()


def test_a_signal_that_is_ignored_stays_ignored(site):
    """A background job of a shell ignores SIGINT."""
    here = site()
    hold = here.hold()
    config = here.config("shared")
    script = f"trap '' INT; exec '{here.bin}/claude' -p 'Reply: A'"
    argv = ["/bin/sh", "-c", script]
    process = subprocess.Popen(
        argv, env=here.environ(config, "w0"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    here.until(lambda: hold.waited)
    process.send_signal(signal.SIGINT)
    here.release(hold)
    assert process.communicate(timeout=30)[0] == "A\n"


# Through the proxy.


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_real_names_are_reached_through_the_proxy(site, dialect):
    """All traffic by CONNECT and TLS; the worker is the proxy's user."""
    pytest.importorskip("trustme", reason="the extra `proxy` is not installed")
    from fake_server.transports.proxy import ProxyServer

    here = site(dialect)
    config = here.config("shared")
    with ProxyServer(here.server, here.folder) as proxy:
        address = proxy.url.replace("://", "://w7:x@")
        ca_file = str(here.folder / "ca.pem")
        more = {"ANTHROPIC_BASE_URL": "", "CLAUDE_TOKENS_TOKEN_URL": "", "NODE_EXTRA_CA_CERTS": ca_file}
        here.start(config, "w0", HTTPS_PROXY=address, **more)
        assert here.finish() == [(0, "A\n")]
    asked = [event for event in here.server.journal.events if event.type == "invoke"]
    assert {event.actor for event in asked} == {"w7"}
    host = "console.anthropic.com" if dialect == "1.0" else "platform.claude.com"
    assert [event.get("host") for event in asked if event.f == "token"] == [host]


# The executables.


def test_the_executables_are_found_on_the_path(site, tmp_path):
    """In a folder with a space in its name; they say what they are, and installing twice is harmless."""
    here = site()
    assert install.install(here.bin) == here.bin
    assert sorted(os.listdir(here.bin)) == ["claude", "security"]
    environ = here.environ(tmp_path, "w0")
    told = subprocess.run(["claude", "--version"], env=environ, capture_output=True, text=True, check=True)
    assert told.stdout == "2.1.123 (Claude Code)\n"
    for name in ("claude", "security"):
        assert (here.bin / name).read_text().splitlines()[1] == install.MARK


def test_security_keeps_its_items_beside_itself_or_where_it_is_told(site, tmp_path):
    """The variable names the file; without it, the folder of the executable has one."""
    here = site()
    environ = here.environ(tmp_path, "w0")
    add = ["security", "add-generic-password", "-a", "me", "-s", "it", "-w", "secret"]
    find = ["security", "find-generic-password", "-s", "it", "-w"]
    subprocess.run(add, env=environ, check=True)
    assert subprocess.run(find, env=environ, capture_output=True, text=True, check=True).stdout == "secret\n"
    assert (here.bin / "keychain.json").exists()
    environ["CLAUDE_TOKENS_KEYCHAIN"] = str(tmp_path / "other.json")
    assert subprocess.run(find, env=environ, capture_output=True, check=False).returncode == 44


def test_a_silent_pipe_costs_its_wait_and_a_warning(site):
    """A dispatcher that leaves standard input open pays for it before the call."""
    here = site(scale=0.02)
    config = here.config("shared")
    argv = [str(here.bin / "claude"), "-p", "Reply: A"]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, env=here.environ(config, "w0"), stdin=pipe, stdout=pipe, stderr=pipe, text=True) as one:
        assert one.stderr.readline().startswith("Warning: no stdin data received in 3s, proceeding without it.")
        assert one.communicate()[0] == "A\n"


def test_it_starts_without_what_is_slow_to_import(site, tmp_path):
    """Neither ssl nor http.client nor argparse; the time is told, and bounded only where something is badly wrong."""
    here = site()
    config = here.config("shared")
    environ = here.environ(config, "w0")
    code = (
        "import sys; sys.path.append(sys.argv.pop(1)); import pytest_claude_tokens.claude.main as m, os\n"
        "slow = {'ssl', 'http.client', 'argparse', 'email', 'subprocess', 'dataclasses', 'pathlib', 'asyncio'}\n"
        "m.os._exit = lambda code: print(code, sorted(slow & set(sys.modules)))\n"
        "m.entry()"
    )
    root = os.path.dirname(os.path.dirname(os.path.dirname(install.__file__)))
    argv = [sys.executable, "-I", "-S", "-c", code, root, "-p", "Reply: A"]
    told = subprocess.run(argv, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    assert told.stdout == "A\n0 []\n"
    began = time.perf_counter()
    subprocess.run([str(here.bin / "claude"), "--version"], env=environ, capture_output=True, check=True)
    seconds = time.perf_counter() - began
    print(f"claude --version: {seconds * 1000:.0f} ms")
    assert seconds < 5


def test_a_standard_output_that_is_closed_ends_it_quietly(site):
    """Exit 1, no traceback, no request."""
    here = site()
    environ = here.environ(here.config("shared"), "w0")
    argv = ["/bin/sh", "-c", f"exec '{here.bin}/claude' -p 'Reply: A' >&-"]
    done = subprocess.run(
        argv, env=environ, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr, here.tokens()) == (1, "", [])


# The entry points, in this process.


@pytest.fixture
def entry(monkeypatch, capfd):
    """Runs an entry point with arguments; gives exit status and output. The signal handlers are put back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def end(code):
        raise SystemExit(code)

    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    with open(os.dup(1), "w", encoding="utf-8") as out, open(os.dup(2), "w", encoding="utf-8") as err:
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)

        def run(start, *arguments):
            monkeypatch.setattr(sys, "argv", ["claude", *arguments])
            with pytest.raises(SystemExit) as ended:
                start()
            out.flush()
            return ended.value.code, capfd.readouterr().out

        yield run
        monkeypatch.undo()
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_entry_point_ends_the_process_with_the_status(entry, monkeypatch):
    """0 for the version; 143 for a signal at any moment; 1 for a reader that has gone."""
    assert entry(program.entry, "--version") == (0, "2.1.123 (Claude Code)\n")

    def signalled(arguments, machine):
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(program, "main", signalled)
    assert entry(program.entry)[0] == 143

    def gone(arguments, machine):
        raise BrokenPipeError

    monkeypatch.setattr(program, "main", gone)
    assert entry(program.entry)[0] == 1


def test_the_entry_point_needs_a_standard_output(entry, monkeypatch):
    """Python has none where the descriptor is closed."""
    monkeypatch.setattr(sys, "stdout", None)
    assert entry(program.entry, "--version") == (1, "")


def test_the_entry_point_leaves_an_ignored_signal_alone(entry):
    """What a shell ignores for its background jobs stays ignored."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    entry(program.entry, "--version")
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_both_programs_run_by_their_module_and_by_their_file(entry, monkeypatch):
    """By file, they find the package by themselves."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    folder = os.path.dirname(keychain.__file__)
    for name, module, arguments, expected in (
        ("__main__.py", "pytest_claude_tokens.claude.__main__", ("--version",), (0, "2.1.123 (Claude Code)\n")),
        ("keychain_main.py", "pytest_claude_tokens.claude.keychain_main", ("dump",), (2, "")),
    ):
        monkeypatch.delitem(sys.modules, module, raising=False)
        assert entry(lambda module=module: importlib.import_module(module), *arguments) == expected
        file = os.path.join(folder, name)
        assert entry(lambda file=file: runpy.run_path(file, run_name="__main__"), *arguments) == expected


def test_an_in_memory_stream_is_always_readable():
    """What has no descriptor has no silence."""
    from pytest_claude_tokens.claude.process import _chance, _readable

    assert _readable(io.StringIO(""), 0.0)
    assert 0 <= _chance() < 1
    assert threading.active_count() >= 1
