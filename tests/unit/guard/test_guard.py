"""The hook itself is called here, as no tracer follows it when the interpreter does. `tests/plugin/test_guard.py` has
the libraries.
"""

from __future__ import annotations

import os
import pickle
import pwd
import socket
import sys
from types import SimpleNamespace

import pytest

from fake_server import genuine
from pytest_claude_tokens.guard import RealServiceRefused, audit, files, guard, hosts

HOME = "/home/somebody"
NAMES = ("NO_PROXY", "no_proxy")


class Seen:
    def __init__(self):
        self.arguments = []
        self.refusals = []

    def started(self, arguments):
        self.arguments.append(arguments)

    def refused(self, what, host, remedy):
        self.refusals.append((what, host))


@pytest.fixture
def open_handle(guarded, monkeypatch):
    """The guard with one open handle, whose user lives in HOME."""
    monkeypatch.setattr(files, "_homes", lambda scratch: [HOME])
    files._guarded_places.cache_clear()
    seen = Seen()
    guard.install()
    guard.register(seen)
    yield seen
    guard.unregister(seen)
    files._guarded_places.cache_clear()


def refused(event, *args):
    try:
        audit._hook(event, args)
    except RealServiceRefused:
        return True
    return False


# Hosts.


@pytest.mark.parametrize(
    "host",
    [
        *["anthropic.com", "api.anthropic.com", "API.Anthropic.COM.", "claude.ai", "platform.claude.com"],
        *[b"a.claude.ai", bytearray(b"A.claude.ai"), "api.anthropic.com\0.example.org"],
        *["api.anthropic。com", "api．anthropic｡com", "ａｐｉ.anthropic.com", "ＣＬＡＵＤＥ.ai。"],  # IDNA
        *["api.anth\u00adropic.com", "cla\u200bude.ai", "claude\ufeff.ai", "ⓐpi.anthropic.com", "ſtatsig.claude.ai"],
        *["api.anthropic。com".encode(), "api.anthropic.com\u3002", "\U0001d68elaude.claude.ai"],
    ],
)
def test_real_hosts_are_refused(guarded, host):
    """The three domains and all below them, however they are spelled."""
    guard.install()

    assert refused("socket.getaddrinfo", host, 443, 0, 0, 0)
    assert refused("socket.gethostbyname", host)
    assert refused("socket.gethostbyaddr", host)
    assert refused("socket.connect", object(), (host, 443))
    assert refused("socket.sendto", object(), (host, 443))


@pytest.mark.parametrize(
    "host",
    [
        *[None, "", "127.0.0.1", "notanthropic.com", "anthropic.com.example", "claude.aint", 7, "fe80::1%eth0"],
        *["xn--claude-cua.ai", "münchen.example", "clаude.ai"],  # the last one has a Cyrillic a
    ],
)
def test_other_hosts_are_let_through(guarded, host):
    """A name that only looks like one of them is none."""
    guard.install()

    assert not refused("socket.getaddrinfo", host, 443, 0, 0, 0)
    assert not refused("socket.connect", object(), (host, 443))


@pytest.mark.parametrize("host", [b"\xff.ai", "\\097pi.anthropic.com", "\ud800.ai", "x。。ai", "é" * 2000])
def test_a_name_that_cannot_be_read_is_refused(guarded, host):
    """An escape of DNS, bytes that are no text, what IDNA has no form for: a resolver might read it otherwise."""
    guard.install()

    assert refused("socket.getaddrinfo", host, 443, 0, 0, 0)
    assert refused("socket.connect", object(), (host, 443))


@pytest.mark.parametrize("address", ["/run/socket", b"\0abstract", (), 7])
def test_addresses_without_a_host_are_let_through(guarded, address):
    """Unix sockets and the like have no host."""
    guard.install()

    assert not refused("socket.connect", object(), address)


def test_a_tunnel_to_a_real_host_is_refused(guarded):
    """A proxy that a client was given by hand is asked for the real host by name."""
    guard.install()
    sends = [
        ("proxy.example", b"CONNECT api.anthropic.com:443 HTTP/1.1\r\n\r\n", True),
        ("proxy.example", b"CONNECT example.org:443 HTTP/1.1\r\n\r\n", False),
        ("127.0.0.1", b"CONNECT api.anthropic.com:443 HTTP/1.1\r\n\r\n", True),
        ("proxy.example", b"GET http://api.anthropic.com/v1 HTTP/1.1\r\n\r\n", True),
        ("proxy.example", b"POST http://u:p@api.anthropic.com:80?x HTTP/1.1\r\n\r\n", True),
        ("proxy.example", b"GET http://example.org/?api.anthropic.com HTTP/1.1\r\n\r\n", False),
        ("proxy.example", b"see http://api.anthropic.com/ HTTP/1.1", False),
        ("proxy.example", b"GET / HTTP/1.1\r\n\r\n", False),
        ("proxy.example", "CONNECT", False),
    ]

    for host, data, wanted in sends:
        assert refused("http.client.send", SimpleNamespace(host=host, port=1), data) is wanted


def test_a_server_of_ours_may_be_asked_for_a_real_host(guarded, monkeypatch):
    """It forwards nothing: one that listens in this process, or the one that our environment names."""
    guard.install()
    monkeypatch.delenv(hosts.MARKER, raising=False)
    monkeypatch.setattr("fake_server.hosts.LISTENING_PORTS", {7})

    def asked(port, host="127.0.0.1"):
        connection = SimpleNamespace(host=host, port=port)
        return refused("http.client.send", connection, b"CONNECT api.anthropic.com:443 HTTP/1.1\r\n\r\n")

    assert (asked(7), asked(8)) == (False, True)
    assert (asked(7, "127.0.0.2"), asked(7, "proxy.example")) == (False, True)
    monkeypatch.setenv(hosts.MARKER, "h")
    assert not asked(8)


# Sockets.


def test_sockets_are_as_before_after_the_session(guarded):
    """Wrapped once, however many handles there are; the class has no attribute of ours at the end."""
    for _ in range(2):
        guard.install()
    kept = socket.socket.connect
    assert len(hosts._wrapped) == len(hosts._WRAPPERS)
    guard.uninstall()

    assert not set(hosts._WRAPPERS) & set(vars(socket.socket))
    assert kept.__wrapped__ is socket.socket.connect
    with socket.socket() as client, pytest.raises(TypeError):
        kept(client, ("api.anthropic.com",))  # no port: it is not looked up


def test_what_others_have_put_into_sockets_stays(guarded, monkeypatch):
    """Such as a plugin that forbids sockets: before us, it is put back; after us, it is left, and wrapped anew."""
    first, second = (lambda self, address: 1), (lambda self, address: 2)
    monkeypatch.setattr(socket.socket, "connect", first)
    guard.install()
    with socket.socket() as client:
        assert client.connect(("127.0.0.1", 1)) == 1
        guard.uninstall()
        assert vars(socket.socket)["connect"] is first
        guard.install()
        socket.socket.connect = second
        guard.install()
        with pytest.raises(RealServiceRefused):
            client.connect(("claude.ai", 443))
    guard.uninstall()
    assert vars(socket.socket)["connect"] is second


def test_nothing_is_refused_before_the_first_handle_and_after_the_session(guarded):
    """The hook stays in the process for ever, and looks at nothing."""
    asked = ("socket.getaddrinfo", "api.anthropic.com", 443, 0, 0, 0)
    assert not refused(*asked)
    guard.install()
    assert refused(*asked)
    guard.uninstall()
    assert not refused(*asked)
    assert audit._table == {}


def test_a_suite_may_allow_the_real_hosts(guarded, monkeypatch):
    """The ini option turns off the hosts' part alone."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    guard.allow_real_hosts(True)
    guard.install()

    assert not refused("socket.getaddrinfo", "api.anthropic.com", 443, 0, 0, 0)
    assert "open" in audit._table
    assert not any(name in os.environ for name in NAMES)


def test_the_error_names_the_host_and_the_remedy(guarded):
    """Whoever reads it knows what to do; it survives a pickle, and its module is the short one."""
    guard.install()
    with pytest.raises(
        RealServiceRefused, match=r"api\.anthropic\.com.*tokens\.url.*claude_tokens_allow_real_hosts"
    ) as caught:
        audit._hook("socket.gethostbyname", ("api.anthropic.com",))

    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert type(again).__module__ == "claude_tokens"


# NO_PROXY.


@pytest.mark.parametrize(
    ("before", "ours"),
    [
        ({}, {"NO_PROXY": "anthropic.com,claude.com,claude.ai", "no_proxy": "anthropic.com,claude.com,claude.ai"}),
        (
            {"NO_PROXY": "a, b"},
            {
                "NO_PROXY": "a,b,anthropic.com,claude.com,claude.ai",
                "no_proxy": "a,b,anthropic.com,claude.com,claude.ai",
            },
        ),
        ({"no_proxy": "*"}, {"NO_PROXY": "*", "no_proxy": "*"}),
        (
            {"no_proxy": "claude.ai"},
            {"NO_PROXY": "claude.ai,anthropic.com,claude.com", "no_proxy": "claude.ai,anthropic.com,claude.com"},
        ),
    ],
)
def test_a_proxy_of_the_users_is_kept_from_the_real_hosts(guarded, monkeypatch, before, ours):
    """In both cases of the name, what one says holds for the other, and all is put back."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in before.items():
        monkeypatch.setenv(name, value)

    guard.install()
    assert {name: os.environ[name] for name in ours if name in os.environ} == {
        k: v for k, v in ours.items() if v != "*" or k in before
    }
    guard.uninstall()
    assert {name: os.environ[name] for name in NAMES if name in os.environ} == before


def test_a_variable_that_a_test_has_put_back_is_named_again(guarded, monkeypatch):
    """The next handle looks; and what somebody else has set meanwhile is not taken away."""
    for name in NAMES:
        monkeypatch.setenv(name, "first")
    guard.install()
    os.environ["NO_PROXY"] = "second"
    guard.install()
    assert os.environ["NO_PROXY"] == "second,anthropic.com,claude.com,claude.ai"
    os.environ["no_proxy"] = "third"
    guard.uninstall()

    assert [os.environ[name] for name in NAMES] == ["second", "third"]


# Files.


@pytest.mark.parametrize(
    "path",
    [
        f"{HOME}/.claude",
        f"{HOME}/.claude/.credentials.json",
        f"{HOME}/x/../.claude.json".encode(),
        f"{HOME}/.claude.lock",
        f"{HOME}/.config/anthropic/credentials/default.json",
    ],
)
def test_the_real_login_is_out_of_reach(open_handle, path):
    """Any open, rename, removal and making below it."""
    assert refused("open", path, "r", 0)
    for event in ("os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.chmod", "os.utime", "shutil.rmtree"):
        assert refused(event, path, 0, -1)
    for event in ("os.rename", "os.link", "os.symlink"):
        assert refused(event, path, "/tmp/x", -1, -1)
        assert refused(event, "/tmp/x", path, -1, -1)
        assert not refused(event, "/tmp/x", "/tmp/y", -1, -1)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        (f"{HOME}/.claude/x.db", True),
        (f"file:{HOME}/.claude/x%2Edb?mode=ro", True),
        (f"file://{HOME}/.claude/x.db", True),
        (f"{HOME}/.claude/x.db".encode(), True),
        (":memory:", False),
        ("file::memory:?cache=shared", False),
        (f"{HOME}/x.db", False),
    ],
)
def test_a_database_below_the_real_login_is_out_of_reach(open_handle, name, wanted):
    """By its path or its URI; `sqlite3` opens it without the interpreter's `open`."""
    assert refused("sqlite3.connect", name) is wanted


@pytest.mark.parametrize("path", [3, None, f"{HOME}/.claude.txt", f"{HOME}/.claudette/x", "relative", "nul\0", HOME])
def test_other_files_are_let_through(open_handle, path):
    """Descriptors, names that only look like it, and what is no path."""
    assert not refused("open", path, "r", 0)


def test_a_link_that_leads_there_is_followed(guarded, monkeypatch, tmp_path):
    """A symbolic link to the file or to its folder, as some workarounds have them."""
    home = tmp_path / "home"
    (home / ".claude").mkdir(parents=True)
    (tmp_path / "folder").symlink_to(home / ".claude")
    (tmp_path / "file").symlink_to(home / ".claude" / ".credentials.json")
    monkeypatch.setattr(files, "_guarded_places", lambda *a: (files._places([str(home)]), ()))

    for path in ("folder", "file", "folder/.credentials.json"):
        with pytest.raises(RealServiceRefused):
            files.check_path(tmp_path / path)
    files.check_path(tmp_path / "home" / "other")


def test_a_home_that_is_a_link_is_protected_where_it_is(tmp_path):
    """Both spellings of the real place."""
    (tmp_path / "real").mkdir()
    (tmp_path / "home").symlink_to(tmp_path / "real")

    places = files._places([str(tmp_path / "home")])

    assert {str(tmp_path / name / ".claude") for name in ("home", "real")} <= set(places)


def test_a_folder_that_is_gone_has_no_real_login(monkeypatch):
    """A relative path in a working directory that was removed."""
    monkeypatch.setattr(os, "getcwd", lambda: (_ for _ in ()).throw(FileNotFoundError()))

    assert files._spellings("x") == ()


def test_a_project_that_lives_there_works(guarded, monkeypatch):
    """Tests of a plugin below ~/.claude open their own files; the login beside them stays out of reach."""
    monkeypatch.setattr(files, "_homes", lambda scratch: [HOME])
    monkeypatch.setattr(genuine.os, "getcwd", lambda: f"{HOME}/.claude/plugins/mine")
    files._guarded_places.cache_clear()
    try:
        files.check_path(f"{HOME}/.claude/plugins/mine/test_x.py")
        for path in ("", "/.credentials.json", "/plugins/other"):
            with pytest.raises(RealServiceRefused):
                files.check_path(f"{HOME}/.claude{path}")
    finally:
        monkeypatch.undo()
        files._guarded_places.cache_clear()


def test_without_an_open_handle_files_and_processes_are_free(guarded):
    """Between tests the session's own work goes on."""
    guard.install()

    assert not refused("open", os.path.expanduser("~/.claude/x"), "r", 0)
    assert not refused("sqlite3.connect", os.path.expanduser("~/.claude/x"))
    assert not refused("os.rename", os.path.expanduser("~/.claude/x"), "/tmp/y", -1, -1)
    assert not refused("subprocess.Popen", "claude", ["claude"], None, {})


# Whose home.


def test_the_accounts_home_is_real_whatever_home_says(monkeypatch):
    """A test that sets HOME does not hide the login, and has its own."""
    monkeypatch.setattr(files, "_HOME", "/tmp/test")

    assert files._homes("") == [pwd.getpwuid(os.getuid()).pw_dir]


@pytest.mark.parametrize(
    ("home", "scratch", "real"),
    [
        ("/home/x", "", True),
        ("/tmp/x", "", False),
        ("/scratch/x", "/scratch", False),
        ("", "", False),
        ("x", "", False),
    ],
)
def test_a_home_is_real_unless_it_is_scratch(monkeypatch, home, scratch, real):
    """In a container the user may have no entry, and HOME is all that there is."""
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: (_ for _ in ()).throw(KeyError()))
    monkeypatch.setattr(files, "_HOME", home)

    assert files._homes(scratch) == ([home] if real else [])


def test_an_account_without_a_home_protects_nothing_of_the_projects(monkeypatch):
    """A relative home would make the project's own .claude folder the user's."""
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: SimpleNamespace(pw_dir=""))
    monkeypatch.setattr(files, "_HOME", "")

    assert files._homes("") == []


# Processes.


def test_claude_needs_our_environment(open_handle, monkeypatch):
    """Through every door, unless the environment is one that was made here."""
    ours = {hosts.MARKER: "h"}
    monkeypatch.delenv(hosts.MARKER, raising=False)

    assert refused("subprocess.Popen", "claude", ["claude", "-p"], None, {})
    assert refused("subprocess.Popen", "claude", (), None, None)
    assert refused("os.posix_spawn", "/bin/claude", ["claude"], {})
    assert refused("os.exec", "/bin/claude", ["x"], None)
    assert refused("os.spawn", 0, "/bin/claude", ["claude"], {})
    assert refused("os.system", b"claude -p x")
    assert not refused("subprocess.Popen", "claude", ["claude"], None, ours)
    assert not refused("subprocess.Popen", "claude", ["claude"], None, {os.fsencode(hosts.MARKER): b"h"})
    assert not refused("os.posix_spawn", "/bin/claude", ["claude"], ours)
    monkeypatch.setenv(hosts.MARKER, "h")
    assert not refused("os.system", "claude")
    assert not refused("subprocess.Popen", "claude", ["claude"], None, None)


def test_a_handle_is_told_what_is_started(open_handle):
    """With its arguments, and not of what was refused."""
    refused("subprocess.Popen", "claude", ["claude"], None, {})
    refused("subprocess.Popen", "ls", ["ls", b"-l"], None, {})

    assert open_handle.arguments == [["ls", "-l"]]


def test_the_innermost_handle_is_told_what_was_refused(open_handle):
    """Whatever the client does with the error: the host, or what else it was."""
    inner = Seen()
    guard.register(inner)
    refused("socket.getaddrinfo", "CLAUDE.ai", 443, 0, 0, 0)
    guard.unregister(inner)
    with socket.socket() as client, pytest.raises(RealServiceRefused):
        client.connect(("api.anthropic.com", 443))
    refused("open", f"{HOME}/.claude.json", "r", 0)
    refused("os.system", "claude")

    assert inner.refusals == [("to reach claude.ai", "claude.ai")]
    assert open_handle.refusals == [
        ("to reach api.anthropic.com", "api.anthropic.com"),
        (f"to touch {HOME}/.claude.json", None),
        ("to start claude outside the fake environment", None),
    ]


# Listeners.


def test_a_listener_hears_what_others_do(guarded):
    """Each event, in the thread of its cause; not what the listener itself does, nor what is marked as ours."""
    heard = []

    def listener(event, args):
        heard.append((event, args))
        audit._hook("os.mkdir", ("inner", 0, -1))

    guard.install()
    audit.subscribe(("os.mkdir", "fcntl.flock"), listener)
    audit._hook("os.mkdir", ("a", 0, -1))
    audit._hook("fcntl.flock", (1, 2))
    audit._hook("os.rmdir", ("a", -1))
    with audit.muted():
        audit._hook("os.mkdir", ("b", 0, -1))
    audit.unsubscribe(("os.mkdir", "fcntl.flock"), listener)
    audit._hook("os.mkdir", ("c", 0, -1))

    assert heard == [("os.mkdir", ("a", 0, -1)), ("fcntl.flock", (1, 2))]
    assert "fcntl.flock" not in audit._table
    assert "os.mkdir" in audit._table


def test_the_hook_is_added_once(guarded, monkeypatch):
    """It can't be removed: one for the process, however often the guard is armed."""
    added = []
    monkeypatch.setattr(sys, "addaudithook", added.append)
    monkeypatch.setattr(audit, "_installed", False)
    guard.install()
    guard.uninstall()
    guard.install()

    assert added == [audit._hook]
