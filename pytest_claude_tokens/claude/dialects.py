"""The differences between releases of the CLI, as values."""

from __future__ import annotations

__all__ = ["CLIENT_ID", "DEFAULT", "DIALECTS", "LOGIN_SCOPE", "SETUP_SCOPE", "Dialect"]

CLIENT_ID = "9d1c250a-e61b-44d9-88ed-5944d1962f5e"
"""The public client id; ``CLAUDE_CODE_OAUTH_CLIENT_ID`` replaces it."""

LOGIN_SCOPE = (
    "org:create_api_key user:profile user:inference user:sessions:claude_code user:mcp_servers user:file_upload"
)
SETUP_SCOPE = "user:inference"

_REFRESH_SCOPE = "user:profile user:inference user:sessions:claude_code user:mcp_servers user:file_upload"


class Dialect:
    """One release.

    ``startup_refreshes``: how often it tries a due refresh before the first call's own attempt. ``inner_lock``: it
    takes ``DIR/.oauth_refresh.lock`` before ``DIR.lock``, writes its process id beside it, stores by compare-and-swap
    and checks three times whether its lease was lost. ``scrub``: which tokens a loser blanks in the store, ``none``,
    ``refresh`` or ``all``. ``finishes``: on SIGTERM it first waits for the answer to a token request, and saves it.
    """

    def __init__(
        self,
        *,
        version: str,
        token_host: str,
        scope: str | None,
        axios: str,
        stainless: str,
        runtime: str,
        betas: str,
        token_timeout: float,
        startup_refreshes: int,
        inner_lock: bool,
        scrub: str,
        finishes: bool,
        entry: str = "sdk-cli",
    ) -> None:
        self.version = version
        self.token_host = token_host
        self.scope = scope
        self.axios = f"axios/{axios}"
        self.user_agent = f"claude-cli/{version} (external, {entry})"
        self.stainless = stainless
        self.runtime = runtime
        self.betas = betas
        self.token_timeout = token_timeout
        self.startup_refreshes = startup_refreshes
        self.inner_lock = inner_lock
        self.scrub = scrub
        self.finishes = finishes
        self.first = version.startswith("1.")
        """Whether it is 1.0: in-place writes, no session id, a quota probe at the start, no memory of dead tokens."""
        self.newest = inner_lock
        """Whether it is 2.1.330, whose texts and retries differ from those of 2.1.123."""


_COMMON_BETAS = "claude-code-20250219,oauth-2025-04-20,interleaved-thinking-2025-05-14"

DEFAULT = "2.1.123"
DIALECTS = {
    "1.0": Dialect(
        version="1.0.100",
        token_host="console.anthropic.com",
        scope=None,
        axios="1.8.4",
        stainless="0.60.0",
        runtime="v20.19.4",
        betas=_COMMON_BETAS,
        token_timeout=15.0,
        startup_refreshes=0,
        inner_lock=False,
        scrub="none",
        finishes=False,
        entry="cli",
    ),
    "2.1.123": Dialect(
        version="2.1.123",
        token_host="platform.claude.com",
        scope=_REFRESH_SCOPE,
        axios="1.13.6",
        stainless="0.81.0",
        runtime="v24.3.0",
        betas=f"{_COMMON_BETAS},context-management-2025-06-27,prompt-caching-scope-2026-01-05,effort-2025-11-24",
        token_timeout=15.0,
        startup_refreshes=1,
        inner_lock=False,
        scrub="refresh",
        finishes=False,
    ),
    "2.1.330": Dialect(
        version="2.1.330",
        token_host="platform.claude.com",
        scope=f"{_REFRESH_SCOPE} user:plugins",
        axios="1.15.2",
        stainless="0.128.0",
        runtime="v26.12.1",
        betas=(
            f"{_COMMON_BETAS},context-management-2025-06-27,per-turn-control-2026-07-01,"
            "mid-conversation-tool-changes-2026-07-01,thinking-token-count-2026-05-13,advanced-tool-use-2025-11-20,"
            "effort-2025-11-24,extended-cache-ttl-2025-04-11"
        ),
        token_timeout=30.0,
        startup_refreshes=2,
        inner_lock=True,
        scrub="all",
        finishes=True,
    ),
}
