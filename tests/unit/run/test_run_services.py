"""`claude-tokens run` and `serve` with a service of one's own: its name or its file, its hosts, its login."""

from __future__ import annotations

import argparse
import json
import re
import sys

import pytest

from fake_server.serve.commandline import service
from fake_server.serve.service import _checked, build_parser
from fake_server.service import Service

ACME = 'name = "acme"\nhosts = ["login.acme.example"]\ntoken = "/t"\nresources = ["GET /api/*"]\n'

REFRESH_TWICE = """
import json, os, requests, sys
with open(os.environ["CLAUDE_TOKENS_LOGIN"]) as file:
    login = json.load(file)
body = {"grant_type": "refresh_token", "refresh_token": login["refresh_token"], "client_id": login["client_id"]}
url = sys.argv[1]
print([requests.post(url, data=body).status_code for _ in range(2)])
"""


@pytest.fixture
def acme(tmp_path):
    file = tmp_path / "acme.toml"
    file.write_text(ACME, encoding="utf-8")
    return file


@pytest.mark.parametrize("host", ["login.acme.example", "further.example"])
def test_a_refresher_of_any_company_is_judged(run, acme, host):
    """By its own host names and path, through the proxy; its login is in the file that the variable names."""
    pytest.importorskip("trustme")
    ended = run(
        "--service", acme, "--host", "further.example", "--expired", "--latency", "0",
        "--", sys.executable, "-c", REFRESH_TWICE, f"https://{host}/t",
    )  # fmt: skip
    assert (ended.status, ended.out) == (1, "[200, 400]\n")
    assert "claude_tokens.DoubleSpend: rt#1" in ended.err
    assert "policy oauth" in ended.err
    assert re.search(r"store \w+:", ended.err) is None  # no folder of Claude's is watched


def test_a_command_that_is_ended_holds_no_lock_of_claude_s(run):
    """Where the service is another, there is none."""
    ended = run("--service", "oauth", "--timeout", "0.2", "--", "sleep", "60")
    assert ended.status == 3
    assert "the lock" not in ended.err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("oauth3", "no service is named 'oauth3'; choose one of claude, oauth, oidc, mcp, or name a file"),
        ("nowhere.toml", "'nowhere.toml' can't be read: No such file or directory"),
        ("{wrong}.toml", "must be a path such as /oauth2/token"),
    ],
)
def test_a_service_that_is_none_is_refused(tmp_path, text, says):
    """In one sentence."""
    wrong = tmp_path / "wrong.toml"
    wrong.write_text('token = "t"\n', encoding="utf-8")
    with pytest.raises(argparse.ArgumentTypeError, match=says):
        service(text.replace("{wrong}.toml", str(wrong)))


def checked(*arguments):
    return _checked(build_parser().parse_args(arguments))


def test_serve_takes_a_service_and_its_hosts(acme):
    """A loopback address is where it listens; with `--service`, a name is one more host to answer for."""
    policy, form, host, hosts = checked("--service", str(acme), "--host", "::1", "--host", "further.example")
    assert (policy.name, form.name, host, hosts) == ("oauth", "acme", "::1", ("login.acme.example", "further.example"))
    assert checked()[:3] == (checked("--policy", "anthropic")[0], Service.preset("claude"), "127.0.0.1")


@pytest.mark.parametrize("arguments", [("--host", "example.com"), ("--service", "oauth", "--host", "10.0.0.1")])
def test_serve_listens_on_loopback_only(arguments):
    """Whatever the service."""
    with pytest.raises(Exception, match="a fake service is bound to loopback only"):
        checked(*arguments)


def test_a_host_that_is_none_is_refused(run):
    """As in the marker."""
    ended = run("--service", "oauth", "--host", "https://x.example", "--", "true")
    assert ended.status == 2
    assert "each written as auth.example.com" in ended.err


def test_serve_tells_each_login(start):
    """The tokens, the client and the token endpoint's reply; and what it serves."""
    import urllib.request

    process = start("serve", "--service", "mcp", "--account", "alice")
    facts = json.loads(process.stdout.readline())
    (account,) = facts["accounts"]
    assert (account["name"], account["client_id"]) == ("alice", "client-alice")
    assert account["tokens"]["refresh_token"] == account["refresh_token"]
    with urllib.request.urlopen(f"{facts['url']}/_claude_tokens/endpoints", timeout=60) as reply:
        assert json.load(reply)["resources"] == ["POST /mcp"]
    with urllib.request.urlopen(f"{facts['url']}/.well-known/oauth-authorization-server", timeout=60) as reply:
        assert json.load(reply)["issuer"] == facts["url"]
    process.terminate()
    assert process.wait(timeout=60) == 3
