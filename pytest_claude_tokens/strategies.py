"""Hypothesis strategies for policies, faults, latencies, accounts, workloads and histories.

Each shrinks towards the plainest value: the preset ``anthropic``, a reset connection, no latency, one account, one
refresh, and the history of that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from hypothesis import strategies as st

from fake_server.clock import Clock
from fake_server.exchange import Exchange
from fake_server.faults import Fault
from fake_server.policy import PRESETS, Policy
from fake_server.protocol.wire import Request
from fake_server.secrecy import discreet, shown
from fake_server.server import Server
from pytest_claude_tokens.judge.history import History

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = ["Job", "accounts", "faults", "histories", "latencies", "policies", "workloads"]

Job = Literal["refresh", "call", "advance", "expire"]
"""A step of a worker: a token request, a call, a pause of some hours, an early end of its access token."""

_JOBS: tuple[Job, ...] = ("refresh", "call", "advance", "expire")


def policies() -> SearchStrategy[Policy]:
    """Presets, grace windows of up to a minute in each mode, and Keycloak's reuse counts."""
    graces = st.builds(
        Policy.grace,
        seconds=st.integers(1, 60).map(float),
        mode=st.sampled_from(["sibling", "idempotent", "previous-only"]),
        count=st.none() | st.integers(1, 3),
    )
    return st.sampled_from(list(PRESETS.values())) | graces | st.builds(Policy.keycloak, max_reuse=st.integers(0, 3))


@discreet
def faults(*, committed: bool | None = None) -> SearchStrategy[Fault]:
    """Every kind of fault; ``committed``: only those that strike after the service has committed, or only the others.

    The weekly quota is left out: a client that obeys its ``retry-after`` waits for a week, and the search reports a
    run of more than a day as starvation.
    """
    before = st.one_of(
        st.sampled_from(
            [Fault.RESET, Fault.BURST, Fault.TIMEOUT, Fault.moved(), Fault.html(403), Fault.quota("five_hour")]
        ),
        st.builds(Fault.status, st.sampled_from([429, 500, 502, 503, 529, 401, 403]), st.none() | st.integers(1, 60)),
        st.builds(Fault.delay, st.sampled_from([0.1, 1.0, 10.0])),
    )
    after = st.one_of(
        st.sampled_from([Fault.LOST_REPLY, Fault.GARBAGE, Fault.TRUNCATED]),
        st.builds(Fault.delay, st.sampled_from([0.1, 1.0, 10.0]), st.just(True)),
        st.builds(Fault.stall, st.sampled_from([0.1, 1.0, 10.0]), st.sampled_from(["head", "body"])),
        st.builds(Fault.status, st.sampled_from([500, 502, 503]), after_commit=st.just(True)),
    )
    if committed not in (None, True, False):
        raise TypeError(f"faults(committed={shown(committed)}): must be True, False or None")
    if committed is None:
        return before | after
    return after if committed else before


@discreet
def latencies(longest: float = 30.0) -> SearchStrategy[float | dict[str, float]]:
    """Seconds that requests take, one number for all kinds or one for each kind, as ``latency=`` accepts them."""
    if not isinstance(longest, (int, float)):
        raise TypeError(f"latencies(longest={shown(longest)}): must be a number of seconds")
    seconds = st.sampled_from([s for s in (0.0, 0.01, 0.5, 2.0, 8.0, 30.0) if s <= longest])
    return seconds | st.fixed_dictionaries({"token": seconds, "call": seconds})


@discreet
def accounts(most: int = 4) -> SearchStrategy[list[dict[str, Any]]]:
    """Keywords for ``tokens.account(**keywords)``: one to ``most`` accounts with names of their own."""
    _check_number("accounts", "most", most)
    kinds: SearchStrategy[dict[str, Any]] = st.sampled_from(
        [{}, {"expired": True}, {"expires_in": 60.0}, {"setup_token": True}]
    )

    def name(chosen: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{"name": f"a{number}", **keywords} for number, keywords in enumerate(chosen, 1)]

    return st.lists(kinds, min_size=1, max_size=most).map(name)


@discreet
def workloads(workers: int = 2, longest: int = 4) -> SearchStrategy[list[list[Job]]]:
    """For each worker, the steps that it takes one after the other."""
    _check_number("workloads", "workers", workers)
    _check_number("workloads", "longest", longest)
    steps = st.lists(st.sampled_from(_JOBS), min_size=1, max_size=longest)
    return st.lists(steps, min_size=workers, max_size=workers)


@discreet
def histories(*, workers: int = 2, longest: int = 4) -> SearchStrategy[History]:
    """Histories that the fake service recorded, of workers that do not coordinate.

    Each worker has the login's tokens and ignores the replies, and their requests overlap in a drawn order. So many of
    these histories break an invariant.
    """
    _check_number("histories", "workers", workers)
    _check_number("histories", "longest", longest)
    return _histories(workers, longest)


@st.composite
def _histories(draw: st.DrawFn, workers: int, longest: int) -> History:
    now = [0.0]
    server = Server(draw(policies()), Clock(lambda: now[0], kind="virtual"), lambda: now[0], namespace="drawn")
    pair = _log_in(server)
    plans = draw(workloads(workers, longest))
    under_way: dict[int, Exchange] = {}
    for worker in draw(st.lists(st.integers(0, workers - 1), min_size=4 * workers, max_size=12 * workers)):
        if worker in under_way:
            if under_way[worker].step() is None:
                del under_way[worker]
        elif plans[worker]:
            job = plans[worker].pop(0)
            if job == "advance":
                now[0] += 3600.0
            elif job == "expire":
                server.expire("a1")
            else:
                under_way[worker] = Exchange(server, _request(job, pair), f"w{worker}")
                under_way[worker].step()
    for exchange in under_way.values():
        while exchange.step() is not None:
            now[0] += 1.0
    return History(server.journal.header, server.journal.events)


def _check_number(function: str, name: str, value: object) -> None:
    """Check at once: Hypothesis would find it when it draws, and quote it."""
    if type(value) is not int or value < 1:
        raise ValueError(f"{function}({name}={shown(value)}): must be a number, at least 1")


def _log_in(server: Server) -> tuple[str, str]:
    grant = server.login("a1")
    return grant.access[0].secret, grant.refresh[0].secret


def _request(job: Job, pair: tuple[str, str]) -> Request:
    access, refresh = pair
    if job == "refresh":
        body = f'{{"grant_type":"refresh_token","refresh_token":"{refresh}","client_id":"drawn"}}'
        return Request.parse("POST", "/v1/oauth/token", (("content-type", "application/json"),), body.encode())
    headers = (("authorization", f"Bearer {access}"), ("content-type", "application/json"))
    return Request.parse("POST", "/v1/messages", headers, b'{"messages":[]}')
