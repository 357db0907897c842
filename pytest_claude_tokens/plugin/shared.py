"""One service on loopback for a whole session: owned by the process that runs it, under xdist by the controller.

Every worker gets the address only, so none has to know who is the last to stop it, and a worker that dies takes no
line of the history with it: each is on disk before its reply leaves.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_claude_tokens.plugin import options

if TYPE_CHECKING:
    from collections.abc import Callable

    from fake_server.serve.service import Judged

__all__ = ["Owner", "SharedServer", "own", "server_of"]

_NAME = "claude_tokens_shared_server"
"""The owner among the plugins, and the address in what a worker is given."""
_TIMEOUT_SECONDS = 60.0
_HISTORY = "history.jsonl"


def own(config: pytest.Config) -> None:
    """Make this process the owner of the session's service."""
    config.pluginmanager.register(Owner(config), _NAME)


def server_of(config: pytest.Config) -> SharedServer:
    """The session's service, as this process sees it. Fails the test if none was asked for."""
    __tracebackhide__ = True
    owner = config.pluginmanager.getplugin(_NAME)
    url = owner.url() if owner is not None else getattr(config, "workerinput", {}).get(_NAME)
    if url is None:
        pytest.fail(
            "the fixture claude_shared_server needs --claude-tokens-shared-server=POLICY (or the ini option "
            "claude_tokens_shared_server), such as anthropic; for a service of each test's own there is claude_server",
            pytrace=False,
        )
    return SharedServer(url)


class SharedServer:
    """The session's service: its ``url``, and what may be asked of it besides what a client asks."""

    def __init__(self, url: str) -> None:
        self.url = url

    def login(self, name: str | None = None, **how: Any) -> dict[str, Any]:
        """Log an account in: its ``name``, ``credentials`` and ``env``. ``how``: ``expired``, ``setup_token``, …

        Raises ``ValueError`` for what the service refuses, such as a name that is taken.
        """
        return self._ask("POST", "accounts", ({} if name is None else {"name": name}) | how)

    def verdict(self) -> dict[str, Any]:
        """The verdict so far, as ``claude-tokens check --json`` prints it."""
        return self._ask("GET", "verdict")

    def _ask(self, method: str, what: str, body: Any = None) -> dict[str, Any]:
        import http.client
        import json

        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=_TIMEOUT_SECONDS)
        try:
            connection.request(method, f"/_claude_tokens/{what}", json.dumps(body) if body is not None else None)
            reply = connection.getresponse()
            answer: dict[str, Any] = json.loads(reply.read())
        finally:
            connection.close()
        if reply.status >= 400:
            raise ValueError(answer["error"]["message"])
        return answer

    def __repr__(self) -> str:
        return f"<SharedServer {self.url}>"


class Owner:
    """Starts the service when somebody first needs it, and judges its history at the end of the session."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._stack = ExitStack()
        self._finish: Callable[[], Judged] | None = None
        self._judged: Judged | None = None
        self._folder = Path()
        self._trouble = ""
        self._url: str | None = None

    def url(self) -> str:
        """The address of the service, which is started if it isn't yet.

        No property: pluggy looks at all attributes of a plugin, and would start it.
        """
        if self._url is not None:
            return self._url
        from fake_server.serve.commandline import Usage
        from fake_server.serve.judging import find_judge
        from fake_server.serve.service import background
        from pytest_claude_tokens.report.folder import open_folder

        policy = options.option(self._config, "shared-server")
        try:
            self._folder = open_folder(options.report_folder(self._config), "shared-server")
            arguments = ["--no-account", "--policy", policy, "--history", str(self._folder / _HISTORY)]
            facts, self._finish = self._stack.enter_context(background(arguments, find_judge()))
        except (OSError, Usage) as error:
            raise pytest.UsageError(f"--claude-tokens-shared-server: {error}") from None
        self._url = str(facts["url"])
        return self._url

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker of xdist the address."""
        node.workerinput[_NAME] = self.url()

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Judge what all tests did together: a violation fails the session."""
        if self._finish is None:
            return
        self._judged = self._finish()
        if options.option(self._config, "html") != "never":
            self._draw()
        if self._judged.exit_status == 1 and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _draw(self) -> None:
        from pytest_claude_tokens.judge.history import History
        from pytest_claude_tokens.report.folder import write
        from pytest_claude_tokens.report.timeline import TIMELINE, timeline

        page = timeline(History.load(self._folder / _HISTORY))
        try:
            write(self._folder / TIMELINE, page)
        except OSError as error:  # the verdict is told all the same
            self._trouble = f"\nno {TIMELINE} was written: {error.strerror or error}"

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Tell the verdict, if there was anything to judge."""
        if self._judged is not None and self._judged.data.get("requests"):
            terminalreporter.write_sep("=", "claude-tokens shared server")
            terminalreporter.write_line(f"{self._judged.text}\n{self._folder}{self._trouble}")

    def pytest_unconfigure(self) -> None:
        """Stop the service."""
        self._stack.close()
