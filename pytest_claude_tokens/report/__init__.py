"""Renders findings for people: the story of a violation, the verdict, and a failed test's section and folder.

It formats what it is given, and knows neither pytest nor a running service.
"""

from __future__ import annotations
