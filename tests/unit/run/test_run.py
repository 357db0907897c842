"""``claude-tokens run``: any command, judged by its token traffic."""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
import tempfile

import pytest

from fake_server.serve import history_file
from pytest_claude_tokens.cli import check
from pytest_claude_tokens.cli import run as running
from tests.unit.run.conftest import NOTHING, PATIENCE

SPEND_TWICE = """
import json, os, urllib.error, urllib.request
with open(os.environ["CLAUDE_CONFIG_DIR"] + "/.credentials.json") as file:
    token = json.load(file)["claudeAiOauth"]["refreshToken"]
body = json.dumps({"grant_type": "refresh_token", "refresh_token": token, "client_id": "c"}).encode()
for worker in ("w0", "w1"):
    url = os.environ["ANTHROPIC_BASE_URL"] + "/w/" + worker + "/v1/oauth/token"
    try:
        urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": "application/json"})).read()
    except urllib.error.HTTPError as error:
        error.close()
"""
"""A program that ends with status 0, and that has spent a refresh token twice."""


def test_a_sound_command_is_valid(run):
    """A login lies in the folder, `claude` is found on PATH, and the answer is the command's output."""
    ended = run("--", "claude", "-p", "Reply: A")

    assert (ended.status, ended.out, ended.err) == (0, "A\n", "claude-tokens: VALID, 1 request\n")


def test_as_a_process_of_its_own_it_says_the_same(start):
    """Standard output is the command's alone."""
    process = start("run", "claude", "-p", "Reply: A", stdin=-3)
    out, err = process.communicate(timeout=PATIENCE)

    assert (process.returncode, out, err) == (0, "A\n", "claude-tokens: VALID, 1 request\n")


def test_the_exit_status_of_the_command_proves_nothing(run, tmp_path):
    """All is well, says the command; the history knows better, and `check` says so of the file."""
    history = tmp_path / "history.jsonl"
    ended = run("--history", history, "--", sys.executable, "-c", SPEND_TWICE)

    assert ended.status == 1
    assert ended.err.startswith("claude-tokens: INVALID, 2 requests: claude_tokens.DoubleSpend: rt#1 by w0")
    assert "sk-ant" not in ended.err + history.read_text()
    assert check.main([str(history)]) == 1


def test_the_policy_is_the_one_that_was_named(run):
    """Here, one that revokes the whole grant after a reuse."""
    ended = run("--policy", "anthropic-harsh", "--", sys.executable, "-c", SPEND_TWICE)

    assert ended.status == 1
    assert "policy anthropic-harsh" in ended.err
    assert "a person has to log in again" in ended.err


@pytest.mark.parametrize(
    ("line", "told"),
    [("exit 7", "status 7"), ("kill -KILL $$", "SIGKILL")],
)
def test_a_command_that_fails_by_itself_is_told(run, line, told):
    """Valid as far as tokens go, or unknown; the exit status says that something else went wrong."""
    ended = run("--", "sh", "-c", f"claude -p x; {line}")
    idle = run("--", "sh", "-c", line)

    said = f"claude-tokens: the command failed by itself, with {told}\n"
    assert (ended.status, ended.err) == (3, f"claude-tokens: VALID, 1 request\n{said}")
    assert (idle.status, idle.err.startswith(NOTHING), idle.err.endswith(f"\n{said}")) == (3, True, True)


def test_nothing_that_was_judged_proves_nothing(run, tmp_path):
    """UNKNOWN, here and in `check`, with what was asked for instead; a path that nobody serves doesn't count."""
    history = tmp_path / "history.jsonl"
    get = "import os, urllib.request as u; u.urlopen({})"
    missed = run("--", sys.executable, "-c", get.format("os.environ['ANTHROPIC_BASE_URL'] + '/nowhere'"))
    stray = run("--history", history, "--", sys.executable, "-c", get.format("'http://example.com/x'"))

    assert (missed.status, "claude-tokens: UNKNOWN, 1 request\n" in missed.err) == (3, True)
    assert "GET 127.0.0.1/nowhere -> 404 (once): not an endpoint of service 'claude'" in " ".join(missed.err.split())
    assert (stray.status, "claude-tokens: UNKNOWN, 0 requests\n" in stray.err) == (3, True)
    assert "requests to example.com refused (once): name it in hosts=" in " ".join(stray.err.split())
    assert check.main([str(history)]) == 3


def test_a_violation_counts_for_more_than_a_failure_of_the_commands(run):
    """It may well be why the command failed."""
    ended = run("--", sys.executable, "-c", SPEND_TWICE + "\nraise SystemExit(9)")

    assert (ended.status, "by itself" in ended.err) == (1, False)


def test_what_the_command_gets(run, monkeypatch):
    """A scratch HOME, a login in a folder, as many tokens as were asked for, and nothing of the user's own."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-api03-of-the-user")
    monkeypatch.setenv("TOKEN_A", "of the user, from another day")
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    ended = run("--tokens", 2, "--token", "TOKEN_A", "--", sys.executable, "-c", code)
    env = json.loads(ended.out)

    tokens = [env[name] for name in ("TOKEN_A", "CLAUDE_TOKEN_1", "CLAUDE_TOKEN_2")]
    assert len(set(tokens)) == 3
    assert {token.partition("-FAKE")[0] for token in tokens} == {"sk-ant-oat01"}
    assert "ANTHROPIC_API_KEY" not in env
    assert "CLAUDE_CODE_OAUTH_TOKEN" not in env
    assert env["HOME"] != os.environ["HOME"]
    assert not os.path.exists(env["HOME"])
    assert env["PATH"].endswith(os.environ["PATH"])


def test_the_token_of_the_environment_is_the_other_way_to_log_in(run, handle):
    """A setup-token of its own, exported by the name that Claude Code reads: it is used, and the folder is not."""
    script = 'test -f "$CLAUDE_CONFIG_DIR/.credentials.json" && claude -p "Reply: A"'
    ended = run("--token", "CLAUDE_CODE_OAUTH_TOKEN", "--", "sh", "-c", script)

    assert (ended.status, ended.out) == (0, "A\n")
    (tokens,) = handle
    assert [op.account for op in tokens.history.operations] == ["CLAUDE_CODE_OAUTH_TOKEN"]


def test_standard_input_is_the_commands(start):
    """What is piped in arrives; a program that reads a prompt from there can be run."""
    process = start("run", "--", "sh", "-c", "cat; claude -p x </dev/null >/dev/null", stdin=-1)

    out, _ = process.communicate("some text\n", timeout=PATIENCE)

    assert (process.returncode, out) == (0, "some text\n")


def test_a_terminal_is_the_commands(start):
    """A program that asks a person can ask."""
    pty = pytest.importorskip("pty", reason="no pseudo-terminals here")
    ours, theirs = pty.openpty()
    try:
        os.write(ours, b"typed\n")
        process = start("run", "--", "sh", "-c", 'test -t 0 && read -r word && echo "got $word"', stdin=theirs)
        assert process.communicate(timeout=PATIENCE)[0] == "got typed\n"
    finally:
        os.close(ours)
        os.close(theirs)


def test_the_users_home_is_neither_read_nor_written(start, tmp_path):
    """A login lies there, as a pipe that would hold up whoever opened it: nobody does, and nothing is put beside it."""
    folder = tmp_path / ".claude"
    folder.mkdir(mode=0o500)
    canary = folder / ".credentials.json"
    os.mkfifo(canary)
    (tmp_path / ".claude.json").write_text("{}")
    (tmp_path / ".claude.json").chmod(0)
    before = _listing(tmp_path)
    script = "claude -p 'Reply: A' && claude auth status && HOME=$HOME claude -p 'Reply: B'"
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "CLAUDE_CONFIG_DIR": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
    }

    process = start("run", "--", "sh", "-c", script, env=environment, stdin=-3)
    out, err = process.communicate(timeout=PATIENCE)

    assert (process.returncode, err) == (0, "claude-tokens: VALID, 2 requests\n")
    assert '"loggedIn": true' in out
    assert _listing(tmp_path) == before
    with pytest.raises(OSError, match="No such device"):  # nobody has it open to read
        os.open(canary, os.O_WRONLY | os.O_NONBLOCK)


def _listing(root):
    """Every name below, with what a change would change."""
    found = {path: path.lstat() for path in root.rglob("*")}
    return {path: (stat.filemode(it.st_mode), it.st_mtime_ns, it.st_ctime_ns) for path, it in found.items()}


def test_many_connections_at_once_lose_nothing(run):
    """Five hundred, all open before the first one asks; each is answered, and in the history."""
    program = """
import os, socket
from urllib.parse import urlsplit
address = urlsplit(os.environ["ANTHROPIC_BASE_URL"])
sockets = [socket.create_connection((address.hostname, address.port)) for _ in range(500)]
for one in sockets:
    one.sendall(b"GET /api/hello HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n")
print(sum(one.recv(12) == b"HTTP/1.1 200" for one in sockets))
"""
    ended = run("--", sys.executable, "-c", program)

    assert (ended.status, ended.out, ended.err) == (0, "500\n", "claude-tokens: VALID, 500 requests\n")


# Mistakes.


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "name a command after `--`, such as: -- bash script.sh"),
        (["--"], "name a command after `--`, such as: -- bash script.sh"),
        (["--policy", "nosuch", "--", "true"], "no policy is named 'nosuch'; choose one of anthropic, "),
        (["--timeout", "soon", "--", "true"], "argument --timeout: 'soon' must be a number of seconds, 0 or more"),
        (["--timeout", "0", "--", "true"], "argument --timeout: '0' would end the command before it begins; leave"),
        (["--timeout", "nan", "--", "true"], "argument --timeout: 'nan' must be a number of seconds, 0 or more"),
        (["--serialize", "-1", "--", "true"], "argument --serialize: '-1' must be a number of seconds, 0 or more"),
        (["--tokens", "-1", "--", "true"], "argument --tokens: '-1' must be a whole number, 0 or more"),
        (["--tokens", "1001", "--", "true"], "argument --tokens: '1001' must be a whole number, at most 1,000"),
        (["--tokens", "two", "--", "true"], "argument --tokens: 'two' must be a whole number, 0 or more"),
        (["--nosuch", "--", "true"], "unrecognized arguments: --nosuch"),
        (
            ["--token", "A=B", "--", "true"],
            "--token 'A=B': must be the name of a variable: 1 to 32 letters, digits and _",
        ),
        (["--token", "PATH", "--", "true"], "--token PATH: that variable is set already, by this command"),
        (["--token", "T", "--token", "T", "--", "true"], "--token T: that variable is set already, by this command"),
        (["--history", "/nosuch/h.jsonl", "--", "true"], "/nosuch/h.jsonl can't be written: No such file or directory"),
        (["--history", "/", "--", "true"], "/ can't be written: Is a directory"),
        (["--allow", "nonsense", "--", "true"], "--allow: no invariant is named 'nonsense'; they are double-spend, "),
        (["--", "no-such-program"], "no-such-program can't be started: No such file or directory"),
        (["--", "/"], "/ can't be started: Permission denied"),
    ],
)
def test_a_mistake_is_one_sentence(run, arguments, told):
    """And exit status 2."""
    ended = run(*arguments)

    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith(f"claude-tokens run: {told}")
    assert ended.err.count("\n") == 1


def test_a_history_is_kept_where_there_is_nothing_to_run(run, tmp_path):
    """A word that is mistyped costs nobody the last run's history."""
    history = tmp_path / "history.jsonl"
    history.write_text("kept")

    assert run("--history", history, "--", "no-such-program").status == 2
    assert history.read_text() == "kept"


def test_the_login_may_be_due_for_a_refresh(run, tmp_path):
    """The command refreshes it; requests take as long as was asked for."""
    history = tmp_path / "h.jsonl"
    options = ("--expired", "--latency", "token=0.01,call=0.02", "--history", history)
    assert run(*options, "--", "claude", "-p", "Reply: A").status == 0
    lines = [json.loads(line) for line in history.read_text().splitlines()]
    assert [line["f"] for line in lines if line["type"] == "ok" and line["f"] != "other"] == ["token", "call"]
    assert lines[0]["policy"]["latency"] == {"token": 0.01, "call": 0.02}


def test_what_is_allowed_is_noted(run):
    """As in a test."""
    allowed = ("double-spend", "refresh-storm", "lost-rotation", "forced-login")
    ended = run(*(word for name in allowed for word in ("--allow", name)), "--", sys.executable, "-c", SPEND_TWICE)

    assert ended.status == 0
    assert "note: double-spend: " in ended.err


def test_without_the_extra_it_is_said_what_does_not_arrive(run, monkeypatch):
    """Not only where somebody has asked for it."""
    monkeypatch.setattr("fake_server.transports.proxy.available", lambda: False)

    assert 'without the extra "proxy" only http reached the service' in run("--", "true").err


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_read_only_folder_is_told(run, tmp_path):
    """In one sentence, too."""
    tmp_path.chmod(0o500)
    ended = run("--history", tmp_path / "history.jsonl", "--", "true")

    assert (ended.status, ended.err.endswith("can't be written: Permission denied\n")) == (2, True)


def test_no_folder_for_what_is_temporary_is_told(run, monkeypatch):
    """Where nothing can be written, nothing can be tested."""

    def refuse(**_):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "/nosuch")

    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "mkdtemp", refuse)
        ended = run("--", "true")

    assert ended.status == 2
    assert ended.err == "claude-tokens run: a temporary folder can't be made: No such file or directory\n"


@pytest.mark.parametrize("where", ["fifo", "folder", "nowhere/h", "/dev/null"])
def test_a_history_that_can_not_be_written_is_told(run, tmp_path, where):
    """Before anything is started, and without waiting for anybody."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    path = tmp_path / where
    ended = run("--history", path, "--", "echo", "started")

    why = {
        "fifo": "it is a FIFO; name a regular file",
        "folder": "Is a directory",
        "nowhere/h": "No such file or directory",
        "/dev/null": "it is a device; name a regular file",
    }
    assert (ended.status, ended.out) == (2, "")
    assert ended.err == f"claude-tokens run: {path} can't be written: {why[where]}\n"


def test_a_history_that_can_no_longer_be_written_costs_the_file_and_not_the_verdict(run, tmp_path, monkeypatch):
    """Clients are answered all the same; that the file is not whole is told. Here, the disk fills up."""
    file, attend = tmp_path / "h.jsonl", running._attend

    def full(*_):
        raise OSError(28, "No space left on device")

    def filling(*arguments):
        monkeypatch.setattr(history_file, "_write", full)
        return attend(*arguments)

    monkeypatch.setattr(running, "_attend", filling)
    ended = run("--history", file, "--", "claude", "-p", "Reply: A")

    assert (ended.status, ended.out) == (0, "A\n")
    assert (
        ended.err == f"claude-tokens: VALID, 1 request\nclaude-tokens: {file} is not whole: No space left on device\n"
    )
    assert check.main([str(file)]) == 3
