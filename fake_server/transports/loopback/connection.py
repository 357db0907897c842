"""One connection of a client: its requests, one after the other, each through its exchange.

The event loop's thread only. An exchange is abandoned exactly once, when its client has gone before its end.
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

if TYPE_CHECKING:
    from fake_server.transports.loopback.host import Host, Local

__all__ = ["Connection"]

_PIPELINED = 64
"""Requests that may wait behind the one that is served, before reading pauses."""
_LINGER = 2.0
"""Seconds for which a refused client may go on sending, so that it reads why before its connection ends."""
_RESET_MS = 20
"""Milliseconds in which the reset of a client that has closed arrives; on loopback it is there at once."""


class Connection(asyncio.Protocol):
    """A client's connection.

    ``worker`` is the actor of requests that carry no name of a worker, and ``name`` that of requests for which there
    is no sign at all.
    """

    transport: asyncio.Transport

    def __init__(self, listener: Host, name: str, worker: str | None = None) -> None:
        self.name = name
        self.worker = worker
        self.listener = listener
        self._loop = listener.loop
        self.parser = Parser()
        self._queue: deque[Message | Refusal] = deque()
        self._exchange: Exchange | None = None
        self._start: Start | None = None
        self._keep = self._old = self._bare = self._chunked = False
        self._begun = self._answered = False
        self._turn = 0
        self._timer: asyncio.TimerHandle | None = None
        self._gone = "client gone"
        self._half_closed = False
        self.over = False

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.listener.connections.add(self)

    def data_received(self, data: bytes) -> None:
        if not self.over:
            self._queue.extend(self.parser.feed(data))
            if len(self._queue) > _PIPELINED:
                self.transport.pause_reading()
            self._pump()

    def eof_received(self) -> bool:
        """Whether to stay: a client that only shut down its sending side still gets its answer."""
        if self.over or self._exchange is None or self._has_left():
            return False
        self._half_closed = True
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.listener.connections.discard(self)
        self.leave()

    def leave(self, error: str | None = None) -> None:
        """The client has gone, or will get no answer: ``error`` says why, if it is not the client's doing."""
        self.over = True
        self._queue.clear()
        self._stop_timer()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.abandon(self._gone if error is None or self._gone == "timeout" else error)

    def _has_left(self) -> bool:
        """Whether the client has closed, and not only its sending side: both look the same until something is sent.

        A closed socket answers that with a reset. What can be sent is an interim reply, which every client of
        HTTP/1.1 skips (RFC 9110 section 15.2).
        """
        transport = self.transport
        if self._gone == "timeout" or not transport.can_write_eof():  # it waits for nothing; TLS has no half-close
            return True
        if self._begun or self._old or transport.get_write_buffer_size():
            return False
        transport.write(CONTINUE)
        poll = select.poll()
        poll.register(transport.get_extra_info("socket").fileno(), 0)  # errors are always reported
        return bool(poll.poll(_RESET_MS))

    # One request after the other.

    @property
    def busy(self) -> bool:
        """Whether an exchange is under way."""
        return self._exchange is not None

    def _pump(self) -> None:
        if self.listener.draining:
            self._queue.clear()
        while self._queue and self._exchange is None and not self.over:
            item = self._queue.popleft()
            if isinstance(item, Refusal):
                self.refuse(item)
            else:
                self._begin(item)
        if self._exchange is not None or self.over:
            return
        self.transport.resume_reading()
        if self._half_closed:
            self._close()
        elif self.parser.expects:
            self.parser.expects = False
            self.transport.write(CONTINUE)

    def _begin(self, message: Message) -> None:
        self._keep, self._old, self._bare = message.keep_alive, message.old, message.method == "HEAD"
        self._begun = self._answered = False
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
            self._exchange = Exchange(self.listener.server, request, actor_of(request, self.name))
            self._advance()

    def connect(self, message: Message) -> None:
        """``CONNECT``: nothing leaves this machine."""
        self.refuse(Refusal(403, f"no tunnel to {message.target}: nothing is forwarded"))

    def refuse(self, refusal: Refusal) -> None:
        """Say why, and end the connection; what the client still sends is thrown away."""
        self.over = True
        self.transport.write(refusal_reply(refusal))
        if self._half_closed or not self.transport.can_write_eof():
            self.transport.close()
        else:
            self.transport.write_eof()
            self._timer = self._loop.call_later(_LINGER, self.transport.abort)

    def _send_local(self, local: Local) -> None:
        self.transport.write(whole_reply(local.status, local.body, local.kind, *self._persistence()))
        self._finish()

    def _finish(self) -> None:
        self._exchange = None
        if not self._keep or self.listener.draining:
            self._close()

    def _end(self) -> None:
        if self._answered:
            self._finish()
        else:  # somebody else has abandoned it: no reply will come
            self._exchange = None
            self.over = True
            self.transport.abort()

    def _close(self) -> None:
        self.over = True
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
        self._answered = piece.last
        head = b"" if start is None else self._head(start, len(piece.data) if piece.last else None)
        self.transport.write(head + self._framed(piece.data, last=piece.last))

    def _head(self, start: Start, length: int | None) -> bytes:
        """The head of a reply of ``length`` bytes; ``None``: not known yet, so in chunks, or until the close."""
        self._begun = True
        self._chunked = length is None and not self._old
        if length is not None:
            framing: tuple[tuple[str, str], ...] = (("content-length", str(length)),)
        elif self._chunked:
            framing = (("transfer-encoding", "chunked"),)
        else:
            self._keep, framing = False, ()
        return reply_head(start.status, (*start.headers, *framing, *self._persistence()))

    def _framed(self, data: bytes, *, last: bool) -> bytes:
        if self._bare:
            return b""
        if self._chunked:
            return chunk(data) + (b"0\r\n\r\n" if last else b"")
        return data

    def _persistence(self) -> tuple[tuple[str, str], ...]:
        if not self._keep:
            return (("connection", "close"),)
        return (("connection", "keep-alive"),) if self._old else ()

    def _break(self, effect: Break) -> None:
        """Let the connection go wrong as real ones do."""
        if effect.how == "hang":
            self._gone = "timeout"
            return
        self._exchange = None  # its end is journalled
        if effect.how == "reset":
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.over = True
            self.transport.abort()
            return
        if effect.how == "garbage":
            self.transport.write(effect.data)
        elif effect.how == "truncated":
            assert effect.start is not None
            head = self._head(effect.start, None if effect.start.streamed else 2 * len(effect.data) + 1)
            self.transport.write(head + self._framed(effect.data, last=False))
        self._close()
