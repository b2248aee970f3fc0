"""What a simulated server says to a request.

The last user message decides:

- "count to 100" (or "1 to 100"): ``1, 2, 3, …, 100``
- "say …", "echo …", "repeat after me: …": the rest of it
- a tool's name, when that tool is among ``tools``: a call of it
- anything else: sentences of made-up words

Whatever looks random follows from the request and a seed, so that the same
request gets the same answer, streamed or not.
"""

from __future__ import annotations

import math
import random
import re
import zlib
from collections.abc import Iterator, Mapping
from itertools import chain, cycle, islice
from typing import Any

import orjson
from attrs import evolve, frozen

from chatstream.testing.profile import Profile
from chatstream.testing.refusals import Refusal
from chatstream.testing.schema import SchemaError, instance_of

MOST_TOKENS = 200_000
"""No request gets more tokens than this, in all its choices together."""

_DEFAULT_TOKENS = 32
_COUNT = re.compile(r"\b(?:count\s+(?:up\s+)?to|1\s+to)\s+(\d+(?:,\d{3})*)", re.IGNORECASE)
_ECHO = re.compile(r"\s*(?:say|echo|repeat after me:?)\s+(.*)", re.IGNORECASE | re.DOTALL)
_WORD = re.compile(r"\w+|[^\w\s]")
_TOKEN = re.compile(r"\s*(?:\w+|[^\w\s])|\s+")
_WORDS = re.findall(
    r"\w+",
    "a and as before bright by calm café chance clear cloud early evening field found garden green"
    " harbour in into kept lantern later light made morning naïve near of often on open over quiet"
    " rain river said sea seven slow small some stone that the then through time to under until"
    " warm water we were while wind window with year",
)


@frozen
class ToolCall:
    """One call of a function, its arguments in the pieces they are streamed in."""

    id: str
    name: str
    arguments: tuple[str, ...]


@frozen
class Choice:
    """One of the ``n`` answers, token by token."""

    reasoning: tuple[str, ...]
    content: tuple[str, ...]
    tool_calls: tuple[ToolCall, ...]
    finish_reason: str
    logprobs: tuple[dict[str, Any], ...] | None
    """One for each content token, if asked for."""

    @property
    def tokens(self) -> int:
        """How many tokens it took; a tool's name counts as one."""
        calls = sum(1 + len(call.arguments) for call in self.tool_calls)
        return len(self.reasoning) + len(self.content) + calls


@frozen
class Answer:
    """All that a request is answered."""

    choices: tuple[Choice, ...]
    prompt_tokens: int

    @property
    def completion_tokens(self) -> int:
        """Tokens of all choices."""
        return sum(choice.tokens for choice in self.choices)

    @property
    def reasoning_tokens(self) -> int:
        """Those of them that are reasoning."""
        return sum(len(choice.reasoning) for choice in self.choices)


def compose(body: Mapping[str, Any], profile: Profile) -> Answer:
    """Answer *body*, which ``refusals.check`` has let through.

    ``Refusal`` where a schema can't be followed.
    """
    prompt = _prompt(body["messages"])
    texts = [_text(message) for message in body["messages"]]
    seed = profile.seed if body.get("seed") is None else body["seed"]
    rng = random.Random(f"{seed} {prompt}")
    called = _tool_calls(body, prompt)
    said = () if called else _structured(body)
    reasoning = tuple(_filler(rng, profile.reasoning_tokens))
    number = int(body.get("n") or 1)
    most = MOST_TOKENS // number
    choices = []
    for index in range(number):
        stem = zlib.crc32(f"{seed} {index} {prompt}".encode())
        calls = tuple(
            ToolCall(f"call_{stem:08x}{place:04d}", name, arguments)
            for place, (name, arguments) in enumerate(called)
        )
        content = () if calls else said or _content(prompt, profile.tokens, most, rng)
        finish_reason = "tool_calls" if calls else "stop"
        choice = Choice(reasoning, content, calls, finish_reason, None)
        choices.append(_scored(_stopped(_limited(choice, body, most), body), body, rng))
    return Answer(tuple(choices), sum(len(_WORD.findall(text)) for text in texts))


def split_tokens(text: str) -> tuple[str, ...]:
    """*text* in pieces of a word or a sign, with the space before; joined they are *text*."""
    return tuple(_TOKEN.findall(text))


def _limited(choice: Choice, body: Mapping[str, Any], most: int) -> Choice:
    left = min(body.get("max_completion_tokens") or body.get("max_tokens") or most, most)
    if choice.tokens <= left:
        return choice
    reasoning = choice.reasoning[:left]
    left -= len(reasoning)
    return evolve(
        choice,
        reasoning=reasoning,
        content=choice.content[:left],
        tool_calls=_cut_calls(choice.tool_calls, left),
        finish_reason="length",
    )


def _stopped(choice: Choice, body: Mapping[str, Any]) -> Choice:
    stop = body.get("stop") or ()
    text = "".join(choice.content) if stop else ""
    found = map(text.find, [stop] if isinstance(stop, str) else stop)
    end = min((at for at in found if at >= 0), default=None)
    if end is None:
        return choice
    return evolve(choice, content=_cut(choice.content, end), finish_reason="stop")


def _scored(choice: Choice, body: Mapping[str, Any], rng: random.Random) -> Choice:
    if not body.get("logprobs") or choice.tool_calls:
        return choice
    alternatives = body.get("top_logprobs") or 0
    logprobs = tuple(_logprob(token, alternatives, rng) for token in choice.content)
    return evolve(choice, logprobs=logprobs)


def _cut(tokens: tuple[str, ...], length: int) -> tuple[str, ...]:
    """*tokens* whose text is *length* characters; the last may be part of one."""
    kept: list[str] = []
    while length > 0:
        token = tokens[len(kept)]
        kept.append(token[:length])
        length -= len(token)
    return tuple(kept)


def _cut_calls(calls: tuple[ToolCall, ...], budget: int) -> tuple[ToolCall, ...]:
    kept = []
    for call in calls:
        if budget <= 0:
            break
        kept.append(ToolCall(call.id, call.name, call.arguments[: budget - 1]))
        budget -= 1 + len(call.arguments)
    return tuple(kept)


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else ()
    texts = (part.get("text") for part in parts if isinstance(part, Mapping))
    return " ".join(text for text in texts if isinstance(text, str))


def _prompt(messages: list[Mapping[str, Any]]) -> str:
    for message in reversed(messages):
        if message["role"] == "user":
            return _text(message)
    return _text(messages[-1])


# -- text ---------------------------------------------------------------------


def _content(prompt: str, tokens: int | None, most: int, rng: random.Random) -> tuple[str, ...]:
    pieces: Iterator[str]
    if found := _COUNT.search(prompt):
        digits = found[1].replace(",", "")
        last = int(digits[:12])
        length = 2 * last - 1
        pieces = _counting()
    elif found := _ECHO.match(prompt):
        words = split_tokens(found[1])
        length = len(words)
        again = (f" {words[0].lstrip()}", *words[1:]) if words else (" again",)
        pieces = chain(words, cycle(again))
    else:
        # One token more than `most` tells that the answer was cut.
        return tuple(_filler(rng, min(_DEFAULT_TOKENS if tokens is None else tokens, most + 1)))
    wanted = max(length, 0) if tokens is None else tokens
    return tuple(islice(pieces, min(wanted, most + 1)))


def _counting() -> Iterator[str]:
    yield "1"
    number = 1
    while True:
        number += 1
        yield ", "
        yield str(number)


def _filler(rng: random.Random, tokens: int) -> Iterator[str]:
    """*tokens* words in sentences."""
    words = iter(rng.choices(_WORDS, k=tokens))
    left = tokens
    while left:
        length = min(rng.randint(5, 12), left)
        space = " " if left < tokens else ""
        left -= length
        sentence = list(islice(words, length))
        first = space + sentence[0].capitalize()
        if length == 1:
            yield f"{first}."
            continue
        yield first
        for word in sentence[1:-1]:
            yield f" {word}"
        yield f" {sentence[-1]}."


def _structured(body: Mapping[str, Any]) -> tuple[str, ...]:
    """JSON, if ``response_format`` asks for it."""
    wanted = body.get("response_format") or {}
    match wanted.get("type"):
        case "json_object":
            value: Any = {"answer": "yes", "confidence": 0.9}
        case "json_schema":
            schema = wanted["json_schema"].get("schema", True)
            value = _instance(schema, "response_format.json_schema.schema")
        case _:
            return ()
    return split_tokens(orjson.dumps(value).decode())


def _instance(schema: Any, param: str) -> Any:
    try:
        return instance_of(schema)
    except SchemaError as exc:
        raise Refusal(400, f"Invalid schema for '{param}': {exc}", param=param) from exc


# -- tools --------------------------------------------------------------------


_Called = list[tuple[str, tuple[str, ...]]]


def _tool_calls(body: Mapping[str, Any], prompt: str) -> _Called:
    """Choose which functions are called, and with what."""
    tools = {
        tool["function"]["name"]: tool["function"]
        for tool in body.get("tools") or ()
        if tool["type"] == "function"
    }
    choice = body.get("tool_choice") or "auto"
    forced = choice == "required"
    if isinstance(choice, Mapping):
        if choice["type"] == "allowed_tools":
            allowed = choice["allowed_tools"]
            names = {tool["function"]["name"] for tool in allowed["tools"]}
            tools = {name: tool for name, tool in tools.items() if name in names}
            forced = allowed.get("mode") == "required"
        elif choice["type"] == "function":
            return _calls(tools, [choice["function"]["name"]])
    if not tools or choice == "none":
        return []
    # A conversation that ends with a tool's result wants words now, or it
    # would call that tool for ever.
    answered = body["messages"][-1]["role"] == "tool"
    chosen = [] if answered else [name for name in tools if _mentions(prompt, name)]
    if forced and not chosen:
        chosen = [next(iter(tools))]
    if body.get("parallel_tool_calls") is False:
        del chosen[1:]
    return _calls(tools, chosen)


def _mentions(prompt: str, name: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", prompt, re.IGNORECASE) is not None


def _calls(tools: Mapping[str, Mapping[str, Any]], names: list[str]) -> _Called:
    calls = []
    for name in names:
        schema = tools[name].get("parameters") or {"type": "object"}
        arguments = _instance(schema, f"tools.{name}.parameters")
        calls.append((name, split_tokens(orjson.dumps(arguments).decode())))
    return calls


# -- logprobs -----------------------------------------------------------------


def _logprob(token: str, alternatives: int, rng: random.Random) -> dict[str, Any]:
    """*token* as the likeliest of some that share one probability."""
    share = rng.uniform(0.6, 0.99)
    found = _entry(token, share)
    top = [found] if alternatives else []
    others = (word for word in _WORDS if word != token.strip())
    for word in islice(others, max(alternatives - 1, 0)):
        share = (1 - share) / 2 if len(top) == 1 else share / 2
        top.append(_entry(f" {word}", share))
    return {**found, "top_logprobs": top}


def _entry(token: str, share: float) -> dict[str, Any]:
    return {
        "token": token,
        "logprob": round(math.log(share), 6),
        "bytes": list(token.encode()),
    }
