"""The official SDK as it is, in process and over loopback sockets. The verdicts come from the journal."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from fake_server import Fault, Policy

pytest.importorskip("anthropic", reason="needs the official SDK (the extra `test`)")
pytest.importorskip("pytest_httpx2", reason="the SDK is built on httpx2: needs the extra `httpx2`")

import anthropic

from pytest_claude_tokens.violations import BlindReplay, CoSchedule, DoubleSpend
from tests.interop.sdk import MESSAGE, REAL, client, login_file, text

PATIENCE = 30


class InProcess:
    """Requests to the real hosts, answered in this process."""

    def __init__(self, tokens: Any, clients: ExitStack) -> None:
        self.tokens = tokens
        self.clients = clients

    def client(self, file: Path, worker: str = "w0", **options: Any) -> anthropic.Anthropic:
        """A client for that worker, closed at the end of the test."""
        return self.clients.enter_context(client(file, self.base_url(worker), **options))

    def base_url(self, worker: str) -> str:
        return REAL

    @contextmanager
    def worker(self, name: str) -> Iterator[None]:
        with self.tokens.worker(name):
            yield


class OverSockets(InProcess):
    """Requests to the loopback server, whose URL names the worker."""

    def base_url(self, worker: str) -> str:
        return f"{self.tokens.url}/w/{worker}"

    @contextmanager
    def worker(self, name: str) -> Iterator[None]:
        yield


@pytest.fixture(params=[InProcess, OverSockets])
def way(request, claude_tokens) -> Iterator[InProcess]:
    with ExitStack() as clients:
        yield request.param(claude_tokens, clients)


def at_once(*jobs: Callable[[], Any]) -> list[Any]:
    """Run each job in a thread of its own; what it returned, or the error that it ended with."""
    results: list[Any] = [None] * len(jobs)

    def run(number: int, job: Callable[[], Any]) -> None:
        try:
            results[number] = job()
        except Exception as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(number, job)) for number, job in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    return results


def call(way: InProcess, one: anthropic.Anthropic, worker: str) -> str:
    """One call by that worker; the text of the reply."""
    with way.worker(worker):
        return text(one.messages.create(**MESSAGE))


def requests_of(tokens: Any, f: str) -> list[Any]:
    return [operation for operation in tokens.history.operations if operation.f == f]


def statuses(tokens: Any, f: str) -> list[int | None]:
    return [operation.status for operation in requests_of(tokens, f)]


# Who refreshes.


def test_two_clients_on_one_file_spend_one_refresh_token_twice(claude_tokens, way):
    """A client knows its own cache only: the second one sends the token that the first has just sent."""
    file = login_file(claude_tokens, claude_tokens.account(expired=True))
    clients = {name: way.client(file, name) for name in ("w0", "w1")}
    with claude_tokens.hold("token", 2):
        results = at_once(*(lambda name=name: call(way, clients[name], name) for name in clients))
    with pytest.raises(DoubleSpend, match=r"rt#1 by w[01] .* and w[01]"):
        claude_tokens.check()
    assert sorted(map(str, statuses(claude_tokens, "token"))) == ["200", "400"]
    assert results.count("A") == 1


@pytest.mark.claude_tokens(limit=16)
def test_one_client_in_sixteen_threads_refreshes_once(claude_tokens, way):
    """All threads wait for one token request, and the verdict is valid."""
    file = login_file(claude_tokens, claude_tokens.account(expired=True))
    one = way.client(file)
    assert at_once(*[lambda number=number: call(way, one, f"w{number}") for number in range(16)]) == ["A"] * 16
    assert statuses(claude_tokens, "token") == [200]
    assert {operation.bearer for operation in requests_of(claude_tokens, "call")} == {"at#2"}
    assert claude_tokens.violations() == []


def test_a_refresh_whose_reply_was_lost_is_sent_again_by_the_next_call(claude_tokens, way):
    """The service has rotated; the client can't know, and spends the old token once more."""
    file = login_file(claude_tokens, claude_tokens.account(expired=True))
    one = way.client(file)
    claude_tokens.fail_next("token", Fault.LOST_REPLY)
    for _ in range(2):
        with pytest.raises(Exception, match=r"(?i)token|refresh|grant"):
            call(way, one, "w0")
    with pytest.raises(BlindReplay, match="rt#1"):
        claude_tokens.check()
    assert statuses(claude_tokens, "token") == [None, 400]


def test_the_rotated_token_is_in_the_file_and_serves_the_next_client(claude_tokens, way):
    """What one client stored, the next one uses, and the store never went back."""
    file = login_file(claude_tokens, claude_tokens.account(expired=True))
    for number in range(3):
        assert call(way, way.client(file), "w0") == "A"
        claude_tokens.advance(28_800)
        file.write_text(json.dumps(json.loads(file.read_text()) | {"expires_at": 1}))
        assert statuses(claude_tokens, "token") == [200] * (number + 1)
    assert [operation.refresh for operation in requests_of(claude_tokens, "token")] == ["rt#1", "rt#2", "rt#3"]


@pytest.mark.claude_tokens(policy="no-rotation")
def test_a_reply_without_a_refresh_token_keeps_the_old_one(claude_tokens, way):
    """Nothing is stored that the service would not accept."""
    file = login_file(claude_tokens, claude_tokens.account(expired=True))
    assert call(way, way.client(file), "w0") == "A"


# What a call may come back with.


def test_a_401_forces_one_refresh_and_one_retry(claude_tokens, way):
    """The token had ended at the service before its time; the client sees it by the 401 and goes on."""
    account = claude_tokens.account()
    one = way.client(login_file(claude_tokens, account), max_retries=1)
    claude_tokens.expire(account)
    assert call(way, one, "w0") == "A"
    assert statuses(claude_tokens, "token") == [200]
    assert statuses(claude_tokens, "call") == [401, 200]
    assert [operation.bearer for operation in requests_of(claude_tokens, "call")] == ["at#1", "at#2"]


@pytest.mark.claude_tokens(limit=8)
def test_eight_threads_hit_by_a_401_refresh_once(claude_tokens, way):
    """No storm: who comes late finds the new token."""
    account = claude_tokens.account()
    one = way.client(login_file(claude_tokens, account), max_retries=2)
    claude_tokens.expire(account)
    with claude_tokens.hold("call", 8):
        results = at_once(*[lambda number=number: call(way, one, f"w{number}") for number in range(8)])
    assert results == ["A"] * 8
    assert statuses(claude_tokens, "token") == [200]


def test_a_burst_429_has_no_usage_headers_and_a_quota_429_has(claude_tokens, way):
    """That is how a dispatcher can tell them apart: the one is to be tried again, the other to be left alone."""
    one = way.client(login_file(claude_tokens, claude_tokens.account()))
    claude_tokens.fail_next("call", Fault.BURST)
    with pytest.raises(anthropic.RateLimitError) as burst:
        call(way, one, "w0")
    claude_tokens.fail_next("call", Fault.quota("seven_day"))
    with pytest.raises(anthropic.RateLimitError) as quota:
        call(way, one, "w0")
    assert not [name for name in burst.value.response.headers if name.startswith("anthropic-ratelimit")]
    headers = quota.value.response.headers
    assert headers["anthropic-ratelimit-unified-status"] == "rejected"
    assert headers["anthropic-ratelimit-unified-representative-claim"] == "seven_day"
    assert quota.value.request_id is not None


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.status(529), anthropic.InternalServerError),
        (Fault.status(503), anthropic.InternalServerError),
        (Fault.html(403), anthropic.PermissionDeniedError),
        (Fault.moved(), anthropic.NotFoundError),
        (Fault.RESET, anthropic.APIConnectionError),
        (Fault.LOST_REPLY, anthropic.APIConnectionError),
        (Fault.TRUNCATED, anthropic.APIConnectionError),
        (Fault.GARBAGE, anthropic.APIConnectionError),
    ],
    ids=lambda value: str(value) if isinstance(value, Fault) else "",
)
def test_a_failing_call_is_the_error_that_the_sdk_has_for_it(claude_tokens, way, fault, error):
    """Statuses and broken connections arrive as they would from the service; one retry gets through."""
    file = login_file(claude_tokens, claude_tokens.account())
    claude_tokens.fail_next("call", fault)
    with pytest.raises(anthropic.APIError) as raised:
        call(way, way.client(file), "w0")
    assert isinstance(raised.value, error)
    assert call(way, way.client(file), "w0") == "A"


def test_an_overloaded_call_is_retried_after_the_seconds_that_the_reply_names(claude_tokens, way):
    """With retries on, the client tries again by itself."""
    one = way.client(login_file(claude_tokens, claude_tokens.account()), max_retries=1)
    claude_tokens.fail_next("call", Fault.status(529, retry_after=0.01))
    assert call(way, one, "w0") == "A"
    assert statuses(claude_tokens, "call") == [529, 200]


# Streams.


def test_a_stream_arrives_event_by_event(claude_tokens, way):
    """The text, the whole message and its usage are there, after a refresh."""
    one = way.client(login_file(claude_tokens, claude_tokens.account(expired=True)))
    with way.worker("w0"), one.messages.stream(**MESSAGE) as stream:
        said = "".join(stream.text_stream)
        message = stream.get_final_message()
    assert said == text(message) == "A"
    assert (message.stop_reason, message.usage.output_tokens > 0) == ("end_turn", True)
    assert claude_tokens.violations() == []


@pytest.mark.claude_tokens(policy=Policy.preset("anthropic").but(queue_limit=0.05))
def test_a_stream_that_is_not_read_to_its_end_is_an_open_call(claude_tokens, way):
    """A second worker's call on that bearer overlaps with it; after the stream was closed, none does."""
    file = login_file(claude_tokens, claude_tokens.account())
    first, second = (way.client(file, name) for name in ("w0", "w1"))
    with way.worker("w0"), first.messages.stream(**MESSAGE):
        pass
    assert call(way, second, "w1") == "A"
    claude_tokens.check()
    with way.worker("w0"), first.messages.stream(**MESSAGE):
        assert at_once(lambda: call(way, second, "w1")) == ["A"]
    with pytest.raises(CoSchedule, match="at#1"):
        claude_tokens.check()


# Without a credentials file.


def test_a_bare_bearer_reaches_the_service(claude_tokens, way):
    """`auth_token=` with the real base URL, or the loopback one."""
    account = claude_tokens.account(setup_token=True)
    with anthropic.Anthropic(auth_token=account.access_token, base_url=way.base_url("w0"), max_retries=0) as one:
        assert call(way, one, "w0") == "A"
        with way.worker("w0"):
            assert one.messages.count_tokens(model="claude-fake", messages=MESSAGE["messages"]).input_tokens > 0
            assert [model.id for model in one.models.list()]
    assert {operation.bearer for operation in claude_tokens.history.operations} == {"at#1"}
