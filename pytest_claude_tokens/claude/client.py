"""The parts of one process of the CLI, connected with each other."""

from __future__ import annotations

from pytest_claude_tokens.claude.endpoints import Endpoints
from pytest_claude_tokens.claude.http import Http
from pytest_claude_tokens.claude.process import uuid4
from pytest_claude_tokens.claude.refresh import Refresher
from pytest_claude_tokens.claude.store import Store, store_dir
from pytest_claude_tokens.claude.telemetry import Telemetry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pytest_claude_tokens.claude.dialects import Dialect
    from pytest_claude_tokens.claude.process import Machine

__all__ = ["Client"]


class Client:
    """The parts that the commands share."""

    def __init__(
        self, machine: Machine, dialect: Dialect, *, session: str | None = None, http: Http | None = None
    ) -> None:
        self.machine = machine
        self.dialect = dialect
        self.session = session or uuid4()
        self.telemetry = Telemetry(machine, self.session)
        self.store = Store(store_dir(machine.environ, dialect), dialect, machine)
        self.endpoints = Endpoints(machine, dialect, http or Http(machine.environ, dialect), self.session)
        self.refresher = Refresher(machine, dialect, self.store, self.endpoints, self.telemetry)

    def say(self, text: str) -> None:
        """Print a line on standard output."""
        print(text, file=self.machine.stdout, flush=True)

    def complain(self, text: str) -> None:
        """Print a line on standard error."""
        print(text, file=self.machine.stderr, flush=True)
