"""``serve``: the service as a process of its own, for programs in any language.

The service does not judge, and does not know how a client is set up: its caller passes a :class:`Judge`.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fake_server.clock import Clock, stopwatch
from fake_server.hosts import hosts_of, is_loopback
from fake_server.policy import Policy
from fake_server.secrecy import safe_text, shown
from fake_server.serve.admin import Admin
from fake_server.serve.commandline import SERVICE_HELP, Parser, Usage, add_waits, path, with_waits
from fake_server.serve.commandline import service as named_service
from fake_server.serve.history_file import HistoryFile
from fake_server.serve.page_file import check_page, page_path, write_page
from fake_server.server import Server
from fake_server.service import SERVICES, Service
from fake_server.transports.loopback.listener import check_host
from fake_server.transports.proxy import ProxyServer, available
from fake_server.transports.sockets import SocketServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from fake_server.core.authority import Grant
    from fake_server.transports.loopback.listener import Listener

__all__ = ["Judge", "Judged", "background", "build_parser", "serve"]

_ENDINGS = (signal.SIGTERM, signal.SIGINT)
_GRACE_PERIOD_SECONDS = 1.5
"""Seconds that open requests have to end by themselves after such a signal: who sent it waits for some 3 at most."""
_POLL_INTERVAL_SECONDS = 0.05
"""Between two looks whether a signal has come while a file is being opened."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict as a program reports it: exit status, text for people, and the same as JSON."""

    exit_status: int
    text: str
    data: Mapping[str, Any]


class Judge(Protocol):
    """The tasks that the service leaves to its caller."""

    def header(self) -> dict[str, Any]:
        """Fields for the history's header besides policy and clock."""
        ...

    def credentials(self, grant: Grant) -> Mapping[str, Any]:
        """The credentials that a client would have stored after that login."""
        ...

    def environment(
        self, grant: Grant, *, home: str, url: str, proxy: str | None, ca_file: str | None
    ) -> Mapping[str, str]:
        """The environment variables that lead a client with this login to the service and nowhere else."""
        ...

    def look(self, server: Server) -> Judged:
        """The verdict so far."""
        ...

    def finish(self, server: Server) -> Judged:
        """End the history and judge it, when no request is open any more."""
        ...

    def page(self, server: Server) -> str | None:
        """The history drawn as a page of HTML, in plain ASCII; ``None`` from a judge that can't draw."""
        ...


def build_parser(prog: str = "claude-tokens serve") -> argparse.ArgumentParser:
    """The options of ``serve``."""
    parser = Parser(
        prog=prog,
        description="Serve the fake token service on loopback until SIGTERM or SIGINT; then print the verdict.",
        epilog="Its first line on standard output is a JSON object with url, proxy, ca, history and accounts. "
        "Exit status: 0 valid, 1 violated, 2 usage, 3 unknown.",
    )
    parser.add_argument("--policy", metavar="P", help="a preset's name (default: anthropic; of other services: oauth)")
    parser.add_argument("--service", type=named_service, metavar="S", help=SERVICE_HELP)
    parser.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="H",
        help="a loopback address (default: 127.0.0.1); with --service also a host name to answer for; may be repeated",
    )
    parser.add_argument("--port", type=_port, default=0, metavar="N", help="the port of the service (default: any)")
    parser.add_argument("--proxy-port", type=_port, metavar="N", help="the port of the proxy (default: any)")
    parser.add_argument("--history", type=path, metavar="FILE", help="write the history there, each line at once")
    parser.add_argument("--html", type=page_path, metavar="FILE", help="draw the history there when it has ended")
    parser.add_argument(
        "--account",
        action="extend",
        nargs="*",
        metavar="NAME",
        help="log these in at the start; without a name: nobody (default: a1)",
    )
    parser.add_argument(
        "--no-account", action="store_true", help="log nobody in at the start: clients do it themselves"
    )
    parser.add_argument("--expired", action="store_true", help="their access tokens have expired already")
    add_waits(parser)
    return parser


def serve(argv: Sequence[str] | None, judge: Judge, *, prog: str = "claude-tokens serve") -> int:
    """Serve until a signal, in the main thread. Returns the exit status; only ``--help`` raises ``SystemExit``."""
    with ExitStack() as undo:
        undo.enter_context(_signals_held())  # before any thread starts, so that all threads inherit the mask
        try:
            options = build_parser(prog).parse_args(argv)
            if sys.stdout is None:
                raise Usage("standard output can't be written: it is closed")
            if options.html is not None:
                with _telling(f"{options.html} can't be written"):
                    check_page(options.html)
            history = _history_file(options.history, undo)
            service, facts = _start_service(options, judge, history, undo)
            _announce(facts)
        except Usage as usage:
            print(f"{prog}: {usage}", file=sys.stderr)
            return 2
        signal.sigwait(_ENDINGS)
        service.stop(_GRACE_PERIOD_SECONDS)
        judged = judge.finish(service.server)
        print(judged.text, file=sys.stderr)
        if history is not None and history.error:
            print(safe_text(f"{prog}: {options.history} is not whole: {history.error}"), file=sys.stderr)
        if options.html is not None:
            _draw(options.html, judge.page(service.server), prog)
        return judged.exit_status


@contextmanager
def background(argv: Sequence[str], judge: Judge) -> Iterator[tuple[dict[str, Any], Callable[[], Judged]]]:
    """The service in threads of this process, for the block: its first line, and what ends it and returns the verdict.

    Raises :class:`Usage`.
    """
    with ExitStack() as undo:
        options = build_parser().parse_args(argv)
        service, facts = _start_service(options, judge, _history_file(options.history, undo), undo)

        def finish() -> Judged:
            service.stop(_GRACE_PERIOD_SECONDS)
            return judge.finish(service.server)

        yield facts, finish


def _history_file(path: str | None, undo: ExitStack) -> HistoryFile | None:
    """The file for the history, not open yet. It is closed after everything that may write to it has ended."""
    if path is None:
        return None
    history = HistoryFile(path)
    undo.callback(history.close)
    return history


def _draw(path: str, page: str | None, prog: str) -> None:
    """Write the page. The verdict stands, whatever becomes of its picture."""
    try:
        if page is None:
            raise OSError(errno.ENOSYS, "no installed package draws histories")
        write_page(path, page)
    except OSError as error:
        print(safe_text(f"{prog}: {path} can't be written: {error.strerror}"), file=sys.stderr)


def _announce(facts: Mapping[str, Any]) -> None:
    try:
        print(json.dumps(facts, separators=(",", ":")), flush=True)
    except OSError as error:
        with suppress(OSError):  # flushing the unwritten rest must not fail at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise Usage(f"standard output can't be written: {error.strerror or error}") from None


class _Service:
    """The running service, for its owner. Created and started by :func:`_start_service`."""

    def __init__(
        self, server: Server, judge: Judge, folder: Path, listen: tuple[str, int], hosts: Sequence[str]
    ) -> None:
        host, port = listen
        self.server = server
        self.folder = folder
        self._judge = judge
        self._homes = count(1)
        admin = Admin(server, lambda: judge.look(server).data, self.login)
        self.own = SocketServer(server, host, port, hosts=hosts, local_handler=admin)
        self.proxy: ProxyServer | None = None

    def login(
        self,
        name: str | None = None,
        *,
        expired: bool = False,
        expires_in: float | None = None,
        setup_token: bool = False,
    ) -> dict[str, Any]:
        """Log an account in; without a name it is ``a1``, ``a2``, … Raises ``ValueError`` for an invalid name."""
        home = self.folder / "home" / f"{next(self._homes)}"
        home.mkdir(mode=0o700, parents=True)  # before the login: a disk that is full leaves no half of one
        grant = self.server.login(name, expired=expired, expires_in=expires_in, setup_token=setup_token)
        proxy, ca_file = self._proxied()
        variables = self._judge.environment(grant, home=str(home), url=self.own.url, proxy=proxy, ca_file=ca_file)
        return {
            **self.server.login_facts(grant),
            "credentials": self._judge.credentials(grant),
            "env": variables,
        }

    def facts(self, history: str | None, accounts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The first line of output: the service's addresses, its history file, and the accounts."""
        proxy, ca_file = self._proxied()
        return {
            "url": self.own.url,
            "proxy": proxy,
            "ca": ca_file,
            "history": None if history is None else os.path.abspath(history),
            "accounts": accounts,
        }

    def stop(self, grace: float) -> None:
        """Accept no new requests, and give open ones ``grace`` seconds in all."""
        watch = self.server.stopwatch
        until = watch() + grace
        self.own.stop(grace)
        if self.proxy is not None:
            self.proxy.stop(max(0.0, until - watch()))

    def _proxied(self) -> tuple[str | None, str | None]:
        return (None, None) if self.proxy is None else (self.proxy.url, self.proxy.ca_file)


def _start_service(
    options: argparse.Namespace, judge: Judge, history: HistoryFile | None, undo: ExitStack
) -> tuple[_Service, dict[str, Any]]:
    """Start the service; returns it and its first line. ``undo`` stops it and removes its files.

    Raises :class:`Usage`; the history file is then untouched.
    """
    policy, form, host, hosts = _checked(options)
    clock = Clock()
    namespace = f"serve {os.getpid()} {clock.now()}"
    header = judge.header()
    if policy.slots is None:  # it serializes no calls, so that nothing forbids two at once
        header["limit"] = None
    server = Server(policy, clock, stopwatch(), namespace=namespace, service=form, header=header, sink=history)
    with _telling("a temporary folder can't be made"):
        folder = Path(tempfile.mkdtemp(prefix="claude-tokens.")).resolve()
    undo.callback(shutil.rmtree, folder, ignore_errors=True)
    service = _Service(server, judge, folder, (host, options.port), hosts)
    _listen(service.own, undo)
    if available():
        with _telling("the proxy's certificate can't be written"):
            service.proxy = ProxyServer(server, folder, host, options.proxy_port or 0, own=service.own, hosts=hosts)
        _listen(service.proxy, undo)
    else:
        service.own.stand_in()
    with _telling("a folder for an account can't be made"):
        accounts = [service.login(name, expired=options.expired) for name in _first_accounts(options)]
    if history is not None:  # last, so that any other error leaves the file untouched
        with _telling(f"the history can't be written to {options.history}"), server.lock:
            _in_time(history.open, f"{options.history} was opened")
    return service, service.facts(options.history, accounts)


def _first_accounts(options: argparse.Namespace) -> Sequence[str | None]:
    """The names of the accounts to log in at the start; ``None``: the first free name."""
    if options.no_account:
        return ()
    return (None,) if options.account is None else options.account


def _in_time(do: Callable[[], None], what: str) -> None:
    """Do what may take for ever, as a file's opening on a network's disk; a signal that comes meanwhile ends the wait.

    Raises what ``do`` raises, and :class:`Usage` if a signal came before it was done.
    """
    done = threading.Event()
    errors: list[OSError] = []

    def work() -> None:
        try:
            do()
        except OSError as error:
            errors.append(error)
        done.set()

    threading.Thread(target=work, name="opens-history", daemon=True).start()
    while not done.wait(_POLL_INTERVAL_SECONDS):
        if signal.sigpending() & set(_ENDINGS):
            raise Usage(f"it was ended before {what}")
    if errors:
        raise errors[0]


def _listen(listener: Listener, undo: ExitStack) -> None:
    try:
        listener.start()
    except OSError as error:
        why = "is in use" if error.errno == errno.EADDRINUSE else f"can't be used: {error.strerror}"
        raise Usage(f"port {listener.port} of {listener.host} {why}") from None
    undo.callback(listener.stop)


@contextmanager
def _telling(what: str) -> Iterator[None]:
    """Turn an ``OSError`` in the block into :class:`Usage`, with ``what`` failed and the reason."""
    try:
        yield
    except OSError as error:
        raise Usage(f"{what}: {error.strerror or error}") from None


def _checked(options: argparse.Namespace) -> tuple[Policy, Service, str, tuple[str, ...]]:
    """The policy, the service, the address and the hosts, checked before any file or socket is touched."""
    form: Service = options.service or SERVICES["claude"]
    try:
        named = [host for host in options.host if options.service is not None and _is_name(host)]
        hosts = hosts_of((*form.hosts, *named)).written
        address = next((host for host in reversed(options.host) if host not in named), "127.0.0.1")
        policy, host = with_waits(Policy.preset(options.policy or form.policy), options), check_host(address)
        probe = Server(policy, Clock(), stopwatch(), namespace="probe", service=form)
        for name in options.account or ():
            probe.login(name)
    except ValueError as error:
        raise Usage(str(error)) from None
    if options.no_account and options.account:
        raise Usage("--no-account and --account contradict each other: leave one of them out")
    if options.proxy_port is not None and not available():
        raise Usage('--proxy-port needs the extra "proxy": pip install "pytest-claude-tokens[proxy]"')
    return policy, form, host, hosts


def _is_name(host: str) -> bool:
    """Whether it is a host's name, and no address on which one could listen."""
    return not is_loopback(host) and re.search("[A-Za-z]", host.partition(":")[0]) is not None


@contextmanager
def _signals_held() -> Iterator[None]:
    """In the block, termination signals stay pending until the main thread waits for them; later ones are discarded."""
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
