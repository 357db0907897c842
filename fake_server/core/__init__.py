"""The sans-IO core: grants and tokens, the queues of bearers, planned faults and holds, and the journal.

It never waits, sends or locks, and knows nothing of HTTP: the time is passed in, and the server holds the lock.
"""

from __future__ import annotations
