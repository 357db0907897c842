"""The table of a connection's life: total, spelled out a second time, and fired row by row through ``Connection``.

``python tests/unit/transports/test_connection_states.py`` writes the diagram in ``docs/connection.md`` anew.
"""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from fake_server.exchange import Exchange
from fake_server.faults import Fault
from fake_server.protocol.wire import Reply, Request
from fake_server.transports.loopback.connection import Connection
from fake_server.transports.loopback.host import Local
from fake_server.transports.loopback.states import (
    TABLE,
    ConnectionEvent,
    ConnectionState,
    IllegalStep,
    diagram,
)
from tests.unit.transports.raw import a_server, call, request, token_request

if TYPE_CHECKING:
    import asyncio

ROOT = Path(__file__).parents[3]
DOCUMENT = ROOT / "docs" / "connection.md"
MERMAID = re.compile(r"(?<=```mermaid\n).*?(?=```\n)", re.DOTALL)

EXPECTED = """
          request   local     refuse   piece     last      end     hang     break   close   lose
idle      serving   replying  refused  -         -         -       -        -       closed  closed
serving   -         -         -        replying  answered  closed  hanging  closed  -       closed
replying  -         -         -        replying  answered  closed  -        -       -       closed
answered  -         -         -        -         -         idle    -        -       -       closed
hanging   -         -         -        -         -         -       -        -       -       closed
refused   -         -         -        -         -         -       -        -       -       closed
closed    -         -         -        -         -         -       -        -       -       closed
"""

HEAD, *LINES = (line.split() for line in EXPECTED.strip().splitlines())
GRID = {
    (ConnectionState(state), ConnectionEvent(event)): cell
    for state, *cells in LINES
    for event, cell in zip(HEAD, cells, strict=True)
}
LEGAL = {row: cell for row, cell in GRID.items() if cell != "-"}
ILLEGAL = [row for row, cell in GRID.items() if cell == "-"]

# What happens to the connection; the row is among what that fires.
STORIES: dict[tuple[str, str], str] = {
    ("idle", "request"): "hello",
    ("idle", "local"): "local run",
    ("idle", "refuse"): "noise",
    ("idle", "close"): "last-hello run",
    ("idle", "lose"): "lose",
    ("serving", "piece"): "stream until-piece",
    ("serving", "last"): "hello run",
    ("serving", "end"): "hello abandoned run",
    ("serving", "hang"): "timeout-fault refresh run",
    ("serving", "break"): "reset-fault refresh run",
    ("serving", "lose"): "hello lose",
    ("replying", "piece"): "three-pieces stream run",
    ("replying", "last"): "stream run",
    ("replying", "end"): "stream until-piece abandoned run",
    ("replying", "lose"): "stream until-piece lose",
    ("answered", "end"): "hello run",
    ("answered", "lose"): "hello broken-pipe run lose",
    ("hanging", "lose"): "timeout-fault refresh run lose",
    ("refused", "lose"): "noise lose",
    ("closed", "lose"): "lose lose",
}


def name(row: tuple[ConnectionState, ConnectionEvent]) -> str:
    return f"{row[0].value}-{row[1].value}"


class Loop:
    """An event loop that runs what is due when it is told to."""

    def __init__(self) -> None:
        self.due: list[tuple[Any, ...]] = []

    def call_soon(self, *call: Any) -> None:
        self.due.append(call)

    def call_later(self, seconds: float, *call: Any) -> Any:
        raise AssertionError(f"nothing here takes time, and {call} is to be called in {seconds} s")


class Transport:
    """A client that reads everything, over a socket that is none."""

    def __init__(self) -> None:
        self.works = True

    def write(self, data: bytes) -> None:
        if not self.works:
            raise BrokenPipeError

    def can_write_eof(self) -> bool:
        return False

    def get_extra_info(self, what: str) -> Any:
        return self

    def setsockopt(self, *options: object) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self) -> None: ...

    def abort(self) -> None: ...


class Stage:
    """A host with one connection, and every transition of it."""

    draining = False
    remedy = ""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server = a_server()
        self.grant = self.server.login("alice")
        self.loop: Any = Loop()
        self.connections: set[Any] = set()
        self.fired: list[tuple[str, str, str]] = []
        self.pipe: Any = Transport()
        self.connection = Connection(self, "c1")
        go = Connection._go

        def recorded(connection: Connection, event: ConnectionEvent) -> None:
            before = connection.state
            go(connection, event)
            self.fired.append((before.value, event.value, connection.state.value))

        monkeypatch.setattr(Connection, "_go", recorded)
        self.connection.connection_made(cast("asyncio.Transport", self.pipe))

    # What a connection asks of its host.

    def answers(self, host: str, port: int | None) -> bool:
        return True

    def wait_hook(self, exchange: Exchange, wait: Any) -> Any:
        return wait

    def actor(self, asked: Request, connection: Any) -> str:
        return connection.name

    def local(self, asked: Request) -> Local | None:
        return Local(200, b"{}") if asked.path == "/local" else None

    def call(self, function: Any, *args: object) -> None:
        self.loop.call_soon(function, *args)

    # What happens to it.

    def do(self, step: str) -> None:
        access, refresh = self.grant.access[0].secret, self.grant.refresh[0].secret
        sent = {
            "hello": request("GET", "/api/hello"),
            "last-hello": request("GET", "/api/hello", b"", "Connection: close"),
            "local": request("GET", "/local"),
            "noise": b"\x16\x03\x01 no HTTP\r\n\r\n",
            "stream": call(access, stream=True),
            "refresh": token_request(refresh),
        }
        if step in sent:
            self.connection.data_received(sent[step])
        elif step == "run":
            self.run()
        elif step == "until-piece":
            self.run(until=ConnectionState.REPLYING)
        elif step == "lose":
            self.connection.connection_lost(None)
        elif step == "abandoned":
            self.server.abandon(None, "killed")
        elif step == "broken-pipe":
            self.pipe.works = False
        elif step == "three-pieces":
            pieces = (b"one", b"two", b"three")
            self.server.replies.message = lambda *_: Reply(200, pieces)
        else:
            self.server.faults.add("token", {"timeout-fault": Fault.TIMEOUT, "reset-fault": Fault.RESET}[step])

    def run(self, until: ConnectionState | None = None) -> None:
        while self.loop.due and self.connection.state is not until:
            function, *args = self.loop.due.pop(0)
            try:
                function(*args)
            except BrokenPipeError:
                assert not self.pipe.works


def test_the_table_is_total() -> None:
    """There is a row for every state and every event, and none for anything else."""
    assert set(TABLE) == set(product(ConnectionState, ConnectionEvent)) == set(GRID)


def test_the_table_says_what_the_grid_says() -> None:
    """Spelled out a second time, state by state."""
    assert {row: "-" if state is None else state.value for row, state in TABLE.items()} == GRID


def test_every_legal_row_has_a_story() -> None:
    """A row that is added to the table must be fired by a story here."""
    assert {(state.value, event.value) for state, event in LEGAL} == set(STORIES)


@pytest.mark.parametrize("row", LEGAL, ids=name)
def test_a_legal_row_is_fired_through_a_connection(
    row: tuple[ConnectionState, ConnectionEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a connection does in this state is what the grid above says."""
    stage = Stage(monkeypatch)
    for step in STORIES[row[0].value, row[1].value].split():
        stage.do(step)

    assert (row[0].value, row[1].value, LEGAL[row]) in stage.fired


@pytest.mark.parametrize("row", ILLEGAL, ids=name)
def test_an_illegal_event_raises_and_changes_nothing(
    row: tuple[ConnectionState, ConnectionEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says what was to happen to which connection."""
    connection = Stage(monkeypatch).connection
    connection.state = row[0]

    with pytest.raises(IllegalStep, match=rf"^{row[1].value} of a connection that is {row[0].value}$"):
        connection._go(row[1])
    assert connection.state is row[0]


@pytest.mark.parametrize("state", ConnectionState)
def test_a_connection_is_busy_or_over_or_idle(state: ConnectionState, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exactly one of the three: a listener that drains waits for the busy ones only."""
    connection = Stage(monkeypatch).connection
    connection.state = state

    assert [connection.busy, connection.over, state is ConnectionState.IDLE].count(True) == 1


def test_a_connection_has_one_turn_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many reasons there are to go on: more requests, or a client that has read."""
    stage = Stage(monkeypatch)
    stage.connection.data_received(request("GET", "/local") * 3)
    stage.connection.data_received(request("GET", "/local"))
    stage.connection.resume_writing()
    turns = []
    while stage.loop.due:
        turns.append(len(stage.loop.due))
        function, *args = stage.loop.due.pop(0)
        function(*args)

    assert turns == [1, 1, 1]
    assert [row[1] for row in stage.fired].count("local") == 4


def test_a_client_that_has_sent_all_is_answered_in_the_next_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its requests wait when the end of what it sends is seen; the connection ends after the last answer."""
    stage = Stage(monkeypatch)
    stage.connection.data_received(request("GET", "/local") * 3)
    assert stage.connection.eof_received()
    stage.run()

    assert [row[1] for row in stage.fired].count("local") == 3
    assert stage.connection.state is ConnectionState.CLOSED


def test_the_diagram_has_one_arrow_for_each_legal_row() -> None:
    """It shows what can happen, and nothing that can't."""
    first, start, *rest = (line.strip() for line in diagram().splitlines())

    assert (first, start) == ("stateDiagram-v2", "[*] --> idle")
    assert sorted(rest) == sorted(f"{state.value} --> {cell}: {event.value}" for (state, event), cell in LEGAL.items())


@pytest.mark.skipif(not (ROOT / "fake_server").is_dir(), reason="not in a checkout: the documents are not here")
def test_the_document_shows_the_table() -> None:
    """The diagram in ``docs/connection.md`` is the one that the table gives."""
    shown = MERMAID.search(DOCUMENT.read_text(encoding="utf-8"))

    assert shown
    assert shown[0] == diagram(), f"docs/connection.md is out of date; run: python {Path(__file__).relative_to(ROOT)}"


if __name__ == "__main__":
    DOCUMENT.write_text(MERMAID.sub(lambda _: diagram(), DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
