"""Which hosts are this machine: one definition for the listener, the admin endpoints, the proxy and respx's routers."""

from __future__ import annotations

import pytest

from fake_server.hosts import canonical, is_loopback
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
