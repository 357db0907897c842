"""The timeline: a history as one HTML file that draws it, with nothing to fetch and nothing to install.

``facts`` makes a value of a history, ``states`` says what each event changes, ``leases`` who held what, and ``page``
puts the value into the files ``page.html``, ``page.css`` and ``page.js``. The same history gives the same bytes.
"""

from __future__ import annotations

from pytest_claude_tokens.report.timeline.page import TIMELINE, embedded, timeline

__all__ = ["TIMELINE", "embedded", "timeline"]
