"""``claude-tokens scenario R4``: a known failure, reproduced by a client with one bad habit, survived by its twin."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from fake_server.core.journal import lines
from fake_server.secrecy import safe_text
from fake_server.serve.commandline import Parser, Usage, path
from fake_server.serve.history_file import HistoryFile
from pytest_claude_tokens.report.story import story
from pytest_claude_tokens.report.wording import ascii_only
from pytest_claude_tokens.scenarios.catalogue import SCENARIOS
from pytest_claude_tokens.scenarios.registry import Scenario, named

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_claude_tokens.runs.outcome import Outcome

__all__ = ["main"]


def main(argv: Sequence[str] | None = None, *, prog: str = "claude-tokens scenario") -> int:
    """List the scenarios, or run one; returns 0 if nothing broke, 1 if something did, 2 usage, 3 no verdict."""
    try:
        options = _parser(prog).parse_args(list(sys.argv[1:] if argv is None else argv))
        if options.name is None:
            _list(as_json=options.json)
            return 0
        return _run(named(options.name), options)
    except (Usage, ValueError, OSError) as error:
        print(safe_text(f"{prog}: {error}"), file=sys.stderr)
        return 2


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = Parser(
        prog=prog,
        description="Reproduce a known failure of clients that share logins: in simulated time, the same every time. "
        "Without a name: list all.",
        epilog="Exit status: 0 if no invariant broke, as with --twin; 1 if one did; 2 usage; 3 if it can't be told.",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="such as R4")
    parser.add_argument("--twin", action="store_true", help="run the client that survives it instead")
    parser.add_argument("--history", type=path, metavar="FILE", help="write the history of the run to FILE")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    return parser


def _list(*, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"scenarios": [_facts(one) for one in SCENARIOS.values()]}))
        return
    for one in SCENARIOS.values():
        print(f"{one.name:<4} {one.breaks:<17} {ascii_only(one.title)}")


def _facts(one: Scenario) -> dict[str, Any]:
    facts = {"name": one.name, "title": one.title, "breaks": one.breaks, "seen_in": one.seen_in}
    return {**facts, "stand_in": one.stand_in, "allow": list(one.allow), "policy": one.policy.to_dict()}


def _run(one: Scenario, options: argparse.Namespace) -> int:
    outcome = one.run(twin=options.twin)
    if options.history is not None:
        with HistoryFile(options.history) as file:
            file.write("".join(lines(outcome.history.header, outcome.history.events)))
    broken = one.broken(outcome)
    other = "" if broken or outcome.error is None else f"{type(outcome.error).__name__}: {outcome.error}"
    if options.json:
        found = [{"invariant": violation.invariant, "headline": violation.headline} for violation in broken]
        print(json.dumps({**_facts(one), "twin": options.twin, "broken": found, "error": other}))
    else:
        _tell(one, outcome, other, twin=options.twin)
    return 1 if broken else 3 if other else 0


def _tell(one: Scenario, outcome: Outcome, other: str, *, twin: bool) -> None:
    print(ascii_only(f"{one.name}: {one.title}"))
    if one.stand_in:
        print(ascii_only(f"a stand-in: {one.stand_in}"))
    print(f"seen in {ascii_only(one.seen_in)}\n")
    broken = one.broken(outcome)
    if broken:
        first = broken[0]
        print(f"{first.invariant}: {ascii_only(first.headline)}", story(outcome.history, first, kept=False), sep="\n\n")
    elif other:
        print(f"no verdict: {ascii_only(other)}")
    else:
        print("the twin survives it: no invariant broke" if twin else "no invariant broke")
