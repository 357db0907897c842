"""Signals that arrive during a search: Ctrl-C, SIGTERM, a time-out that is raised from a signal's handler.

Python runs a handler between any two bytecodes of the main thread, and raises there whatever the handler raises. During
a search that may be in the middle of a switch point, where the main thread does not have the baton and would run beside
the thread that has it; while names are being patched; or in the callback of a weak reference, where the interpreter
drops it. So for the time of a search each handler is called by one of ours, which keeps what it raises:

* In *foreign* code, that of the test or of Hypothesis, it is raised at once, as always. The innermost frame of this
  project decides: foreign code is what was called by a function marked with :func:`calls_foreign_code`.
* Elsewhere it is kept in :attr:`Interrupts.error`, which each switch point and each run asks for. A thread of our own
  knocks again with a signal that is ignored by default, until it could be raised, as foreign code may go on for long.
* The search raises it again when it has cleaned up, in place of any other exception, since a ``finally`` block that
  fails would otherwise hide it.

A signal that would end the process at once (SIGTERM, SIGHUP) ends it after the clean-up.
"""

from __future__ import annotations

import _thread
import signal
import sys
from contextlib import contextmanager
from time import sleep
from typing import TYPE_CHECKING, Any, TypeVar

from fake_server.genuine import threading
from pytest_claude_tokens.simulation.native import monotonic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType, FrameType, TracebackType

__all__ = [
    "CLEAN_UP_SECONDS",
    "INTERRUPT",
    "KNOCK",
    "Interruptible",
    "Interrupts",
    "Terminated",
    "calls_foreign_code",
    "is_foreign",
]

CLEAN_UP_SECONDS = 0.5
"""Real seconds after an interrupt that the test's own clean-up may go on to switch points."""
_KNOCK_INTERVAL_SECONDS = 0.02

KNOCK: Any = getattr(signal, "SIGURG", None)
"""The signal that makes the main thread look again. Programs rarely use it, and by default it is ignored; SIGINT would
not do, as a background process may ignore it.
"""
_DEADLY = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
_OURS = ("pytest_claude_tokens", "fake_server")  # not by file: Hypothesis gives its wrapper the file of what it wraps
_F = TypeVar("_F", bound="Callable[..., Any]")
_FOREIGN: set[CodeType] = set()


def calls_foreign_code(function: _F) -> _F:
    """Mark a function of ours that does nothing worth protecting but to call code of others, or to wait."""
    _FOREIGN.add(function.__code__)
    return function


class Terminated(BaseException):
    """A signal came that ends the process, as soon as the search has cleaned up. ``number``: the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Interrupts:
    """What signals have raised during the search that runs in the main thread, if any does."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        """What the last signal's handler raised; it is raised until the search has ended."""
        self._delivered = False
        self._since = 0.0
        self._before: dict[int, Any] = {}
        self._hook: Any = None

    def begin(self) -> bool:
        """From now on signals are handled as described above. ``False``, and nothing is done, in any other thread than
        the main one, or if they are already.
        """
        if threading.current_thread() is not threading.main_thread() or self._before or KNOCK is None:
            return False
        self._install()
        return True

    def end(self) -> None:
        """Restore the handlers, and raise what a signal has raised.

        Its traceback is reduced to the frames of the test: pytest would parse the source of all the others to show it,
        which takes longer than the whole clean-up.
        """
        __tracebackhide__ = True
        error = self._restore()
        if isinstance(error, Terminated):
            signal.raise_signal(error.number)
        if error is not None:
            from pytest_claude_tokens.simulation.frames import of_the_user

            raise error.with_traceback(of_the_user(error.__traceback__)) from None

    def check(self) -> None:
        """Raise what a signal has raised, if one has."""
        __tracebackhide__ = True
        if self.error is not None:
            self._delivered = True
            raise self.error

    @property
    def is_due(self) -> bool:
        """Whether the search must end now: a signal came, and was not raised yet, or the clean-up takes too long."""
        return self.error is not None and (not self._delivered or monotonic() - self._since > CLEAN_UP_SECONDS)

    def knocked(self, frame: FrameType | None) -> None:
        """Called by the handler of :data:`KNOCK`, with the frame that it has interrupted."""
        __tracebackhide__ = True
        if self.error is not None and not self._delivered and is_foreign(frame):
            self._delivered = True
            raise self.error

    def _install(self) -> None:
        handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
        chosen = {number: before for number, before in handlers.items() if callable(before)}
        chosen |= {number: signal.SIG_DFL for number in _DEADLY if handlers[number] is signal.SIG_DFL}
        with _held_back(chosen):
            self._before = chosen | {KNOCK: handlers[KNOCK]}
            for number in chosen:
                signal.signal(number, self._handle)
            signal.signal(KNOCK, lambda number, frame: self.knocked(frame))
            self._hook, sys.unraisablehook = sys.unraisablehook, self._dropped

    def _restore(self) -> BaseException | None:
        with _held_back(self._before):
            for number, before in self._before.items():
                signal.signal(number, before)
            sys.unraisablehook = self._hook
            error, self.error = self.error, None
            self._before, self._hook = {}, None
        return error

    def _handle(self, number: int, frame: FrameType | None) -> None:
        __tracebackhide__ = True
        before = self._before[number]
        try:
            if not callable(before):
                raise Terminated(number)
            before(number, frame)
        except BaseException as error:
            self._delivered, self._since = False, monotonic()
            self.error = error
        else:
            return
        self.knocked(frame)
        _thread.start_new_thread(self._knock, (self.error,))  # bare: `Thread` has locks, which we may have interrupted

    def _dropped(self, problem: Any) -> None:
        """Called where the interpreter drops an exception: one of a signal's must be raised again."""
        if self.error is None or problem.exc_value is not self.error:
            self._hook(problem)
            return
        self._delivered = False
        _thread.start_new_thread(self._knock, (self.error,))

    def _knock(self, error: BaseException | None) -> None:  # pragma: no cover - no tracer sees a bare thread
        """In a thread of its own: have the main thread look again, until ``error`` was raised or is past."""
        while self.error is error and error is not None and not self._delivered:
            signal.pthread_kill(threading.main_thread().ident or 0, KNOCK)
            sleep(_KNOCK_INTERVAL_SECONDS)


INTERRUPT = Interrupts()


class Interruptible:
    """A block in which signals are handled as described above; it raises what they raise when it has ended."""

    def __enter__(self) -> None:
        self._begun = INTERRUPT.begin()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        if self._begun:
            INTERRUPT.end()


def is_foreign(frame: FrameType | None) -> bool:
    """Whether the innermost frame of ours, seen from ``frame``, is of a function that calls foreign code."""
    while frame is not None and frame.f_code not in _FOREIGN:
        if str(frame.f_globals.get("__name__")).partition(".")[0] in _OURS:
            return False
        frame = frame.f_back
    return frame is not None


@contextmanager
def _held_back(numbers: Any) -> Iterator[None]:
    """In the block, the main thread does not meet these signals; those that come are met at its end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
