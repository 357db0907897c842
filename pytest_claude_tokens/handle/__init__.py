"""``ClaudeTokens``: one fake service with its accounts, stores, endpoints, child processes and verdict.

It knows neither pytest nor the search: both set it up through a ``Runtime``.
"""

from __future__ import annotations
