"""One connection of a client: its requests, one after the other, each through its exchange.

Used in the event loop's thread only. Its transitions are in :mod:`fake_server.transports.loopback.states`. An exchange
is abandoned exactly once, if its client disconnects before its end.

Answers wait for their reader: while a client does not take what was written, no further request of its connection is
begun or read. And between two answers the loop turns, so that no client can keep it to itself.
"""

from __future__ import annotations

import select
import struct
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from fake_server.effects import Break, Piece, Start, Wait
from fake_server.exchange import Exchange
from fake_server.genuine import asyncio, socket
from fake_server.transports.loopback.http1 import (
    CONTINUE,
    Message,
    Parser,
    Refusal,
    chunk,
    hostname_of,
    proxy_user,
    refusal_reply,
    reply_head,
    request_of,
)
from fake_server.transports.loopback.states import BUSY, OVER, TABLE, ConnectionEvent, ConnectionState, IllegalStep

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fake_server.transports.loopback.host import Host, Local

__all__ = ["Connection"]

_PIPELINED_LIMIT = 64
"""Pipelined requests that may wait behind the one being served, before reading pauses."""
_PIPELINED_BYTES_LIMIT = 1024 * 1024
"""Bytes of the bodies of those requests, before reading pauses."""
_REFUSED_LINGER_SECONDS = 2.0
"""Seconds for which a refused client may go on sending, so that it can read the refusal before the connection closes.
"""
_RESET_TIMEOUT_MILLISECONDS = 20
"""Milliseconds within which the reset of a closed client arrives; on loopback it arrives at once."""

_S, _E = ConnectionState, ConnectionEvent


class Connection(asyncio.Protocol):
    """A client's connection.

    ``worker`` is the actor of requests that don't name a worker, and ``name`` the actor of those without any sign of
    one.
    """

    transport: asyncio.Transport
    _message: Message  # the request being served, or the last one

    def __init__(self, listener: Host, name: str, worker: str | None = None) -> None:
        self.name = name
        self.worker = worker
        self.listener = listener
        self._loop = listener.loop
        self.parser: Parser = Parser()
        self._queue: deque[Message | Refusal] = deque()
        self.state: ConnectionState = ConnectionState.IDLE
        self._exchange: Exchange | None = None
        self._start: Start | None = None
        self._keep = self._chunked = False  # of the current reply: keep-alive, and chunked framing
        self._pieces: Iterator[bytes] | None = None  # the rest of a local reply
        self._unread = False  # whether the client must first take what was written
        self._due = False  # whether the loop's next turn goes on with this connection
        self._turn = 0
        self._timer: asyncio.TimerHandle | None = None
        # A flag and not a state: a client may shut down its sending side in any state, and is still served.
        self._half_closed = False

    # Called by asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.listener.connections.add(self)

    def data_received(self, data: bytes) -> None:
        if not self.over:
            self._queue.extend(self.parser.feed(data))
            if len(self._queue) > _PIPELINED_LIMIT or self._queued_bytes() > _PIPELINED_BYTES_LIMIT:
                self.transport.pause_reading()
            if not self._due:
                self._pump()

    def _queued_bytes(self) -> int:
        return sum(len(item.body) for item in self._queue if isinstance(item, Message))

    def pause_writing(self) -> None:
        self._unread = True
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self._unread = False
        self._go_on_soon()

    def eof_received(self) -> bool:
        """Whether to keep the transport open: a client that only shut down its sending side still gets its reply."""
        waits = self.state is _S.IDLE and bool(self._queue)  # for the loop's next turns
        self._half_closed = waits or (self.state in BUSY and not self._has_left())
        return self._half_closed

    def connection_lost(self, exc: Exception | None) -> None:
        self.listener.connections.discard(self)
        self.leave()

    def leave(self, error: str | None = None) -> None:
        """Abandon the exchange: the client has disconnected, or (with ``error``, the reason) will get no reply."""
        hung = self.state is _S.HANGING
        self._go(_E.LOSE)
        self._queue.clear()
        self._pieces = None
        self._stop_timer()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.abandon("timeout" if hung else error or "client gone")

    def _has_left(self) -> bool:
        """Whether the client has closed, and not only its sending side: both look the same until something is sent.

        A closed socket answers that with a reset. What can be sent is an interim reply, which every client of
        HTTP/1.1 skips (RFC 9110 section 15.2).
        """
        transport = self.transport
        if self.state is _S.HANGING or not transport.can_write_eof():  # expects no reply; TLS has no half-close
            return True
        if self.state is not _S.SERVING or self._message.old or transport.get_write_buffer_size():
            return False
        transport.write(CONTINUE)
        poll = select.poll()
        poll.register(transport.get_extra_info("socket").fileno(), 0)  # errors are always reported
        return bool(poll.poll(_RESET_TIMEOUT_MILLISECONDS))

    # One request after the other.

    @property
    def busy(self) -> bool:
        """Whether an exchange is under way."""
        return self.state in BUSY

    @property
    def over(self) -> bool:
        """Whether no request is taken any more."""
        return self.state in OVER

    def _go(self, event: ConnectionEvent) -> None:
        following = TABLE[self.state, event]
        if following is None:
            raise IllegalStep(self.state, event)
        self.state = following

    def _pump(self) -> None:
        if self.listener.draining:
            self._queue.clear()
        if self.state is not _S.IDLE or self._unread:
            return
        if self._queue:
            item = self._queue.popleft()
            if isinstance(item, Refusal):
                self.refuse(item)
            else:
                self._begin(item)
            if self.state is not _S.IDLE:
                return
            if self._queue or self._unread:
                self._go_on_soon()
                return
        self.transport.resume_reading()
        if self._half_closed:
            self._close()
        elif self.parser.expects:
            self.parser.expects = False
            self.transport.write(CONTINUE)

    def _go_on_soon(self) -> None:
        """Go on in the loop's next turn, after all others that wait for theirs."""
        if not self._due:
            self._due = True
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._due = False
        if self._pieces is None:
            self._pump()
        elif not self._unread:
            self._send_local_piece(self._pieces)

    def _begin(self, message: Message) -> None:
        self._message, self._keep = message, message.keep_alive
        if message.method == "CONNECT":
            self.connect(message)
            return
        request = request_of(message, self.listener.answers)
        if isinstance(request, Refusal):
            self.refuse(request)
            return
        if request.worker is None and self.worker is not None:
            request = replace(request, worker=self.worker)
        if (local := self.listener.local(request)) is not None:
            self._send_local(local)
        else:
            self._go(_E.REQUEST)
            self._exchange = Exchange(self.listener.server, request, self.listener.actor(request, self))
            self._advance()

    def connect(self, message: Message) -> None:
        """Refuse ``CONNECT``: no request leaves this machine."""
        try:
            host, port = hostname_of(message.target)
        except ValueError:
            self.refuse(Refusal(400, "this is not a host and a port"))
        else:
            self.refuse(Refusal(403, f"no tunnel to {message.target}: nothing is forwarded", host, port))

    def refuse(self, refusal: Refusal) -> None:
        """Send the refusal, and end the connection; further data from the client is discarded."""
        if refusal.host is not None:
            actor = proxy_user(self._message) or self.worker or self.name
            self.listener.server.refused(actor, self.listener.remedy, host=refusal.host, port=refusal.port)
        self._go(_E.REFUSE)
        self.transport.write(refusal_reply(refusal))
        if self._half_closed or not self.transport.can_write_eof():
            self.transport.close()
        else:
            self.transport.write_eof()
            self._timer = self._loop.call_later(_REFUSED_LINGER_SECONDS, self.transport.abort)

    def _send_local(self, local: Local) -> None:
        self._go(_E.LOCAL)
        start = Start(local.status, (("content-type", local.kind),))
        if isinstance(local.body, bytes):
            self.transport.write(self._head(start, len(local.body)) + self._framed(local.body, last=True))
            self._go(_E.LAST)
            self._end()
        else:
            self._pieces = local.body
            self.transport.write(self._head(start, None))
            self._go_on_soon()

    def _send_local_piece(self, pieces: Iterator[bytes]) -> None:
        """Send the next piece of a long local reply: one in a turn of the loop, and none that the client can't take."""
        piece = next(pieces, None)
        self._go(_E.LAST if piece is None else _E.PIECE)
        self.transport.write(self._framed(piece or b"", last=piece is None))
        if piece is None:
            self._pieces = None
            self._end()
        self._go_on_soon()

    def _end(self) -> None:
        """The exchange is over: it was answered, or abandoned elsewhere without a reply."""
        self._exchange = None
        self._go(_E.END)
        if self.state is _S.CLOSED:
            self.transport.abort()
        elif not self._keep or self.listener.draining:
            self._close()

    def _close(self) -> None:
        self._go(_E.CLOSE)
        self.transport.close()

    # One exchange.

    def _advance(self) -> None:
        """Run the exchange until it must wait."""
        while self._exchange is not None:
            try:
                effect = self._exchange.step()
            except BaseException:  # a bug of ours, or of a journal's observer: the client must not hang
                self.transport.abort()
                raise
            if effect is None:
                self._end()
            elif isinstance(effect, Wait):
                self._wait(self.listener.wait_hook(self._exchange, effect))
                return
            elif isinstance(effect, Start):
                self._start = effect
            elif isinstance(effect, Piece):
                self._send(effect)
            else:
                self._break(effect)
                return

    def _wait(self, wait: Wait) -> None:
        """Arrange to be woken once, by the signal or by the timer, whichever comes first."""
        self._turn += 1
        turn = self._turn
        if wait.seconds is not None:
            self._timer = self._loop.call_later(wait.seconds, self._wake, turn)
        if wait.signal is not None:
            with self.listener.server.lock:  # signals fire under this lock, in any thread
                wait.signal.subscribe(lambda: self.listener.call(self._wake, turn))
        elif wait.seconds is None:
            # Let other requests arrive first, so that requests sent at the same time are open at the same time.
            self._loop.call_soon(self._wake, turn)

    def _wake(self, turn: int) -> None:
        if turn == self._turn and not self.over:
            self._turn += 1
            self._stop_timer()
            self._advance()
            self._pump()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # Its reply.

    def _send(self, piece: Piece) -> None:
        start, self._start = self._start, None
        self._go(_E.LAST if piece.last else _E.PIECE)
        head = b"" if start is None else self._head(start, len(piece.data) if piece.last else None)
        self.transport.write(head + self._framed(piece.data, last=piece.last))

    def _head(self, start: Start, length: int | None) -> bytes:
        """The head of a reply of ``length`` bytes; ``None``: unknown, so chunked, or until the connection closes."""
        self._chunked = length is None and not self._message.old
        if length is not None:
            framing: tuple[tuple[str, str], ...] = (("content-length", str(length)),)
        elif self._chunked:
            framing = (("transfer-encoding", "chunked"),)
        else:
            self._keep, framing = False, ()
        return reply_head(start.status, (*start.headers, *framing, *self._persistence()))

    def _framed(self, data: bytes, *, last: bool) -> bytes:
        if self._message.method == "HEAD":
            return b""
        if self._chunked:
            return chunk(data) + (b"0\r\n\r\n" if last else b"")
        return data

    def _persistence(self) -> tuple[tuple[str, str], ...]:
        if not self._keep:
            return (("connection", "close"),)
        return (("connection", "keep-alive"),) if self._message.old else ()

    def _break(self, effect: Break) -> None:
        """Break the connection in the way that the fault says."""
        if effect.how == "hang":
            self._go(_E.HANG)
            return
        self._go(_E.BREAK)
        self._exchange = None  # its end is already journalled
        if effect.how == "reset":
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
            return
        if effect.how == "garbage":
            self.transport.write(effect.data)
        elif effect.how == "truncated":
            assert effect.start is not None
            head = self._head(effect.start, None if effect.start.streamed else 2 * len(effect.data) + 1)
            self.transport.write(head + self._framed(effect.data, last=False))
        self.transport.close()
