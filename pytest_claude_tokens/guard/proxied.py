"""Which host the first bytes of a connection ask a proxy for.

A client that was given a proxy looks up the proxy's name alone, and tells it the host's: by ``CONNECT`` or with the
whole address (RFC 9112 sections 3.2.2 and 3.2.3), or in the request of SOCKS 4a or 5 (RFC 1928 section 4).
"""

from __future__ import annotations

import re

__all__ = ["host_in"]

_REQUEST = re.compile(rb"(?:CONNECT +|[A-Z-]+ +(?i:[a-z][a-z0-9+.-]*)://)([^/?#\s]+)\S* +HTTP/1\.")
_PORT = re.compile(rb":\d*\Z")
_SOCKS5 = re.compile(rb"\x05[\x01-\x03\xf0\xf1]\0\x03(.)", re.DOTALL)
_SOCKS4A = re.compile(rb"\x04[\x01\x02]..\0\0\0[^\0][^\0]*\0([^\0]+)\0", re.DOTALL)


def host_in(data: bytes | bytearray | memoryview) -> bytes | None:
    """The host that a request of these bytes asks a proxy for; ``None`` if it is no such request.

    Where the address could be read in two ways, because of a backslash, it is returned as it is.
    """
    if (asked := _REQUEST.match(data)) is not None:
        authority = bytes(asked[1])
        return authority if b"\\" in authority else _PORT.sub(b"", authority.rpartition(b"@")[2])
    if (asked := _SOCKS5.match(data)) is not None:
        return bytes(data[asked.end() : asked.end() + asked[1][0]])
    if (asked := _SOCKS4A.match(data)) is not None:
        return bytes(asked[1])
    return None
