"""The workarounds as tests: ``pytest --pyargs pytest_claude_tokens.workarounds``, with ``-p MODULE`` also your own.

Those built in that are known to break are expected failures. The others, and all that a plugin adds, must hold.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import settings

from pytest_claude_tokens.layouts import LAYOUTS
from pytest_claude_tokens.violations import Violation
from pytest_claude_tokens.workarounds.catalogue import BREAKS, all_workarounds
from pytest_claude_tokens.workarounds.explored import as_test
from pytest_claude_tokens.workarounds.processes import process_test
from pytest_claude_tokens.workarounds.registry import Workaround

_SCHEDULES = 60
_RUNS_OF_PROCESSES = 2


def _test_of(one: Workaround) -> Callable[..., None]:
    if one.layout is None:
        test = settings(max_examples=_SCHEDULES, database=None)(as_test(one.dispatcher))
    else:
        obstacle = LAYOUTS[one.layout].obstacle
        test = settings(max_examples=_RUNS_OF_PROCESSES, database=None)(process_test(one))
        test = pytest.mark.skipif(obstacle is not None, reason=str(obstacle))(test)
    if one.name not in BREAKS:
        return test
    # Two runs of processes need not meet: what they break is certain, that they break it is not.
    mark = pytest.mark.xfail(raises=Violation, strict=one.layout is None, reason=BREAKS[one.name])
    expected: Callable[..., None] = mark(test)
    return expected


globals().update({f"test_{one.name.replace('-', '_')}": _test_of(one) for one in all_workarounds()})
