"""HTTP messages of the service, as values: parses requests into intents, and builds replies.

It decides nothing and keeps no state: whether a token is accepted is the core's decision.
"""

from __future__ import annotations
