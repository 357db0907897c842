"""A proxy that a client was given is asked for the host by name; and names that are not written as names alone."""

from __future__ import annotations

import socket
from array import array

import pytest

from pytest_claude_tokens.guard import RealServiceRefused, audit
from pytest_claude_tokens.guard.proxied import host_in

ASKING = {
    b"CONNECT api.anthropic.com:443 HTTP/1.1\r\n": b"api.anthropic.com",
    b"CONNECT [::1]:443 HTTP/1.1\r\n": b"[::1]",
    b"GET http://claude.ai HTTP/1.0\r\n": b"claude.ai",
    b"POST HTTPS://u:p@claude.ai:80/v1?a=http://x/ HTTP/1.1\r\n": b"claude.ai",
    b"GET http://a@b@claude.ai/ HTTP/1.1\r\n": b"claude.ai",
    b"GET ftp://claude.ai/x HTTP/1.1\r\n": b"claude.ai",
    b"M-SEARCH ws://claude.ai#x HTTP/1.1\r\n": b"claude.ai",
    b"GET http://claude.ai\\@example.org/ HTTP/1.1\r\n": b"claude.ai\\@example.org",
    b"\x05\x01\0\x03\x09claude.ai\x01\xbb": b"claude.ai",
    b"\x05\xf0\0\x03\x0aclaude.ai\n\0\0": b"claude.ai\n",
    b"\x04\x01\x01\xbb\0\0\0\x01user\0claude.ai\0": b"claude.ai",
    b"\x04\x01\x01\xbb\0\0\0\x01\0claude.ai\0": b"claude.ai",
}
ASKING_NOBODY = [
    *[b"", b"\0", b"GET /?http://claude.ai/ HTTP/1.1\r\n", b"see http://claude.ai/ HTTP/1.1", b"CONNECT claude.ai"],
    *[
        b"\x16\x03\x01\0\x05claude.ai",
        b"\x05\x01\0\x01\x7f\0\0\x01\x01\xbb",
        b"\x04\x01\x01\xbb\x7f\0\0\x01\0claude.ai\0",
    ],
]


@pytest.mark.parametrize("data", ASKING)
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_the_host_that_a_proxy_is_asked_for(data, kind):
    """By a tunnel, by the whole address of whatever scheme, by SOCKS; a proxy reads a user's name as none of it."""
    assert host_in(kind(data)) == ASKING[data]


@pytest.mark.parametrize("data", ASKING_NOBODY)
def test_other_data_asks_no_proxy(data):
    """A request to a server, text, TLS, and SOCKS with an address as a number."""
    assert host_in(data) is None


def by_send(client, data):
    client.send(data)


def by_sendall(client, data):
    client.sendall(memoryview(data))


def by_sendmsg(client, data):
    client.sendmsg(iter([data[:7], bytearray(data[7:])]))


@pytest.mark.parametrize("way", [by_send, by_sendall, by_sendmsg])
def test_no_socket_sends_it(guarded, way):
    """Whatever client is built on it (aiohttp, httpx, PySocks); all else is sent as it was."""
    guarded.install()
    client, proxy = socket.socketpair()
    with client, proxy:
        proxy.setblocking(False)
        for data, host in ASKING.items():
            if b"claude.ai" in host:
                with pytest.raises(RealServiceRefused):
                    way(client, data)
        with pytest.raises(BlockingIOError):
            proxy.recv(1)
        for data in (b"GET http://example.org/ HTTP/1.1\r\n", *filter(None, ASKING_NOBODY)):
            way(client, data)
            assert proxy.recv(1000) == data
        client.sendall(array("i", [7]))
        assert proxy.recv(100) == array("i", [7]).tobytes()


@pytest.mark.parametrize("name", ["send", "sendmsg"])
def test_a_method_that_is_kept_sends_all_after_the_session(guarded, name):
    guarded.install()
    kept = getattr(socket.socket, name)
    guarded.uninstall()
    data = next(iter(ASKING))
    client, proxy = socket.socketpair()
    with client, proxy:
        kept(client, data if name == "send" else [data])
        assert proxy.recv(1000) == data


def test_a_socket_without_a_peer_sends_nothing(guarded):
    """It has no address that could be this machine's."""
    guarded.install()
    with socket.socket() as client, pytest.raises(RealServiceRefused):
        client.send(next(iter(ASKING)))


def test_a_proxy_on_this_machine_may_be_a_service_of_another_process(guarded):
    """As that of `claude-tokens serve`."""
    guarded.install()
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        client.connect(listener.getsockname())
        client.sendall(next(iter(ASKING)))
        with listener.accept()[0] as proxy:
            assert proxy.recv(1000) == next(iter(ASKING))


@pytest.mark.parametrize(
    "host",
    [
        *[
            "anthropic.com ",
            " claude.ai",
            "claude.ai\n",
            "claude.ai\t",
            "user@claude.ai",
            "claude.ai:443",
            "claude.ai/",
        ],
        *["claude%2eai", "cl%61ude.ai", "claude%E3%80%82ai", "claude.ai%00", "claude.ai%eth0", "https://claude.ai/v1"],
        *["[claude.ai]", "(claude.ai.)", b"claude.ai ", "claude。ai:80"],
    ],
)
def test_a_name_with_something_beside_it_is_refused(guarded, host):
    """A lenient reader takes the name alone."""
    guarded.install()
    with pytest.raises(RealServiceRefused):
        audit._hook("socket.getaddrinfo", (host, 443, 0, 0, 0))


@pytest.mark.parametrize("host", ["fe80::1%eb0", "fe80::1%25eth0", "a b", "x%2eexample", "claude.ai.example:80", "2%"])
def test_another_name_with_something_beside_it_is_let_through(guarded, host):
    """What is wrong with it is the resolver's to say."""
    guarded.install()
    audit._hook("socket.getaddrinfo", (host, 443, 0, 0, 0))


class Disguised(str):
    """The interpreter reads the characters, whatever the methods say."""

    __slots__ = ()

    def __str__(self):
        return "x.example"

    def partition(self, separator):
        return "x.example", "", ""

    def __eq__(self, other):
        return other == "x.example"

    __hash__ = str.__hash__


class Encoded(str):
    __slots__ = ()

    def encode(self, *_):
        return b"claude.ai"


class Bytes(bytes):
    def decode(self, *_):
        return "x.example"


class Address(tuple):
    __slots__ = ()

    def __getitem__(self, at):
        return "127.0.0.1"

    def __len__(self):
        return 0


@pytest.mark.parametrize("host", [Disguised("claude.ai"), Encoded("x.example"), Bytes(b"claude.ai")])
def test_a_subclass_is_read_as_the_interpreter_reads_it(guarded, host):
    guarded.install()
    with pytest.raises(RealServiceRefused):
        audit._hook("socket.getaddrinfo", (host, 443, 0, 0, 0))
    with socket.socket() as client, pytest.raises(RealServiceRefused):
        client.connect(Address((host, 443)))
