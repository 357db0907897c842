"""Coroutines as tests: judged in their call phase, whoever runs them."""

from __future__ import annotations

import pytest

ASYNC = """
import asyncio, httpx, pytest
pytestmark = {mark}

async def refresh(tokens, worker, secret):
    body = {{"grant_type": "refresh_token", "refresh_token": secret, "client_id": "c"}}
    with tokens.worker(worker):
        async with httpx.AsyncClient(verify=False) as client:
            return await client.post("https://platform.claude.com/v1/oauth/token", json=body)

async def test_sound(claude_tokens):
    await refresh(claude_tokens, "w0", claude_tokens.account(expired=True).refresh_token)

async def test_passing(claude_tokens):
    secret = claude_tokens.account(expired=True).refresh_token
    with claude_tokens.hold("token"):
        await asyncio.gather(*(refresh(claude_tokens, w, secret) for w in ("w0", "w1")))

async def test_failing(claude_tokens):
    secret = claude_tokens.account(expired=True).refresh_token
    for worker in ("w0", "w1"):
        (await refresh(claude_tokens, worker, secret)).raise_for_status()
"""


ASYNCIO = ("-o", "asyncio_default_fixture_loop_scope=function", "-o")


@pytest.mark.parametrize(
    ("mark", "arguments"),
    [
        ("pytest.mark.asyncio", ["-p", "no:anyio", *ASYNCIO, "asyncio_mode=strict"]),
        ("[]", ["-p", "no:anyio", *ASYNCIO, "asyncio_mode=auto"]),
        ("pytest.mark.anyio", ["-p", "no:asyncio"]),
        ("pytest.mark.anyio", [*ASYNCIO, "asyncio_mode=strict"]),
    ],
    ids=["asyncio-strict", "asyncio-auto", "anyio", "both"],
)
def test_an_async_test_is_judged_in_its_call_phase(pytester, monkeypatch, mark, arguments):
    """Under pytest-asyncio in both modes, and anyio on asyncio."""
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:cacheprovider")
    pytester.makepyfile(test_async=ASYNC.format(mark=mark))
    pytester.makeconftest(
        """
        import pytest

        @pytest.fixture
        def anyio_backend():
            return "asyncio"
        """
    )
    result = pytester.runpytest("-rA", *arguments)

    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(
        [
            "PASSED test_async.py::test_sound*",
            "FAILED test_async.py::test_passing* - claude_tokens.DoubleSpend: rt#1 by w0 (#*) and w1 (#*)",
            "FAILED test_async.py::test_failing* - claude_tokens.DoubleSpend: rt#1 by w0 (#*) and w1 (#*)",
        ]
    )
