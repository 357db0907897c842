"""Modules of the standard library as they were when this package met them: ``from fake_server.genuine import os``.

A test may replace ``asyncio.sleep``, ``time.sleep``, ``os.urandom`` or any other name for as long as it runs, to make
its own code quick or predictable. That is meant for its own code. The service and the search look such names up here,
where nothing is replaced: with ``asyncio.sleep`` patched away, a search that used it would no longer switch, find
nothing, and say so. What is found here is a copy of a module's names, made at its first use; freezegun doesn't see it.
"""

from __future__ import annotations

import importlib
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    import json
    import os
    import random
    import socket
    import threading
    import time
    import uuid

__all__ = ["MODULES", "asyncio", "json", "os", "random", "socket", "threading", "time", "uuid"]

MODULES = ("asyncio", "json", "os", "random", "socket", "threading", "time", "uuid")


def __getattr__(name: str) -> Any:
    if name not in MODULES:
        raise AttributeError(name)
    module = importlib.import_module(name)
    found = dict(vars(module))
    if name == "os":
        found["path"] = SimpleNamespace(**vars(module.path))
    # A package gives out names of its own modules, where hardly anybody replaces them: asyncio may have been imported,
    # and patched, before this module was.
    inner = [one for key, one in list(sys.modules.items()) if key.startswith(f"{name}.")]
    found |= {key: getattr(one, key) for one in inner for key in getattr(one, "__all__", ()) if key in found}
    made = globals()[name] = SimpleNamespace(**found)
    return made
