"""``python -m fake_server``: the service as a process, judged if an installed package provides a judge."""

from __future__ import annotations

import sys

from fake_server.serve.commandline import Usage
from fake_server.serve.judging import find_judge
from fake_server.serve.service import serve

__all__ = ["main"]

_PROG = "python -m fake_server"


def main(argv: list[str] | None = None) -> int:
    """Serve until a signal; returns the exit status."""
    try:
        judge = find_judge()
    except Usage as usage:
        print(f"{_PROG}: {usage}", file=sys.stderr)
        return 2
    return serve(argv, judge, prog=_PROG)


if __name__ == "__main__":
    sys.exit(main())
