"""The two tables of anthropics/claude-code#54999 from a model: two prompts at once on one token, and on two.

The issue reports ten trials of each. On one token A took 5.8 to 8.2 s, and B 9.1 to 15.6 s, 4 s more on average; on
two tokens each took about 8 s. Here a call takes a time drawn from the reported range, and the service lets the second
call on a bearer begin later, by a tax of 3.3 to 7.4 s with a mean of 4 s: what is left of the figures for B.
"""

from __future__ import annotations

import time
from random import Random
from typing import TYPE_CHECKING, Any

import httpx

from fake_server.faults import Fault
from fake_server.policy import Policy
from pytest_claude_tokens.claude.endpoints import MESSAGES_URL, PROMPT
from pytest_claude_tokens.search.alone import run_once

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["NOTE", "TRIALS", "tables"]

TRIALS = 10
NOTE = (
    "virtual seconds of a model fitted to the figures of anthropics/claude-code#54999, which one user measured and "
    "nobody confirmed: a call takes 5.8 to 8.2 s (7.6 to 8.4 s in the trials with two tokens), and the second call on "
    "a bearer begins 3.3 to 7.4 s later, 4 s on average; nothing here was measured on the real service"
)
_CALL, _CALL_OF_TWO, _TAX, _MEAN_TAX = (5.8, 8.2), (7.6, 8.4), (3.3, 7.4), 4.0


def tables(seed: int = 0) -> dict[str, Any]:
    """Both tables, as ``--issue-54999 --json`` prints them."""
    random = Random(seed)
    taxes = [_tax((number + 0.5) / TRIALS) for number in range(TRIALS)]
    random.shuffle(taxes)
    same = [_trial(random.uniform(*_CALL), random.uniform(*_CALL), tax, tokens=1) for tax in taxes]
    distinct = [_trial(random.uniform(*_CALL_OF_TWO), random.uniform(*_CALL_OF_TWO), tax, tokens=2) for tax in taxes]
    return {"same_token": same, "distinct_tokens": distinct, "note": NOTE}


def _tax(quantile: float) -> float:
    """Many small ones and few large ones, so that the mean is the reported one."""
    least, most = _TAX
    mean = (_MEAN_TAX - least) / (most - least)
    return least + (most - least) * float(quantile ** (1 / mean - 1))


def _trial(first: float, second: float, tax: float, *, tokens: int) -> dict[str, float]:
    """One trial: A and B ask at once, and their calls take ``first`` and ``second`` seconds of work."""
    took: dict[str, float] = {}

    async def body(claude_tokens: Any, workers: Any) -> None:
        bearers = [claude_tokens.account(setup_token=True).access_token for _ in range(tokens)]
        claude_tokens.fail_next("call", Fault.delay(first, after_commit=True), worker="w0")
        claude_tokens.fail_next("call", Fault.delay(second, after_commit=True), worker="w1")
        await workers(lambda: ask("a", bearers[0]), lambda: ask("b", bearers[-1]))

    async def ask(name: str, bearer: str) -> None:
        began = time.monotonic()
        async with httpx.AsyncClient(timeout=600) as client:
            await client.post(MESSAGES_URL, headers={"Authorization": f"Bearer {bearer}"}, json=PROMPT)
        took[name] = round(time.monotonic() - began, 1)

    run_once(body, 2, policy=Policy(name="issue-54999", serialize=tax))
    return {name: took[name] for name in ("a", "b")}


def text(found: dict[str, Any]) -> list[str]:
    """Both tables for a person."""
    lines: list[str] = []
    for title, key in (("one token", "same_token"), ("two tokens", "distinct_tokens")):
        trials: Sequence[dict[str, float]] = found[key]
        lines += [f"{title:<11}" + "".join(f"{number:>6}" for number in range(1, len(trials) + 1)) + "   mean"]
        for name in ("a", "b"):
            times = [trial[name] for trial in trials]
            lines.append(f"  {name.upper():<9}" + "".join(f"{one:>6.1f}" for one in times) + f"{_mean(times):>7.1f}")
        lines.append(f"  B slower by {_mean([trial['b'] - trial['a'] for trial in trials]):.1f} s on average")
        lines.append("")
    return [*lines, found["note"]]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
