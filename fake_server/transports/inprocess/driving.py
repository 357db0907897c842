"""Takes one in-process request from the client library's request, through its exchange, to the response."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from errno import ECONNRESET
from os import strerror
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

import httpx

from fake_server.effects import Break, Effect, Piece, Start, Wait
from fake_server.exchange import Exchange
from fake_server.protocol.actors import WORKER, actor_of
from fake_server.protocol.wire import Request
from fake_server.transports.senders import task_or_thread

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from fake_server.server import Server
    from fake_server.transports.inprocess.waiting import Waiter

__all__ = ["HANG_TIMEOUT_SECONDS", "Destination", "Drive"]

HANG_TIMEOUT_SECONDS = 60.0
"""Seconds after which a request that is never answered fails, although its client would wait for ever."""

_CLOCK_RESOLUTION_SECONDS = 1e-9
"""Seconds that count as no time left: added to a simulated clock they might be lost to rounding, and the wait would
never end.
"""

_T = TypeVar("_T")

_ORPHANS: deque[tuple[Drive, str]] = deque()
"""Abandoned streams that were collected while their thread was inside the core; they are ended at the next step."""


@dataclass(frozen=True, slots=True)
class Destination:
    """The service that answers, and the waiter of its requests."""

    server: Server
    waiter: Waiter


class Drive:
    """A request on its way. ``library`` is the transport library whose exceptions the client expects (httpcore)."""

    def __init__(self, target: Destination, request: httpx.Request, library: Any) -> None:
        self._waiter = target.waiter
        self._lock = target.server.lock
        self._stopwatch = target.server.stopwatch
        self._library = library
        self._head = request.method == "HEAD"
        timeouts: dict[str, float | None] = request.extensions.get("timeout") or {}
        self._patience = timeouts.get("read")
        self._deadline = 0.0
        self._over = False
        self._exchange = _begin(target.server, request)

    def send(self) -> httpx.Response:
        """Return the response, waiting in this thread."""
        return self._run(self._reply())

    async def send_async(self) -> httpx.Response:
        """Return the response, waiting in this task."""
        return await self._run_async(self._reply())

    def pull(self) -> bytes | None:
        """Return the next piece of a streamed body, or ``None`` after the last one, waiting in this thread."""
        return self._run(self._piece())

    async def pull_async(self) -> bytes | None:
        """Return the next piece of a streamed body, or ``None`` after the last one, waiting in this task."""
        return await self._run_async(self._piece())

    def abandon(self, error: str) -> None:
        """Abandon the exchange, if it is not over: the client will not read the rest."""
        if not self._over:
            self._over = True
            self._exchange.abandon(error)

    def orphan(self) -> None:
        """Abandon a response that the client has dropped without closing it. The collector calls this in any thread."""
        if self._over:
            return
        if self._lock._is_owned():  # type: ignore[attr-defined]  # noqa: SLF001 - private, and there is no other way to ask
            _ORPHANS.append((self, "abandoned"))
        else:
            self.abandon("abandoned")

    def _run(self, steps: Generator[Wait, None, _T]) -> _T:
        """Run ``steps``, performing each yielded wait in this thread; returns their result."""
        try:
            while True:
                try:
                    wait = next(steps)
                except StopIteration as end:
                    return cast("_T", end.value)
                self._waiter.wait(wait)
        except BaseException:
            self.abandon("cancelled")
            raise

    async def _run_async(self, steps: Generator[Wait, None, _T]) -> _T:
        """Run ``steps``, performing each yielded wait in this task; returns their result."""
        try:
            while True:
                try:
                    wait = next(steps)
                except StopIteration as end:
                    return cast("_T", end.value)
                await self._waiter.wait_async(wait)
        except BaseException:
            self.abandon("cancelled")
            raise

    def _reply(self) -> Generator[Wait, None, httpx.Response]:
        """Run the exchange until there is a response, and return it."""
        self._deadline = self._stopwatch() - self._waiter.suspended() + (self._patience or 0.0)
        effect = yield from self._next()
        if isinstance(effect, Break):
            return (yield from self._break(effect))
        assert isinstance(effect, Start)
        if effect.streamed:
            return _response(effect, stream=_Body(self))
        piece = yield from self._next()
        assert isinstance(piece, Piece)
        self._over = piece.last
        return _response(effect, piece.data, head=self._head)

    def _piece(self) -> Generator[Wait, None, bytes | None]:
        """Run the exchange until there is a piece of the body, and return it; ``None`` after the last one."""
        if self._over:
            return None
        self._deadline = self._stopwatch() - self._waiter.suspended() + (self._patience or 0.0)
        piece = yield from self._next()
        assert isinstance(piece, Piece)
        self._over = piece.last
        return piece.data

    def _next(self) -> Generator[Wait, None, Effect]:
        """Return the next effect that is not a wait."""
        while isinstance(effect := self._step(), Wait):
            yield from self._within(effect)
        if effect is None:  # another task closed the response or ended the exchange meanwhile
            self._over = True
            raise self._library.ReadError("the connection was closed while the reply was awaited")
        return effect

    def _step(self) -> Effect | None:
        effect = self._exchange.step()
        while _ORPHANS:
            drive, error = _ORPHANS.popleft()
            drive.abandon(error)
        return effect

    def _within(self, wait: Wait) -> Iterator[Wait]:
        """Limit ``wait`` to the client's own time-out."""
        if self._patience is None:
            yield wait
            return
        left = self._left()
        seconds = wait.seconds if wait.seconds is None else min(wait.seconds, left)
        yield replace(wait, seconds=seconds, until=self._stopwatch() + left)
        if self._left() < _CLOCK_RESOLUTION_SECONDS:
            self._time_out()

    def _left(self) -> float:
        """For how many more seconds the client waits: those in which it was suspended do not count."""
        return self._deadline + self._waiter.suspended() - self._stopwatch()

    def _time_out(self) -> NoReturn:
        self.abandon("timeout")
        raise self._library.ReadTimeout("The read operation timed out")

    def _break(self, effect: Break) -> Generator[Wait, None, httpx.Response]:
        """Fail as the transport library would: with an exception, or with a response that breaks off.

        The end of the exchange is already journalled, except that of a hang.
        """
        library = self._library
        if effect.how == "hang":
            yield from self._hang()
        self._over = True
        if effect.how == "reset":
            raise library.ReadError(f"[Errno {ECONNRESET}] {strerror(ECONNRESET)}")
        if effect.how == "lost":
            raise library.RemoteProtocolError("Server disconnected without sending a response.")
        if effect.how == "garbage":
            line = effect.data.partition(b"\r\n")[0]
            raise library.RemoteProtocolError(f"illegal status line: {bytearray(line)!r}")
        assert effect.start is not None
        return _truncated(effect.start, effect.data, library)

    def _hang(self) -> Iterator[Wait]:
        if self._patience is None:
            self._deadline += HANG_TIMEOUT_SECONDS
        while (left := self._left()) >= _CLOCK_RESOLUTION_SECONDS:
            yield Wait("hang", left)
        if self._patience is not None:
            self._time_out()
        self.abandon("timeout")
        raise self._library.ReadError(
            f"no reply within {HANG_TIMEOUT_SECONDS:g} s, and the client has no read time-out"
        )


class _Body(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A streamed body: each piece is a step of the exchange, taken when the client asks for it."""

    def __init__(self, drive: Drive) -> None:
        self._drive = drive

    def __iter__(self) -> Iterator[bytes]:
        while (data := self._drive.pull()) is not None:
            yield data

    def __aiter__(self) -> _Body:  # no generator: its finalizer would run at an arbitrary time
        return self

    async def __anext__(self) -> bytes:
        if (data := await self._drive.pull_async()) is None:
            raise StopAsyncIteration
        return data

    def close(self) -> None:
        self._drive.abandon("abandoned")

    async def aclose(self) -> None:
        self._drive.abandon("abandoned")

    def __del__(self) -> None:
        self._drive.orphan()


class _CutShort(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that breaks off with an error."""

    def __init__(self, data: bytes, error: Exception) -> None:
        self._data = data
        self._error = error

    def __iter__(self) -> Iterator[bytes]:
        yield self._data
        raise self._error

    async def __aiter__(self) -> Any:
        yield self._data
        raise self._error


def _begin(server: Server, request: httpx.Request) -> Exchange:
    headers = tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in request.headers.raw)
    target, host = request.url.raw_path.decode("ascii"), request.url.host
    asked = Request.parse(request.method, target, headers, request.content, host, scheme=request.url.scheme)
    return Exchange(server, asked, WORKER.get() or actor_of(asked, task_or_thread()))


def _response(
    start: Start, data: bytes = b"", *, stream: httpx.SyncByteStream | None = None, head: bool = False
) -> httpx.Response:
    """The response in the form of a connection's: complete headers, a raw body."""
    framing = ("content-length", str(len(data))) if stream is None else ("transfer-encoding", "chunked")
    return httpx.Response(
        start.status,
        headers=[*start.headers, framing],
        stream=stream or httpx.ByteStream(b"" if head else data),
        extensions={"http_version": b"HTTP/1.1"},
    )


def _truncated(start: Start, data: bytes, library: Any) -> httpx.Response:
    message = "peer closed connection without sending complete message body"
    if start.streamed:
        stream = _CutShort(data, library.RemoteProtocolError(f"{message} (incomplete chunked read)"))
        return _response(start, stream=stream)
    whole = 2 * len(data) + 1  # the announced length: any number larger than the data
    error = library.RemoteProtocolError(f"{message} (received {len(data)} bytes, expected {whole})")
    response = _response(start, stream=_CutShort(data, error))
    del response.headers["transfer-encoding"]
    response.headers["content-length"] = str(whole)
    return response
