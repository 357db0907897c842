"""The invariants once more, slowly and plainly: each is looked up in the whole history for each request.

Nothing here is kept from one event to the next, and nothing of the judge's is used but the names of errors, so that a
mistake in its book-keeping shows as a difference. A finding is the invariant, the number of the event that completes
it, the numbers of the guilty requests, and whether it is excused; ``None`` where that is not looked at here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from fake_server.events import Event, worker_of
from pytest_claude_tokens.judge.history import UNREAD

if TYPE_CHECKING:
    from pytest_claude_tokens.judge.history import History


class Finding(NamedTuple):
    """One violation."""

    invariant: str
    seq: int
    guilty: tuple[int, ...]
    excused: bool | None = False


class Asked(NamedTuple):
    """One request: its first event, and its last one."""

    begin: Event
    end: Event | None

    @property
    def closed(self) -> float:
        return math.inf if self.end is None else self.end.seq

    @property
    def outcome(self) -> str:
        return "open" if self.end is None else self.end.type

    @property
    def grant(self) -> str | None:
        return self.begin.grant or (self.end.grant if self.end else None)

    def says(self, name: str) -> object:
        return None if self.end is None else self.end.get(name)

    def open_at(self, seq: int) -> bool:
        return self.begin.seq < seq < self.closed


class Slow:
    """All invariants of one history."""

    def __init__(self, history: History) -> None:
        self.header = history.header
        self.policy = history.policy
        self.events = history.events
        self.asked = [
            Asked(begin, next((one for one in self.events if one.op == begin.op and _is_end(one)), None))
            for begin in self.events
            if begin.type == "invoke"
        ]

    def findings(self) -> list[Finding]:
        """Everything that is found, in no order."""
        return [
            *self.double_spend(),
            *self.blind_replay(),
            *self.co_schedule(),
            *self.stale_bearer(),
            *self.refresh_storm(),
            *self.missing_bearer(),
            *self.at_the_end(),
            *self.store_regression(),
            *self.noted(),
        ]

    def notes(self, f: str) -> list[Event]:
        return [event for event in self.events if event.type == "note" and event.f == f]

    def commit(self, one: Asked) -> Event | None:
        """What the service decided of a token request."""
        found = [note for note in self.notes("commit") if note.op == one.begin.op]
        return found[-1] if found else None

    # Refresh tokens.

    def presented(self) -> dict[tuple[str | None, str], list[Asked]]:
        """The token requests that presented each refresh token, and whose token was looked at."""
        found: dict[tuple[str | None, str], list[Asked]] = {}
        for one in self.asked:
            begin, end = one
            unread = end is not None and end.type == "fail" and end.error in UNREAD and self.commit(one) is None
            if begin.f != "token" or begin.refresh in (None, "unknown") or unread:
                continue
            if begin.get("grant_type") != "authorization_code":
                found.setdefault((begin.grant, str(begin.refresh)), []).append(one)
        return found

    def refused(self, one: Asked) -> float:
        """The number of the event by which the service refused the token of a request; infinity if it did not."""
        note = self.commit(one)
        if note is not None:
            return note.seq if note.get("outcome") in ("refused", "reused") else math.inf
        end = one.end
        if end is None or end.type != "fail" or end.get("committed") or end.get("fault"):
            return math.inf
        return end.seq if end.status is not None and end.status < 500 and end.status != 429 else math.inf

    @property
    def grace(self) -> bool:
        return bool(self.policy.get("grace_seconds")) and self.policy.get("grace_count") != 0

    def harmless(self, *several: Asked) -> bool:
        """Whether the policy makes it harmless that these presented one token."""
        if not self.policy.get("rotate", True):
            return True
        notes = [self.commit(one) for one in several]
        if any(note is not None and note.get("outcome") == "retry" for note in notes):
            return True
        return self.grace and all(self.refused(one) == math.inf for one in several)

    def certain(self, second: Asked, *several: Asked) -> int:
        """When it is certain that ``second`` should not have been sent."""
        if not self.grace:
            return second.begin.seq
        return int(max(second.begin.seq, min(self.refused(one) for one in several)))

    def double_spend(self) -> Iterator[Finding]:
        """Sent again while a request with it was open, or after one had succeeded."""
        for sent in self.presented().values():
            wrong, tolerated = [], []
            for n, second in enumerate(sent):
                at = second.begin.seq
                clashes = [
                    first for first in sent[:n] if first.open_at(at) or (first.outcome == "ok" and first.closed < at)
                ]
                guilty = [first for first in clashes if not self.harmless(first, second)]
                if guilty:
                    wrong.append((self.certain(second, guilty[0], second), guilty[0], second))
                elif clashes:
                    tolerated.append((at, clashes[0], second))
            if wrong or tolerated:
                yield _first("double-spend", wrong or tolerated, excused=not wrong)

    def blind_replay(self) -> Iterator[Finding]:
        """Sent again after a request with it had an unknown outcome, and none had succeeded by then."""
        for sent in self.presented().values():
            wrong, tolerated = [], []
            for second in sent:
                before = [first for first in sent if first.closed < second.begin.seq]
                lost = [first for first in before if first.outcome == "info" or first.says("replaced")]
                if lost and not any(first.outcome == "ok" for first in before):
                    if self.harmless(second):
                        tolerated.append((second.begin.seq, lost[0], second))
                    else:
                        wrong.append((self.certain(second, second), lost[0], second))
            if wrong or tolerated:
                yield _first("blind-replay", wrong or tolerated, excused=not wrong)

    # Bearers.

    def queue(self, one: Asked) -> object:
        """What is used by one worker at a time: a bearer, or an account."""
        if self.policy.get("key") == "account":
            return one.begin.account
        return one.begin.grant, one.begin.bearer

    def co_schedule(self) -> Iterator[Finding]:
        """At the arrival of a call of another worker, as many workers as are allowed had one open."""
        limit = self.header.get("limit", 1)
        calls = [one for one in self.asked if one.begin.f == "call" and "dead" not in one.begin.data]
        calls = [one for one in calls if one.begin.bearer not in (None, "unknown")]
        told: list[Asked] = []
        for call in calls if limit is not None else ():
            same = [one for one in calls if self.queue(one) == self.queue(call)]
            open_now = [one for one in same if one.open_at(call.begin.seq)]
            workers = {one.begin.actor for one in open_now}
            if call.begin.actor in workers or len(workers) < limit:
                continue
            if not any(self.in_one_go(same, earlier, call) for earlier in told if earlier in same):
                oldest = [next(one for one in open_now if one.begin.actor == worker) for worker in workers]
                guilty = sorted(one.begin.seq for one in (*oldest, call))
                yield Finding("co-schedule", call.begin.seq, tuple(guilty))
            told.append(call)

    def in_one_go(self, calls: list[Asked], first: Asked, last: Asked) -> bool:
        """Whether between the arrivals of two calls some call was open all the time."""
        moments = range(first.begin.seq, last.begin.seq)
        return all(any(one.begin.seq <= moment < one.closed for one in calls) for moment in moments)

    def stale_bearer(self) -> Iterator[Finding]:
        """A worker was told that a bearer is over, has had no success with it since, and presents it again in vain."""
        found: dict[tuple[object, ...], Finding] = {}
        for again in self.asked:
            mine = [one for one in self.asked if _by(one) == _by(again) and one.begin.f != "token"]
            if again.begin.f == "token" or again.outcome == "ok":
                continue
            good = [one.begin.seq for one in mine if one.outcome == "ok" and one.begin.f == "call"]
            for told in mine:
                since = [seq for seq in good if told.closed < seq < again.begin.seq]
                if _is_over(told) and told.closed < again.begin.seq and not since:
                    pair = told.begin.seq, again.begin.seq
                    found.setdefault(_by(again), Finding("stale-bearer", again.begin.seq, pair))
                    break
        yield from found.values()

    # Storms.

    def refresh_storm(self) -> Iterator[Finding]:
        """At the end of a refresh: more of them than access tokens ended, plus one; or the pair was as good as new."""
        sent = [one for several in self.presented().values() for one in several]
        if not sent or max(sum(one.begin.grant == other.begin.grant for other in sent) for one in sent) < 2:
            return
        for grant in dict.fromkeys(one.begin.grant for one in sent):
            counted = [one for one in sent if one.begin.grant == grant and self.counts(one)]
            for last in sorted(counted, key=lambda one: one.closed):
                so_far = [one for one in counted if one.closed <= last.closed]
                if len(so_far) > len(self.ended(grant, int(last.closed))) + 1:
                    yield Finding("refresh-storm", int(last.closed), tuple(sorted(one.begin.seq for one in so_far)))
                    break
                if (brought := self.needless(sent, last)) is not None:
                    yield Finding("refresh-storm", int(last.closed), (brought.begin.seq, last.begin.seq))
                    break

    def counts(self, one: Asked) -> bool:
        """Whether a refresh counts: not one that was hindered."""
        end, note = one.end, self.commit(one)
        if end is None or end.type == "ok":
            return end is not None
        if end.type == "info":
            whose = (one.begin.actor, worker_of(one.begin.actor))
            ours = [it for it in (*self.notes("kill"), *self.notes("cancel")) if it.actor in whose]
            return end.get("fault") is None and all(it.seq < one.begin.seq for it in ours)
        hindered = end.status is None or end.status >= 500 or end.status == 429 or end.get("replaced")
        if hindered or (end.get("fault") is not None and not end.get("committed")):
            return False
        if note is not None:
            return note.get("outcome") != "retry"
        return not end.get("committed")

    def issues(self, grant: str | None) -> dict[str, tuple[Event, float]]:
        """The access tokens of a grant: the event that first told of each, and when it expires."""
        found: dict[str, tuple[Event, float]] = {}
        for event in self.events:
            label = (event.issued or {}).get("access")
            if event.grant == grant and label and (event.type != "note" or event.f in ("login", "commit")):
                life = float(self.policy.get("expires_in", 28800))
                until = event.get("expires") if event.type == "note" else None
                found.setdefault(label, (event, event.t + life if until is None else until))
        return found

    def ended(self, grant: str | None, at: int) -> set[str]:
        """The access tokens of a grant that had ended by the event ``at``."""
        before = [event for event in self.events if event.seq <= at]
        known = any(event.grant == grant for event in self.notes("login"))
        over = set() if known else {"at#1"}
        for event in before:
            if event.type == "note" and event.grant == grant:
                over |= {label for label in event.get("ended") or event.get("revoked") or () if label[:3] == "at#"}
        for label, (issued, until) in self.issues(grant).items():
            if any(event.t >= until for event in before if event.seq >= issued.seq):
                over.add(label)
        for one in self.asked:
            if one.end is not None and one.end.status == 401 and one.closed <= at and one.begin.f != "token":
                over |= (
                    {str(one.begin.bearer)}
                    if one.grant == grant and one.begin.bearer not in (None, "unknown")
                    else set()
                )
        return over

    def passed(self, first: Event, last: Event) -> float:
        """The seconds between two events, without those by which the clock was put back."""
        times = [event.t for event in self.events if first.seq <= event.seq <= last.seq]
        return sum(max(0.0, after - before) for before, after in pairwise(times))

    def needless(self, sent: list[Asked], last: Asked) -> Asked | None:
        """The refresh that brought what ``last`` refreshes although it was as good as new."""
        at, grant = last.begin.seq, last.begin.grant
        brought = [
            one
            for one in sent
            if one.outcome == "ok"
            and one.closed < at
            and one.begin.grant == grant
            and one.end
            and (one.end.issued or {}).get("access")
            and (one.end.issued or {}).get("refresh") == last.begin.refresh != one.begin.refresh
        ]
        ours = [note.seq for note in (*self.notes("kill"), *self.notes("cancel"))]
        brought = [one for one in brought if not any(one.closed < seq < at for seq in ours)]
        if not brought:
            return None
        first = min(brought, key=lambda one: one.closed)
        assert first.end is not None
        access = str((first.end.issued or {})["access"])
        before = [event for event in self.events if event.seq < at]
        forbidden = any(
            one.end and one.end.status == 403 and one.closed < at and (one.grant, one.begin.bearer) == (grant, access)
            for one in self.asked
            if one.begin.f != "token"
        )
        superseded = any(access in (event.get("superseded") or ()) for event in before if event.grant == grant)
        issued, until = self.issues(grant)[access]
        young = self.passed(issued, last.begin) < (until - issued.t) / 2
        good = not forbidden and not superseded and access not in self.ended(grant, at)
        return first if good and young else None

    # Logins.

    def missing_bearer(self) -> Iterator[Finding]:
        """A call with no credential at all, while a login was live and in use before any had its answer."""
        bare = [one for one in self.asked if one.begin.f == "call" and one.begin.get("credentials") is False]
        blamed: set[str] = set()
        told = min((one.closed for one in bare if one.end), default=math.inf)
        for one in bare:
            live = [grant for grant in self.grants() if self.is_used(grant, told) and self.is_live(grant, one.begin)]
            if live and one.begin.actor not in blamed and (self.header.get("service") or "claude") == "claude":
                blamed.add(one.begin.actor)
                yield Finding("missing-bearer", one.begin.seq, (), None)

    def grants(self) -> list[str]:
        return list(dict.fromkeys(event.grant for event in self.events if event.grant is not None))

    def is_used(self, grant: str, told: float) -> bool:
        return any(one.begin.grant == grant and one.begin.seq < told for one in self.asked)

    def is_live(self, grant: str, at: Event) -> bool:
        """Whether a token had reached a worker that would still be good for something, or was about to."""
        before = [event for event in self.events if event.seq < at.seq and event.grant == grant]
        told = [event for event in before if event.type == "ok" or (event.f == "login" and event.op is None)]
        known = {label for event in told for label in (event.issued or {}).values() if label}
        accepts = [event.get("accepts") for event in before if event.type == "note"]
        accepted: list[str] = next((some for some in reversed(accepts) if some is not None), [])
        over = {label for event in before for how in _ENDS if event.type == "note" for label in event.get(how) or ()}
        expires: dict[str, float] = {}
        for event in before:
            label = (event.issued or {}).get("access")
            if event.type == "note" and label:
                expires.setdefault(label, event.get("expires", math.inf))
        good = [
            label
            for label in known
            if label in accepted or (expires.get(label, -math.inf) > at.t and label not in over)
        ]
        asking = [one for one in self.asked if one.begin.f == "token" and one.begin.grant == grant]
        return bool(good or (accepted and any(one.open_at(at.seq) for one in asking)))

    # Stores, and the end.

    def at_the_end(self) -> Iterator[Finding]:
        """What each grant has by the note ``end``."""
        for end in self.notes("end")[:1]:
            grants = end.get("grants")
            for name, facts in grants.items():
                if facts.get("setup_token"):
                    continue
                looks = [self.last_look(store) for store in facts["stores"]]
                kept = any(look and _accepted(look, grants) for look in looks)
                seen = [look for look in looks if look]
                if facts["death"] is None and facts["accepts"] and seen and not kept:
                    yield Finding("lost-rotation", end.seq, (), None)
                usable = kept if seen else any(self.reached(name, token) for token in facts["accepts"])
                if facts["death"] == "reuse" or (facts["death"] is None and not usable):
                    yield Finding("forced-login", end.seq, (), None)

    def last_look(self, store: str) -> Event | None:
        looks = [note for note in self.notes("store") if note.get("store") == store]
        return looks[-1] if looks else None

    def reached(self, grant: str, token: str) -> bool:
        """Whether a refresh token came out of the service."""
        notes = [note for note in self.notes("login") if note.grant == grant]
        if any((note.issued or {}).get("refresh") == token for note in notes) or (grant, token) in self.presented():
            return True
        if any((note.grant, note.refresh) == (grant, token) for note in self.notes("store")):
            return True
        brought = {
            note.op
            for note in self.notes("commit")
            if note.grant == grant and (note.issued or {}).get("refresh") == token
        }
        told = [one for one in self.asked if one.outcome == "ok" and one.end]
        return any(
            one.begin.op in brought
            or (one.grant == grant and one.end and (one.end.issued or {}).get("refresh") == token)
            for one in told
        )

    def store_regression(self) -> Iterator[Finding]:
        """A store that had a token which is accepted, and now has one which is not, or a blank one."""
        for store in dict.fromkeys(note.get("store") for note in self.notes("store")):
            worse = [
                note.seq
                for note in self.notes("store")
                if note.get("store") == store
                and note.account not in self.setup_accounts()
                and note.get("previous_accepted")
                and (note.get("state") == "blank" or (note.get("state") == "token" and not note.get("accepted")))
            ]
            if worse:
                excused = [any(self.is_first_look(ours, seq) for ours in self.interventions()) for seq in worse]
                first = excused.index(False) if False in excused else 0
                yield Finding("store-regression", worse[first], (), excused[first])

    def setup_accounts(self) -> set[str | None]:
        """The accounts whose logins are all setup-tokens."""
        logins = self.notes("login")
        return {one.account for one in logins} - {one.account for one in logins if not one.get("setup_token")}

    def interventions(self) -> list[Event]:
        return [*self.notes("kill"), *self.notes("cancel")]

    def is_first_look(self, ours: Event, seq: int) -> bool:
        """Whether at most one request of others has ended between an intervention and a look at a store."""
        between = [one for one in self.asked if ours.seq < one.closed < seq]
        others = [one for one in between if ours.actor not in (one.begin.actor, worker_of(one.begin.actor))]
        return ours.seq <= seq and len(others) <= 1

    def noted(self) -> Iterator[Finding]:
        """What is a violation by being noted."""
        for f, invariant in (("deadlock", "starvation"), ("starved", "starvation")):
            for note in self.notes(f):
                yield Finding(invariant, note.seq, ())
        places = {(note.grant, note.get("token"), note.get("where")) for note in self.notes("leak")}
        for place in places:
            seqs = [n.seq for n in self.notes("leak") if (n.grant, n.get("token"), n.get("where")) == place]
            yield Finding("token-leak", seqs[0], ())


_ENDS = ("ended", "revoked", "superseded")


def _is_end(event: Event) -> bool:
    return event.type in ("ok", "fail", "info")


def _by(one: Asked) -> tuple[object, ...]:
    return one.begin.actor, one.grant, one.begin.bearer


def _is_over(one: Asked) -> bool:
    """Whether a request was refused because its bearer has ended."""
    end = one.end
    if end is None or end.type != "fail":
        return False
    if end.status == 401:
        return end.get("reason") in ("expired", "revoked")
    return end.status == 403 and end.get("reason") == "revoked"


def _first(invariant: str, pairs: list[tuple[int, Asked, Asked]], *, excused: bool) -> Finding:
    seq, first, second = min(pairs, key=lambda pair: pair[0])
    return Finding(invariant, seq, (first.begin.seq, second.begin.seq), excused)


def _accepted(look: Event, grants: dict[str, dict[str, object]]) -> bool:
    if look.get("state") != "token" or not look.get("accepted"):
        return False
    accepts = grants.get(str(look.grant), {}).get("accepts")
    return bool(look.get("final")) or (isinstance(accepts, list) and look.refresh in accepts)
