"""One connection of a client: its requests, one after the other, each through its exchange.

The event loop's thread only. What may follow what is in :mod:`fake_server.transports.loopback.states`. An exchange is
abandoned exactly once, when its client has gone before its end.
"""

from __future__ import annotations

import asyncio
import select
import socket
import struct
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from fake_server.effects import Break, Piece, Start, Wait
from fake_server.exchange import Exchange
from fake_server.protocol.actors import actor_of
from fake_server.transports.loopback.http1 import (
    CONTINUE,
    Message,
    Parser,
    Refusal,
    chunk,
    refusal_reply,
    reply_head,
    request_of,
    whole_reply,
)
from fake_server.transports.loopback.states import BUSY, OVER, TABLE, ConnectionEvent, ConnectionState, IllegalStep

if TYPE_CHECKING:
    from fake_server.transports.loopback.host import Host, Local

__all__ = ["Connection"]

_PIPELINED_LIMIT = 64
"""Requests that may wait behind the one that is served, before reading pauses."""
_REFUSED_LINGER_SECONDS = 2.0
"""For how long a refused client may go on sending, so that it reads why before its connection ends."""
_RESET_TIMEOUT_MILLISECONDS = 20
"""In which the reset of a client that has closed arrives; on loopback it is there at once."""

_S, _E = ConnectionState, ConnectionEvent


class Connection(asyncio.Protocol):
    """A client's connection.

    ``worker`` is the actor of requests that carry no name of a worker, and ``name`` that of requests for which there
    is no sign at all.
    """

    transport: asyncio.Transport
    _message: Message  # the request that is served now, or was last

    def __init__(self, listener: Host, name: str, worker: str | None = None) -> None:
        self.name = name
        self.worker = worker
        self.listener = listener
        self._loop = listener.loop
        self.parser = Parser()
        self._queue: deque[Message | Refusal] = deque()
        self.state = ConnectionState.IDLE
        self._exchange: Exchange | None = None
        self._start: Start | None = None
        self._keep = self._chunked = False  # of the reply that is under way: how it ends, and how it is framed
        self._turn = 0
        self._timer: asyncio.TimerHandle | None = None
        # A flag beside the state: a client may end its sending side in any of them, and is served all the same.
        self._half_closed = False

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.listener.connections.add(self)

    def data_received(self, data: bytes) -> None:
        if not self.over:
            self._queue.extend(self.parser.feed(data))
            if len(self._queue) > _PIPELINED_LIMIT:
                self.transport.pause_reading()
            self._pump()

    def eof_received(self) -> bool:
        """Whether to stay: a client that only shut down its sending side still gets its answer."""
        if self.state not in BUSY or self._has_left():
            return False
        self._half_closed = True
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.listener.connections.discard(self)
        self.leave()

    def leave(self, error: str | None = None) -> None:
        """The client has gone, or will get no answer: ``error`` says why, if it is not the client's doing."""
        hung = self.state is _S.HANGING
        self._go(_E.LOSE)
        self._queue.clear()
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
        if self.state is _S.HANGING or not transport.can_write_eof():  # it waits for nothing; TLS has no half-close
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
        while self._queue and self.state is _S.IDLE:
            item = self._queue.popleft()
            if isinstance(item, Refusal):
                self.refuse(item)
            else:
                self._begin(item)
        if self.state is not _S.IDLE:
            return
        self.transport.resume_reading()
        if self._half_closed:
            self._close()
        elif self.parser.expects:
            self.parser.expects = False
            self.transport.write(CONTINUE)

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
            self._exchange = Exchange(self.listener.server, request, actor_of(request, self.name))
            self._advance()

    def connect(self, message: Message) -> None:
        """``CONNECT``: nothing leaves this machine."""
        self.refuse(Refusal(403, f"no tunnel to {message.target}: nothing is forwarded"))

    def refuse(self, refusal: Refusal) -> None:
        """Say why, and end the connection; what the client still sends is thrown away."""
        self._go(_E.REFUSE)
        self.transport.write(refusal_reply(refusal))
        if self._half_closed or not self.transport.can_write_eof():
            self.transport.close()
        else:
            self.transport.write_eof()
            self._timer = self._loop.call_later(_REFUSED_LINGER_SECONDS, self.transport.abort)

    def _send_local(self, local: Local) -> None:
        self.transport.write(whole_reply(local.status, local.body, local.kind, *self._persistence()))
        self._go(_E.LOCAL)
        self._end()

    def _end(self) -> None:
        """The exchange is over: with its reply, or because it was abandoned elsewhere, and no reply will come."""
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
        """Go on until there is something to wait for."""
        while self._exchange is not None:
            try:
                effect = self._exchange.step()
            except BaseException:  # a fault of ours, or of an observer of the journal: the client must not hang
                self.transport.abort()
                raise
            if isinstance(effect, Wait):
                self._wait(self.listener.wait_hook(self._exchange, effect))
                return
            if isinstance(effect, Break):
                self._break(effect)
                return
            if isinstance(effect, Start):
                self._start = effect
            elif effect is not None:
                self._send(effect)
            else:
                self._end()

    def _wait(self, wait: Wait) -> None:
        """Be woken once, by the signal or by the time, whichever comes first."""
        self._turn += 1
        turn = self._turn
        if wait.seconds is not None:
            self._timer = self._loop.call_later(wait.seconds, self._wake, turn)
        if wait.signal is not None:
            with self.listener.server.lock:  # a signal fires under it, in any thread
                wait.signal.subscribe(lambda: self.listener.call(self._wake, turn))
        elif wait.seconds is None:
            # Let requests that have come meanwhile arrive, so that those sent at one time are open at one time.
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
        """The head of a reply of ``length`` bytes; ``None``: not known yet, so in chunks, or until the close."""
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
        """Let the connection go wrong as real ones do."""
        if effect.how == "hang":
            self._go(_E.HANG)
            return
        self._go(_E.BREAK)
        self._exchange = None  # its end is journalled
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
