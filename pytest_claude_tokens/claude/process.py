"""What surrounds a process: its environment and streams, time, random numbers, and the signal that ends it."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import TextIO

__all__ = ["Machine", "Terminated", "uuid4"]


class Terminated(BaseException):
    """A signal asked the process to end; ``code`` is its exit status."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Machine:
    """The outside world of one run, replaceable in tests piece by piece."""

    def __init__(
        self,
        environ: Mapping[str, str],
        stdin: TextIO | None,
        stdout: TextIO,
        stderr: TextIO,
        *,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], object] = time.sleep,
        chance: Callable[[], float] | None = None,
        readable: Callable[[TextIO, float], bool] | None = None,
    ) -> None:
        self.environ = environ
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self.now = now
        self.chance = chance or _chance
        self.readable = readable or _readable
        self.scale = self.number("CLAUDE_TOKENS_TIME_SCALE", 1.0)
        self._sleep = sleep
        self._shields = 0
        self._pending: int | None = None

    def number(self, name: str, default: float) -> float:
        """The variable ``name`` as a number; ``default`` if it is unset, not a finite number, or negative."""
        try:
            value = float(self.environ[name])
        except (KeyError, ValueError):
            return default
        return value if 0 <= value < float("inf") else default

    def pause(self, seconds: float) -> None:
        """Wait for ``seconds``, as the real client does, times ``CLAUDE_TOKENS_TIME_SCALE``."""
        self._sleep(seconds * self.scale)

    def terminate(self, code: int) -> None:
        """Act on a signal: raise :class:`Terminated` now, or at the end of a :meth:`shielded` block."""
        if not self._shields:
            raise Terminated(code)
        self._pending = code

    @contextmanager
    def shielded(self, wanted: bool) -> Iterator[None]:
        """Finish the block before a signal takes effect, if ``wanted``."""
        self._shields += wanted
        try:
            yield
        finally:
            self._shields -= wanted
            if self._pending is not None and not self._shields:
                raise Terminated(self._pending)


def uuid4() -> str:
    """A random UUID, without the cost of importing ``uuid``."""
    digits = bytearray(os.urandom(16))
    digits[6] = digits[6] & 0x0F | 0x40
    digits[8] = digits[8] & 0x3F | 0x80
    text = digits.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _chance() -> float:
    return int.from_bytes(os.urandom(4), "big") / 2**32


def _readable(stream: TextIO, seconds: float) -> bool:
    """Whether ``stream`` has something to read, or has ended, within ``seconds``."""
    try:
        fd = stream.fileno()
    except OSError:  # not a file at all: it is in memory
        return True
    import select

    return bool(select.select([fd], [], [], seconds)[0])
