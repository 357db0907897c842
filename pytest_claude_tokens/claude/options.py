"""The command line, as the CLI understands it: which options there are, and which of them take arguments."""

from __future__ import annotations

__all__ = ["HELP", "Options", "UsageError", "parse"]

HELP = """\
Usage: claude [options] [command] [prompt]

A stand-in for the Claude Code CLI, for tests: it talks to loopback addresses only.

Options:
  -p, --print                print the answer and exit
  --output-format FORMAT     text, json or stream-json
  --input-format FORMAT      text or stream-json
  --model MODEL              model to name in the request
  --session-id UUID          session id to send
  --settings FILE-OR-JSON    further settings (apiKeyHelper)
  --bare                     use no OAuth login
  -v, --version              print the version
  -h, --help                 print this text
Options of the real CLI that change no token traffic are accepted, and do nothing.

Commands:
  setup-token                make a token that is valid for a year
  auth login|status|logout   manage the login
"""

_MISSING = ("agents", "config", "doctor", "install", "mcp", "migrate-installer", "plugin", "update")

# How many arguments: 0, 1, "?" one that may be missing, "*" all up to the next option.
_ARITY: dict[str, int | str] = {
    **dict.fromkeys(
        (
            "--bare",
            "--continue",
            "--dangerously-skip-permissions",
            "--allow-dangerously-skip-permissions",
            "--disable-slash-commands",
            "--fork-session",
            "--help",
            "--ide",
            "--include-hook-events",
            "--include-partial-messages",
            "--mcp-debug",
            "--no-chrome",
            "--no-session-persistence",
            "--print",
            "--replay-user-messages",
            "--strict-mcp-config",
            "--verbose",
            "--version",
        ),
        0,
    ),
    **dict.fromkeys(
        (
            "--agent",
            "--agents",
            "--append-system-prompt",
            "--debug-file",
            "--effort",
            "--fallback-model",
            "--input-format",
            "--json-schema",
            "--max-budget-usd",
            "--max-turns",
            "--model",
            "--name",
            "--output-format",
            "--permission-mode",
            "--permission-prompt-tool",
            "--plugin-dir",
            "--session-id",
            "--setting-sources",
            "--settings",
            "--system-prompt",
            "--system-prompt-file",
            "--append-system-prompt-file",
        ),
        1,
    ),
    **dict.fromkeys(("--debug", "--resume"), "?"),
    **dict.fromkeys(
        (
            "--add-dir",
            "--allowed-tools",
            "--allowedTools",
            "--betas",
            "--disallowed-tools",
            "--disallowedTools",
            "--file",
            "--mcp-config",
            "--tools",
        ),
        "*",
    ),
}
_ARITY_AFTER: dict[tuple[str, ...], dict[str, int | str]] = {
    ("auth", "login"): {"--console": 0, "--email": 1, "--sso": 0},
    ("auth", "status"): {"--json": 0, "--text": 0},
}
_SHORT = {"-p": "--print", "-v": "--version", "-h": "--help", "-c": "--continue", "-r": "--resume", "-d": "--debug"}
_CHOICES = {"--output-format": ("text", "json", "stream-json"), "--input-format": ("text", "stream-json")}


class UsageError(Exception):
    """The command line cannot be understood; the text is the CLI's."""


class Options:
    """The parsed command line. ``words``: the arguments that are not options, a command or the prompt."""

    def __init__(self) -> None:
        self.flags: dict[str, str] = {}
        self.words: list[str] = []

    def __contains__(self, name: str) -> bool:
        return name in self.flags

    def get(self, name: str, default: str | None = None) -> str | None:
        """The argument of the option ``name``."""
        return self.flags.get(name, default)

    @property
    def missing(self) -> str | None:
        """The command, if it is one of the real CLI's that this one lacks. With ``--print`` the word is a prompt."""
        command = self.words[0] if self.words else None
        return command if command in _MISSING and "--print" not in self else None


def parse(arguments: list[str]) -> Options:
    """Read the command line. Raises :class:`UsageError`."""
    options = Options()
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "--":
            options.words += rest
            break
        if not word.startswith("-") or word == "-":
            options.words.append(word)
            continue
        name, equals, value = word.partition("=")
        name = _SHORT.get(name, name)
        arity = _ARITY_AFTER.get(tuple(options.words), {}).get(name, _ARITY.get(name))
        if arity is None:
            if options.missing is None:
                raise UsageError(f"error: unknown option '{word}'")
            options.words.append(word)  # it may be an option of that command, which is refused as a whole
            continue
        options.flags[name] = value if equals else _argument(name, arity, rest)
        if name in _CHOICES and options.flags[name] not in _CHOICES[name]:
            allowed = ", ".join(_CHOICES[name])
            raise UsageError(
                f"error: option '{name} <format>' argument '{options.flags[name]}' is invalid. "
                f"Allowed choices are {allowed}."
            )
    return options


def _argument(name: str, arity: int | str, rest: list[str]) -> str:
    if arity == 1:
        if not rest:
            raise UsageError(f"error: option '{name} <value>' argument missing")
        return rest.pop(0)
    value = ""
    while arity != 0 and rest and not rest[0].startswith("-"):
        value = f"{value} {rest.pop(0)}".strip()
        if arity == "?":
            break
    return value
