"""``claude-tokens workarounds``: which workaround holds, at what price, with a replay for each that doesn't."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from typing import TYPE_CHECKING, Any

from fake_server.limits import MOST_COUNT
from fake_server.secrecy import safe_text
from fake_server.serve.commandline import Parser, Usage, path, whole_number
from pytest_claude_tokens.cli.again import again
from pytest_claude_tokens.report.wording import ascii_only
from pytest_claude_tokens.workarounds import issue54999, table
from pytest_claude_tokens.workarounds.catalogue import BUILT_IN, all_workarounds
from pytest_claude_tokens.workarounds.examine import replay
from pytest_claude_tokens.workarounds.registry import Workaround, load_plugin, named

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

_SCHEDULES = 60
"""Schedules that each situation of a row gets; what those built in break is found within ten."""
_SCHEDULES_OF_PLUGINS = 300


def main(argv: Sequence[str] | None = None, *, prog: str = "claude-tokens workarounds") -> int:
    """Print the table; returns 0 if every row holds, 1 if one breaks, 2 usage, 3 if of one nothing is known."""
    try:
        options = _parser(prog).parse_args(list(sys.argv[1:] if argv is None else argv))
        if options.issue_54999:
            return _print_issue(options)
        for plugin in options.plugin:
            load_plugin(plugin)
        chosen = [named(name) for name in options.only] or all_workarounds()
        if options.replay is not None:
            return _replay(chosen, options.replay)
        return _print_table(chosen, options)
    except (Usage, ValueError) as error:
        print(safe_text(f"{prog}: {error}"), file=sys.stderr)
        return 2


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = Parser(
        prog=prog,
        description="Examine every known workaround: which invariants it breaks, with a reason and a replay for each; "
        "what was tried where it holds; and what it costs, in simulated time under the serialization of issue #54999.",
        epilog="Exit status: 0 if every row holds, 1 if one breaks (which some of those built in do), 2 usage, 3 if of "
        "a row nothing is known. The whole table takes less than a minute.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    parser.add_argument("--seed", type=whole_number(MOST_COUNT), default=0, metavar="N", help="draw other schedules")
    parser.add_argument(
        "--only", nargs="+", action="extend", default=[], metavar="NAME", help="examine these workarounds only"
    )
    parser.add_argument(
        "--plugin",
        type=path,
        action="append",
        default=[],
        metavar="FILE",
        help="a Python file with a class that @workaround decorates; may be repeated",
    )
    parser.add_argument(
        "--schedules",
        type=whole_number(MOST_COUNT),
        metavar="N",
        help=f"try N in each situation (default: {_SCHEDULES}, and {_SCHEDULES_OF_PLUGINS} for a plugin's)",
    )
    parser.add_argument("--replay", metavar="ct1-...", help="only run the schedule of this token, of one workaround")
    parser.add_argument(
        "--issue-54999", action="store_true", help="print the two tables of that issue, from a model of its service"
    )
    return parser


def _print_issue(options: argparse.Namespace) -> int:
    found = issue54999.tables(options.seed)
    print(json.dumps(found) if options.json else "\n".join(issue54999.text(found)))
    return 0


def _print_table(chosen: Sequence[Workaround], options: argparse.Namespace) -> int:
    names = [one.name for one in chosen]
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    command = " ".join([again("workarounds"), *(f"--plugin {shlex.quote(one)}" for one in options.plugin)])
    rows: list[table.Row] = []
    if not options.json:
        print(table.head(names))
    for one in chosen:
        default = _SCHEDULES if one.name in BUILT_IN else _SCHEDULES_OF_PLUGINS
        row = table.made(one, schedules=options.schedules or default, seed=options.seed)
        rows.append(row)
        if not options.json:
            print(*table.text(row, names, command, colour=colour), sep="\n", flush=True)
    if options.json:
        made: dict[str, Any] = {"seed": options.seed, "rows": [row.to_json() for row in rows]}
        print(json.dumps(made))
    states = {row.state for row in rows}
    return 1 if "breaks" in states else 3 if "unknown" in states else 0


def _replay(chosen: Sequence[Workaround], token: str) -> int:
    if len(chosen) != 1:
        raise Usage("--replay runs one workaround: name it with --only")
    broken = replay(chosen[0], token)
    for violation, story in broken:
        print(f"{violation.invariant}: {ascii_only(violation.headline)}\n\n{story}\n")
    if not broken:
        print("nothing breaks under this schedule")
    return 1 if broken else 0
