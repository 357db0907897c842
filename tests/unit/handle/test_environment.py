from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import httpx
import pytest
import requests

from pytest_claude_tokens.handle.claude_tokens import ClaudeTokens
from pytest_claude_tokens.processes import environment
from tests.unit.handle.requests_of import TOKEN_URL, call, refresh_body

DROPPED = {
    "ANTHROPIC_API_KEY": "k",
    "ANTHROPIC_AUTH_TOKEN": "k",
    "CLAUDE_CONFIG_DIR": "/real",
    "CLAUDE_CODE_OAUTH_TOKEN": "real",
    "https_proxy": "http://corp:1",
    "HTTP_PROXY": "http://corp:1",
    "ALL_PROXY": "socks5://corp:1",
    "no_proxy": "corp",
    "npm_config_https_proxy": "http://corp:1",
    "rsync_proxy": "corp:1",
    "npm_config_noproxy": "anthropic.com",
    "CURL_HOME": "/real",
    "WGETRC": "/real/wgetrc",
}
BASE = {**DROPPED, "PATH": "/bin", "CLAUDE_TOKENS_DIALECT": "1.0", "HOME": "/real"}


def build(**changed):
    asked = {"handle": "h", "home": "/scratch", "url": "http://127.0.0.1:1", "proxy": "http://127.0.0.1:2", **changed}
    return environment.build(BASE, **asked)


def test_what_leads_to_the_real_service_is_dropped():
    """Keys, tokens, folders and proxies of the caller's, in both cases, but not our own variables."""
    made = build()

    assert {name for name, value in DROPPED.items() if made.get(name) == value} == set()
    assert not {"ANTHROPIC_API_KEY", "CLAUDE_CONFIG_DIR", "rsync_proxy", "CURL_HOME", "WGETRC"} & set(made)
    assert (made["PATH"], made["CLAUDE_TOKENS_DIALECT"]) == ("/bin", "1.0")


def test_what_leads_to_the_fake_one_is_set():
    """Base URL, proxy, and every folder that a client may look for its login in."""
    made = build()

    assert made["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:1"
    for name in ("https_proxy", "http_proxy", "all_proxy"):  # curl reads http_proxy in small letters only
        assert (made[name], made[name.upper()]) == ("http://127.0.0.1:2", "http://127.0.0.1:2")
    assert made["NO_PROXY"] == made["no_proxy"] == "127.0.0.1,localhost,::1"
    assert made["CLAUDE_TOKENS_HANDLE"] == "h"
    assert made["HOME"] == "/scratch"
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "ANTHROPIC_CONFIG_DIR"):
        assert made[name].startswith("/scratch/")
    assert "SSL_CERT_FILE" not in made


def test_a_worker_is_named_on_both_ways():
    """The path prefix of the base URL and the user of the proxy, with signs that a URL can't carry escaped."""
    made = build(worker="w/0 é")

    assert made["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:1/w/w%2F0%20%C3%A9"
    assert made["HTTPS_PROXY"] == made["http_proxy"] == "http://w%2F0%20%C3%A9:x@127.0.0.1:2"


def test_a_certificate_is_named_to_every_kind_of_client():
    """Node, OpenSSL, requests and curl each have a variable of their own."""
    made = build(ca_file="/ca.pem")

    names = ("NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    assert [made[name] for name in names] == ["/ca.pem"] * 4


def test_a_token_is_left_out_where_the_login_is_in_a_folder():
    """A client that finds both would never refresh."""
    assert build(token="t")["CLAUDE_CODE_OAUTH_TOKEN"] == "t"
    made = build(token="t", config_dir="/one:/two")
    assert made["CLAUDE_CONFIG_DIR"] == "/one:/two"
    assert "CLAUDE_CODE_OAUTH_TOKEN" not in made


def test_environ_is_put_back_exactly(monkeypatch):
    """What the body added, changed and removed is as it was, after an error, too."""
    monkeypatch.setenv("ONE", "1")
    monkeypatch.setenv("TWO", "2")
    before = dict(os.environ)

    with pytest.raises(RuntimeError), environment.environ({"ONE": "other", "PATH": os.environ["PATH"]}):
        assert os.environ["ONE"] == "other"
        assert "TWO" not in os.environ
        os.environ["THREE"] = "3"
        del os.environ["ONE"]
        raise RuntimeError

    assert dict(os.environ) == before


def test_environ_leaves_the_name_of_the_running_test_alone(monkeypatch):
    """pytest changes it under way, and must find what it left."""
    with environment.environ({}):
        os.environ["PYTEST_CURRENT_TEST"] = "later"

    assert os.environ["PYTEST_CURRENT_TEST"] == "later"


def test_env_of_an_account(tokens):
    """The account alone: its access token, and one scratch home for all without a name."""
    account = tokens.account()
    made = tokens.env(account)

    assert made["CLAUDE_CODE_OAUTH_TOKEN"] == account.access_token
    assert tokens.env("a1") == made
    assert os.path.isdir(made["HOME"])
    assert os.stat(made["HOME"]).st_mode & 0o777 == 0o700
    assert "CLAUDE_CODE_OAUTH_TOKEN" not in tokens.env()


def test_env_of_a_folder(tokens):
    """With a config directory, several in one text included, the login is in it."""
    account = tokens.account()
    folder = tokens.config_dir(account)

    made = tokens.env(account, config_dir=folder)
    assert made["CLAUDE_CONFIG_DIR"] == str(folder)
    assert "CLAUDE_CODE_OAUTH_TOKEN" not in made
    both = f"{folder}{os.pathsep}/other"
    assert tokens.env(config_dir=both)["CLAUDE_CONFIG_DIR"] == both


def test_each_worker_has_one_home(tokens):
    """The same name has the same home, another name another one; none can leave the folder."""
    homes = {name: tokens.env(worker=name)["HOME"] for name in ("w0", "w1", "../w2", "nobody")}

    assert tokens.env(worker="w0")["HOME"] == homes["w0"]
    assert len({*homes.values(), tokens.env()["HOME"]}) == 5
    assert all(os.path.dirname(home) == str(tokens.tmp_path / "home") for home in homes.values())


def test_requests_through_the_base_url_are_the_workers(tokens):
    """The path prefix tells whose request it is."""
    account = tokens.account()
    made = tokens.env(account, worker="w7")

    assert call(account.access_token, made["ANTHROPIC_BASE_URL"] + "/v1/messages").status_code == 200

    assert tokens.history.operations[0].actor == "w7"


def test_requests_through_the_proxy_are_the_workers(tokens):
    """A client that takes the base server for its proxy sends the worker's name as its user."""
    account = tokens.account()
    proxy = urlsplit(tokens.env(worker="w7")["HTTPS_PROXY"])._replace(scheme="http").geturl()

    reply = requests.post(
        "http://platform.claude.com/v1/oauth/token",
        json=refresh_body(account.refresh_token),
        proxies={"http": proxy},
        timeout=10,
    )

    assert reply.status_code == 200
    assert tokens.history.operations[0].actor == "w7"


def test_environ_is_env_for_code_in_this_process(tokens):
    """httpx reads the variables when a client is made, and is answered in process all the same."""
    account = tokens.account()
    before = dict(os.environ)

    with tokens.environ(account):
        assert os.environ["CLAUDE_CODE_OAUTH_TOKEN"] == account.access_token
        assert os.environ["CLAUDE_TOKENS_HANDLE"] == tokens.env()["CLAUDE_TOKENS_HANDLE"]
        with httpx.Client() as client:
            assert client.get("https://api.anthropic.com/api/hello").status_code == 200

    assert dict(os.environ) == before


def test_the_real_hosts_are_reached_through_the_proxy(tokens):
    """A client that insists on them and on TLS finds the service, even if a handle was opened inside."""
    account = tokens.account(expired=True)
    with tokens.environ(account), ClaudeTokens():
        assert os.environ["SSL_CERT_FILE"] == tokens.ca_file
        reply = requests.post(TOKEN_URL, json=refresh_body(account.refresh_token), timeout=10)

    assert reply.status_code == 200
    assert tokens.history.operations[0].invoke.get("host") == "platform.claude.com"
    assert tokens.proxy_url != tokens.url


def test_plain_http_goes_the_same_way(tokens):
    """By the name of a real host, to the service; by any other, or to a stranger on loopback, to a refusal."""
    account = tokens.account()
    with tokens.environ(account):
        assert call(account.access_token, "http://api.anthropic.com/v1/messages").status_code == 200
        for url in ("http://example.com/x", "ftp://example.com/x"):
            proxies = {"http": os.environ["http_proxy"], "ftp": os.environ["FTP_PROXY"]}
            with pytest.raises(urllib.error.HTTPError, match="403") as caught:
                urllib.request.build_opener(urllib.request.ProxyHandler(proxies)).open(url, timeout=10)
            caught.value.close()

    assert [(op.f, op.status) for op in tokens.history.operations] == [("call", 200)]
    assert refusals(tokens) == [("example.com", 80), ("example.com", None)]


def refusals(tokens):
    return [(event.get("host"), event.get("port")) for event in tokens.history if event.f == "refused"]


def test_without_the_proxys_extra_nothing_slips_out(tokens, monkeypatch):
    """The loopback server stands in, and refuses each tunnel and each request by plain http."""
    monkeypatch.setitem(sys.modules, "trustme", None)
    monkeypatch.setattr("fake_server.transports.proxy.find_spec", lambda name: None)
    account = tokens.account()

    made = tokens.env(account)
    assert (tokens.proxy_url, tokens.ca_file, made["HTTPS_PROXY"]) == (None, None, tokens.url)
    assert made["http_proxy"] == made["ALL_PROXY"] == tokens.url
    with tokens.environ(account):
        with pytest.raises(requests.exceptions.ProxyError, match="403"):
            requests.get("https://api.anthropic.com/api/hello", timeout=10)
        assert requests.get("http://api.anthropic.com/api/hello", timeout=10).status_code == 403
        assert requests.get(f"{tokens.url}/api/hello", timeout=10).status_code == 200
    assert refusals(tokens) == [("api.anthropic.com", 443), ("api.anthropic.com", 80)]
    assert "[proxy]" in next(event.get("remedy") for event in tokens.history if event.f == "refused")
