"""``claude -p``: where the prompt comes from, and the three shapes of the answer."""

from __future__ import annotations

import json

from pytest_claude_tokens.claude.api_key_helper import find_helper, read_settings
from pytest_claude_tokens.claude.messages import MODEL, Caller, Failure
from pytest_claude_tokens.claude.process import uuid4
from pytest_claude_tokens.claude.store import config_dir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pytest_claude_tokens.claude.client import Client
    from pytest_claude_tokens.claude.options import Options
    from pytest_claude_tokens.claude.sse import Message

__all__ = ["run"]

_STDIN_TIMEOUT_SECONDS = 3.0
_STDIN_WARNING = (
    "Warning: no stdin data received in 3s, proceeding without it. If a slow command is to be piped in, wait for it; "
    "else redirect stdin: < /dev/null"
)
_NO_PROMPT = "Error: Input must be provided either through stdin or as a prompt argument when using --print"


def run(client: Client, options: Options) -> int:
    """Ask, print, and return the exit status. The text of a failed call goes to standard output, as in the real CLI."""
    settings = read_settings(config_dir(client.machine.environ), options.get("--settings"))
    helper = find_helper(settings, client.machine, client.dialect)
    caller = Caller(
        client.machine,
        client.dialect,
        client.endpoints,
        client.refresher,
        client.telemetry,
        helper=helper,
        bare="--bare" in options,
    )
    try:
        if options.get("--input-format") == "stream-json":
            prompts = _prompts(client)
        else:
            prompt = _prompt(client, " ".join(options.words))
            if not prompt:
                client.complain(_NO_PROMPT)
                return 1
            prompts = iter([prompt])
        conversation = _Conversation(client, caller, options)
        status = 0
        for prompt in prompts:
            status = conversation.turn(prompt)
        return status
    finally:
        if helper is not None:
            helper.close()


class _Conversation:
    """The turns so far, all of which are sent with each prompt, and the format in which answers are printed."""

    def __init__(self, client: Client, caller: Caller, options: Options) -> None:
        self._client = client
        self._caller = caller
        self._format = options.get("--output-format", "text")
        self._model = options.get("--model") or client.machine.environ.get("ANTHROPIC_MODEL") or MODEL
        self._messages: list[dict[str, Any]] = []
        self._turns = 0
        if self._format == "stream-json":
            self._line(
                {
                    "type": "system",
                    "subtype": "init",
                    "session_id": client.session,
                    "model": self._model,
                    "tools": [],
                    "claude_code_version": client.dialect.version,
                    "uuid": uuid4(),
                }
            )

    def turn(self, prompt: str) -> int:
        """Ask one prompt, print the answer, and return the exit status for it."""
        client = self._client
        began = client.machine.now()
        self._turns += 1
        self._messages.append({"role": "user", "content": [{"type": "text", "text": prompt}]})
        body = {
            "model": self._model,
            "messages": self._messages,
            "system": [{"type": "text", "text": "You are asked by a stand-in for tests."}],
            "tools": [],
            "metadata": {"user_id": f"user_fake_session_{client.session}"},
            "max_tokens": 32000,
        }
        message: Message | None = None
        failure: Failure | None = None
        try:
            message = self._caller.ask(body)
        except Failure as error:
            failure = error
        text = message.text if message is not None else str(failure)
        self._messages.append({"role": "assistant", "content": [{"type": "text", "text": text}]})
        if self._format == "text":
            client.say(text)
        else:
            self._tell(text, message, failure, (client.machine.now() - began) * 1000)
        return 0 if failure is None else 1

    def _tell(self, text: str, message: Message | None, failure: Failure | None, duration: float) -> None:
        usage = {"input_tokens": 0, "output_tokens": 0} if message is None else message.usage
        if self._format == "stream-json":
            content = [{"type": "text", "text": text}]
            turn = {"role": "assistant", "model": self._model, "content": content, "usage": usage}
            self._line({"type": "assistant", "message": turn, "session_id": self._client.session, "uuid": uuid4()})
        self._line(
            {
                "type": "result",
                "subtype": "success",
                "is_error": failure is not None,
                "api_error_status": None if failure is None else failure.status,
                "duration_ms": int(duration),
                "duration_api_ms": int(duration),
                "num_turns": self._turns,
                "result": text,
                "session_id": self._client.session,
                "total_cost_usd": 0,
                "usage": usage,
                "uuid": uuid4(),
            }
        )

    def _line(self, value: dict[str, Any]) -> None:
        self._client.say(json.dumps(value, ensure_ascii=False))


def _prompt(client: Client, argument: str) -> str:
    """The argument and, after it, the text that is piped into standard input."""
    machine = client.machine
    piped = ""
    if machine.stdin is not None and not machine.stdin.isatty():
        if machine.readable(machine.stdin, _STDIN_TIMEOUT_SECONDS * machine.scale):
            piped = machine.stdin.read()
        else:
            client.complain(_STDIN_WARNING)
    return "\n".join(part for part in (argument, piped) if part.strip())


def _prompts(client: Client) -> Iterator[str]:
    """The user's messages, line by line, as they come."""
    for line in client.machine.stdin or ():
        try:
            value = json.loads(line)
        except ValueError:
            client.complain(f"Error parsing streaming input line: {line.strip()}")
            continue
        message = value.get("message") if isinstance(value, dict) and value.get("type") == "user" else None
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list):
            content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
        if isinstance(content, str) and content:
            yield content
