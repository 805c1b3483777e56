"""Tool calls as models write them: each family's format, read into one shape.

==========  ==========================================================================================
hermes      ``<tool_call>{"name": …, "arguments": {…}}</tool_call>``, any number (Hermes 2, Qwen 2.5 and 3)
llama       the whole reply is ``{"name": …, "parameters": {…}}``, several joined by ``;`` (Llama 3.1 on)
mistral     ``[TOOL_CALLS]`` and a list of objects, or ``name[ARGS]{…}`` repeated (Mistral v3; v11 on)
plain       hermes's, which the system prompt describes: for templates that know no tools
==========  ==========================================================================================

A reply that begins a call and doesn't end it in readable JSON is a call with an ``error``, so that the
environment can say so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

Call: TypeAlias = dict[str, Any]
"""``{"name": str, "arguments": {…}}``, or ``{"error": str}``."""

LONGEST = 20_000
"""Characters of a call that are read."""

_HERMES = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.DOTALL)
_PYTHON_TAG = "<|python_tag|>"
_MISTRAL = "[TOOL_CALLS]"


def family(template: str) -> str:
    """The format that a chat template teaches, by the marks it writes."""
    if not re.search(r"\btools\b", template):
        return "plain"
    if _MISTRAL in template:
        return "mistral"
    if "<tool_call>" in template:
        return "hermes"
    if _PYTHON_TAG in template or '"parameters"' in template or "ipython" in template:
        return "llama"
    return "plain"


def calls(name: str, text: str) -> list[Call]:
    """The calls in a reply, special tokens written out, in a family's format; none when it calls nothing."""
    return _FORMATS[name](text)


def described(tools: list[Mapping[str, Any]]) -> str:
    """What the system prompt says of tools where the template can't."""
    lines = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    return (
        f"You may call these tools:\n{lines}\n"
        'To call one, reply with <tool_call>{"name": ..., "arguments": {...}}</tool_call> and nothing else. '
        "Its result comes back in <tool_response></tool_response>."
    )


def hermes(call: Mapping[str, Any]) -> str:
    """A call, ``{"name", "arguments"}``, as hermes's format writes it."""
    return f"<tool_call>{json.dumps({name: call[name] for name in ('name', 'arguments')})}</tool_call>"


def _hermes(text: str) -> list[Call]:
    return [_call(inside, "arguments") for inside in _HERMES.findall(text)]


def _llama(text: str) -> list[Call]:
    text = text.strip()
    tagged = text.startswith(_PYTHON_TAG)
    text = text.removeprefix(_PYTHON_TAG).strip()
    if not tagged and not re.match(r'\{\s*"(?:name|type)"', text):
        return []
    return _several(text, "parameters")


def _mistral(text: str) -> list[Call]:
    _, mark, text = text.partition(_MISTRAL)
    if not mark:
        return []
    named = [part.partition("[ARGS]") for part in text.split(_MISTRAL)]
    if all(args for _, args, _ in named):
        return [_named(name.partition("[CALL_ID]")[0].strip(), inside) for name, _, inside in named]
    read = _read(text)
    if not isinstance(read, list):
        return [read if _broken(read) else {"error": "tool calls are a JSON list"}]
    return [_shaped(one, "arguments") for one in read]


_FORMATS: dict[str, Callable[[str], list[Call]]] = {
    "hermes": _hermes,
    "llama": _llama,
    "mistral": _mistral,
    "plain": _hermes,
}


def _several(text: str, arguments: str) -> list[Call]:
    """Objects one behind the other, ``;`` between them."""
    decoder, found, at = json.JSONDecoder(), list[Call](), 0
    text = text[:LONGEST]
    while at < len(text):
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return [*found, {"error": "the call isn't readable JSON"}]
        found.append(_shaped(value, arguments))
        while at < len(text) and text[at] in "; \n":
            at += 1
    return found


def _call(text: str, arguments: str) -> Call:
    read = _read(text)
    return read if _broken(read) else _shaped(read, arguments)


def _named(name: str, text: str) -> Call:
    read = _read(text)
    return read if _broken(read) else _shaped({"name": name, "arguments": read}, "arguments")


def _read(text: str) -> Any:
    """A JSON value, or a call with an error."""
    if len(text) > LONGEST:
        return {"error": f"the call is longer than {LONGEST} characters"}
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # deep nesting, or a number of too many digits
        return {"error": "the call isn't readable JSON"}


def _broken(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"error"}


def _shaped(value: Any, arguments: str) -> Call:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return {"error": "a call is an object with a name"}
    given = value.get(arguments, value.get("arguments", {}))
    if isinstance(given, str):  # some models write the arguments as a text of JSON
        given = _read(given)
    if not isinstance(given, dict):
        return {"error": f"the {arguments} of a call are an object"}
    return {"name": value["name"], "arguments": given}
