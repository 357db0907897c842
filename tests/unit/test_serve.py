"""``serve`` as a function: its options, its errors, its first line and its end."""

from __future__ import annotations

import io
import json
import os
import queue
import signal
import socket
import ssl
import stat
import sys
import tempfile
import threading
from contextlib import ExitStack, contextmanager

import httpx
import pytest

from fake_server import __main__ as module
from fake_server.serve import history_file
from fake_server.serve import service as serving
from fake_server.serve.service import Judged, build_parser, serve
from tests.unit.transports.raw import PATIENCE, raw, request, token_body


class AJudge:
    """A judge that finds what it is told to find."""

    def __init__(self, exit_status=0):
        self.exit_status = exit_status
        self.ended = None

    def header(self):
        return {"limit": 7}

    def credentials(self, grant):
        secret = grant.refresh[0].secret if grant.refresh else None
        return {"refresh": secret, "expires": grant.access[0].expires_at}

    def environment(self, grant, *, home, url, proxy, ca_file):
        return {"HOME": home, "URL": url, "PROXY": proxy or "", "CA": ca_file or "", "NAME": grant.account}

    def look(self, server):
        return Judged(3, "so far", {"events": len(server.journal.events)})

    def finish(self, server):
        self.ended = [event.type for event in server.journal.events]
        server.journal.note("end")
        return Judged(self.exit_status, "it is over", {})


class Lines(io.TextIOBase):
    """A standard output whose lines another thread can wait for."""

    def __init__(self):
        self.lines = queue.Queue()
        self._part = ""
        self.flushed = False

    def write(self, text):
        self._part += text
        return len(text)

    def flush(self):
        if self._part:
            self.lines.put(self._part)
            self._part = ""


@pytest.fixture
def run(monkeypatch):
    """Runs ``serve`` in this thread, a client in another, and sends a signal when the client is done."""

    def run(argv, client, judge, number=signal.SIGTERM):
        lines = Lines()
        monkeypatch.setattr(sys, "stdout", lines)
        errors = []

        def work():
            try:
                client(json.loads(lines.lines.get(timeout=PATIENCE)))
            except BaseException as error:
                errors.append(error)
            finally:
                signal.pthread_kill(threading.main_thread().ident, number)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            return serve(argv, judge)
        finally:
            thread.join()
            assert errors == []

    return run


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("status", [0, 1, 3])
def test_it_ends_with_the_verdict(run, capsys, status, number):
    """Either signal ends it; the verdict is on standard error, and its number is the exit status."""
    judge = AJudge(status)
    assert run([], lambda _: None, judge, number) == status
    assert capsys.readouterr().err == "it is over\n"
    assert judge.ended == ["note"]


def test_the_first_line_says_all_that_a_client_needs(run, tmp_path):
    """URL, proxy, certificate, history and accounts, which have a home of their own."""
    history = tmp_path / "h.jsonl"

    def client(facts):
        assert list(facts) == ["url", "proxy", "ca", "history", "accounts"]
        assert facts["history"] == str(history)
        names = [account["name"] for account in facts["accounts"]]
        assert names == ["alice", "bob", "carol"]
        env = facts["accounts"][0]["env"]
        assert (env["URL"], env["PROXY"], env["CA"]) == (facts["url"], facts["proxy"], facts["ca"])
        assert stat.S_IMODE(os.stat(env["HOME"]).st_mode) == 0o700
        homes.extend(account["env"]["HOME"] for account in facts["accounts"])
        context = ssl.create_default_context(cafile=facts["ca"])
        content = token_body(facts["accounts"][0]["credentials"]["refresh"])
        with httpx.Client(proxy=facts["proxy"], verify=context, trust_env=False) as http:
            assert http.post("https://platform.claude.com/v1/oauth/token", content=content).status_code == 200
        written.append(history.read_text().count("\n"))

    homes, written = [], []
    assert run(["--history", str(history), "--account", "alice", "bob", "--account", "carol"], client, AJudge()) == 0
    lines = [json.loads(line) for line in history.read_text().splitlines()]
    assert written == [len(lines) - 1]
    assert lines[0]["limit"] == 7
    assert [line["f"] for line in lines] == ["header", "login", "login", "login", "token", "commit", "token", "end"]
    assert len(set(homes)) == 3
    assert not any(os.path.exists(home) for home in homes)


def test_expired_accounts_have_expired(run):
    """``--expired`` is for all accounts of the command line."""

    def client(facts):
        ends = [account["credentials"]["expires"] for account in facts["accounts"]]
        with httpx.Client(base_url=facts["url"]) as http:
            later = http.post("/_claude_tokens/accounts", json={}).json()
            assert http.post("/_claude_tokens/accounts", json={"name": "x y"}).status_code == 400
            taken = http.post("/_claude_tokens/accounts", json={"name": "a"}).json()
            assert http.get("/_claude_tokens/verdict").json() == {"events": 3}
        assert max(ends) < later["credentials"]["expires"]
        assert later["name"] == "a1"
        assert "logged in already" in taken["error"]["message"]

    run(["--expired", "--account", "a", "b"], client, AJudge())


def test_without_a_name_there_is_one_account(run):
    """A service with nobody logged in would be of no use."""

    def client(facts):
        assert [account["name"] for account in facts["accounts"]] == ["a1"]
        assert facts["history"] is None

    run([], client, AJudge())


@pytest.mark.parametrize("argv", [["--no-account"], ["--account"]])
def test_it_can_start_with_nobody_logged_in(run, argv):
    """For clients that log in themselves."""

    def client(facts):
        assert facts["accounts"] == []
        with httpx.Client(base_url=facts["url"]) as http:
            assert http.post("/_claude_tokens/accounts").json()["name"] == "a1"

    judge = AJudge()
    assert run(argv, client, judge) == 0
    assert judge.ended == ["note"]


def test_requests_take_as_long_as_was_asked_for(run):
    """By kind, or all; and a call's turn comes as late as was asked for."""

    class Looks(AJudge):
        def finish(self, server):
            policies.append(server.policy)
            return super().finish(server)

    policies = []
    for argv in (["--latency", "0.25"], ["--latency", "token=0.5, call=2", "--serialize", "4"]):
        run(argv, lambda _: None, Looks())
    assert [policy.latency for policy in policies] == [0.25, {"token": 0.5, "call": 2}]
    assert [(policy.serialize, policy.queue_limit) for policy in policies] == [(None, 10), (4, 12)]


def open_request(facts, stack, count=1):
    """A connection whose token request, the ``count``-th of all, has arrived."""
    client = stack.enter_context(raw(int(facts["url"].rpartition(":")[2])))
    client.send(request("POST", "/v1/oauth/token", token_body("unknown")))
    with httpx.Client(base_url=facts["url"]) as http:
        while http.get("/_claude_tokens/history").text.count('"invoke"') < count:
            pass
    return client


def test_an_open_request_may_end_by_itself(run):
    """A request that is under way when the signal comes is answered."""

    def client(facts):
        with httpx.Client(base_url=facts["url"]) as http:
            http.post("/_claude_tokens/faults", json={"target": "token", "fault": "delay", "seconds": 0.2})
        asked.append(open_request(facts, stack))

    asked = []
    judge = AJudge()
    with ExitStack() as stack:
        run([], client, judge)
        assert asked[0].reply().status == 400
        assert asked[0].to_the_end() == b""
    assert judge.ended[-1] == "fail"


def test_a_request_that_does_not_end_is_given_up(run, monkeypatch):
    """Nobody waits for ever: what is still open when the grace is over ends as unknown, before the history does."""
    assert serving._GRACE_PERIOD_SECONDS <= 2  # of the three within which who has sent the signal expects the end
    monkeypatch.setattr(serving, "_GRACE_PERIOD_SECONDS", 0.01)

    def client(facts):
        with httpx.Client(base_url=facts["url"]) as http:
            http.post("/_claude_tokens/faults", json={"fault": "timeout"})
        open_request(facts, stack)

    judge = AJudge()
    with ExitStack() as stack:
        run([], client, judge)
    assert judge.ended == ["note", "invoke", "info"]


def test_a_late_signal_is_forgotten(run):
    """A second Ctrl-C during the end does not break it."""

    class Impatient(AJudge):
        def finish(self, server):
            signal.raise_signal(signal.SIGINT)
            return super().finish(server)

    assert run([], lambda _: None, Impatient()) == 0
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


@contextmanager
def a_taken_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def test_without_the_extra_there_is_no_proxy(run, monkeypatch, capsys):
    """Proxy and certificate are null; whoever asks for its port is told what to install."""
    monkeypatch.setattr(serving, "available", lambda: False)

    def client(facts):
        assert (facts["proxy"], facts["ca"]) == (None, None)

    assert run([], client, AJudge()) == 0
    assert serve(["--proxy-port", "0"], AJudge()) == 2
    assert 'pip install "pytest-claude-tokens[proxy]"' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--policy", "nope"], "no policy is named 'nope'; choose one of anthropic"),
        (["--host", "0.0.0.0"], "cannot listen on 0.0.0.0: a fake service is bound to loopback only"),
        (["--host", ""], "cannot listen on all addresses: a fake service is bound to loopback only"),
        (["--account", "a", "a"], "the account 'a' is logged in already"),
        (["--no-account", "--account", "a"], "--no-account and --account contradict each other: leave one of them out"),
        (["--account", "no/slash"], "'no/slash': an account's name is 1 to 32"),
    ],
)
def test_a_bad_option_is_told_in_one_sentence(capsys, argv, says):
    """One line on standard error, nothing on standard output, and exit status 2."""
    assert serve(argv, AJudge(), prog="serve") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"serve: {says}")
    assert err.count("\n") == 1


@pytest.mark.parametrize("option", ["--port", "--proxy-port"])
def test_a_port_in_use_is_told(capsys, tmp_path, option):
    """Which port it is; nothing is left running, and the history of another service is left alone."""
    before = threading.active_count()
    history = tmp_path / "h.jsonl"
    history.write_text("another's")
    with a_taken_port() as port:
        assert serve([option, str(port), "--history", str(history)], AJudge()) == 2
    assert history.read_text() == "another's"
    assert capsys.readouterr().err == f"claude-tokens serve: port {port} of 127.0.0.1 is in use\n"
    assert threading.active_count() == before


def test_a_port_that_may_not_be_used_is_told(capsys, monkeypatch):
    """Whatever the system says against it."""

    def refuse(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(serving.SocketServer, "start", refuse)
    assert serve(["--port", "1"], AJudge()) == 2
    assert capsys.readouterr().err == "claude-tokens serve: port 1 of 127.0.0.1 can't be used: Permission denied\n"


def test_a_history_that_cannot_be_written_is_told(capsys, tmp_path):
    """Nothing is left running."""
    before = threading.active_count()
    path = tmp_path / "nowhere" / "h.jsonl"
    assert serve(["--history", str(path)], AJudge()) == 2
    assert threading.active_count() == before
    err = capsys.readouterr().err
    assert err == f"claude-tokens serve: the history can't be written to {path}: No such file or directory\n"


@pytest.mark.parametrize("status", [0, 1, 3])
def test_a_full_disk_does_not_stop_the_service(run, capsys, monkeypatch, tmp_path, status):
    """Clients are answered all the same, and the verdict is what it is; that the file is not whole is told."""

    def full(*_):
        raise OSError(28, "No space left on device")

    def client(facts):
        monkeypatch.setattr(history_file, "_write", full)
        with httpx.Client(base_url=facts["url"]) as http:
            assert http.post("/v1/oauth/token", content=token_body("unknown")).status_code == 400

    judge, file = AJudge(status), tmp_path / "h.jsonl"
    assert run(["--history", str(file)], client, judge) == status
    assert judge.ended[-1] == "fail"
    assert capsys.readouterr().err == f"it is over\nclaude-tokens serve: {file} is not whole: No space left on device\n"


def test_a_temporary_folder_that_cannot_be_made_is_told(capsys, monkeypatch, tmp_path):
    """In one sentence, and the history is not touched."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    assert serve(["--history", str(tmp_path / "h.jsonl")], AJudge()) == 2
    assert capsys.readouterr() == (
        "",
        "claude-tokens serve: a temporary folder can't be made: No such file or directory\n",
    )
    assert list(tmp_path.iterdir()) == []


def test_a_standard_output_that_is_full_is_told(capsys, monkeypatch):
    """Nobody would ever know where the service is. Nothing is left running, and nothing complains later."""
    before = threading.active_count()
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert serve([], AJudge()) == 2
    assert threading.active_count() == before
    assert capsys.readouterr().err == (
        "claude-tokens serve: standard output can't be written: No space left on device\n"
    )


def test_a_standard_output_that_is_closed_is_told(capsys, monkeypatch, tmp_path):
    """Before anything is touched."""
    monkeypatch.setattr(sys, "stdout", None)
    assert serve(["--history", str(tmp_path / "h.jsonl")], AJudge()) == 2
    assert capsys.readouterr().err == "claude-tokens serve: standard output can't be written: it is closed\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--port", "65536"], "argument --port: '65536' is not a port: 0 to 65535"),
        (["--port", "-1"], "argument --port: '-1' is not a port: 0 to 65535"),
        (["--proxy-port", "x"], "argument --proxy-port: 'x' is not a port: 0 to 65535"),
        (["--latency", "call=x"], "argument --latency: 'x' must be a number of seconds, 0 or more"),
        (
            ["--latency", "calls=1"],
            "argument --latency: 'calls=1' must be seconds, or some of token, call, other with theirs",
        ),
        (["--serialize", "1e12"], "argument --serialize: '1e12' must be seconds, at most 100,000,000,000"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
    ],
)
def test_a_usage_error_is_one_line(capsys, argv, says):
    """What the parser refuses has exit status 2, too, and no usage before it."""
    assert serve(argv, AJudge()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"claude-tokens serve: {says}")
    assert err.count("\n") == 1


def test_the_help_names_every_option():
    """Nothing is hidden."""
    text = build_parser().format_help()
    for option in (
        "--policy",
        "--host",
        "--port",
        "--proxy-port",
        "--history",
        "--account",
        "--no-account",
        "--expired",
    ):
        assert option in text
    assert "--latency" in text
    assert "--serialize" in text


def test_the_package_runs_as_a_module(capsys):
    """``python -m fake_server`` is ``serve``, with its own name in what it says."""
    assert module.main(["--host", "192.0.2.1"]) == 2
    assert capsys.readouterr().err.startswith("python -m fake_server: cannot listen on 192.0.2.1")
