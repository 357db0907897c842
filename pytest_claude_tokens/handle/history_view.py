"""The history of a running service, up to the present."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fake_server.genuine import os
from fake_server.secrecy import is_path, shown
from pytest_claude_tokens.judge.history import History

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fake_server.events import Event
    from fake_server.server import Server
    from pytest_claude_tokens.judge.history import Operation

__all__ = ["HistoryView"]


class HistoryView:
    """Has the interface of :class:`~pytest_claude_tokens.judge.history.History`; each access sees the events so far.

    Iterates over the events in order, without the header; ``operations`` are the requests.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._taken: History | None = None

    def taken(self) -> History:
        """The history so far, as a value."""
        journal = self._server.journal
        with self._server.lock:
            if self._taken is None or len(self._taken) != len(journal.events):
                self._taken = History(journal.header, journal.events)
            return self._taken

    def draw(self, path: str | os.PathLike[str]) -> None:
        """Draw the history so far as one HTML file. Raises ``ValueError`` for a pasted secret, and ``OSError``."""
        from pytest_claude_tokens.report.folder import write
        from pytest_claude_tokens.report.timeline import timeline

        file = os.fspath(path)
        if not is_path(file):
            raise ValueError(f"timeline({shown(file)}): must be the path of a file")
        write(Path(file), timeline(self.taken()))

    @property
    def header(self) -> Event:
        """The first line of the history: policy, clock, limit."""
        return self._server.journal.header

    @property
    def events(self) -> tuple[Event, ...]:
        """The events so far."""
        return self.taken().events

    @property
    def operations(self) -> list[Operation]:
        """The requests so far, in the order of their arrival."""
        return self.taken().operations

    @property
    def presentations(self) -> Mapping[tuple[str | None, str], Sequence[Operation]]:
        """For each refresh token (by grant and label), the token requests that presented it, in order."""
        return self.taken().presentations

    @property
    def policy(self) -> Mapping[str, Any]:
        """The policy's settings that differ from the defaults; if the header has only a name, those of that preset."""
        return self.taken().policy

    @property
    def accounts(self) -> Mapping[str, str]:
        """The account of each grant, in order of the grants' first events."""
        return self.taken().accounts

    def noted(self, f: str) -> Sequence[Event]:
        """The notes of that kind, in order."""
        return self.taken().noted(f)

    def label(self, grant: str | None, label: str | None) -> str:
        """The display name of the token ``label`` of ``grant``: ``rt#1``, with several grants ``work:rt#1``."""
        return self.taken().label(grant, label)

    def __iter__(self) -> Iterator[Event]:
        return iter(self.taken())

    def __len__(self) -> int:
        return len(self.taken())

    def __repr__(self) -> str:
        return repr(self.taken())

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy is what there is now, as a value: the service can't be copied."""
        taken = self.taken()
        return History, (taken.header, taken.events)
