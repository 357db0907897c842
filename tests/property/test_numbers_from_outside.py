"""Every number that comes from outside: what is none, or can't be meant, is refused before anything changes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from fractions import Fraction
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings

from fake_server.exchange import Exchange
from fake_server.faults import Fault
from fake_server.limits import MOST_COUNT, MOST_SECONDS, checked_count, checked_seconds
from fake_server.policy import Policy
from fake_server.protocol.wire import Request
from fake_server.secrecy import shown
from fake_server.serve.admin import PREFIX, Admin
from fake_server.serve.commandline import Usage
from fake_server.serve.service import build_parser
from pytest_claude_tokens import ClaudeTokens
from pytest_claude_tokens.cli import check
from pytest_claude_tokens.cli import run as running
from tests.unit.core.harness import World

Entry = Callable[[Any, World], object]

HUGE = 10**400
NEVER: tuple[Any, ...] = (
    math.inf,
    -math.inf,
    math.nan,
    HUGE,
    -HUGE,
    10**5000,
    "5",
    "",
    b"5",
    True,
    [],
    {},
    [5],
    1j,
    Decimal(5),
)
"""What no entry accepts."""

SECONDS: dict[str, Entry] = {
    "login": lambda value, world: world.server.login(expires_in=value),
    "advance": lambda value, world: world.server.advance(value),
    "Fault.delay": lambda value, _: Fault.delay(value),
    "retry_after": lambda value, _: Fault.status(503, retry_after=value),
    "stall": lambda value, _: Fault.stall(value),
    "stall from JSON": lambda value, _: Fault.from_dict({"kind": "stall", "seconds": value}),
    "Fault(seconds=)": lambda value, _: Fault(kind="delay", seconds=value),
    "delay from JSON": lambda value, _: Fault.from_dict({"kind": "delay", "seconds": value}),
    "retry_after from JSON": lambda value, _: Fault.from_dict({"kind": "status", "code": 503, "retry_after": value}),
    "latency": lambda value, _: Policy(latency={"call": value}),
    **{
        name: lambda value, _, name=name: Policy().but(**{name: value})  # type: ignore[misc]
        for name in ("expires_in", "refresh_expires_in", "queue_limit", "serialize", "latency")
    },
}
COUNTS: dict[str, Entry] = {
    "fail_next": lambda value, world: world.server.faults.add("token", Fault.RESET, count=value),
    "slots": lambda value, _: Policy(slots=value),
    "limit": lambda value, _: ClaudeTokens(limit=value),
    "status": lambda value, _: Fault.status(value),
    "html": lambda value, _: Fault.html(value),
    "Fault(code=)": lambda value, _: Fault(kind="status", code=value),
    "status from JSON": lambda value, _: Fault.from_dict({"kind": "status", "code": value}),
    "grace_count": lambda value, _: Policy.grace(30, count=value),
    "keycloak": lambda value, _: Policy.keycloak(value) if value else Policy(slots=value),
}
OTHERS: dict[str, Entry] = {
    "name": lambda value, world: world.server.login(value or 0),  # type: ignore[arg-type]
    "expired": lambda value, world: world.server.login(expired=value if value is not True else 1),  # type: ignore[arg-type]
    "setup_token": lambda value, world: world.server.login(setup_token=value if value is not True else 1),  # type: ignore[arg-type]
    "after_commit": lambda value, _: Fault.delay(1, after_commit=value if value is not True else 1),  # type: ignore[arg-type]
    "fault": lambda value, _: Fault.from_dict({"kind": value}),
    "Fault(kind=)": lambda value, _: Fault(kind=value),
    "target": lambda value, world: world.server.faults.add(value, Fault.RESET),
}
ALL = SECONDS | COUNTS | OTHERS


@pytest.mark.parametrize("entry", ALL)
@pytest.mark.parametrize("value", NEVER, ids=lambda value: f"{type(value).__name__}-{shown(value)[:9]}")
def test_what_is_no_number_is_refused(entry: str, value: Any) -> None:
    """With a ``ValueError`` that is short, and that leaves the service as it was."""
    if (entry, value) in (("name", "5"), ("latency", {})):
        return
    world = World()
    with pytest.raises(ValueError, match=r".") as refused:
        ALL[entry](value, world)
    assert len(str(refused.value)) < 1000
    assert world.server.journal.events == []
    assert world.server.login().account == "a1"
    assert world.server.faults.take("token", None) is None


@pytest.mark.parametrize("entry", [entry for entry in (*SECONDS, *COUNTS) if entry != "advance"])
def test_what_is_below_nothing_is_refused(entry: str) -> None:
    """Only the clock goes back."""
    for value in (-1, -0.5):
        with pytest.raises(ValueError, match=r"must be|at least"):
            ALL[entry](value, World())
    world = World()
    world.server.advance(-1)
    assert [event.get("seconds") for event in world.server.journal.events] == [-1]


@pytest.mark.parametrize("entry", SECONDS)
@given(value=st.floats() | st.integers() | st.fractions())
@example(1e300)
@example(MOST_SECONDS)
@example(Fraction(1, 3))
@settings(max_examples=30)
def test_what_is_accepted_can_be_told(entry: str, value: Any) -> None:
    """As JSON, which knows no Infinity, and in milliseconds; what can't be is refused."""
    world = World()
    try:
        SECONDS[entry](value, world)
    except ValueError:
        assert not 0 <= value <= MOST_SECONDS
    for event in world.server.journal.events:
        assert json.loads(event.to_json(), parse_constant=_fail)
    for grant in world.server.authority.grants:
        assert int(grant.access[0].expires_at * 1000) > 0


def _fail(constant: str) -> None:
    raise AssertionError(constant)


def test_a_plain_number_is_what_is_kept() -> None:
    """One that JSON can hold, whatever it was."""
    assert checked_seconds("x", Fraction(1, 4)) == 0.25
    assert type(checked_seconds("x", 5)) is int
    assert repr(checked_seconds("x", -0.0)) == "0.0"
    assert checked_count("x", MOST_COUNT) == MOST_COUNT
    with pytest.raises(ValueError, match=r"x=9223372036854775808: must be a whole number, at most 9,223,"):
        checked_count("x", MOST_COUNT + 1)
    with pytest.raises(ValueError, match=r"x=<int>: must be a whole number, at most"):
        checked_count("x", 10**5000)
    assert Policy(grace_seconds=math.inf).grace_seconds == math.inf
    with pytest.raises(ValueError, match="at most 100,000,000,000"):
        Policy(grace_seconds=1e12)


# Over the wire.

JSON = (
    "1e400",
    "-1e400",
    "NaN",
    "Infinity",
    "-Infinity",
    "1" + "0" * 400,
    "1" + "0" * 5000,
    '"5"',
    "-1",
    "[]",
    "{}",
    "true",
)
MEMBERS = {
    "accounts": ("name", "expired", "expires_in", "setup_token"),
    "faults": (
        "target",
        "fault",
        "count",
        "account",
        "worker",
        "code",
        "retry_after",
        "seconds",
        "after_commit",
        "window",
        "part",
        "headers",
    ),
}
FITS = {
    ("expired", "true"),
    ("setup_token", "true"),
    ("after_commit", "true"),
    ("name", '"5"'),
    ("worker", '"5"'),
    ("headers", "{}"),
}


@contextmanager
def an_admin() -> Iterator[tuple[World, Callable[[str, bytes], Any]]]:
    """A service, and a way to ask what only its owner may ask."""
    world = World()
    admin = Admin(world.server, dict, lambda **asked: {"name": world.server.login(**asked).account})

    def ask(path: str, body: bytes) -> Any:
        reply = admin(Request("POST", PREFIX + path, (), body, "127.0.0.1"))
        assert reply is not None
        return reply

    yield world, ask


@pytest.mark.parametrize(("path", "member"), [(path, member) for path, known in MEMBERS.items() for member in known])
@pytest.mark.parametrize("value", JSON, ids=lambda value: value[:9])
def test_an_admin_s_number_is_refused(path: str, member: str, value: str) -> None:
    """400, in the words of its JSON; nobody is logged in, and no fault is planned."""
    if (member, value) in FITS:
        return
    for more in ("", '"fault":"status","code":503,', '"fault":"delay","seconds":1,', '"fault":"quota",'):
        if f'"{member}"' in more or (path == "accounts" and more):
            continue
        with an_admin() as (world, ask):
            reply = ask(path, f'{{{more}"{member}":{value}}}'.encode())
            assert reply.status == 400
            assert "Traceback" not in reply.body.decode()
            assert len(reply.body) < 1200
            assert world.server.journal.events == []
            assert world.server.faults.take("token", None) is None


@pytest.mark.parametrize("path", MEMBERS)
@pytest.mark.parametrize("bracket", ["[", '{"a":', '{"name":[', '{"expires_in":{"a":'])
def test_what_is_nested_too_deeply_is_refused(path: str, bracket: str) -> None:
    """400, and no RecursionError."""
    with an_admin() as (world, ask):
        assert ask(path, bracket.encode() * 100_000).status == 400
        assert world.server.journal.events == []


@pytest.mark.parametrize("value", [*JSON, "[" * 100_000], ids=lambda value: value[:9])
def test_a_client_s_number_is_refused(value: str) -> None:
    """400 from the token endpoint, to a login and to a refresh, and nothing is spent."""
    if value == '"5"':
        return  # a form has texts only
    world = World()
    secret = world.server.login("a").refresh[0].secret
    login = {"grant_type": "authorization_code", "code": "b", "redirect_uri": "x", "code_verifier": "x", "state": "x"}
    for asked in (login, {"grant_type": "refresh_token", "refresh_token": secret}):
        body = json.dumps({**asked, "client_id": "c", "expires_in": 0}).replace(
            '"expires_in": 0', f'"expires_in": {value}'
        )
        exchange = Exchange(world.server, Request("POST", "/v1/oauth/token", (), body.encode()), "w0")
        while exchange.step() is not None:
            pass
    events = world.server.journal.events
    assert [event.status for event in events if event.type == "fail"] == [400, 400]
    assert [grant.account for grant in world.server.authority.grants] == ["a"]
    assert not any("Infinity" in event.to_json() for event in events)


# Options, and files.


@pytest.mark.parametrize("option", ["--timeout", "--serialize", "--latency", "--tokens"])
@pytest.mark.parametrize("value", ["1e400", "nan", "inf", "-1", "1" + "0" * 400, "1" + "0" * 5000, "five", ""])
def test_an_option_s_number_is_refused(option: str, value: str) -> None:
    """Before anything is started."""
    with pytest.raises(Usage, match=option):
        running._parser("run").parse_args([option, value, "--", "true"])
    for port in ("--port", "--proxy-port"):
        with pytest.raises(Usage, match=port):
            build_parser().parse_args([port, value])


@pytest.mark.parametrize(
    "value", ["Infinity", "1e400", "1" + "0" * 400, '"5"', "[" * 100_000], ids=lambda value: value[:9]
)
def test_a_file_s_number_is_refused(value: str, tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 2 and one sentence."""
    path = tmp_path / "h.jsonl"
    header = '{"v":1,"seq":0,"t":0,"actor":"x","type":"header","f":"header"}\n'
    path.write_text(f'{header}{{"v":1,"seq":1,"t":{value},"actor":"x","type":"note","f":"x"}}\n\n{{}}\n')
    assert check.main([str(path)]) == 2
    err = capsys.readouterr().err
    assert "line 2 is not" in err
    assert err.count("\n") == 1
