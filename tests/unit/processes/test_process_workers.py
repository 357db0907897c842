"""``explore(processes=True)``: what the body's programs are given, and what it gets back from them."""

from __future__ import annotations

import os

import pytest

from pytest_claude_tokens import explore
from tests.unit.explore.common import search
from tests.unit.processes.common import HELLO, PATIENCE, few, run

pytestmark = pytest.mark.usefixtures("brief")


def test_the_same_command_runs_in_every_worker():
    """In a home of its own, the test's working directory, and without input."""
    tell = ["sh", "-c", 'cat; echo "$HOME|$PWD|$CLAUDE_CONFIG_DIR|$MORE"']
    seen = []

    def body(claude_tokens, workers):
        assert len(workers) == 2
        folder = claude_tokens.config_dir(claude_tokens.account())
        made = workers(tell, config_dir=folder, env={"MORE": "1"})
        seen.append([process.stdout.strip().split("|") for process in made])
        assert [process.worker for process in made] == ["w0", "w1"]
        assert [process.returncode for process in made] == [0, 0]
        assert seen[-1] == [[claude_tokens.env(worker=f"w{n}")["HOME"], os.getcwd(), str(folder), "1"] for n in (0, 1)]

    run(body)
    assert seen[0][0][0] != seen[0][1][0]


def test_each_worker_may_have_its_own():
    """Commands, folders, accounts and environments, as lists."""

    def body(claude_tokens, workers):
        one, two = claude_tokens.account("one"), claude_tokens.account("two")
        tell = ["sh", "-c", 'echo "$CLAUDE_CONFIG_DIR|$CLAUDE_CODE_OAUTH_TOKEN|$MORE"']
        folders = [claude_tokens.config_dir(one), claude_tokens.config_dir(two)]
        made = workers(tell, ["echo", "other"], config_dir=folders, env=[{"MORE": "a"}, None])
        assert [process.stdout for process in made] == [f"{folders[0]}||a\n", "other\n"]
        made = workers(tell, account=(one, two), env={"MORE": "b"})
        assert [process.stdout for process in made] == [f"|{login.access_token}|b\n" for login in (one, two)]

    run(body)


def test_exit_statuses_prove_nothing():
    """They are there to be read, and fail no test."""

    def body(claude_tokens, workers):
        assert [process.returncode for process in workers(["sh", "-c", "exit 3"])] == [3, 3]

    run(body)


@pytest.mark.parametrize(
    ("commands", "options", "says"),
    [
        ([], {}, "workers() takes one command as a list"),
        ([["true"]] * 3, {}, "or one for each of the 2 workers"),
        (["true"], {}, "workers() takes one command as a list"),
        ([print], {}, "workers() takes one command as a list"),
        ([["true"]], {"env": [{}]}, "must be a list with one value for each of the 2 workers, not 1"),
        ([["true"]], {"config_dir": [None] * 3}, "must be a list with one value for each of the 2 workers, not 3"),
    ],
)
def test_wrong_numbers_are_refused(commands, options, says):
    """In the body's line that says them, before anything is started."""

    def body(claude_tokens, workers):
        workers(*commands, **options)

    with pytest.raises(TypeError) as refused:
        run(body)
    assert says in str(refused.value)


def test_a_program_that_is_not_there_is_one_clear_error():
    """The other worker's process, which has started, does not outlive the run."""
    started = []

    def body(claude_tokens, workers):
        claude_tokens.server.journal.observers.append(
            lambda event: started.append(event.get("pid")) if event.f == "spawn" else None
        )
        workers(["sleep", "600"], ["no-such-program"])

    result = search(few(explore(processes=True)(body)))
    assert type(result.error) is FileNotFoundError
    assert "no-such-program" in str(result.error)
    assert not any(os.path.exists(f"/proc/{pid}") for pid in started)


def test_what_the_body_starts_itself_is_not_held():
    """Nobody would let it go on: only what ``workers`` starts is."""

    def body(claude_tokens, workers):
        assert claude_tokens.spawn(HELLO, "before").wait(PATIENCE) == 0
        workers(HELLO)
        assert claude_tokens.spawn(HELLO, "after").wait(PATIENCE) == 0

    assert run(body).raced
