"""A replay token is no lie: a schedule gives the same journal, byte for byte, in any process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_claude_tokens.simulation.schedule import Schedule
from tests.unit.simulation.worlds import explored

pytest.importorskip("aiohttp")
pytest.importorskip("anthropic")
ROOT = Path(__file__).parents[3]


def printed(hash_seed):
    """What a new process prints."""
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-W", "error::RuntimeWarning", "-m", "tests.unit.simulation.determined"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_journals_do_not_depend_on_hashes():
    """Tasks, threads, executors, loops in threads, aiohttp, the official SDK: orders, faults and a death."""
    processes = [printed(seed) for seed in (1, 77)]
    outputs = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs[0][1]
    one, two = (output.splitlines() for output, _ in outputs)
    assert len(one) > 300
    different = [(a, b) for a, b in zip(one, two, strict=False) if a != b]
    assert different[:1] == []
    assert len(one) == len(two)
    assert [error for _, error in outputs] == ["", ""]


@pytest.mark.usefixtures("staged")
def test_journals_do_not_depend_on_what_was_before():
    """The hundredth run of a schedule is the first one over again."""
    from tests.unit.simulation import determined

    for body in determined.BODIES:
        with explored(body) as run:
            schedule = Schedule(kind="walk", seed=5)
            first = run(schedule).lines()
            for seed in range(6):
                run(Schedule(kind="walk", seed=seed))
            assert run(schedule).lines() == first, body.__name__
