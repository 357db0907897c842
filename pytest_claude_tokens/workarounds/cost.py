"""What a workaround costs: how long its jobs take in simulated time, where the service serializes calls by bearer.

The times are a model, fitted to the figures of anthropics/claude-code#54999, which were measured by one user and never
confirmed. The model's service takes 6 s for a call, and lets the next one on its bearer begin 4 s after it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from fake_server.policy import Policy
from pytest_claude_tokens.search.alone import run_once
from pytest_claude_tokens.workarounds.explored import WORKERS, Run, Situation

if TYPE_CHECKING:
    from pytest_claude_tokens.workarounds.registry import Workaround

__all__ = ["MODEL", "Cost", "cost_of"]

MODEL = Policy(name="issue-54999", serialize=4.0, latency={"call": 6.0, "token": 0.5})
"""The service of the cost model: the mean tax of the issue, and the latency of a call that nobody delays."""
_JOBS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Seconds that a job takes from asking to its end, the wait for its turn included: the median and the longest.

    ``throughput``: jobs per minute, of all workers together.
    """

    p50: float
    p100: float
    throughput: float


def cost_of(workaround: Workaround) -> Cost | None:
    """The cost, with live logins and in default order; ``None`` where a job fails or never ends."""
    times: list[tuple[float, float]] = []
    errors: list[Exception] = []
    live = Situation("live", workaround.accounts or WORKERS, expired=False)

    async def in_tasks(claude_tokens: Any, workers: Any) -> None:
        run = Run(claude_tokens, workaround, live)

        async def job() -> None:
            began = time.monotonic()
            await run.job()
            times.append((began, time.monotonic()))

        await workers(job, per_worker=_JOBS)
        errors.extend(run.errors)

    def in_threads(claude_tokens: Any, workers: Any) -> None:
        run = Run(claude_tokens, workaround, live)

        def job() -> None:
            began = time.monotonic()
            run.job_in_thread()
            times.append((began, time.monotonic()))

        workers(job, per_worker=_JOBS)
        errors.extend(run.errors)

    run_once(in_tasks if workaround.kind == "tasks" else in_threads, WORKERS, policy=MODEL)
    if errors or len(times) < WORKERS * _JOBS:
        return None
    took = [ended - began for began, ended in times]
    whole = max(ended for _, ended in times) - min(began for began, _ in times)
    return Cost(p50=round(median(took), 2), p100=round(max(took), 2), throughput=round(60 * len(times) / whole, 2))
