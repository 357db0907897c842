"""Holds requests until enough of them wait, so that a test can force an overlap."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from fake_server.around import around
from fake_server.core.hold import HOLD_LIMIT, Hold
from fake_server.limits import count_refusal
from fake_server.secrecy import shown
from pytest_claude_tokens.report.evidence import notes_of, set_notes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fake_server.faults import RequestKind
    from fake_server.server import Server

__all__ = ["held"]


def held(
    server: Server, target: RequestKind, count: int, seen: Callable[[], Iterable[str]]
) -> AbstractContextManager[None]:
    """Hold requests of that kind in the block; ``seen`` returns the names of all workers known so far.

    Raises ``TimeoutError`` at the end of the block if too few came in time (in simulated time: before nobody could run
    any more); an error of the block gets it as a note.
    """
    if not isinstance(target, str) or target not in ("token", "call"):
        raise ValueError(f'hold({shown(target)}): "token" or "call" requests can be held')
    if why := count_refusal(count):
        raise ValueError(f"hold(count={shown(count)}): {why}")
    return _held(server, Hold(target, int(count), limited=server.clock.kind != "virtual"), seen)


@around
def _held(server: Server, hold: Hold, seen: Callable[[], Iterable[str]]) -> Iterator[None]:
    with server.lock:
        server.holds.append(hold)
    try:
        yield
    except BaseException as error:
        if hold.ran_out:
            set_notes(error, [*notes_of(error), _who_came(hold, seen())])
        raise
    finally:
        with server.lock:
            server.holds.remove(hold)
            hold.release()
    if hold.ran_out:
        raise TimeoutError(_who_came(hold, seen()))


def _who_came(hold: Hold, seen: Iterable[str]) -> str:
    missing = [name for name in dict.fromkeys(seen) if name not in hold.waited]
    when = f"after {HOLD_LIMIT:g} s" if hold.limited else "when nobody else could run"
    return (
        f'hold("{hold.target}", count={hold.count}) ran out {when}: '
        f"{', '.join(hold.waited)} waited; never came: "
        f"{', '.join(missing) or f'{hold.count - len(hold.waited)} more'}"
    )
