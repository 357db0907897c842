"""Small programs that the tests start: clients with nothing but the standard library."""

from __future__ import annotations

import sys
import textwrap
import threading
from time import monotonic

from hypothesis import settings

from pytest_claude_tokens.runs.outcome import Body
from pytest_claude_tokens.runs.process_runner import ProcessRunner
from pytest_claude_tokens.simulation.schedule import DEFAULT_ORDER

PATIENCE = 20.0

CLIENT = """
import json, os, pathlib, sys, time, urllib.error, urllib.request

def send(path, body=None, headers=()):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(os.environ["ANTHROPIC_BASE_URL"] + path, data, dict(headers))
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as reply:
            return reply.status, json.loads(reply.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())

def hello():
    return send("/api/hello")

def refresh(secret):
    body = {"grant_type": "refresh_token", "refresh_token": secret, "client_id": "c"}
    return send("/v1/oauth/token", body, {"content-type": "application/json"})

def call(bearer):
    headers = {"content-type": "application/json", "authorization": "Bearer " + bearer}
    return send("/v1/messages", {"messages": []}, headers)

store = pathlib.Path(os.environ.get("CLAUDE_CONFIG_DIR", ".")) / ".credentials.json"

def load():
    return json.loads(store.read_text())["claudeAiOauth"]

def save(reply):
    oauth = {**load(), "accessToken": reply["access_token"], "refreshToken": reply["refresh_token"]}
    new = store.with_suffix("." + str(os.getpid()))
    new.touch(0o600)
    new.write_text(json.dumps({"claudeAiOauth": oauth}))
    new.replace(store)
"""


def program(text: str) -> list[str]:
    """The command of a Python program in which :data:`CLIENT` comes first."""
    return [sys.executable, "-I", "-S", "-c", CLIENT + textwrap.dedent(text)]


def until(reached):
    """Look again and again, for as long as it takes."""
    limit, never = monotonic() + PATIENCE, threading.Event()
    while not reached():
        assert monotonic() < limit, "this did not happen"
        never.wait(0.005)


def alive(pid):
    """Whether that process is there and is no zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


few = settings(max_examples=3, database=None, derandomize=True)
HELLO = program("hello()")
SPEND = program("refresh(load()['refreshToken'])")
LOCKING = """
import fcntl
with open(store.parent / "lock", "a") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    (store.parent / "taken").touch()
    oauth = load()
    if oauth["expiresAt"] < time.time() * 1000:
        status, reply = refresh(oauth["refreshToken"])
        assert status == 200, reply
        oauth |= {"accessToken": reply["access_token"], "refreshToken": reply["refresh_token"]}
        oauth["expiresAt"] = (time.time() + reply["expires_in"]) * 1000
        new = store.with_suffix(".new")
        new.touch(0o600)
        new.write_text(json.dumps({"claudeAiOauth": oauth}))
        new.replace(store)
"""
LOCKED = program(LOCKING)


def run(body, schedule=DEFAULT_ORDER, workers=2, **handle):
    """One run of a body."""
    outcome = ProcessRunner(Body(function=body, workers=workers, settings=handle)).run(schedule)
    if outcome.error is not None:
        raise outcome.error
    return outcome
