"""Which hosts are this machine: one definition for the listener, the admin endpoints, the proxy and respx's routers."""

from __future__ import annotations

import pytest

from fake_server.hosts import Hosts, canonical, hosts_of, is_loopback
from fake_server.transports.loopback.listener import check_host


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.2", "127.255.255.254", "localhost", "LocalHost", "localhost.", "::1", "[::1]", "0:0::1"],
)
def test_this_machine_has_many_names(host: str) -> None:
    """All of 127.0.0.0/8 (RFC 1122 section 3.2.1.3), and IPv6's address with and without brackets."""
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    ["", "0.0.0.0", "::", "192.0.2.1", "128.0.0.1", "127.0.0.1.example", "localhost.example", "[", "127.0.0.1:80"],
)
def test_no_other_name_is_this_machine(host: str) -> None:
    """An address that only begins like one of ours leads elsewhere."""
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("host", "name"), [("Api.Anthropic.com.", "api.anthropic.com"), ("[::1]", "::1"), ("[::1", "[::1"), ("", "")]
)
def test_hosts_are_compared_without_case_dot_and_brackets(host: str, name: str) -> None:
    """However a client has spelled it."""
    assert canonical(host) == name


@pytest.mark.parametrize(
    ("host", "address"), [("localhost", "127.0.0.1"), ("127.0.0.2", "127.0.0.2"), ("[::1]", "::1"), ("::1", "::1")]
)
def test_a_listener_binds_the_address_that_was_meant(host: str, address: str) -> None:
    """In the form that a socket takes."""
    assert check_host(host) == address


@pytest.mark.parametrize("host", ["a\\097.example", b"\xff", "x。。example", "a" * 2000])
def test_what_has_no_canonical_form_is_told(host: str | bytes) -> None:
    """And is no host of anybody's, nor loopback."""
    with pytest.raises(ValueError):
        canonical(host)
    assert not Hosts(["*.example"]).match(host)
    assert not is_loopback(host)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("written", "host", "port", "expected"),
    [
        ("auth.example.com", "AUTH.example.com.", 443, True),
        ("auth.example.com", "auth.example.com", 8080, True),
        ("auth.example.com", "example.com", 443, False),
        ("auth.example.com:8443", "auth.example.com", 8443, True),
        ("auth.example.com:8443", "auth.example.com", 443, False),
        ("auth.example.com:8443", "auth.example.com", None, True),
        ("*.Example.com", "auth.example.com", 1, True),
        ("*.example.com", "a.b.example.com", 1, True),
        ("*.example.com", "example.com", 1, False),
        ("münchen.example:80", "XN--MNCHEN-3YA.example", 80, True),
        ("::1", "[::1]", 80, True),
        ("[::1]:80", "::1", 80, True),
        ("[::1]:80", "::1", 81, False),
        ("127.0.0.1:80", "127.0.0.1", 80, True),
        ("my_host", "MY_HOST", 80, True),
    ],
)
def test_a_host_is_written_as_name_port_or_star(written: str, host: str, port: int | None, expected: bool) -> None:
    """A name is meant at each port, with a port at that one; a star stands for all below."""
    assert hosts_of((written,)).match(host, port) is expected


@pytest.mark.parametrize(
    "written",
    [
        *["https://auth.example.com", "auth.example.com/token", "auth.example.com:", "auth.example.com:http", "a b"],
        *["auth.example.com:0", "auth.example.com:65536", "auth.example.com:123456789", "*", "*.", "*.*.com", "a.*"],
        *["*.example.com:80", "*.127.0.0.1:80", "user@auth.example.com", "", ".", "-a.example", "a..b", "x" * 64, None],
        *[7, b"auth.example.com", "[::1", "::1::", "a" * 2000, "auth.example.com?x", "sk-ant-oat01-FAKEFAKEFAKEFAKE"],
    ],
)
def test_anything_else_is_an_error_that_says_how_to_write_it(written: object) -> None:
    """A URL above all: it would match nothing, and its host would be looked up for real."""
    with pytest.raises(ValueError, match=r"each written as auth\.example\.com, .*:8443 or \*\.example\.com") as caught:
        Hosts([written])  # type: ignore[list-item]
    assert "FAKEFAKE" not in str(caught.value)
    assert len(str(caught.value)) < 1000
