"""The command line: ``claude-tokens`` and its commands, each loaded when it is called.

It parses arguments and prints; no other package may import it, and it knows nothing of pytest.
"""

from __future__ import annotations
