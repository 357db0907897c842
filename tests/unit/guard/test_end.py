"""The end of an interpreter in which there was a guard: an audit hook can't be removed."""

from __future__ import annotations

import subprocess
import sys

LATE = """
import abc, codecs, encodings, io, os
from pytest_claude_tokens import ClaudeTokens

with ClaudeTokens():
    pass

class Late:
    def __init__(self): self.open = open
    def __del__(self): self.open("/dev/null").close()

for module in (abc, codecs, encodings, io, os):
    module.late = Late()
"""


def test_the_end_of_an_interpreter_is_quiet():
    """It empties our modules while others still open and close files, of which the audit hook is told."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", LATE], capture_output=True, text=True, check=True)
    assert done.stderr == ""
