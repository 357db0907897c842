"""The answers of a service that speaks the standards. All its changes of state are made here, under the server's lock.

A request comes read (:mod:`fake_server.protocol.asking`); ``answer`` decides what it gets.
"""

from __future__ import annotations

from fake_server.oauth.answering import Turn, answer

__all__ = ["Turn", "answer"]
