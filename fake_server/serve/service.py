"""``serve``: the service as a process of its own, for programs in any language.

The service does not judge, and does not know how a client is set up: its caller brings a :class:`Judge`.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import shutil
import signal
import sys
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, cast

from fake_server.clock import Clock, stopwatch
from fake_server.policy import Policy
from fake_server.protocol.wire import account_of
from fake_server.secrecy import shown
from fake_server.serve.admin import Admin
from fake_server.serve.commandline import HistoryFile, Parser, Usage, path
from fake_server.server import Server
from fake_server.transports.loopback.listener import check_host
from fake_server.transports.proxy import ProxyServer, available
from fake_server.transports.sockets import SocketServer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fake_server.core.authority import Grant
    from fake_server.transports.loopback.listener import Listener

__all__ = ["GRACE", "Judge", "Judged", "build_parser", "serve"]

GRACE = 5.0
"""Seconds that open requests get to end by themselves when the service is told to end."""

_ENDINGS = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict for a program to end with: its exit status, what people are told, and the same as JSON."""

    exit_status: int
    text: str
    data: Mapping[str, Any]


class Judge(Protocol):
    """What the service leaves to its caller."""

    def header(self) -> dict[str, Any]:
        """What the history's header is to say beside policy and clock."""
        ...

    def credentials(self, grant: Grant) -> Mapping[str, Any]:
        """What a client would have stored after that login."""
        ...

    def environment(
        self, grant: Grant, *, home: str, url: str, proxy: str | None, ca_file: str | None
    ) -> Mapping[str, str]:
        """The variables that lead a client, logged in so, to the service and nowhere else."""
        ...

    def look(self, server: Server) -> Judged:
        """The verdict so far."""
        ...

    def finish(self, server: Server) -> Judged:
        """End the history, and judge it. Nothing is open any more."""
        ...


def build_parser(prog: str = "claude-tokens serve") -> argparse.ArgumentParser:
    """The options of ``serve``."""
    parser = Parser(
        prog=prog,
        description="Serve the fake token service on loopback until SIGTERM or SIGINT; then print the verdict.",
        epilog="Its first line on standard output is a JSON object with url, proxy, ca, history and accounts. "
        "Exit status: 0 valid, 1 violated, 2 usage, 3 unknown.",
    )
    parser.add_argument("--policy", default="anthropic", metavar="P", help="a preset's name (default: %(default)s)")
    parser.add_argument("--host", default="127.0.0.1", metavar="H", help="a loopback address (default: %(default)s)")
    parser.add_argument("--port", type=_port, default=0, metavar="N", help="the port of the service (default: any)")
    parser.add_argument("--proxy-port", type=_port, metavar="N", help="the port of the proxy (default: any)")
    parser.add_argument("--history", type=path, metavar="FILE", help="write the history there, each line at once")
    parser.add_argument(
        "--account", action="extend", nargs="+", metavar="NAME", help="log these in at the start (default: a1)"
    )
    parser.add_argument("--expired", action="store_true", help="their access tokens have expired already")
    return parser


def serve(argv: Sequence[str] | None, judge: Judge, *, prog: str = "claude-tokens serve") -> int:
    """Serve until a signal, in the main thread. Returns the exit status; only ``--help`` exits by itself."""
    with ExitStack() as undo:
        undo.enter_context(_signals_held())  # before any thread starts, so that all inherit it
        try:
            options = build_parser(prog).parse_args(argv)
            if sys.stdout is None:
                raise Usage("standard output can't be written: it is closed")
            service = _Service(options, judge, undo)
            _announce(service.facts())
        except Usage as usage:
            print(f"{prog}: {usage}", file=sys.stderr)
            return 2
        signal.sigwait(_ENDINGS)
        service.stop(GRACE)
        judged = judge.finish(service.server)
        print(judged.text, file=sys.stderr)
        if service.history is not None and service.history.error:
            print(f"{prog}: {options.history} is not whole: {service.history.error}", file=sys.stderr)
        return judged.exit_status


def _announce(facts: Mapping[str, Any]) -> None:
    try:
        print(json.dumps(facts, separators=(",", ":")), flush=True)
    except OSError as error:
        with suppress(OSError):  # what could not be written must not complain at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise Usage(f"standard output can't be written: {error.strerror or error}") from None


class _Service:
    """The running service. What was made is undone by ``undo``."""

    def __init__(self, options: argparse.Namespace, judge: Judge, undo: ExitStack) -> None:
        self._options = options
        self._judge = judge
        policy, host = _checked(options)
        clock, watch = Clock(), stopwatch()
        self.history = None if options.history is None else HistoryFile()
        if self.history is not None:
            undo.callback(self.history.close)  # after all that may write to it
        namespace = f"serve {os.getpid()} {clock.now()}"
        sink = cast("IO[str] | None", self.history)
        self.server = Server(policy, clock, watch, namespace=namespace, header=judge.header(), sink=sink)
        admin = Admin(self.server, lambda: judge.look(self.server).data, self.login)
        self._own = SocketServer(self.server, host, options.port, aside=admin)
        self._proxy: ProxyServer | None = None
        try:
            self._folder = Path(tempfile.mkdtemp(prefix="claude-tokens-")).resolve()
            undo.callback(shutil.rmtree, self._folder, ignore_errors=True)
            self._start(self._own, undo)
            if available():
                self._proxy = ProxyServer(self.server, self._folder, host, options.proxy_port or 0, own=self._own)
                self._start(self._proxy, undo)
            self._accounts = [self.login(name, expired=options.expired) for name in options.account or ("a1",)]
        except OSError as error:  # what is wrong with a port is told by now
            raise Usage(f"a temporary folder can't be made: {error.strerror or error}") from None
        if self.history is not None:  # last, so that the file is not touched where anything else is wrong
            try:
                with self.server.lock:
                    self.history.open(options.history)
            except OSError as error:
                raise Usage(f"the history can't be written to {options.history}: {error.strerror}") from None

    def _start(self, listener: Listener, undo: ExitStack) -> None:
        try:
            listener.start()
        except OSError as error:
            why = "is in use" if error.errno == errno.EADDRINUSE else f"can't be used: {error.strerror}"
            raise Usage(f"port {listener.port} of {listener.host} {why}") from None
        undo.callback(listener.stop)

    def login(
        self,
        name: str | None = None,
        *,
        expired: bool = False,
        expires_in: float | None = None,
        setup_token: bool = False,
    ) -> dict[str, Any]:
        """Log an account in; without a name it is ``a1``, ``a2``, … Raises ``ValueError`` for a bad name."""
        server = self.server
        with server.lock:
            if name is None:
                name = next(free for n in range(1, 1_000_000) if not server.authority.grants_of(free := f"a{n}"))
            _check_account(server, name)
            grant = server.login(name, expires_in=-1.0 if expired else expires_in, setup_token=setup_token)
        proxy, ca_file = self._proxied()
        home = self._folder / "home" / name
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        variables = self._judge.environment(grant, home=str(home), url=self._own.url, proxy=proxy, ca_file=ca_file)
        return {"name": name, "credentials": self._judge.credentials(grant), "env": variables}

    def facts(self) -> dict[str, Any]:
        """The first line."""
        proxy, ca_file = self._proxied()
        history = self._options.history
        return {
            "url": self._own.url,
            "proxy": proxy,
            "ca": ca_file,
            "history": None if history is None else os.path.abspath(history),
            "accounts": self._accounts,
        }

    def stop(self, grace: float) -> None:
        """Take on nothing new, and give what is open ``grace`` seconds in all."""
        watch = self.server.stopwatch
        until = watch() + grace
        self._own.stop(grace)
        if self._proxy is not None:
            self._proxy.stop(max(0.0, until - watch()))

    def _proxied(self) -> tuple[str | None, str | None]:
        return (None, None) if self._proxy is None else (self._proxy.url, self._proxy.ca_file)


def _checked(options: argparse.Namespace) -> tuple[Policy, str]:
    """What can be known to be wrong before anything is touched."""
    try:
        policy, host = Policy.preset(options.policy), check_host(options.host)
        probe = Server(policy, Clock(), stopwatch(), namespace="probe")
        for name in options.account or ():
            _check_account(probe, name)
            probe.login(name)
    except ValueError as error:
        raise Usage(str(error)) from None
    if options.proxy_port is not None and not available():
        raise Usage('--proxy-port needs the extra "proxy": pip install "pytest-claude-tokens[proxy]"')
    return policy, host


def _check_account(server: Server, name: str) -> None:
    if account_of(name) != name:
        raise ValueError(f"{shown(name)} is not an account's name: 1 to 32 letters, digits and . _ @ + -")
    if server.authority.grants_of(name):
        raise ValueError(f"the account {shown(name)} is logged in already")


@contextmanager
def _signals_held() -> Iterator[None]:
    """Signals to end wait until they are asked for; those that came too late are forgotten."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS)
    try:
        yield
    finally:
        for late in signal.sigpending() & set(_ENDINGS):
            signal.sigwait([late])
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _port(text: str) -> int:
    with suppress(ValueError):
        port = int(text)
        if 0 <= port <= 65535:
            return port
    raise argparse.ArgumentTypeError(f"{shown(text)} is not a port: 0 to 65535")
