"""``ClaudeTokens``: one fake service, and everything that a test does with it.

As a context manager it opens, and at the end finishes, closes and raises the first violation. pytest's plugin and the
search call these one by one:

* :meth:`~ClaudeTokens.open` starts to answer in process, to guard the real service and to watch for leaks;
* :meth:`~ClaudeTokens.finish` ends the history and judges it, once;
* :meth:`~ClaudeTokens.close` undoes everything that ``open`` did, and everything started since;
* :meth:`~ClaudeTokens.to_raise` returns the finding that replaces the error with which a body ended.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Self, TypeVar

from fake_server.genuine import os
from fake_server.protocol.actors import as_worker
from fake_server.secrecy import discreet_class
from fake_server.server import Server
from pytest_claude_tokens.guard import audit, guard
from pytest_claude_tokens.handle import logins, settings
from pytest_claude_tokens.handle.accounts import Account, Accounts
from pytest_claude_tokens.handle.endpoints import LocalEndpoints
from pytest_claude_tokens.handle.finish import end, wait_for_open
from pytest_claude_tokens.handle.history_view import HistoryView
from pytest_claude_tokens.handle.hold import held
from pytest_claude_tokens.handle.judgement import Judgement
from pytest_claude_tokens.handle.leaks import Leaks, watched_logs
from pytest_claude_tokens.handle.names import history_file, or_torn, path_of, worker_name
from pytest_claude_tokens.handle.runtime import Runtime
from pytest_claude_tokens.handle.stores import Stores
from pytest_claude_tokens.handle.watcher import Watcher
from pytest_claude_tokens.judge.violations import DEFAULT
from pytest_claude_tokens.processes import environment
from pytest_claude_tokens.processes.children import Children

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from fake_server.clock import Clock
    from fake_server.faults import Fault, RequestKind, Target
    from fake_server.policy import Policy
    from fake_server.service import Service
    from pytest_claude_tokens.claude.telemetry import Record
    from pytest_claude_tokens.handle.store_reader import Read, Source
    from pytest_claude_tokens.judge.judging import Verdict
    from pytest_claude_tokens.judge.violations import Unknown, Unserved, Violation
    from pytest_claude_tokens.processes.worker import WorkerProcess

__all__ = ["Account", "ClaudeTokens"]

_DEFAULT = sorted(DEFAULT)
_F = TypeVar("_F", bound="Violation | Unserved | Unknown | None")


@discreet_class
class ClaudeTokens:
    """A fake token service with its accounts, its history and its verdict.

    ``policy`` is a :class:`~fake_server.Policy` or a preset's name, and ``service`` a :class:`~fake_server.Service` or
    a preset's name, by default Claude's; each service has a policy of its own by default. ``latency`` replaces the
    policy's (seconds, or ``{"token": …, "call": …}``); ``accounts`` are names to log in at once, ``hosts`` further
    host names to answer for; invariants in ``allow`` are noted and don't fail; ``limit`` workers may have a call open
    on one bearer (by default one, where the policy serializes calls; else any number). The path ``history`` names a
    file to which each event is written at once; :meth:`open` raises ``OSError`` if that can't be.

    ``runtime`` is for the search and the plugin: the source of time, waits and traffic.
    """

    def __init__(
        self,
        policy: Policy | str | None = None,
        *,
        service: Service | str | None = None,
        allow: Iterable[str] = (),
        limit: int | None = None,
        latency: float | Mapping[str, float] | None = None,
        accounts: Iterable[str] = (),
        hosts: Iterable[str] = (),
        history: str | os.PathLike[str] | None = None,
        runtime: Runtime | None = None,
    ) -> None:
        self._runtime = runtime = runtime or Runtime()
        form = settings.service_of(service)
        chosen = settings.policy_of(form.policy if policy is None else policy)
        self.policy: Policy = chosen if latency is None else chosen.but(latency=latency)
        self.clock: Clock = runtime.clock
        allow = settings.checked_allow(settings.one_or_many(allow))
        limit = settings.checked_limit(limit, self.policy)
        self._file = history_file(history)
        self.server: Server = Server(
            self.policy,
            self.clock,
            runtime.stopwatch,
            namespace=runtime.namespace,
            service=form,
            header={"limit": limit, "allow": sorted(allow), "default": _DEFAULT},
            sink=self._file or runtime.sink,
        )
        self.history: HistoryView = HistoryView(self.server)
        self._judgement = Judgement(self.history, allow, limit)
        self._leaks = Leaks(self.server)
        self._watcher = Watcher(self.server, self._leaks)
        self.hosts: tuple[str, ...] = settings.answered_hosts(form, hosts)
        self._first_accounts = settings.one_or_many(accounts)
        self._accounts = Accounts(self.server)
        self._stores = Stores(self.server, runtime.ask)
        self._workers: dict[str, None] = {}
        self._endpoints = endpoints = LocalEndpoints(self.server, self.hosts, runtime)
        self.is_proxy: Callable[[int], bool] = endpoints.is_proxy
        """Whether the proxy of this handle listens at that port, for the simulated network."""
        # Does not capture `self`: without a reference cycle, the thousands of handles of a search are freed at once.
        self._children = Children(self.server, lambda: endpoints.folder)
        self._undo: ExitStack | None = None
        self._verdict: Verdict | None = None
        self._closed = False

    # Life cycle.

    def open(self) -> Self:
        """Start to answer in process, to guard the real service and to watch for leaks. Call it once."""
        if self._undo is not None:
            raise RuntimeError("this ClaudeTokens was opened before: make a new one")
        with ExitStack() as undo:
            if self._file is not None:
                undo.enter_context(self._file)
            guard.install(self.hosts)
            guard.register(self._watcher)
            undo.callback(guard.unregister, self._watcher)
            if self._runtime.intercept:
                self._answer_in_process(undo)
            undo.enter_context(watched_logs(self._leaks))
            self.server.journal.observers.append(self._stores.on_event)
            undo.callback(self.server.journal.observers.remove, self._stores.on_event)
            for name in self._first_accounts:
                self.account(name)
            undo.enter_context(self._endpoints)
            undo.callback(self._children.close)
            self._undo = undo.pop_all()
        if self._runtime.recorder is not None:
            self._runtime.recorder.on_open()
        return self

    def finish(self) -> Verdict:
        """End the history and judge it, once. The history of a handle closed before is judged as it is."""
        if self._verdict is None:
            if not self._closed:
                self._wait_for_open()
                end(self.server, self._stores, self._leaks, self._endpoints.made)
            self._watcher.ended = True
            self._verdict = self._judgement.verdict()
        return self._verdict

    def close(self) -> None:
        """Undo everything: patches, guard, server, folders. A second call does nothing."""
        self._closed = True
        if self._runtime.recorder is not None:
            self._runtime.recorder.on_close()
        if self._undo is not None:
            self._undo.close()

    def to_raise(self, error: BaseException | None = None) -> Violation | Unserved | Unknown | None:
        """The finding to raise after :meth:`finish`, if the body ended with ``error``; raise it ``from error``."""
        return self._recorded(self._judgement.to_raise(self.finish(), error))

    def conclude(self, error: BaseException | None = None) -> None:
        """Finish and close, and raise the finding of :meth:`to_raise` from ``error``, with which the body ended."""
        __tracebackhide__ = True
        try:
            found: BaseException | None = self.to_raise(error)
        finally:
            self.close()
        found = or_torn(self._file, found, error)
        if found is not None:
            if error is None:
                raise found  # `from None` would hide an error that is being handled around this call
            raise found from error

    def look(self) -> Violation | None:
        """The first violation since the last call, while the history goes on; its report lists further ones."""
        return self._recorded(self._judgement.look())

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        self.conclude(error)

    def check(self) -> None:
        """Raise the first violation so far that was not yet raised, if any."""
        __tracebackhide__ = True
        found = self._recorded(self._judgement.to_raise(self._verdict or self._judgement.verdict()))
        if found is not None:
            raise found

    def violations(self) -> list[Violation]:
        """All violations so far, raised ones included, in the order in which they would be raised."""
        return list((self._verdict or self._judgement.verdict()).violations)

    def timeline(self, path: str | os.PathLike[str]) -> None:
        """Draw the history so far as one HTML file that fetches nothing. Raises ``OSError`` if it can't be written."""
        self.history.draw(path)

    # Accounts.

    def account(
        self,
        name: str | None = None,
        *,
        expired: bool = False,
        expires_in: float | None = None,
        setup_token: bool = False,
    ) -> Account:
        """Log an account in; without a name it is ``a1``, ``a2``, …

        ``expires_in``: lifetime of its access token in seconds, by default the policy's (28,800; a setup-token: a
        year). ``expired``: the access token has already expired.
        """
        return self._accounts.log_in(name, expired=expired, expires_in=expires_in, setup_token=setup_token)

    def expire(self, account: Account | str) -> None:
        """End the account's access tokens as if their time had passed. No file and no value changes."""
        self.server.expire(self._accounts.named(account))

    def revoke(self, account: Account | str) -> None:
        """End every token of the account. No file and no value changes."""
        self.server.revoke(self._accounts.named(account))

    def advance(self, seconds: float) -> None:
        """Move the service's clock by ``seconds``; the time of the test and of its clients stays as it is."""
        self.server.advance(seconds)

    # Workers and faults.

    def worker(self, name: str) -> AbstractContextManager[None]:
        """In the block, in-process requests count as those of the worker ``name``."""
        name = worker_name(name)
        self._workers[name] = None
        return as_worker(name)

    def fail_next(
        self,
        target: Target,
        fault: Fault,
        count: int = 1,
        account: Account | str | None = None,
        worker: str | None = None,
    ) -> None:
        """``fault`` strikes the next ``count`` requests of that kind, of ``account`` and of ``worker`` if given."""
        settings.check_fault(target, fault)
        name = None if account is None else self._accounts.named(account)
        whose = None if worker is None else worker_name(worker)
        with self.server.lock:
            self.server.faults.add(target, fault, count=count, account=name, worker=whose)

    def hold(self, target: RequestKind, count: int = 2) -> AbstractContextManager[None]:
        """Hold requests of that kind, before the bearer's queue, until ``count`` of them wait; then release all.

        The end of the block releases them, too. Raises ``TimeoutError`` at the end of the block if too few came within
        30 s (in a search: while anybody could run); an error of the block is raised instead, with that as a note.
        """
        return held(
            self.server, target, count, lambda: [*self._workers, *(one.actor for one in self.history.operations)]
        )

    # Stores.

    def config_dir(self, account: Account | str, name: str = "shared") -> Path:
        """A ``CLAUDE_CONFIG_DIR`` with the login's ``.credentials.json``, watched as a store.

        Written once: the same account and name give the same folder, untouched; another name a copy of the login.
        """
        login = self._accounts.of_login(account)
        with self.server.lock, audit.muted():
            return logins.config_dir(self.tmp_path, login, name, self._stores)

    def watch_store(self, path_or_callable: Source, account: Account | str, read: Read | None = None) -> None:
        """Watch another credential store: a file, a folder with a ``.credentials.json``, or a callable.

        A callable returns the credentials as Claude Code would store them, or the refresh token alone, or ``None`` if
        the store is empty. It is called after each reply, in a helper thread, and at the end. ``read``, for a store of
        another shape: a dotted path into its JSON, or a callable that is given the path and returns the refresh token.
        """
        self._stores.watch(path_or_callable, self._accounts.named(account), read=read)

    # Endpoints.

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT``; the first access starts the server there."""
        return self._endpoints.url

    @property
    def proxy_url(self) -> str | None:
        """The proxy for clients that insist on the real hosts and on TLS; ``None`` without the extra ``proxy``."""
        return getattr(self._endpoints.proxy, "url", None)

    @property
    def ca_file(self) -> str | None:
        """The certificate that clients of the proxy must trust; ``None`` without the extra ``proxy``."""
        return getattr(self._endpoints.proxy, "ca_file", None)

    @property
    def tmp_path(self) -> Path:
        """A folder of this handle, readable by its owner only, removed when the handle is closed."""
        return self._endpoints.folder

    def env(
        self,
        account: Account | str | None = None,
        *,
        config_dir: str | os.PathLike[str] | None = None,
        worker: str | None = None,
    ) -> dict[str, str]:
        """A full environment for a child process: the caller's, without the variables that lead to the real service.

        ``account`` alone provides its access token; with ``config_dir`` (one folder, or several joined by
        ``os.pathsep``) the login is read from the folder. ``worker`` is the worker to which its requests belong.
        ``CLAUDE_TOKENS_LOGIN`` names a JSON file with the account's tokens and its client.
        """
        login = None if account is None else self._accounts.of_login(account)
        worker = None if worker is None else worker_name(worker)
        made = environment.build(
            os.environ,
            handle=self._runtime.namespace,
            home=str(self._endpoints.home(worker)),
            url=self.url,
            proxy=self.proxy_url,
            ca_file=self.ca_file,
            worker=worker,
            token=None if login is None else login.access_token,
            config_dir=path_of(config_dir),
            hosts=self.hosts,
        )
        if login is not None:
            with self.server.lock, audit.muted():
                made[logins.VARIABLE] = str(logins.login_file(self.tmp_path, login))
        return made | self._children.variables(worker, made.get("PATH", os.defpath))

    def environ(
        self, account: Account | str | None = None, *, config_dir: str | os.PathLike[str] | None = None
    ) -> AbstractContextManager[None]:
        """In the block, ``os.environ`` is :meth:`env`, for in-process code; afterwards it is exactly as before."""
        return environment.environ(self.env(account, config_dir=config_dir))

    # Processes.

    def spawn(
        self,
        arguments: Sequence[str],
        worker: str = "w0",
        *,
        account: Account | str | None = None,
        config_dir: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> WorkerProcess:
        """Start a program as ``worker``, in :meth:`env` plus the variables ``env``; its standard input is empty.

        Raises ``OSError`` if it can't be started. If it still runs when the handle is closed, it is ended.
        """
        worker = worker_name(worker)
        self._workers[worker] = None
        made = {**self.env(account, config_dir=config_dir, worker=worker), **(env or {})}
        return self._children.spawn(arguments, worker=worker, environment=made)

    def install_claude(self) -> Path:
        """Put a fake ``claude`` first on the ``PATH`` of :meth:`env` from now on; returns its folder."""
        return self._children.install_claude()

    @property
    def telemetry(self) -> list[Record]:
        """The ``tengu_oauth_…`` events of the fake ``claude``, in order."""
        return self._children.telemetry()

    def _wait_for_open(self) -> None:
        if self._runtime.wait_for_open is not None:
            self._runtime.wait_for_open(self.server)
        elif wait_for_open(self.server):
            self._stores.settle()

    def _recorded(self, found: _F) -> _F:
        if found is not None and self._runtime.recorder is not None:
            self._runtime.recorder.on_finding(found)
        return found

    def _answer_in_process(self, undo: ExitStack) -> None:
        from fake_server.transports.inprocess import Destination, Interceptor, RealWaiter

        destination = Destination(self.server, self._runtime.waiter or RealWaiter())
        undo.enter_context(Interceptor(lambda: destination, hosts=self.hosts))

    def __repr__(self) -> str:
        return f"<ClaudeTokens {self.policy.name} {len(self._accounts)} accounts {len(self.history)} events>"
