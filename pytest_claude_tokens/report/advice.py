"""The sentences of a story that depend on the invariant or on the cause alone: its rule, and what there is to do."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["MEND", "MEND_CAUSE", "ONE_LOCK", "RULES", "TO_DO", "what_to_mend"]

RULES: Mapping[str, str] = {
    "double-spend": "a refresh token is not sent again while its first request is open, or after that one succeeded"
    " (RFC 9700 s4.14.2)",
    "blind-replay": "after a token request whose outcome is unknown, its refresh token is not sent again",
    "co-schedule": "no more workers than its limit ({limit}) have a call open on one bearer",
    "lost-rotation": "at the end, each live grant has in one of its stores a refresh token that the service accepts",
    "forced-login": "no grant ends without a live refresh token that reached a worker and, if it has stores, is in one",
    "stale-bearer": "no worker presents a bearer again after it was told that it is expired or revoked",
    "refresh-storm": "per grant: no more refresh requests than access tokens that ended, plus one; and no new pair is"
    " refreshed again while its access token is live, was not refused, and is in the first half of its life",
    "missing-bearer": "no call carries neither bearer nor API key while its worker's dispatcher has a live login",
    "starvation": "every job ends, and no worker waits for ever",
    "store-regression": "a store never goes from a refresh token that the service accepts to one that it doesn't",
    "token-leak": "no live token in arguments, logs, or files that others may read",
}
"""The rule of each invariant, in one sentence."""

TO_DO: Mapping[str, str] = {
    "co-schedule": "nobody has to log in; where a service serves one call per token at a time, the second one waits",
    "forced-login": "a person has to log in again",
    "lost-rotation": "a person has to log in again",
    "stale-bearer": "nobody has to log in; the work of the refused call is not done",
    "refresh-storm": "nobody has to log in; each needless refresh is one more chance to lose the login",
    "missing-bearer": "nobody has to log in; the call can't succeed, and has to be made again",
    "starvation": "the workers have to be stopped by hand; what they had begun is not done",
    "store-regression": "whoever reads the store next has no login that works: unless a worker puts it right, a person"
    " has to log in again",
    "token-leak": "revoke the login and log in again: whoever can read there can use the token",
}
"""What there is to do for the person at the keyboard, where the history does not say more."""

ONE_LOCK = "put both lines, and all that may change what they touch, under one lock of all workers"
MEND: Mapping[str, str] = {
    "double-spend": "refresh under one lock of all workers: there, read the login, look whether it is new already, else"
    " refresh and store it",
    "blind-replay": "don't send it again by yourself: find out with what the service still accepts, or ask a person",
    "co-schedule": "give each bearer to one worker at a time, and take it back when the body of the reply was read",
    "lost-rotation": "store the new login before anything else can go wrong",
    "forced-login": "let each refresh that was begun come to its end, one at a time, and store what it brings, even if"
    " nobody waits for it any more",
    "stale-bearer": "after a 401 read the login again, and send what is in it now",
    "refresh-storm": "look again under the lock: the login may be new already",
    "missing-bearer": "wait for the refresh that is under way, as long as there is a login",
    "starvation": "take locks in one order, give each back whatever happens, and don't wait for what may never come",
    "store-regression": "read and write the store under one lock, and write nothing that is older than what is in it",
    "token-leak": "keep tokens out of arguments and logs, and their files at mode 0600",
}
"""What there is to do in the code, by invariant, where :data:`MEND_CAUSE` has nothing that fits better."""

MEND_CAUSE: Mapping[str, str] = {
    "reply dropped": "let each refresh that was begun come to its end and store what it brings, even if nobody waits"
    " for it any more (a task of its own, `asyncio.shield`)",
    "a copy in two processes (a fork, or a second start)": "let one process refresh; or read, refresh and store under"
    " one lock of all processes, from one file",
    "a stale copy": "read the login from where the new one was stored, and keep no copy beside it",
    "a retry of the transport's": "switch the client's own retries off for token requests",
    "a retry of a library's": "switch the library's retries off for token requests",
    "a fresh lease was taken for a stale one": "judge a lease and remove it in one step (move it away, look at what was"
    " moved, put a fresh one back), so that nobody removes one that was made since",
    "lease expired while held": "renew the lease while its holder is at work, or let it last longer than the slowest"
    " refresh, with its time-outs and retries; who waits for it then looks whether the login is new already",
    "gave up waiting": "who doesn't get the lock must not refresh: wait longer, or fail and say so",
    "different leases": "one lock for each login, the same for all: not one for each instance, pool, process or name",
    "twice under one lock": "a lock keeps other workers out, not the tasks and threads that its holder starts: let each"
    " of them take it, or one of them refresh",
    "a lock for several": "a lock that one worker alone can hold, as a semaphore of one",
    "released before the body ended": "keep the lock until the whole reply was read",
    "read before acquire": "read the login again when the lock is yours: what was read before may be spent",
    "released before the store was written": "store the new login before you let the lock go",
    "read before acquire, or released before it was kept": "read the login when the lock is yours, and store the new"
    " one before you let it go",
    "no lease on one side": "whoever refreshes takes the same lock, also at the start, after a 401, in the background",
    "refreshed for an old refusal": "after a 401 look whether the bearer that was refused is still the login's: if it"
    " is not, send the new one",
    "overwritten": "read and write the store under one lock, and write nothing that is older than what is in it",
}
"""What there is to do in the code, by cause: the words before the colon of what :mod:`~.report.causes` says."""


def what_to_mend(invariant: str, cause: str) -> str:
    """What there is to do in the code about a violation, whose cause was told in these words; maybe ``""``."""
    return MEND_CAUSE.get(cause.partition(": ")[0], MEND.get(invariant, ""))
