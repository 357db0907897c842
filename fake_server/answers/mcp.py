"""Enough of the Model Context Protocol for a client's session over Streamable HTTP: one tool, and no state.

Its requests are JSON-RPC 2.0 in the body of a POST, answered as JSON; a notification gets 202 and nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fake_server.genuine import json
from fake_server.limits import read_json
from fake_server.protocol.wire import Reply

if TYPE_CHECKING:
    from fake_server.answers.turn import Turn
    from fake_server.protocol.wire import Request

__all__ = ["answer_mcp"]

_VERSIONS = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
_JSON = ("content-type", "application/json")
_TOOL = {
    "name": "echo",
    "description": "Returns its text.",
    "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}},
}


class _Failed(Exception):
    """A request that gets an error of JSON-RPC."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def answer_mcp(turn: Turn, request: Request) -> Reply:
    """The reply to one POST."""
    del turn
    try:
        message = read_json(request.body)
    except ValueError:
        return _dump({"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "Parse error"}}, 400)
    messages = message if isinstance(message, list) else [message]
    answers = [_answer(one) for one in messages if isinstance(one, dict) and "id" in one and "method" in one]
    if not answers:
        return Reply(202, (b"",), ())
    return _dump(answers if isinstance(message, list) else answers[0], 200)


def _answer(message: dict[str, Any]) -> dict[str, Any]:
    try:
        result = _result(str(message["method"]), _object(message, "params"))
    except _Failed as failed:
        return {"jsonrpc": "2.0", "id": message["id"], "error": {"code": failed.code, "message": str(failed)}}
    return {"jsonrpc": "2.0", "id": message["id"], "result": result}


def _object(message: dict[str, Any], name: str) -> dict[str, Any]:
    """The member ``name``, an object; empty where it is left out."""
    value = message.get(name) or {}
    if not isinstance(value, dict):
        raise _Failed(-32602, f"Invalid params: {name} is an object")
    return value


def _result(method: str, params: dict[str, Any]) -> dict[str, Any]:
    if method == "initialize":
        asked = params.get("protocolVersion")
        return {
            "protocolVersion": asked if asked in _VERSIONS else _VERSIONS[0],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "fake-mcp", "version": "1.0"},
        }
    if method == "ping":
        return {}
    if method == "tools/list":
        return {"tools": [_TOOL]}
    if method == "tools/call":
        return _call(params)
    raise _Failed(-32601, f"Method not found: {method}")


def _call(params: dict[str, Any]) -> dict[str, Any]:
    if params.get("name") != _TOOL["name"]:
        raise _Failed(-32602, f"Unknown tool: {params.get('name')}")
    text = _object(params, "arguments").get("text", "OK")
    return {"content": [{"type": "text", "text": str(text)}], "isError": False}


def _dump(value: object, status: int) -> Reply:
    return Reply(status, (json.dumps(value, separators=(",", ":")).encode(),), (_JSON,))
