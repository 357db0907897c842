"""HTTP messages of the service, as values: what a request asks for, and what a reply says."""

from __future__ import annotations
