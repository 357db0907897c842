"""Replay tokens: ``ct1-…`` holds everything that a run depends on but the code.

Kind of test, number of workers, schedule with its seed and planned faults, the policy's knobs, and (where the test has
strategies of its own) Hypothesis's choices for their values: JSON, compressed by zlib, whose checksum notices a line
break or a lost letter, in the alphabet of base64url, which can be pasted into a shell.
"""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass, field
from typing import Any

from fake_server.faults import Fault
from fake_server.policy import Policy
from fake_server.secrecy import discreet, shown
from pytest_claude_tokens.simulation.schedule import Deviation, PlannedFault, Schedule

__all__ = ["PREFIX", "BadToken", "Replay"]

PREFIX = "ct1-"


class BadToken(ValueError):
    """The text is no replay token that this version can read; the message quotes it and says what is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What a token says. ``names``: the test's own strategies; ``choices``: what was drawn for them;
    ``example``: or the explicit example that gave them, counted from 1.
    """

    kind: str
    workers: int
    schedule: Schedule
    policy: dict[str, Any] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    choices: bytes = b""
    example: int = 0

    def token(self) -> str:
        """The replay as text of ``[A-Za-z0-9_-]``."""
        schedule = self.schedule
        value = [
            self.kind,
            self.workers,
            schedule.kind,
            schedule.seed,
            [
                [deviation.position, deviation.what, deviation.target, deviation.length]
                for deviation in schedule.deviations
            ],
            [[planned.position, planned.target, planned.fault.to_dict()] for planned in schedule.planned_faults],
            self.policy,
            list(self.names),
            list(self.choices),
            self.example,
        ]
        while value and not value[-1]:
            value.pop()
        return PREFIX + _encoded(zlib.compress(json.dumps(value, separators=(",", ":")).encode(), 9))

    def policy_again(self) -> Policy:
        """The policy that its knobs make."""
        return Policy.from_dict(self.policy)

    @classmethod
    @discreet
    def read(cls, text: str) -> Replay:
        """The replay behind ``text``. Raises :class:`BadToken`."""
        if not text.startswith(PREFIX):
            raise BadToken(f"{shown(text)} is not a replay token of this version, which begins with {PREFIX}")
        try:
            data = base64.b64decode(text[len(PREFIX) :] + "=" * (-len(text[len(PREFIX) :]) % 4), b"-_", validate=True)
            stream = zlib.decompressobj()
            value = json.loads(stream.decompress(data))
            # zlib by itself takes a cut stream, and more behind its end; base64 takes any bits behind the last byte.
            if not stream.eof or stream.unused_data or PREFIX + _encoded(data) != text:
                raise ValueError("not one whole stream")
            value += [0, [], [], {}, [], [], 0][len(value) - 3 :]  # what token() left off
            kind, workers, order, seed, deviations, planned_faults, policy, names, choices, example = value
            schedule = Schedule(
                kind=order,
                seed=seed,
                deviations=tuple(Deviation(*deviation) for deviation in deviations),
                planned_faults=tuple(
                    PlannedFault(position, target, Fault.from_dict(fault)) for position, target, fault in planned_faults
                ),
            )
            return cls(
                kind=kind,
                workers=workers,
                schedule=schedule,
                policy=policy,
                names=tuple(names),
                choices=bytes([*choices]),
                example=example,
            )
        except (ValueError, TypeError, zlib.error):
            raise BadToken(
                f"{shown(text)} is damaged: copy the whole token, with every letter, from the report"
            ) from None


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
