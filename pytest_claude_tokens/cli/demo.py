"""``claude-tokens demo``: searches a small dispatcher with a race, as a test would, and its repaired twin.

All output comes from the two searches: the story from the journal of the failing schedule, the figures from the tally.
It uses no network and no configuration, and writes no file except the one that ``--history`` names.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import textwrap
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import httpx
from hypothesis import settings

from fake_server.core.journal import lines
from fake_server.secrecy import safe_text
from fake_server.serve.commandline import PlainParser, path
from fake_server.serve.history_file import HistoryFile
from pytest_claude_tokens.claude.endpoints import TOKEN_URL
from pytest_claude_tokens.cli.again import again
from pytest_claude_tokens.judge.violations import DoubleSpend
from pytest_claude_tokens.report.story import story
from pytest_claude_tokens.report.verdict import qualified_name
from pytest_claude_tokens.report.wording import WIDTH, ascii_only
from pytest_claude_tokens.search.alone import PHASES, Searched, run_alone
from pytest_claude_tokens.search.context import ExplorationContext
from pytest_claude_tokens.search.explore import explore
from pytest_claude_tokens.search.replay import Replay
from pytest_claude_tokens.simulation.schedule import DEFAULT_ORDER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Dispatcher", "Repaired", "Searched", "main", "search", "show"]

TWIN_SCHEDULES = 300
"""Schedules under which the repaired twin must pass."""
MAX_SCHEDULES = 3000
"""Schedules within which the bug must be found."""
_WORKERS = 2


class Dispatcher:
    """Hands out the bearer of one login. A worker that finds it expired refreshes it."""

    def __init__(self, credentials: Mapping[str, Any]) -> None:
        login = credentials["claudeAiOauth"]
        self.access: str = login["accessToken"]
        self.refresh: str = login["refreshToken"]
        self.expires: float = login["expiresAt"] / 1000
        self.busy: bool = False

    async def bearer(self) -> str:
        if self.busy:
            await asyncio.sleep(2)  # the planted bug: the other refresh may take longer
        if time.time() >= self.expires:
            self.busy = True
            request = {"grant_type": "refresh_token", "refresh_token": self.refresh}
            async with httpx.AsyncClient() as client:
                reply = await client.post(TOKEN_URL, json={**request, "client_id": "demo"})
            new = reply.raise_for_status().json()
            self.access, self.refresh = new["access_token"], new["refresh_token"]
            self.expires = time.time() + new["expires_in"]
            self.busy = False
        return self.access


class Repaired(Dispatcher):
    """Waits for another worker's refresh with a lock, then checks the expiry again."""

    def __init__(self, credentials: Mapping[str, Any]) -> None:
        super().__init__(credentials)
        self.lock: asyncio.Lock = asyncio.Lock()

    async def bearer(self) -> str:
        async with self.lock:
            return await super().bearer()


# One search.


def search(
    dispatcher: type[Dispatcher], schedules: int, *, replay: str | None = None, seed: int | None = None
) -> Searched:
    """Explore ``dispatcher`` with two workers whose login has expired, under so many schedules."""

    async def test(claude_tokens: Any, workers: Any) -> None:
        login = claude_tokens.account(expired=True)
        await workers(dispatcher(login.credentials).bearer)

    # Hypothesis stores examples by the test's name. Here it stores none, but distinct names are clearer.
    test.__qualname__ = f"test_{dispatcher.__name__}"
    explored = settings(max_examples=schedules, database=None, phases=PHASES)(explore(workers=_WORKERS)(test))
    return run_alone(explored, ExplorationContext(seed=seed, replay=replay, command=_command()))


_DEFAULT_ORDER = Replay(kind="tasks", workers=_WORKERS, schedule=DEFAULT_ORDER).token()


def _command() -> str:
    """The shell command that runs this command again from the current folder."""
    return again("demo")


# Output.


def show(planted: type[Dispatcher], twin: type[Dispatcher], *, history: HistoryFile | None = None) -> int:
    """Search both and print the results. Returns the exit status: 0 if the first failed and the second passed.

    The failing history is written to ``history``.
    """
    _say("Two workers share one login, whose access token has expired. Both ask this dispatcher for a bearer:")
    _code(planted)
    _tell_default_order(search(planted, 1, replay=_DEFAULT_ORDER))
    first = search(planted, MAX_SCHEDULES)
    caught = _tell_planted(first)
    if history is not None and first.evidence is not None:
        history.write("".join(lines(first.evidence.history.header, first.evidence.history.events)))
    _say("The same, repaired:")
    _code(twin)
    second = search(twin, TWIN_SCHEDULES)
    _say(f"{second.report.text()} ({second.seconds:.1f} s){_otherwise(second) or ': no invariant was broken.'}")
    spared = second.error is None
    _say(_END[caught, spared])
    return 0 if caught and spared else 1


_END = {
    (True, True): "The planted bug was found, and its repaired twin was spared.",
    (True, False): "The planted bug was found, but its repaired twin was not spared. This should not be.",
    (False, True): "The planted bug was not found, though its repaired twin was spared. This should not be.",
    (False, False): "The planted bug was not found, and its repaired twin was not spared. This should not be.",
}


def _tell_default_order(result: Searched) -> None:
    passes = "it passes" if result.error is None else f"it fails at once{_otherwise(result)}"
    _say(f"In default order, with replies that come at once, as a test with a mock would run it, {passes}.")


def _tell_planted(result: Searched) -> bool:
    """Print the story of a double-spend. Returns whether there was one."""
    if not isinstance(result.error, DoubleSpend) or result.evidence is None:
        _say(f"No double-spend in {result.report.text()} ({result.seconds:.1f} s){_otherwise(result) or '.'}")
        return False
    found = result.found
    _say(f"Searched with other orders and delays, it breaks in schedule {found.example:,} ({result.seconds:.1f} s).")
    _say(
        f"The shortest schedule that shows it: {found.schedule.text()}. Replayed {found.replayed[0]} times of "
        f"{found.replayed[1]}."
    )
    print(f"claude_tokens.DoubleSpend: {result.error}", end="\n\n")
    text = story(result.evidence.history, result.error, replay=f"{_command()} --replay={found.token}")
    story_itself, _, _ = text.rpartition("\n\n")  # the last block is advice for the author of a test
    print(story_itself, end="\n\n")
    return True


def _otherwise(result: Searched) -> str:
    if result.error is None:
        return ""
    return f", but {qualified_name(result.error)}: {result.error}"


def _say(text: str) -> None:
    print(textwrap.fill(ascii_only(text), WIDTH, break_on_hyphens=False), end="\n\n")


def _code(dispatcher: type[Dispatcher]) -> None:
    print(textwrap.indent(inspect.getsource(dispatcher).rstrip(), "    "), end="\n\n")


def main(argv: Sequence[str] | None = None, *, prog: str = "claude-tokens demo") -> int:
    """Run the demonstration; returns the exit status."""
    parser = PlainParser(
        prog=prog,
        description="Search the interleavings of a small dispatcher with a race, then those of its repaired twin.",
        epilog="Exit status: 0 if the planted bug was found and the twin spared, else 1; 2 usage.",
    )
    parser.add_argument("--history", type=path, metavar="FILE", help="write the history of the double-spend to FILE")
    parser.add_argument("--replay", metavar="ct1-...", help="only run the dispatcher under this token's schedule")
    options = parser.parse_args(argv)
    try:
        if options.replay is not None:
            return _replay(options.replay)
        with HistoryFile(options.history) if options.history else nullcontext() as file:
            status = show(Dispatcher, Repaired, history=file)
        if file is not None and file.error:
            raise OSError(f"{options.history} is not whole: {file.error}")
        return status
    except (OSError, ValueError) as error:
        print(safe_text(f"{prog}: {error}"), file=sys.stderr)
        return 2


def _replay(token: str) -> int:
    """Replay ``token`` and print the result; returns 0 for a double-spend, else 1. Raises ``ValueError``."""
    Replay.read(token)
    result = search(Dispatcher, 1, replay=token)
    if isinstance(result.error, ValueError):  # the token belongs to another test
        raise result.error
    return 0 if _tell_planted(result) else 1
