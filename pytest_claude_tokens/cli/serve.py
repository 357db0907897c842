"""``claude-tokens serve``: the fake service as a process, with this package as its judge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fake_server.serve.service import Judged, serve
from pytest_claude_tokens.handle.accounts import Account
from pytest_claude_tokens.handle.finish import end
from pytest_claude_tokens.handle.leaks import Leaks
from pytest_claude_tokens.handle.stores import Stores
from pytest_claude_tokens.judge import History, judge
from pytest_claude_tokens.judge.earning import earned
from pytest_claude_tokens.judge.violations import DEFAULT
from pytest_claude_tokens.processes import environment
from pytest_claude_tokens.report.timeline import timeline
from pytest_claude_tokens.report.verdict import verdict_data, verdict_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fake_server.core.authority import Grant
    from fake_server.server import Server

__all__ = ["ServiceJudge", "main"]


def main(argv: Sequence[str] | None = None, *, prog: str = "claude-tokens serve") -> int:
    """Serve until a signal; returns the exit status."""
    return serve(argv, ServiceJudge(), prog=prog)


class ServiceJudge:
    """Judges a service that runs on its own: it watches no stores, and allows no violation."""

    def header(self) -> dict[str, Any]:
        return {"limit": 1, "allow": [], "default": sorted(DEFAULT)}

    def credentials(self, grant: Grant) -> Mapping[str, Any]:
        return Account.of(grant).credentials

    def environment(
        self, grant: Grant, *, home: str, url: str, proxy: str | None, ca_file: str | None
    ) -> Mapping[str, str]:
        token = grant.access[0].secret
        return environment.build({}, handle="serve", home=home, url=url, proxy=proxy, ca_file=ca_file, token=token)

    def look(self, server: Server) -> Judged:
        history = self._history(server)
        verdict = earned(history, judge(history))
        text = verdict_text(history, verdict, kept=server.journal.kept)
        return Judged(verdict.exit_status, text, verdict_data(history, verdict))

    def finish(self, server: Server) -> Judged:
        end(server, Stores(server), Leaks(server), None)
        return self.look(server)

    def page(self, server: Server) -> str:
        history = self._history(server)
        return timeline(history, verdict=earned(history, judge(history)))

    def _history(self, server: Server) -> History:
        with server.lock:
            return History(server.journal.header, server.journal.events)
