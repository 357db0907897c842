"""Small things: tokens and their labels, the clock, whose request it is, and what the core may import."""

from __future__ import annotations

import ast
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import hypothesis.strategies as st
import pytest
from hypothesis import given

import fake_server
from fake_server import clock
from fake_server.clock import Clock, stopwatch
from fake_server.protocol.actors import WORKER, actor_of
from fake_server.protocol.wire import Request, split_prefix
from fake_server.secrecy import redact
from fake_server.tokens import LENGTH, TOKEN, TokenKind, label, mint

ROOT = Path(fake_server.__file__).parent
EDGES = {"clock.py", "genuine.py", "__main__.py", "serve", "transports"}
"""What may look at a clock, start threads and open sockets: all else is the core."""
CORE = sorted(
    path.relative_to(ROOT).with_suffix("").as_posix()
    for path in ROOT.rglob("*.py")
    if path.relative_to(ROOT).parts[0] not in EDGES
)
FORBIDDEN = {
    *("time", "random", "socket", "asyncio", "secrets", "ssl", "select", "selectors", "subprocess", "os"),
    *("pytest", "hypothesis", "httpx", "httpx2", "respx", "httptools", "pytest_claude_tokens"),
}


@given(kind=st.sampled_from(["access", "refresh"]), namespace=st.text(max_size=20), number=st.integers(0, 10**12))
def test_a_token_has_the_shape_of_a_real_one_and_the_word_fake(kind: TokenKind, namespace: str, number: int) -> None:
    """108 characters whatever its number, ending in ``AA``, and the same again for the same arguments."""
    token = mint(kind, namespace, number)
    assert len(token) == LENGTH == 108
    assert TOKEN.fullmatch(token)
    assert token.startswith(f"sk-ant-o{kind[0]}t01-FAKE-{number}-")
    assert token.endswith("AA")
    assert token == mint(kind, namespace, number)
    assert token != mint(kind, namespace, number + 1) != mint(kind, namespace + "x", number + 1)


def test_a_label_says_kind_and_generation() -> None:
    """``at#1`` and ``rt#2`` stand for secrets wherever a person can see."""
    assert [label("access", 1), label("refresh", 2)] == ["at#1", "rt#2"]


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("/v1/messages", "/v1/messages"),
        (f"/x/{mint('access', 'test', 1)}?y", "/x/[an access token of 108 characters]?y"),
        ("sk-ant-api03-abc_DEF-1.sk-ant-ort01-x", "[an API key of 22 characters].[a refresh token of 14 characters]"),
    ],
)
def test_what_looks_like_a_token_is_redacted(text: str, safe: str) -> None:
    """Ours, real ones and keys; nothing else."""
    assert redact(text) == safe


def test_a_clock_is_another_one_plus_an_offset() -> None:
    """It is moved, forwards and backwards, without waiting."""
    clock = Clock(lambda: 100.0, kind="virtual")
    clock.advance(5)
    clock.advance(-2.5)
    assert (clock.now(), clock.kind, repr(clock)) == (102.5, "virtual", "<Clock virtual now=102.500 offset=+2.5>")


def test_a_clock_without_a_reader_follows_whoever_replaces_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked up at each call, so that a frozen time is seen."""
    clock = Clock()
    monkeypatch.setattr(time, "time", lambda: 7.0)
    assert (clock.now(), clock.kind) == (7.0, "system")


def test_the_stopwatch_runs_while_time_is_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads the machine's clock whatever ``time.monotonic`` has become; freezegun keeps the real ones."""

    def real() -> float:
        return 5.0

    def fake() -> float:
        return 6.0

    before = time.monotonic()
    fake.__module__ = "freezegun.api"
    monkeypatch.setattr(time, "monotonic", fake)
    assert stopwatch()() >= before > 6.0
    assert not clock.is_real("monotonic")
    monkeypatch.setitem(clock._AT_IMPORT, "monotonic", fake)
    monkeypatch.setitem(sys.modules, "freezegun.api", SimpleNamespace(real_monotonic=real))
    assert clock.real_time("monotonic") is real


def test_answer_of_a_mock_is_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a test has replaced ``time.time`` by something that tells no time, the service goes by the real one."""
    before = time.time()
    monkeypatch.setattr(time, "time", lambda: None)
    assert abs(clock.now() - before) < 60


@pytest.mark.parametrize(
    ("worker", "headers", "actor"),
    [
        ("w0", (("x-claude-code-session-id", "0123456789"),), "w0"),
        (None, (("x-claude-code-session-id", "0123456789"),), "session-01234567"),
        (None, (("x-claude-code-session-id", ""),), "connection 5"),
        (None, (), "connection 5"),
    ],
)
def test_a_request_is_whoevers_the_strongest_sign_says(
    worker: str | None, headers: tuple[tuple[str, str], ...], actor: str
) -> None:
    """The address, else the session, else what the transport knows."""
    assert actor_of(Request("GET", "/", headers, worker=worker), "connection 5") == actor


def test_no_worker_is_the_default() -> None:
    """The context variable is set by a test's own code alone."""
    assert WORKER.get() is None


@given(st.text())
def test_any_path_can_be_split(path: str) -> None:
    """And without a worker in it, it is as it was."""
    worker, rest = split_prefix(path)
    assert rest == path if worker is None else path.startswith("/w/")


def imports(name: str) -> set[str]:
    """The top-level names of everything that a module of the core imports, whenever it does."""
    tree = ast.parse((ROOT / f"{name}.py").read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            found.add(str(node.module).partition(".")[0])
            if node.module == "fake_server.genuine":
                found |= {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("name", CORE)
def test_the_core_reads_no_clock_draws_nothing_and_opens_nothing(name: str) -> None:
    """Time is passed in, tokens are minted from a counter, bytes are somebody else's; ``clock`` alone may look.

    The journal's file is written where the journal is.
    """
    assert not imports(name) & FORBIDDEN - ({"os"} if name == "core/history_file" else set())


def test_the_lock_is_the_only_thing_of_threads() -> None:
    """The façade has it."""
    assert [name for name in CORE if "threading" in imports(name)] == ["server"]
    assert "time" in imports("clock")


def test_the_edges_exist_and_the_core_is_all_else() -> None:
    """A name in the list of edges that is no file any more would excuse nothing, unseen."""
    assert all((ROOT / name).exists() for name in EDGES)
    assert {"core/authority", "protocol/wire", "exchange", "server", "policy"} <= set(CORE)
