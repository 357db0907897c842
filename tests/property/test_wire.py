"""Whatever bytes come, in whatever pieces: a connection answers in HTTP, or closes; it never hangs, and stays small."""

from __future__ import annotations

import base64
import json
import re
from itertools import pairwise
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fake_server.events import Event
from fake_server.transports.loopback.http1 import HEAD_LIMIT, Message, Parser, Refusal
from tests.property.wire import SERVICES, Wire, replies

# What is said.

WIRES = {name: Wire(name) for name in SERVICES}
TOKENS = [secret for wire in WIRES.values() for secret in (wire.grant.access[0].secret, wire.grant.refresh[0].secret)]
PATHS = [place["path"] for wire in WIRES.values() for place in wire.server.endpoints()["endpoints"]]
PATHS += ["/v1/messages", "/api/x", "/mcp", "/_claude_tokens/accounts", "/_claude_tokens/faults", "/w/w0/v1/messages"]
WORDS = re.findall(
    r"\S+",
    """
grant_type refresh_token client_id client_secret code redirect_uri state scope expires_in token token_type_hint resource
audience code_verifier code_challenge code_challenge_method response_type device_code user_code client_assertion nonce
client_assertion_type redirect_uris grant_types token_endpoint_auth_method jwks keys kty n e client_name name fault
target count account worker seconds headers body messages role user content text type model stream jsonrpc method id
params S256 plain authorization_code client_credentials alice status lost-reply delay retry_after 1 true read write
urn:ietf:params:oauth:grant-type:device_code urn:ietf:params:oauth:client-assertion-type:jwt-bearer tools/call
http://localhost/cb https://x.example/é none private_key_jwt initialize openid offline_access
""",
)
NASTY = [
    "",
    "\0",
    "\r\nX: y",
    "\ud800",
    "é",
    "\u2028",
    "\N{SNOWMAN}",
    "%0d%0a",
    "%ff",
    "a" * 300,
    "-1",
    "1e400",
    "0" * 5000,
]
TEXTS = st.sampled_from(WORDS) | st.sampled_from(NASTY) | st.sampled_from(TOKENS) | st.text(max_size=5)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([10**400, 1e308, float("nan")]) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=4,
)
OBJECTS = st.dictionaries(st.sampled_from(WORDS), VALUES, max_size=8)
FORMS = st.lists(st.tuples(TEXTS, TEXTS), max_size=8).map(
    lambda pairs: urlencode([(a.encode("utf-8", "replace"), b.encode("utf-8", "replace")) for a, b in pairs]).encode()
)
BODIES = st.one_of(
    OBJECTS.map(lambda body: json.dumps(body).encode()),
    FORMS,
    st.binary(max_size=20),
    st.sampled_from([b"[" * 10_000, b'{"a":' * 10_000, b"1" * 5000, b"\xff\xfe{\0}\0", b"&" * 3000]),
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A request of any form, mostly of a good one."""
    body = draw(BODIES)
    query = b"?" + draw(FORMS) if draw(st.booleans()) else b""
    target = draw(st.sampled_from(PATHS)).encode() + query
    target = draw(st.sampled_from([target, target, b"http://api.anthropic.com" + target, b"http://[" + target, b"*"]))
    kind = draw(st.sampled_from([b"application/json", b"application/x-www-form-urlencoded", b"", b"\xff"]))
    scheme = draw(st.sampled_from(["Bearer", "Basic", "bearer", "x"]))
    more = [
        (b"authorization", f"{scheme} {draw(TEXTS)}".encode("utf-8", "replace").translate(None, b"\r\n\0")),
        (b"proxy-authorization", b"Basic " + base64.b64encode(draw(TEXTS).encode("utf-8", "replace"))),
        (b"connection", draw(st.sampled_from([b"close", b"upgrade", b"keep-alive"]))),
        (b"upgrade", b"h2c"),
        (b"expect", b"100-continue"),
        (b"content-length", draw(st.sampled_from([b"0", b"5", b"-1", b"9" * 30]))),
        (b"host", draw(st.sampled_from([b"localhost", b"[::1", b"a:b", b"\xe9", b"x" * 300]))),
        (b"cookie", b"\xff\x80"),
    ]
    headers = [(b"host", b"localhost"), (b"content-type", kind), *draw(st.lists(st.sampled_from(more), max_size=4))]
    if draw(st.booleans()):
        headers.append((b"content-length", str(len(body)).encode()))
    else:
        cut = draw(st.integers(0, len(body)))
        body = b"".join(b"%x;a=b\r\n%b\r\n" % (len(part), part) for part in (body[:cut], body[cut:]) if part)
        headers.append((b"transfer-encoding", b"chunked"))
        body += b"0\r\nx: y\r\n\r\n"
    method = draw(st.sampled_from([b"POST", b"POST", b"GET", b"HEAD", b"CONNECT", b"PUT", b"x"]))
    version = draw(st.sampled_from([b"1.1", b"1.1", b"1.1", b"1.0", b"2.0"]))
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    return b"%b %b HTTP/%b\r\n%b\r\n%b" % (method, target, version, lines, body)


@st.composite
def conversations(draw: st.DrawFn) -> bytes:
    """A few requests, of which some bytes were changed, lost or said twice."""
    data = bytearray(b"".join(draw(st.lists(requests(), min_size=1, max_size=3))))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 8))] = draw(st.binary(max_size=4) | st.sampled_from([b"\r\n", b":", b"\0"]))
    return bytes(data)


PLACES = st.lists(st.integers(0, 2000), max_size=5)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """``data`` in the pieces that begin there."""
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[begin:end] for begin, end in pairwise(ends)]


FEW = settings(max_examples=settings().max_examples * 2 // 5)
"""An example takes some 30 ms: a whole service, and a conversation of up to three requests."""


@FEW
@given(service=st.sampled_from(SERVICES), data=conversations(), places=PLACES)
def test_whatever_comes_is_answered_in_http_and_journalled_to_its_end(
    service: str, data: bytes, places: list[int]
) -> None:
    """No exception, no endless turn, nothing written after the end; and the service goes on for the next client."""
    wire = Wire(service)
    wire.feed(*cut(data, places))
    wire.leave()
    assert wire.server.open == {}
    assert [Event.from_json(line).to_json() + "\n" for line in wire.lines] == wire.lines
    if b"HEAD" not in data and b"faults" not in data:  # a reply without its body, or one that was garbled as planned
        replies(bytes(wire.sent))


@FEW
@given(data=conversations(), places=PLACES)
def test_nothing_depends_on_how_the_bytes_were_cut(data: bytes, places: list[int]) -> None:
    """The parser finds the same requests, and refuses where it does for the same reason."""
    found = []
    for pieces in ([data], cut(data, places), [bytes([byte]) for byte in data[:3000]]):
        parser, messages = Parser(), list[Any]()
        for piece in pieces:
            messages += parser.feed(piece)
            if messages and (isinstance(messages[-1], Refusal) or messages[-1].method == "CONNECT"):
                break  # what follows is discarded
        found.append(messages)
    whole, cut_up, bytewise = found
    assert cut_up == whole
    assert bytewise == whole or len(data) > 3000


CHUNKED = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("size", [1000, 4 * HEAD_LIMIT])
@pytest.mark.parametrize(
    ("begin", "endless", "status"),
    [
        (b"GET /", b"x", 431),
        (b"GET / HTTP/1.1\r\n", b"x", 431),
        (b"GET / HTTP/1.1\r\nx: ", b"y", 431),
        (b"GET / HTTP/1.1\r\nx: ", b" ", 431),
        (b"GET / HTTP/1.1\r\n", b"x: y\r\n", 431),
        (b"", b"\r\n", 431),
        (CHUNKED + b"5;", b"x", 400),
        (CHUNKED + b"5;x=", b"y", 400),
        (CHUNKED, b"0", 400),
        (CHUNKED + b"0\r\n", b"x", 400),
        (CHUNKED + b"0\r\nx: ", b"y", 400),
        (CHUNKED + b"0\r\n", b"x: y\r\n", 400),
        (CHUNKED + b"1\r\na\r\n5;", b"x", 400),
    ],
)
def test_what_never_ends_is_refused_before_it_fills_the_memory(
    begin: bytes, endless: bytes, status: int, size: int
) -> None:
    """A field of a head or trailer is kept until it ends; extensions of chunks are not, but none is of use so long."""
    parser, fed = Parser(), 0
    piece = endless * (size // len(endless))
    found = parser.feed(begin)
    while not found:
        assert fed <= HEAD_LIMIT + 2 * size
        found, fed = parser.feed(piece), fed + len(piece)
    (refusal,) = found
    assert isinstance(refusal, Refusal)
    assert refusal.status == status


def test_a_long_head_is_refused_also_where_all_of_it_comes_at_once() -> None:
    """However the kernel cuts it; and one that just fits is read, also behind another request."""

    def status(*headers: bytes) -> list[int]:
        head = b"GET / HTTP/1.1\r\n" + b"".join(b"x: %b\r\n" % header for header in headers) + b"\r\n"
        return [one.status if isinstance(one, Refusal) else 200 for one in Parser().feed(head + head)]

    assert status(b"y" * HEAD_LIMIT) == status(*[b"y" * 1000] * 66) == [431]
    assert status(b"y" * (HEAD_LIMIT - 30)) == status(*[b"y" * 1000] * 64) == [200, 200]


def test_chunks_and_their_extensions_may_go_on_as_long_as_the_body_does() -> None:
    """What is counted is what is none of the body, in a row."""
    parser = Parser()
    parser.feed(CHUNKED)
    for _ in range(10):
        assert parser.feed(b"1;%b\r\na\r\n" % (b"x" * (HEAD_LIMIT // 2))) == []
    (message,) = parser.feed(b"0\r\n%b\r\n" % (b"x: y\r\n" * 1000))
    assert isinstance(message, Message)
    assert message.body == b"a" * 10
