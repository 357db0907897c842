"""Replay tokens: ``ct1-…`` holds everything that a run depends on, except the code.

It holds the kind of test, the number of workers, the schedule with its seed and planned faults, the policy's knobs, and
(if the test has strategies of its own) Hypothesis's choices for their values. These are JSON, compressed by zlib, whose
checksum detects a line break or a lost letter, in the alphabet of base64url, which can be pasted into a shell.
"""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass, field
from typing import Any

from fake_server.faults import Fault
from fake_server.genuine import json
from fake_server.policy import Policy
from fake_server.secrecy import discreet, shown
from pytest_claude_tokens.simulation.schedule import Deviation, Latency, PlannedFault, Schedule
from pytest_claude_tokens.simulation.scheduler import SLOW_SECONDS

__all__ = ["PREFIX", "BadToken", "Replay"]

PREFIX = "ct1-"
_QUOTED = 500
"""Characters of a token that an error quotes: whoever pasted it compares it with the report."""


class BadToken(ValueError):
    """The text is not a replay token that this version can read; the message quotes it and says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """The content of a token. ``names``: the test's own strategies; ``choices``: Hypothesis's choices for their values;
    ``example``: the number, from 1, of the explicit example that gave the values instead. ``slow``: the seconds by
    which the schedule could hold up workers and replies.
    """

    kind: str
    workers: int
    schedule: Schedule
    policy: dict[str, Any] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    choices: bytes = b""
    example: int = 0
    slow: float = SLOW_SECONDS

    def token(self) -> str:
        """The replay as text, of ``[A-Za-z0-9_-]``."""
        schedule = self.schedule
        value = [
            self.kind,
            self.workers,
            schedule.kind,
            schedule.seed,
            [
                [
                    deviation.position,
                    deviation.what,
                    deviation.target,
                    deviation.length,
                    *filter(None, [deviation.place]),
                ]
                for deviation in schedule.deviations
            ],
            [[planned.position, planned.target, planned.fault.to_dict()] for planned in schedule.planned_faults],
            self.policy,
            list(self.names),
            list(self.choices),
            self.example,
            schedule.scale,
            schedule.reach,
            [schedule.latency.kind, schedule.latency.milliseconds] if schedule.latency.kind != "none" else [],
            [self.slow] if self.slow != SLOW_SECONDS else [],
        ]
        while value and not value[-1]:
            value.pop()
        return PREFIX + _encoded(zlib.compress(json.dumps(value, separators=(",", ":")).encode(), 9))

    def policy_again(self) -> Policy:
        """The policy, rebuilt from its knobs."""
        return Policy.from_dict(self.policy)

    @classmethod
    @discreet
    def read(cls, text: str) -> Replay:
        """Decode ``text``. Raises :class:`BadToken`."""
        if not text.startswith(PREFIX):
            raise BadToken(f"{shown(text, _QUOTED)} is not a replay token of this version, which begins with {PREFIX}")
        try:
            data = base64.b64decode(text[len(PREFIX) :] + "=" * (-len(text[len(PREFIX) :]) % 4), b"-_", validate=True)
            stream = zlib.decompressobj()
            value = json.loads(stream.decompress(data))
            # zlib alone accepts a truncated stream and trailing data; base64 accepts any bits after the last byte.
            if not stream.eof or stream.unused_data or PREFIX + _encoded(data) != text:
                raise ValueError("not one whole stream")
            value += [0, [], [], {}, [], [], 0, 0, 0, [], []][len(value) - 3 :]  # the defaults that token() omitted
            kind, workers, order, seed, deviations, planned_faults, policy, names, choices, example, *drawn = value
            scale, reach, latency, slow = drawn
            schedule = Schedule(
                kind=order,
                seed=seed,
                deviations=tuple(Deviation(*deviation) for deviation in deviations),
                planned_faults=tuple(
                    PlannedFault(position, target, Fault.from_dict(fault)) for position, target, fault in planned_faults
                ),
                latency=Latency(*latency),
                scale=scale,
                reach=reach,
            )
            return cls(
                kind=kind,
                workers=workers,
                schedule=schedule,
                policy=policy,
                names=tuple(names),
                choices=bytes([*choices]),
                example=example,
                slow=float(*(slow or [SLOW_SECONDS])),
            )
        except (ValueError, TypeError, zlib.error):
            raise BadToken(
                f"{shown(text, _QUOTED)} is damaged: copy the whole token, with every letter, from the report"
            ) from None


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
