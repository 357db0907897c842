"""What the owner of a running service may ask it."""

from __future__ import annotations

import json

import httpx
import pytest

from fake_server.events import Event
from fake_server.faults import Fault
from fake_server.serve.admin import Admin
from fake_server.transports.sockets import SocketServer
from pytest_claude_tokens.judge import History
from tests.unit.transports.raw import raw, request, token_body


class Verdict:
    """A judge that counts."""

    def __init__(self):
        self.count = 0

    def __call__(self):
        self.count += 1
        return {"verdict": "VALID", "count": self.count}


@pytest.fixture
def client(server):
    def login(name="a1", **options):
        if name == "taken":
            raise ValueError("the account 'taken' is logged in already")
        if name == "full":
            raise OSError(28, "No space left on device")
        return {"name": name, **options}

    with SocketServer(server, local_handler=Admin(server, Verdict(), login)) as listener:
        with httpx.Client(base_url=f"{listener.url}/_claude_tokens") as client:
            yield client


def test_the_history_is_told_as_lines(server, client):
    """The header and the events so far, in order, and without a secret."""
    secret = server.login("alice").refresh[0].secret
    answer = client.get("/history")
    assert answer.headers["content-type"] == "application/x-ndjson"
    events = [Event.from_json(line) for line in answer.text.splitlines()]
    assert [event.type for event in events] == ["header", "note"]
    assert secret not in answer.text


def test_a_history_so_far_is_not_taken_for_a_whole_one(server, client, tmp_path):
    """However long it is, it comes as it is, and says that more may follow."""
    for number in range(250):
        server.journal.note("one", number=number)
    (tmp_path / "so-far.jsonl").write_bytes(client.get("/history").content)
    history = History.load(tmp_path / "so-far.jsonl")
    assert [event.get("number") for event in history] == list(range(250))
    assert history.torn


def test_the_verdict_so_far_is_told(server, client):
    """It is that of whoever judges, who is asked again when there is more to judge."""
    counts = []
    for _ in range(2):
        counts += [client.get("/verdict").json()["count"] for _ in range(2)]
        server.journal.note("more")
    assert counts == [1, 1, 2, 2]


def test_an_account_can_be_logged_in(client):
    """With nothing at all, or with all that an account has."""
    options = {"name": "bob", "expired": True, "expires_in": 2.5, "setup_token": False}
    assert client.post("/accounts").json() == {"name": "a1"}
    assert client.post("/accounts", json=options).json() == options


def test_a_fault_can_be_planned(server, client):
    """The next token request of that account meets it, and only so many."""
    grant = server.login("alice")
    planned = {"target": "token", "fault": "status", "code": 503, "retry_after": 1, "count": 1, "account": "alice"}
    assert client.post("/faults", json=planned).json() == {"fault": "status(503)"}
    body = token_body(grant.refresh[0].secret)
    url = str(client.base_url).partition("/_claude")[0] + "/v1/oauth/token"
    answers = [client.post(url, content=body) for _ in range(2)]
    assert [(answer.status_code, answer.headers.get("retry-after")) for answer in answers] == [(503, "1"), (200, None)]


def test_a_fault_may_be_planned_for_one_worker(server, client):
    """As the fixture's `fail_next` has it."""
    client.post("/faults", json={"fault": "reset", "worker": "w1"})
    assert [server.faults.take("token", None, actor) for actor in ("w0", "w1")] == [None, Fault.RESET]


@pytest.mark.parametrize(
    ("asked", "fault"),
    [
        ({"fault": "LOST_REPLY"}, Fault.LOST_REPLY),
        ({"fault": "reset"}, Fault.RESET),
        ({"fault": "moved"}, Fault.moved()),
        ({"fault": "delay", "seconds": 2, "after_commit": True}, Fault.delay(2, after_commit=True)),
        ({"fault": "quota", "window": "seven_day"}, Fault.quota("seven_day")),
        ({"fault": "html", "code": 502}, Fault.html(502)),
        ({"fault": "stall", "seconds": 2, "part": "body"}, Fault.stall(2, "body")),
        (
            {"fault": "status", "code": 400, "body": {"error": "x"}, "headers": {"a": "b"}, "after_commit": True},
            Fault.status(400, body={"error": "x"}, headers={"a": "b"}, after_commit=True),
        ),
    ],
)
def test_every_fault_has_a_name(server, client, asked, fault):
    """Each is made from its name and its details, and is what the next token request meets."""
    assert client.post("/faults", json=asked).json() == {"fault": str(fault)}
    assert server.faults.take("token", None) == fault


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("accounts", b"[]", "a JSON object"),
        ("accounts", b"{", "Expecting"),
        ("accounts", b'{"nme":"x"}', "'nme' is not known here; there are name,"),
        ("accounts", b'{"expires_in":true}', "expires_in=True: must be seconds, 0 or more"),
        ("accounts", b'{"expires_in":NaN}', "NaN is no number of JSON"),
        ("accounts", b'{"name":"x","name":"y"}', "a name comes twice"),
        ("accounts", b'{"name":1}', "name=1: must be a text"),
        ("accounts", b'{"expired":1}', "expired=1: must be true or false"),
        ("accounts", b"[" * 100_000, "nested too deeply"),
        ("faults", b'{"fault":"reset","account":"nobody"}', "no account is named 'nobody'; there are: none so far"),
        ("faults", b'{"fault":"delay"}', "the fault delay needs seconds"),
        ("faults", b'{"fault":"status","code":503,"retry_after":-1}', "retry_after=-1: must be seconds, 0 or more"),
        ("faults", b'{"fault":"html","code":"x"}', "code='x': must be an error status, 400 to 599"),
        ("faults", b'{"fault":"status","code":503,"headers":{"x":1}}', "must be an object of texts"),
        ("faults", b'{"fault":"status","code":503,"headers":[]}', "headers=[]: must be an object of texts"),
        ("accounts", b'{"name":"taken"}', "already"),
        ("faults", b"{}", '"fault" is missing: one of lost-reply, reset,'),
        ("faults", b'{"fault":"resset"}', "no fault is named 'resset'; there are lost-reply,"),
        ("faults", b'{"fault":"reset","code":1}', "reset has no code"),
        ("faults", b'{"fault":"status"}', "the fault status needs code"),
        ("faults", b'{"fault":"status","code":200}', "code=200: must be an error status, 400 to 599"),
        ("faults", b'{"fault":"reset","count":0}', "count=0: must be a whole number, 1 or more"),
        ("faults", b'{"fault":"reset","target":"x"}', '"token" or a "call"'),
    ],
)
def test_a_bad_order_is_refused(client, path, body, says):
    """400, and what is wrong with it."""
    answer = client.post(f"/{path}", content=body)
    assert answer.status_code == 400
    assert says in answer.json()["error"]["message"]


def test_what_the_machine_refuses_is_told(client):
    """It is not the client's mistake, and nobody is left without an answer."""
    answer = client.post("/accounts", json={"name": "full"})
    assert answer.status_code == 500
    assert "No space left on device" in answer.json()["error"]["message"]


def test_other_ways_to_ask_are_refused(server, client):
    """An unknown name is told which there are, a wrong method which it is; none of it is journalled."""
    unknown, wrong = client.get("/secrets"), client.post("/verdict")
    assert (unknown.status_code, wrong.status_code) == (404, 405)
    assert "/_claude_tokens/history" in unknown.json()["error"]["message"]
    assert server.journal.events == []


def test_it_answers_only_to_a_name_of_this_machine(client):
    """A page in a browser that has bound its own name to this address learns nothing."""
    with raw(client.base_url.port) as stranger:
        stranger.send(request("GET", "/_claude_tokens/history", host="evil.example"))
        assert stranger.reply().status == 403
        stranger.send(request("GET", "/_claude_tokens/verdict", host="localhost:1"))
        assert json.loads(stranger.reply().body)["verdict"] == "VALID"
