"""The faults that are planned for the next requests. Not thread-safe: the server holds the lock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fake_server.events import worker_of
from fake_server.limits import checked_count
from fake_server.secrecy import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fake_server.faults import Fault, Target

__all__ = ["FaultPlan"]


@dataclass(slots=True)
class _Planned:
    target: Target
    fault: Fault
    left: int
    account: str | None
    worker: str | None
    skip: int

    def strikes(self, target: str, account: str | None, actor: str) -> bool:
        """Whether it is for such a request. The processes of a worker (``w0.1``) are that worker."""
        if self.target != target or self.account not in (None, account):
            return False
        return self.worker in (None, actor, worker_of(actor))


class FaultPlan:
    """The faults that have not struck yet, in the order in which they were added.

    ``targets``: the kinds of requests that they may strike, as the service has such endpoints.
    """

    def __init__(self, targets: Sequence[str] = ("token", "call")) -> None:
        self._targets = tuple(targets)
        self._planned: list[_Planned] = []

    def add(
        self,
        target: Target,
        fault: Fault,
        *,
        count: int = 1,
        account: str | None = None,
        worker: str | None = None,
        skip: int = 0,
    ) -> None:
        """Plan ``fault`` for ``count`` requests of kind ``target``, after the next ``skip`` of them.

        ``account``, ``worker``: only those with a token of that account, and only those of that worker.
        """
        if not isinstance(target, str) or target not in self._targets:
            names = " or ".join(f'a "{name}"' for name in self._targets)
            raise ValueError(f"a fault strikes {names} request, not {shown(target)}")
        count = checked_count("count", count)
        self._planned.append(_Planned(target, fault, count, account, worker, skip))

    def take(self, target: str, account: str | None, actor: str = "") -> Fault | None:
        """The fault that strikes the request of ``actor`` that has just arrived, or ``None``; it uses its plan up."""
        for planned in self._planned:
            if not planned.strikes(target, account, actor):
                continue
            if planned.skip:
                planned.skip -= 1
                continue
            planned.left -= 1
            if not planned.left:
                self._planned.remove(planned)
            return planned.fault
        return None
