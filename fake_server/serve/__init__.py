"""The service as a process: its command line, its admin endpoints, its shutdown.

It does not judge: it finds a judge through an entry point, and knows no package that provides one.
"""

from __future__ import annotations
