"""What a run asks: conversations from a file, or made up to a length.

Everything follows from the number of a request and the seed of the run, so that any
worker can tell what a request asks without knowing the others.
"""

from __future__ import annotations

import codecs
import math
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import attrs
import orjson
from attrs import field, frozen, validators

from chatstream.errors import RequestError, one_line

Message: TypeAlias = Mapping[str, Any]
T = TypeVar("T")


def seen(value: object) -> str:
    """Say in a few words what a value is; of a text, never what it says."""
    match value:
        case str():
            return "a string"
        case list():
            return "a list"
        case dict():
            return "an object"
    return repr(value)


@frozen
class Number:
    """Numbers of a kind: a validator of fields, and a check of what files hold."""

    allowed: str
    kinds: type[int] | tuple[type[int], type[float]]
    least: float
    most: float = sys.float_info.max

    def of(self, value: T, where: str) -> T:
        """Return *value* if it is one. Raises ``RequestError`` that names *where*."""
        given: Any = value
        number = isinstance(given, self.kinds) and not isinstance(given, bool)
        if not number or not self.least <= given <= self.most:
            raise RequestError(where, seen(given), self.allowed)
        return value

    def __call__(self, _: object, attribute: attrs.Attribute[Any], value: object) -> None:
        """Check the value of a field, see ``attrs``."""
        self.of(value, attribute.name)


WHOLE = Number("a whole number from 0 on", int, 0)
COUNT = Number("a whole number from 1 on", int, 1)
SHARE = Number("a share from 0 to 1", (int, float), 0, 1)
SECONDS = Number("seconds from 0 on", (int, float), 0)
MILLISECONDS = Number("milliseconds from 0 on", (int, float), 0)


@frozen(kw_only=True)
class Turn:
    """What is asked at once: the messages that are new, and what goes only for it."""

    messages: tuple[Message, ...] = field(validator=validators.min_len(1))
    params: Mapping[str, Any] = field(factory=dict)
    """Request parameters of its own, such as ``max_tokens``."""
    delay: float = field(default=0.0, validator=SECONDS)
    """Seconds to wait after the answer before, as a user who reads it does."""


@frozen(kw_only=True)
class Conversation:
    """One entry of a workload; most have one turn.

    Each turn is sent with the turns before it and the answers they got.
    """

    turns: tuple[Turn, ...] = field(validator=validators.min_len(1))


@frozen(kw_only=True)
class Prompts:
    """Conversations that are given: one after the other, then from the first again."""

    conversations: tuple[Conversation, ...] = field(validator=validators.min_len(1), repr=False)
    shuffle: bool = field(default=False, validator=validators.instance_of(bool))
    """Whether each pass over them has an order of its own, which the seed decides."""
    source: str = ""
    """The name of the file that they are from."""
    skipped: int = 0
    """Entries of that file that couldn't be used."""

    def conversation(self, number: int, seed: int) -> Conversation:
        """Return what request *number* asks."""
        count = len(self.conversations)
        lap, place = divmod(number, count)
        if self.shuffle:
            place = _order(count, seed, lap)[place]
        return self.conversations[place]


# Where one pass ends and the next begins, two orders are asked for by turns.
@lru_cache(maxsize=4)
def _order(count: int, seed: int, lap: int) -> tuple[int, ...]:
    chance = random.Random(f"order {seed} {lap}")
    return tuple(chance.sample(range(count), count))


@frozen(kw_only=True)
class Synthetic:
    """Conversations of random words, to a length.

    A length of so many tokens is so many words, each of them one token for the
    tokenizers of OpenAI and Mistral, and about one for others; the server's template adds
    its own. But for the prefix no two requests begin alike (from a dozen words on), so
    nothing else is found in a cache.
    """

    input_tokens: int = field(validator=COUNT)
    """The length of each turn's question."""
    output_tokens: int = field(validator=COUNT)
    """``max_tokens`` of each turn; a model may end sooner unless it is told not to."""
    input_spread: float = field(default=0.0, validator=SHARE)
    """Lengths differ by up to this share of them, each as likely as the other."""
    output_spread: float = field(default=0.0, validator=SHARE)
    prefix_tokens: int = field(default=0, validator=WHOLE)
    """The length of a text that comes before the first question, and isn't counted there."""
    prefixes: int = field(default=1, validator=COUNT)
    """How many such texts there are; requests take them by turns."""
    turns: int = field(default=1, validator=COUNT)
    delay: float = field(default=0.0, validator=SECONDS)
    """Seconds between an answer and the next turn."""

    def conversation(self, number: int, seed: int) -> Conversation:
        """Return what request *number* asks."""
        chance = random.Random(f"conversation {seed} {number}")
        turns = []
        for place in range(self.turns):
            text = _text(chance, _length(chance, self.input_tokens, self.input_spread))
            if place == 0 and self.prefix_tokens:
                prefix = _prefix(self.prefix_tokens, seed, number % self.prefixes)
                text = f"{prefix} {text}"
            turns.append(
                Turn(
                    messages=({"role": "user", "content": text},),
                    params={"max_tokens": _length(chance, self.output_tokens, self.output_spread)},
                    delay=self.delay if place else 0.0,
                )
            )
        return Conversation(turns=tuple(turns))


Workload: TypeAlias = Prompts | Synthetic
"""``conversation(number, seed)`` is what a request asks."""


def _length(chance: random.Random, mean: int, spread: float) -> int:
    return chance.randint(max(1, math.ceil(mean * (1 - spread))), math.floor(mean * (1 + spread)))


def _text(chance: random.Random, words: int) -> str:
    return " ".join(map(_WORDS.__getitem__, chance.randbytes(words)))


@lru_cache(maxsize=256)
def _prefix(words: int, seed: int, place: int) -> str:
    return _text(random.Random(f"prefix {seed} {place}"), words)


# 256, so that a random byte is a word: drawing them one by one took four times as long.
_WORDS = """
air animal apple area arm art autumn away ball bank base bear beauty bed bell bird blue board
boat bone book bowl box branch bread bridge bright brown build butter camp car card case cat
center chain chair church circle city clean climb clock clothes cloud coast coat coffee cold
color cook cool copper copy corn corner cotton count country course cover crowd dance dark day
desert desk dinner doctor dog dollar door down dream duck ear earth east edge egg eight electric
engine evening eye family farm field finger fire fish five floor flow flower food foot forest
forward four fresh friend fruit game garden gate glass gold good grass gray green hand hat head
heat hill history horse house ice insect iron island job key king kitchen lake language leg
light line lot map mark market meat metal middle milk mirror modern money month moon morning
mountain mouth music nature neck north ocean office oil open orange page paint pair paper path
picture piece plant rain rice ride ring river road rock roll room root rope rose round row salt
sand school science sea season seat seed seven sharp ship shoe shop short show silver simple six
sky sleep small smile snow soft soil song sound south space spring square star start state
station stone story street strong student sugar summer sun table tail teacher team ten tool town
train travel tree trip truck valley value village voice wall water wave weather week wheel wide
wind window winter wire wood word world year young
""".split()  # noqa: SIM905 256 lines


# --- Files -------------------------------------------------------------------


def read_lines(path: Path, read: Callable[[bytes, str], T]) -> list[T]:
    """Return what *read* makes of each line of a file and of where that is; not of blank ones."""
    with path.open("rb") as file:
        lines = (line.removeprefix(codecs.BOM_UTF8).strip() for line in file)
        return [read(line, f"{path}, line {place}") for place, line in enumerate(lines, 1) if line]


def parsed(text: bytes, where: str) -> Any:
    """Return the value of JSON text. Raises ``RequestError`` that names *where*."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise RequestError(where, f"{error.msg} at character {error.pos}", "JSON") from None


def read_jsonl(path: Path) -> Prompts:
    """Return the conversations in a file with a value of JSON on each line.

    A line is a turn, or an object with several ``turns``. A turn is a string or an object
    with one of ``prompt``, ``text`` and ``messages``, and maybe

    - ``max_tokens``, also called ``output_tokens`` (vLLM) and ``output_length`` (aiperf);
    - ``params``, other request parameters, and ``extra``, what only this server knows;
    - ``delay``, milliseconds to wait after the answer before (as aiperf has it).

    What the line has of the first two holds for all its turns. Keys besides these are
    left alone, but aiperf's for pictures and sound are refused: they go into
    ``messages``. Raises ``RequestError`` with the line, and ``OSError``.
    """
    conversations = read_lines(path, _conversation)
    if not conversations:
        raise RequestError(str(path), "no lines", "a prompt on each line")
    return Prompts(conversations=tuple(conversations), source=path.name)


_TEXTS = ("prompt", "text")
_LENGTHS = ("max_tokens", "output_tokens", "output_length")
_ELSEWHERE = frozenset({"texts", "image", "images", "audio", "audios", "video", "videos"})


def _conversation(line: bytes, where: str) -> Conversation:
    entry = _entry(parsed(line, where), where)
    if _only(entry, (*_TEXTS, "messages", "turns"), where) != "turns":
        return Conversation(turns=(_turn(entry, {}, where),))
    turns, params = entry["turns"], _params(entry, where)
    where = f"{where}, turns"
    if not isinstance(turns, list) or not turns:
        raise RequestError(where, seen(turns), "a list of turns")
    places = [f"{where}[{place}]" for place in range(len(turns))]
    return Conversation(
        turns=tuple(
            _turn(_entry(turn, place), params, place)
            for turn, place in zip(turns, places, strict=True)
        )
    )


def _entry(value: Any, where: str) -> dict[str, Any]:
    """Return a line or a turn as an object, without what is null: that isn't there."""
    if isinstance(value, str):
        return {"prompt": value}
    if not isinstance(value, dict):
        raise RequestError(where, seen(value), "a string or an object")
    return {key: each for key, each in value.items() if each is not None}


def _turn(entry: dict[str, Any], params: dict[str, Any], where: str) -> Turn:
    """Return the turn that *entry* is; *params* hold where it has none of its own."""
    if unread := _ELSEWHERE & entry.keys():
        raise RequestError(where, ", ".join(sorted(unread)), "messages with such parts")
    return Turn(
        messages=_messages(entry, where),
        params={**params, **_params(entry, where)},
        delay=MILLISECONDS.of(entry.get("delay", 0), f"{where}, delay") / 1000,
    )


def _messages(entry: dict[str, Any], where: str) -> tuple[Message, ...]:
    key = _only(entry, (*_TEXTS, "messages"), where)
    if key is None:
        keys = one_line(", ".join(entry), 100) or "none"
        raise RequestError(where, f"the keys {keys}", "one of prompt, text and messages")
    if key == "messages":
        return _checked(entry[key], f"{where}, messages")
    if entry.get("role", "user") != "user":
        raise RequestError(f"{where}, role", "another", "user; messages may have others")
    text = entry[key]
    if not isinstance(text, str) or not text.strip():
        blank = "a blank string" if isinstance(text, str) else seen(text)
        raise RequestError(f"{where}, {key}", blank, "a string with text")
    return ({"role": "user", "content": text},)


def _checked(messages: Any, where: str) -> tuple[Message, ...]:
    if not isinstance(messages, list) or not messages:
        raise RequestError(where, seen(messages), "a list of messages")
    for place, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise RequestError(f"{where}[{place}]", seen(message), "an object with a role")
    return tuple(messages)


def _params(entry: dict[str, Any], where: str) -> dict[str, Any]:
    """Return the request parameters that an entry has."""
    params = dict(_object(entry, "params", where))
    extra = {**_object(params, "extra_body", f"{where}, params"), **_object(entry, "extra", where)}
    if extra:
        params["extra_body"] = extra
    if (key := _only(entry, _LENGTHS, where)) is not None:
        params["max_tokens"] = COUNT.of(entry[key], f"{where}, {key}")
    return params


def _only(entry: dict[str, Any], keys: Sequence[str], where: str) -> str | None:
    """Return which of these keys there is, for one thing that has several names."""
    found = [key for key in keys if key in entry]
    if len(found) > 1:
        raise RequestError(where, " and ".join(found), "one of them")
    return found[0] if found else None


def _object(entry: dict[str, Any], key: str, where: str) -> dict[str, Any]:
    found = entry.get(key, {})
    if not isinstance(found, dict):
        raise RequestError(f"{where}, {key}", seen(found), "an object")
    return found


def read_sharegpt(path: Path, max_turns: int = 1) -> Prompts:
    """Return the conversations in a file of ShareGPT, a list of all in JSON.

    Of each only the first *max_turns* questions are asked, as others who measure with it
    do. An answer isn't sent, it tells how long ours may be: a token for four bytes.
    An entry that doesn't begin with a question and its answer is skipped.
    Raises ``RequestError`` and ``OSError``.
    """
    COUNT.of(max_turns, "max_turns")
    entries = parsed(path.read_bytes(), str(path))
    if not isinstance(entries, list):
        raise RequestError(str(path), seen(entries), "a list of entries with conversations")
    turns = [tuple(islice(_questions(entry), max_turns)) for entry in entries]
    found = tuple(Conversation(turns=each) for each in turns if each)
    if not found:
        what = "one that begins with a question and its answer"
        raise RequestError(str(path), f"{len(entries)} entries", what)
    return Prompts(conversations=found, source=path.name, skipped=len(entries) - len(found))


_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}


def _questions(entry: Any) -> Iterator[Turn]:
    """Yield the questions of an entry of ShareGPT, as long as each has its answer."""
    said = entry.get("conversations") if isinstance(entry, dict) else None
    lines = [_line(each) for each in said] if isinstance(said, list) else []
    opening = lines[:1] if lines and lines[0]["role"] == "system" else []
    del lines[: len(opening)]
    for asked, answer in zip(lines[::2], lines[1::2], strict=False):
        if asked["role"] != "user" or answer["role"] != "assistant":
            break
        tokens = max(1, len(answer["content"].encode()) // 4)
        yield Turn(messages=(*opening, asked), params={"max_tokens": tokens})
        opening = []


def _line(said: Any) -> Message:
    """Return what somebody said as a message; nobody's, if it can't be used."""
    match said:
        case {"from": str(name), "value": str(text)} if text.strip():
            return {"role": _ROLES.get(name, ""), "content": text}
    return {"role": "", "content": ""}


# --- Written down ------------------------------------------------------------


def workload_to_json(workload: Workload) -> dict[str, Any]:
    """Return a workload as JSON, prompts included: for a worker, not for a report."""
    if isinstance(workload, Synthetic):
        return describe(workload)
    document = attrs.asdict(workload, recurse=False)
    document["conversations"] = [
        [attrs.asdict(turn, recurse=False) for turn in conversation.turns]
        for conversation in workload.conversations
    ]
    return {"kind": "prompts", **document}


def workload_from_json(document: Mapping[str, Any]) -> Workload:
    """Return the workload that :func:`workload_to_json` wrote down."""
    match document:
        case {"kind": "synthetic", **fields}:
            return Synthetic(**fields)
        case {"kind": "prompts", "conversations": conversations, **fields}:
            return Prompts(
                conversations=tuple(
                    Conversation(
                        turns=tuple(
                            Turn(**{**turn, "messages": tuple(turn["messages"])}) for turn in turns
                        )
                    )
                    for turns in conversations
                ),
                **fields,
            )
    raise RequestError("workload", seen(document.get("kind")), "a kind, synthetic or prompts")


def describe(workload: Workload) -> dict[str, Any]:
    """Return what a report may tell of a workload: how much it asks, never what."""
    if isinstance(workload, Synthetic):
        return {"kind": "synthetic", **attrs.asdict(workload)}
    turns = [turn for conversation in workload.conversations for turn in conversation.turns]
    limits = [turn.params.get("max_tokens") for turn in turns]
    return {
        "kind": "prompts",
        "source": workload.source,
        "digest": digest(workload_to_json(workload)["conversations"]),
        "conversations": len(workload.conversations),
        "turns": len(turns),
        "skipped": workload.skipped,
        "shuffle": workload.shuffle,
        "characters": _range([sum(map(_characters, turn.messages)) for turn in turns]),
        "max_tokens": _range([limit for limit in limits if limit is not None]),
    }


def digest(value: Any) -> str:
    """Return what tells a JSON value from others without showing it."""
    return sha256(orjson.dumps(value)).hexdigest()[:16]


def _range(values: Sequence[int]) -> dict[str, float] | None:
    if not values:
        return None
    return {"min": min(values), "mean": sum(values) / len(values), "max": max(values)}


def _characters(message: Message) -> int:
    """Return the length of a message's text."""
    content = message.get("content")
    if isinstance(content, str):
        return len(content)
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return sum(len(text) for text in texts if isinstance(text, str))
