"""Builds the environment of a process that must reach the fake service and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from fake_server.around import around
from fake_server.genuine import os
from fake_server.hosts import hosts_of
from pytest_claude_tokens import node
from pytest_claude_tokens.guard.hosts import MARKER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["build", "environ"]

_PROXY_VARIABLES = (
    *("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"),
    *("ftp_proxy", "FTP_PROXY", "ws_proxy", "WS_PROXY", "wss_proxy", "WSS_PROXY", "grpc_proxy", "GRPC_PROXY"),
    *("npm_config_proxy", "npm_config_https_proxy", "GLOBAL_AGENT_HTTP_PROXY", "GLOBAL_AGENT_HTTPS_PROXY"),
)
"""What programs read to find their proxy, plain ``http://`` included: curl and wget read ``http_proxy`` in small
letters only, and others the capitals only. Without a proxy's name they would go out directly.
"""
_NO_PROXY_VARIABLES = ("no_proxy", "NO_PROXY", "npm_config_noproxy", "GLOBAL_AGENT_NO_PROXY")
_NO_PROXY = "127.0.0.1,localhost,::1"
_DROPPED = frozenset(("CURL_HOME", "WGETRC", "npm_config_noproxy", "NO_GRPC_PROXY", "no_grpc_proxy"))
"""Names of files and lists by which a program may be told to use no proxy."""
_CA_VARIABLES = ("NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_PYTEST = "PYTEST_CURRENT_TEST"


def build(
    base: Mapping[str, str],
    *,
    handle: str,
    home: str,
    url: str,
    proxy: str | None,
    ca_file: str | None = None,
    worker: str | None = None,
    token: str | None = None,
    config_dir: str | None = None,
    hosts: tuple[str, ...] = (),
) -> dict[str, str]:
    """A full environment: ``base`` without the variables that lead to the real service, plus those for the fake one.

    ``worker`` is sent as a path prefix of the base URL and as the proxy's user name. Without a proxy there is no TLS:
    the plain server stands in for it, and refuses whatever it is asked for as a proxy; the fake ``claude`` gets a
    plain-http address of the token endpoint. Node programs read no proxy variables, and get the preload; ``hosts``
    are answered and guarded there beside the known ones.
    """
    base_url = url if worker is None else f"{url}/w/{quote(worker, safe='')}"
    made = {name: value for name, value in base.items() if not _dropped(name)}
    config = os.path.join(home, ".config")
    made |= {
        MARKER: handle,
        "HOME": home,
        "XDG_CONFIG_HOME": config,
        "XDG_CACHE_HOME": os.path.join(home, ".cache"),
        "XDG_DATA_HOME": os.path.join(home, ".local", "share"),
        "XDG_STATE_HOME": os.path.join(home, ".local", "state"),
        "ANTHROPIC_CONFIG_DIR": os.path.join(config, "anthropic"),
        "ANTHROPIC_BASE_URL": base_url,
        **dict.fromkeys(_PROXY_VARIABLES, (proxy or url) if worker is None else _as_user(proxy or url, worker)),
        **dict.fromkeys(_NO_PROXY_VARIABLES, _NO_PROXY),
    }
    if hosts:
        made["CLAUDE_TOKENS_HOSTS"] = ",".join(hosts_of(hosts).beyond)
    made["NODE_OPTIONS"] = node.node_options(made.get("NODE_OPTIONS", ""))
    if proxy is None:
        made["CLAUDE_TOKENS_TOKEN_URL"] = f"{base_url}/v1/oauth/token"
    if ca_file is not None:
        made.update(dict.fromkeys(_CA_VARIABLES, ca_file))
    if config_dir is not None:
        made["CLAUDE_CONFIG_DIR"] = config_dir
    elif token is not None:
        made["CLAUDE_CODE_OAUTH_TOKEN"] = token
    return made


def _dropped(name: str) -> bool:
    if name.startswith(("ANTHROPIC_", "CLAUDE_")):
        return not name.startswith("CLAUDE_TOKENS_")
    return name in _DROPPED or name.lower().endswith("_proxy")


def _as_user(url: str, worker: str) -> str:
    """The proxy's URL with the worker as its user. The password is a dummy: requests sends no user name without one."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"{quote(worker, safe='')}:x@{parts.netloc}").geturl()


@around
def environ(wanted: Mapping[str, str]) -> Iterator[None]:
    """In the block, ``os.environ`` is ``wanted``; afterwards it is exactly as before."""
    before = dict(os.environ)
    _become(wanted)
    try:
        yield
    finally:
        _become(before)


def _become(wanted: Mapping[str, str]) -> None:
    """Change only the variables that differ: clearing all first would leave other threads without PATH for a moment."""
    for name in set(os.environ) - set(wanted) - {_PYTEST}:
        del os.environ[name]
    for name, value in wanted.items():
        if name != _PYTEST and os.environ.get(name) != value:
            os.environ[name] = value
