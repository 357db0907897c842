"""One run with worker processes, in real time and over real sockets; the schedule decides the order of their requests.

The server holds each request twice, before the check and after the commit. When every living process waits for a held
request or sleeps, one held request is released. A failing run may not repeat, as the operating system schedules the
processes; but a failure that was seen once is real.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fake_server.genuine import time
from pytest_claude_tokens.handle.claude_tokens import ClaudeTokens
from pytest_claude_tokens.handle.runtime import Runtime
from pytest_claude_tokens.runs.outcome import Body, Outcome, call, conclude, is_failure, plan_faults
from pytest_claude_tokens.runs.quiescence import wait_for_quiescence
from pytest_claude_tokens.runs.request_gate import RequestGate
from pytest_claude_tokens.runs.workers import is_race
from pytest_claude_tokens.simulation.chooser import Chooser
from pytest_claude_tokens.simulation.interrupts import INTERRUPT
from pytest_claude_tokens.simulation.thread_record import worker_number

if TYPE_CHECKING:
    from fake_server.events import Event
    from pytest_claude_tokens.processes.worker import WorkerProcess
    from pytest_claude_tokens.runs.request_gate import Held
    from pytest_claude_tokens.simulation.schedule import Schedule

__all__ = ["RUN_TIMEOUT_SECONDS", "ProcessRunner", "ProcessWorkers", "default_signals"]

RUN_TIMEOUT_SECONDS = 60.0
"""Real seconds within which all workers of a run must end."""
_QUIESCENCE_TIMEOUT_SECONDS = 5.0
"""Real seconds after which a worker that never sleeps is no longer waited for: it may be polling for a worker whose
request is held.
"""
_POLL_INTERVAL_SECONDS = 0.01


class ProcessWorkers:
    """The ``workers`` of a run: starts a command in each of them, and waits for their end."""

    def __init__(self, tokens: ClaudeTokens, gate: RequestGate, chooser: Chooser, size: int) -> None:
        self.raced: bool = False
        self._tokens = tokens
        self._gate = gate
        self._chooser = chooser
        self._size = size
        self._processes: list[WorkerProcess] = []
        tokens.server.journal.observers.append(self._observe)

    def __len__(self) -> int:
        return self._size

    def __call__(
        self, *commands: Sequence[str], config_dir: Any = None, account: Any = None, env: Any = None
    ) -> list[WorkerProcess]:
        """Run one command in every worker, or one command for each, and return the processes when all have ended.

        ``config_dir``, ``account`` and ``env`` are one value for all, or a list with one for each. Exit statuses
        are ignored: they don't fail the test.
        """
        if len(commands) not in (1, self._size) or not all(isinstance(command, list | tuple) for command in commands):
            raise TypeError(
                f'workers() takes one command as a list, such as ["claude", "-p", "hi"], or one for each of the '
                f"{self._size} workers"
            )
        chosen = list(commands) * (self._size if len(commands) == 1 else 1)
        values = zip(self._each(config_dir), self._each(account), self._each(env), strict=True)
        self._processes = []
        self._gate.hold()
        try:
            for number, (command, (folder, login, more)) in enumerate(zip(chosen, values, strict=True)):
                process = self._tokens.spawn(command, f"w{number}", account=login, config_dir=folder, env=more)
                self._processes.append(process)
                self._look_for_a_race()
            self._wait_for_all()
        finally:
            self._gate.open(self._tokens.server)
        return list(self._processes)

    def _each(self, value: Any) -> list[Any]:
        if not isinstance(value, list | tuple):
            return [value] * self._size
        if len(value) != self._size:
            raise TypeError(f"must be a list with one value for each of the {self._size} workers, not {len(value)}")
        return list(value)

    def _wait_for_all(self) -> None:
        server, gate = self._tokens.server, self._gate
        deadline = time.monotonic() + RUN_TIMEOUT_SECONDS
        while self._living():
            if time.monotonic() > deadline:
                for process in self._living():
                    server.journal.note("starved", actor=process.worker, why=f"no end after {RUN_TIMEOUT_SECONDS:g} s")
                    process.kill()
                break
            until = min(deadline, time.monotonic() + _QUIESCENCE_TIMEOUT_SECONDS)
            wait_for_quiescence(lambda: [process.pid for process in self._living()], lambda: gate.events, until)
            self._end_worker()
            held = gate.pending(server)
            if held:
                index = self._chooser.next(held, timer=False, worker_of=_worker_of)
                gate.release(server, held[index])
            else:
                time.sleep(_POLL_INTERVAL_SECONDS)  # they sleep at a lock, or before a retry

    def _living(self) -> list[WorkerProcess]:
        INTERRUPT.check()  # each wait asks for the living
        return [process for process in self._processes if process.returncode is None]

    def _end_worker(self) -> None:
        """Kill the workers that the schedule kills now; such a deviation's length is the number of the signal."""
        deaths = self._chooser.deaths
        while deaths and deaths[0].position <= self._chooser.decision:
            deviation = deaths.pop(0)
            if deviation.target < len(self._processes):
                self._processes[deviation.target].kill(signal.Signals(deviation.length))

    def _observe(self, event: Event) -> None:
        if event.type == "invoke" and not self.raced:
            self._look_for_a_race()

    def _look_for_a_race(self) -> None:
        """Set ``raced`` if a request of one worker is open while another worker's process runs."""
        server = self._tokens.server
        with server.lock:
            asking = {worker_number(exchange.actor) for exchange in server.open.values() if exchange.judged}
        working = [process.running for process in self._processes]
        self.raced = self.raced or any(is_race(mine, working) for mine in asking)


def _worker_of(held: Held) -> int:
    return worker_number(held.exchange.actor)


class ProcessRunner:
    """Runs one body with worker processes under any schedule."""

    def __init__(self, body: Body) -> None:
        self.body = body
        self._wanted = body.wanted()

    def run(self, schedule: Schedule, arguments: Mapping[str, Any] | None = None) -> Outcome:
        """One run. Exceptions of the body and violations come back in the outcome; interruptions are raised."""
        INTERRUPT.check()
        chooser = Chooser(schedule, self.body.workers)
        gate = RequestGate()
        tokens = ClaudeTokens(**self.body.settings, runtime=Runtime(wait_hook=gate.hold_at_leg))
        error: BaseException | None = None
        with_tokens = tokens.open()
        try:
            workers = ProcessWorkers(tokens, gate, chooser, self.body.workers)
            plan_faults(tokens.server, schedule)
            ours = {"claude_tokens": with_tokens, "workers": workers}
            try:
                call(self.body.function, {**(arguments or {}), **{name: ours[name] for name in self._wanted}})
            except BaseException as raised:
                if not is_failure(raised):
                    raise
                error = raised
            gate.open(tokens.server)
            tokens.finish()
            history = tokens.history.taken()
        finally:
            gate.open(tokens.server)
            tokens.close()
        INTERRUPT.check()
        return conclude(schedule, chooser, tokens, history, error, raced=workers.raced)


def default_signals(kills: Any) -> tuple[int, ...]:
    """The signals that may kill a worker: those given, or SIGKILL."""
    if not kills:
        return ()
    return (int(signal.SIGKILL),) if kills is True else tuple(int(number) for number in kills)
