"""A streamed reply of the Messages API, as the CLI understands it."""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Message", "parse", "parse_whole"]


class Message:
    """The message of a reply, as far as it came.

    ``text`` is that of the blocks that have both begun and ended. ``usable``: the message and a block of it have begun.
    ``ended``: the service has marked the message as complete. ``error``: the service's, from inside the stream.
    """

    def __init__(self) -> None:
        self.text = ""
        self.usage: dict[str, Any] = {}
        self.model = ""
        self.id = ""
        self.usable = False
        self.ended = False
        self.error: dict[str, Any] | None = None


def parse(body: bytes) -> Message:
    """Read server-sent events. An event without an ``event:`` line is ignored."""
    message = Message()
    started = False
    blocks: dict[Any, str] = {}
    for kind, data in _events(body):
        if kind == "message_start":
            started = True
            _describe(message, data.get("message"))
        elif kind == "content_block_start":
            message.usable = started
            blocks[data.get("index")] = ""
        elif kind == "content_block_delta":
            delta = data.get("delta")
            text = delta.get("text") if isinstance(delta, dict) else None
            if data.get("index") in blocks and isinstance(text, str):
                blocks[data.get("index")] += text
        elif kind == "content_block_stop":
            message.text += blocks.pop(data.get("index"), "")
        elif kind in ("message_delta", "message_stop"):
            message.ended = True
            if isinstance(data.get("usage"), dict):
                message.usage.update(data["usage"])
        elif kind == "error":
            error = data.get("error")
            message.error = error if isinstance(error, dict) else {}
    return message


def parse_whole(value: dict[str, Any]) -> Message:
    """The message of a reply that is not streamed."""
    message = Message()
    _describe(message, value)
    content = value.get("content")
    blocks = content if isinstance(content, list) else []
    texts = [block.get("text") for block in blocks if isinstance(block, dict) and block.get("type") == "text"]
    message.text = "".join(text for text in texts if isinstance(text, str))
    message.usable = message.ended = isinstance(content, list)
    return message


def _describe(message: Message, value: object) -> None:
    if isinstance(value, dict):
        message.id = str(value.get("id") or "")
        message.model = str(value.get("model") or "")
        if isinstance(value.get("usage"), dict):
            message.usage.update(value["usage"])


def _events(body: bytes) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for block in body.replace(b"\r\n", b"\n").split(b"\n\n"):
        kind, data = "", b""
        for line in block.split(b"\n"):
            name, _, value = line.partition(b":")
            if name == b"event":
                kind = value.strip().decode("utf-8", "replace")
            elif name == b"data":
                data += value.strip()
        if kind:
            try:
                value_of = json.loads(data or b"{}")
            except ValueError:
                value_of = None
            if isinstance(value_of, dict):
                found.append((kind, value_of))
    return found
