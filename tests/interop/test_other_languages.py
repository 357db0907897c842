"""Clients in other languages, as processes: Node with and without its official SDK, curl, and Python's requests."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fake_server import Fault
from fake_server.transports import proxy
from pytest_claude_tokens import ClaudeTokens, node
from pytest_claude_tokens.cli import run as running
from pytest_claude_tokens.violations import DoubleSpend

CLIENTS = Path(__file__).with_name("clients")
NODE = shutil.which("node")
MODULES = os.environ.get("CLAUDE_TOKENS_NODE_MODULES", "")
PATIENCE = 60
CALL = json.dumps({"model": "claude-fake-1", "max_tokens": 10, "messages": [{"role": "user", "content": "Reply: A"}]})

needs_node = pytest.mark.skipif(NODE is None, reason="needs node")
needs_sdk = pytest.mark.skipif(
    NODE is None or not Path(MODULES, "@anthropic-ai", "sdk").is_dir(),
    reason="needs node, and CLAUDE_TOKENS_NODE_MODULES naming a node_modules folder with @anthropic-ai/sdk",
)
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
needs_proxy = pytest.mark.skipif(not proxy.available(), reason='needs the extra "proxy"')


def finish(process):
    """What the process has written, once it has ended well."""
    assert process.wait(PATIENCE) == 0, process.stderr
    assert process.stderr == ""
    return process.stdout


def met(tokens):
    """Who asked what for, and which status came back, in order."""
    return [(operation.actor, operation.f, operation.status) for operation in tokens.history.operations]


def hosts(tokens):
    return [operation.invoke.get("host") for operation in tokens.history.operations]


@pytest.fixture
def start(claude_server):
    """Start a client in Node, with the preload; the options are those of spawn()."""

    def start(client, *arguments, env=None, **options):
        added = {"NODE_OPTIONS": node.node_options(), "NODE_PATH": MODULES, **(env or {})}
        return claude_server.spawn(["node", str(CLIENTS / client), *arguments], env=added, **options)

    return start


# Node, with the preload.


@needs_node
@pytest.mark.parametrize("as_request", ["", "yes"])
def test_fetch_meets_the_fake_at_the_real_hosts(claude_server, start, as_request):
    """A refresh and a streamed call by Node's fetch, to the real hosts, are those of the worker that was spawned."""
    login = claude_server.config_dir(claude_server.account(expired=True))
    client = start("fetch.mjs", worker="w7", config_dir=login, env={"AS_REQUEST": as_request})
    assert finish(client) == "200 200 A\n"
    assert met(claude_server) == [("w7", "token", 200), ("w7", "call", 200)]
    assert hosts(claude_server) == ["platform.claude.com", "api.anthropic.com"]


@needs_node
@pytest.mark.claude_tokens(allow=["forced-login", "lost-rotation"])
def test_two_node_processes_that_spend_one_refresh_token_are_told_apart(claude_server, start):
    """The dance that ends in two token requests is seen with the names of both workers, although it was fetch."""
    account = claude_server.account(expired=True)
    with claude_server.hold("token", 2):
        clients = [start("fetch.mjs", worker=w, config_dir=claude_server.config_dir(account, w)) for w in ("w0", "w1")]
        for client in clients:
            client.wait(PATIENCE)
    with pytest.raises(DoubleSpend, match=r"rt#1 by w[01] .* and w[01]"):
        claude_server.check()


@needs_node
def test_every_form_of_a_request_by_node_https_meets_the_fake(claude_server, start):
    """URL, text or options; headers as an object, pairs or a flat array; an agent for TLS, none, or a new one."""
    client = start("https.mjs", worker="a b/c", account=claude_server.account())
    assert finish(client).split() == ["200"] * 5 + ["200", "404"]
    assert met(claude_server)[:5] == [("a b/c", "call", 200)] * 5
    assert {actor for actor, _, _ in met(claude_server)} == {"a b/c"}
    assert hosts(claude_server) == ["api.anthropic.com"] * 5 + ["claude.ai", "console.anthropic.com"]


@needs_node
def test_what_a_node_program_asks_others_for_is_left_alone(claude_server, start):
    """Requests to other hosts arrive, and bad arguments fail, as they do without the preload."""
    assert finish(start("elsewhere.cjs")).splitlines() == [
        "204 204",
        "204 204",
        "204 204",
        "EPROTO",
        "TypeError",
        "TypeError",
        "ERR_INVALID_URL",
        "fetch request get",
    ]
    assert met(claude_server) == []


@needs_node
@pytest.mark.parametrize("url", ["", "https://api.anthropic.com", "http://192.0.2.1:80", "nonsense"])
def test_without_a_fake_a_request_for_the_service_fails_before_it_is_sent(claude_server, start, url):
    """No address, or one that is not on loopback: fetch and https fail for those hosts, and say which variables."""
    told = finish(start("lost.cjs", env={"ANTHROPIC_BASE_URL": url}))
    why = "is not asked: neither CLAUDE_TOKENS_URL nor ANTHROPIC_BASE_URL is a URL on loopback"
    assert sorted(told.splitlines()) == sorted([f"api.anthropic.com. {why}", f"claude.ai {why}"])
    assert met(claude_server) == []


SPOKEN = ("fetch", "http", "https")
SOCKETS = ("net", "options", "tls", "http2", "dgram", "lookup", "resolve", "promises", "resolver")


@needs_node
@pytest.mark.parametrize(
    ("host", "port", "served"),
    [
        ("api.anthropic.com", 443, True),
        ("API。anthropic｡com", 80, True),
        ("statsig.anthropic.com", 443, False),
        ("auth.named.example", 8443, True),
        ("auth.named.example", 80, False),
        ("a.b.below.example", 80, True),
        ("xn--mnchen-3ya.example", 80, True),
    ],
)
def test_no_way_of_nodes_leads_to_a_guarded_host(host, port, served):
    """What the preload does not answer fails before a name is looked up: real hosts and named ones, at any port."""
    with ClaudeTokens(hosts=["auth.named.example:8443", "*.below.example", "münchen.example"]) as tokens:
        process = tokens.spawn(["node", str(CLIENTS / "ways.cjs"), host, str(port)])
        came = dict(line.split(" ", 1) for line in finish(process).splitlines())
    refused = [way for way, text in came.items() if text.startswith("refused to reach ")]
    assert refused == [*(() if served else SPOKEN), *SOCKETS], came
    assert {came[way] for way in SPOKEN} == {"200"} or not served


@needs_node
def test_the_preload_is_found_in_a_folder_with_a_strange_name(tmp_path, monkeypatch):
    """NODE_OPTIONS has its own quotes: spaces, quotes and backslashes in the path are the path's."""
    odd = tmp_path / 'a "b" \\c'
    odd.mkdir()
    (odd / "preload.cjs").write_text("console.log(1)", encoding="utf-8")
    monkeypatch.setattr(node, "preload", lambda: odd / "preload.cjs")
    environment = {**os.environ, "NODE_OPTIONS": node.node_options("")}
    told = subprocess.check_output([str(NODE), "-e", "console.log(2)"], env=environment, text=True)
    assert told.split() == ["1", "2"]


@needs_node
def test_a_preload_that_is_loaded_twice_wraps_once(claude_server):
    """Loaded by NODE_OPTIONS and by the command line, one request is one request, with one prefix."""
    environment = {"NODE_OPTIONS": node.node_options()}
    copy = claude_server.tmp_path / "copy.cjs"
    shutil.copyfile(node.preload(), copy)
    ask = "fetch('https://claude.ai/api/hello').then((reply) => console.log(reply.status))"
    client = claude_server.spawn(["node", "--require", str(copy), "-e", ask], worker="w3", env=environment)
    assert finish(client) == "200\n"
    assert [actor for actor, _, _ in met(claude_server)] == ["w3"]


def test_node_options_are_added_to_those_that_are_there(monkeypatch):
    """The preload comes behind what NODE_OPTIONS says already, once."""
    monkeypatch.setenv("NODE_OPTIONS", "--no-warnings")
    ours = f'--require "{node.preload()}"'
    assert node.preload().is_file()
    assert node.node_options() == f"--no-warnings {ours}"
    assert node.node_options("") == ours
    assert node.node_options(f"{ours} --no-warnings") == f"{ours} --no-warnings"
    added = node.added({"ANTHROPIC_BASE_URL": "http://127.0.0.1:1/w/w0"})
    assert added == {"NODE_OPTIONS": ours, "CLAUDE_TOKENS_URL": "http://127.0.0.1:1/w/w0"}


@needs_node
def test_run_leads_node_programs_to_the_fake(tmp_path):
    """`run`: processes that their script names are told apart, whatever it does to their base URL."""
    (tmp_path / "two.sh").write_text(
        "unset ANTHROPIC_BASE_URL\n"
        'CLAUDE_TOKENS_WORKER=w0 node "$1" && CLAUDE_TOKENS_WORKER=w1 ANTHROPIC_BASE_URL=http://127.0.0.1:9 node "$1"',
        encoding="utf-8",
    )
    history = tmp_path / "history.jsonl"
    command = ["sh", str(tmp_path / "two.sh"), str(CLIENTS / "fetch.mjs")]
    status = running.main(["--history", str(history), "--", *command])
    requests = [event for event in map(json.loads, history.read_text().splitlines()) if event["type"] == "invoke"]
    assert [(event["actor"], event["f"]) for event in requests] == [
        ("w0", "token"),
        ("w0", "call"),
        ("w1", "token"),
        ("w1", "call"),
    ]
    assert status == 1  # neither login had ended: a refresh too many


def test_run_sets_what_node_reads(capfd):
    """`run` adds the preload to NODE_OPTIONS, and keeps the address where no program looks for it."""
    for options in (["--node"], []):
        running.main([*options, "--", "sh", "-c", 'echo "$NODE_OPTIONS=${CLAUDE_TOKENS_URL:-}"'])
        told = capfd.readouterr().out
        assert (str(node.preload()) in told, "http://127.0.0.1:" in told) == (True, True)


# The official SDK for Node.


@needs_sdk
@pytest.mark.parametrize("base", ["", "https://api.anthropic.com"])
def test_the_node_sdk_calls_and_streams(claude_server, start, base):
    """Through the base URL of the environment, and through the preload where it insists on the real host."""
    client = start("sdk.cjs", base, worker="w1", account=claude_server.account())
    assert finish(client) == "A\nA\n"
    assert met(claude_server) == [("w1", "call", 200)] * 2
    assert hosts(claude_server) == ["api.anthropic.com" if base else "127.0.0.1"] * 2


@needs_sdk
@pytest.mark.parametrize(
    ("fault", "first"), [(Fault.status(529), 529), (Fault.RESET, None)], ids=["overloaded", "reset"]
)
def test_the_node_sdk_tries_again(claude_server, start, fault, first):
    """An overloaded service and a reset connection are met by the SDK's own retry, as they are at the real one."""
    claude_server.fail_next("call", fault)
    client = start("sdk.cjs", "https://api.anthropic.com", worker="w1", account=claude_server.account())
    assert finish(client) == "A\nA\n"
    assert met(claude_server) == [("w1", "call", first), ("w1", "call", 200), ("w1", "call", 200)]


# curl.


@needs_curl
@pytest.mark.parametrize("way", [pytest.param("proxy", marks=needs_proxy), "base URL"])
def test_curl_meets_the_fake(claude_server, way):
    """By HTTPS_PROXY and CURL_CA_BUNDLE at the real host, and by the base URL: both as the worker that was spawned."""
    url = "https://api.anthropic.com" if way == "proxy" else "$ANTHROPIC_BASE_URL"
    script = (
        f'curl -sS --max-time 30 -H "Authorization: Bearer $CLAUDE_CODE_OAUTH_TOKEN" '
        f"-H 'Content-Type: application/json' -d '{CALL}' -w '\\n%{{http_code}}' {url}/v1/messages"
    )
    client = claude_server.spawn(["sh", "-c", script], worker="w2", account=claude_server.account())
    reply, _, status = finish(client).rpartition("\n")
    assert (status, json.loads(reply)["content"][0]["text"]) == ("200", "A")
    assert met(claude_server) == [("w2", "call", 200)]
    assert hosts(claude_server) == ["api.anthropic.com" if way == "proxy" else "127.0.0.1"]


# Python's requests.


@needs_proxy
def test_requests_meets_the_fake_through_the_proxy(claude_server):
    """By HTTPS_PROXY and REQUESTS_CA_BUNDLE at the real hosts: a refresh and a call of one worker."""
    pytest.importorskip("requests", reason="needs requests (the extra `test`)")
    login = claude_server.config_dir(claude_server.account(expired=True))
    client = claude_server.spawn([sys.executable, str(CLIENTS / "by_requests.py")], worker="w4", config_dir=login)
    assert finish(client) == "200 200 A\n"
    assert met(claude_server) == [("w4", "token", 200), ("w4", "call", 200)]
    assert hosts(claude_server) == ["platform.claude.com", "api.anthropic.com"]
