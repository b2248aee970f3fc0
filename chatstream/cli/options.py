"""Options that several commands share: how to reach a server, and what to ask of it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from attrs import frozen
from cyclopts import Group, Parameter

from chatstream import ChatSession, RequestError, RetryPolicy, Timeouts
from chatstream.bench.plan import Target
from chatstream.cli.exits import UsageError
from chatstream.exchange import OPENAI_HOST
from chatstream.session import DEFAULT_BASE_URL

CONNECTION = Group("Connection", sort_key=30)
REQUEST = Group("Request parameters", sort_key=20)


@Parameter(name="*", group=CONNECTION)
@frozen(kw_only=True)
class Connection:
    """Which server, with which key, and how patiently."""

    base_url: Annotated[str | None, Parameter(metavar="URL")] = None
    """Where the API is. [default: $OPENAI_BASE_URL, or https://api.openai.com/v1]"""

    api_key_file: Annotated[Path | None, Parameter(metavar="PATH")] = None
    """Read the API key from this file. [default: the key in $OPENAI_API_KEY]"""

    api_version: Annotated[str | None, Parameter(metavar="VERSION")] = None
    """Speak to Azure, with this version of its API."""

    header: Annotated[tuple[str, ...], Parameter(metavar='"NAME: VALUE"')] = ()
    """Send this header too. Repeatable."""

    proxy: Annotated[str | None, Parameter(metavar="URL")] = None
    """Go through this HTTP proxy."""

    trust_env: bool = False
    """Use the proxies of $HTTPS_PROXY and the like, and ~/.netrc."""

    connect_timeout: Annotated[float | None, Parameter(metavar="SECONDS")] = None
    """Give up when there is no connection by then; 0 waits for ever, here and below.
    [default: 10]"""

    first_token_timeout: Annotated[float | None, Parameter(metavar="SECONDS")] = None
    """Give up when no token has come by then. [default: 120]"""

    idle_timeout: Annotated[float | None, Parameter(metavar="SECONDS")] = None
    """Give up when no token has come for so long after another. [default: 60]"""

    timeout: Annotated[float | None, Parameter(metavar="SECONDS")] = None
    """Give up when the answer isn't whole by then. [default: 0]"""

    retries: Annotated[int, Parameter(show_default=True)] = 2
    """How often to try again, as long as no token has come."""

    def session(self) -> ChatSession:
        """Return a session to this server. Raises ``UsageError`` or ``RequestError``."""
        return ChatSession(
            self.base_url,
            self._key(),
            headers=_headers(self.header),
            api_version=self.api_version,
            proxy=self.proxy,
            trust_env=self.trust_env,
            timeouts=self.timeouts(),
            retry=self.retry(),
        )

    def target(self, model: str) -> Target:
        """Return this server, to be measured. Raises ``UsageError`` or ``RequestError``."""
        target = Target(
            base_url=self.base_url or os.environ.get("OPENAI_BASE_URL") or DEFAULT_BASE_URL,
            model=model,
            api_key=self._key() or os.environ.get("OPENAI_API_KEY"),
            headers=_headers(self.header),
            api_version=self.api_version,
            proxy=self.proxy,
            trust_env=self.trust_env,
        )
        keyless = not target.api_key and "authorization" not in map(str.lower, target.headers)
        if keyless and host_of(target.base_url) == OPENAI_HOST:  # so the first request would tell
            raise RequestError("api_key", "nothing", "a key")
        return target

    def _key(self) -> str | None:
        return None if self.api_key_file is None else key_in(self.api_key_file)

    def timeouts(self) -> Timeouts:
        """Return the timeouts: the given ones, and the library's defaults."""
        given = {
            "connect": self.connect_timeout,
            "first_token": self.first_token_timeout,
            "idle": self.idle_timeout,
            "total": self.timeout,
        }
        return Timeouts(
            **{name: limit or None for name, limit in given.items() if limit is not None}
        )

    def retry(self) -> RetryPolicy:
        """Return how often to try."""
        if self.retries < 0:
            msg = f"--retries: expected 0 or more, got {self.retries}"
            raise UsageError(msg)
        return RetryPolicy(attempts=self.retries + 1)


def host_of(url: str) -> str:
    """Return a URL's host and port, nothing if it is none: whoever uses it will say so."""
    try:
        return urlsplit(url).netloc
    except ValueError:
        return ""


def key_in(path: Path) -> str:
    """Return the API key that a file holds. Raises ``UsageError``."""
    try:
        key = path.read_text("utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "not text"
        msg = f"--api-key-file: can't read {path}: {reason}"
        raise UsageError(msg) from error
    if not key:
        msg = f"--api-key-file: {path} is empty"
        raise UsageError(msg)
    return key


# RFC 9110, 5.1 and 5.5; aiohttp refuses line ends in a value with a ValueError.
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")


def _headers(lines: tuple[str, ...]) -> dict[str, str]:
    headers = {}
    for line in lines:
        match = _HEADER.fullmatch(line)
        if match is None:
            msg = f'--header: expected "Name: value", got "{line.partition(":")[0]}…"'
            raise UsageError(msg)
        headers[match[1]] = match[2].rstrip(" \t")
    return headers


@Parameter(name="*", group=REQUEST)
@frozen(kw_only=True)
class RequestParameters:
    """What is asked of the model besides the prompt; the server has its own defaults."""

    temperature: float | None = None
    """0 to 2: how freely tokens are chosen."""

    top_p: float | None = None
    """0 to 1: choose among the likeliest tokens that make up this share."""

    n: Annotated[int | None, Parameter(name=["--n", "-n"])] = None
    """How many answers; they are shown one after another."""

    stop: Annotated[tuple[str, ...], Parameter(metavar="TEXT")] = ()
    """End the answer before this text. Repeatable, at most 4."""

    max_tokens: int | None = None
    """At most so many tokens; what most servers know."""

    max_completion_tokens: int | None = None
    """The same for newer OpenAI models, reasoning included."""

    presence_penalty: float | None = None
    """-2 to 2: avoid tokens that have come up."""

    frequency_penalty: float | None = None
    """-2 to 2: avoid tokens the more often they came up."""

    logit_bias: Annotated[tuple[str, ...], Parameter(metavar="ID=BIAS")] = ()
    """Make a token likelier (to 100) or less likely (to -100). Repeatable."""

    seed: int | None = None
    """Ask for the same answer each time."""

    user: str | None = None
    """Who you are to the provider."""

    reasoning_effort: Annotated[str | None, Parameter(metavar="EFFORT")] = None
    """How much to think: none, minimal, low, medium, high, …"""

    verbosity: Annotated[str | None, Parameter(metavar="LEVEL")] = None
    """How long to answer: low, medium or high."""

    service_tier: Annotated[str | None, Parameter(metavar="TIER")] = None
    """Which of the provider's queues: auto, default, flex, …"""

    response_format: Annotated[str | None, Parameter(metavar="FORMAT")] = None
    """`json` for a JSON object, `text`, or a response format as JSON."""

    logprobs: bool = False
    """Ask for the log probability of each token (see them with --json)."""

    top_logprobs: int | None = None
    """Ask for so many likely tokens at each place; turns on --logprobs."""

    extra_body: Annotated[str | None, Parameter(metavar="JSON")] = None
    """An object with whatever else the server understands, such as `tools`."""

    no_validate: bool = False
    """Send parameters unchecked, for servers with other ranges."""

    def to_request(self) -> dict[str, Any]:
        """Return what was given, as ``session.stream()`` takes it. Raises ``UsageError``."""
        plain = (
            "temperature",
            "top_p",
            "n",
            "max_tokens",
            "max_completion_tokens",
            "presence_penalty",
            "frequency_penalty",
            "seed",
            "user",
            "reasoning_effort",
            "verbosity",
            "service_tier",
            "top_logprobs",
        )
        request = {name: getattr(self, name) for name in plain}
        request["stop"] = list(self.stop) or None
        request["logit_bias"] = _biases(self.logit_bias) or None
        request["logprobs"] = self.logprobs or self.top_logprobs is not None or None
        request["response_format"] = _response_format(self.response_format)
        given = {name: value for name, value in request.items() if value is not None}
        if self.extra_body is not None:
            given["extra_body"] = _object("--extra-body", self.extra_body)
        return given


def _biases(entries: tuple[str, ...]) -> Mapping[str, int]:
    biases = {}
    for entry in entries:
        token, _, bias = entry.partition("=")
        try:
            biases[str(int(token))] = int(bias)
        except ValueError:
            msg = f'--logit-bias: expected ID=BIAS with two integers, got "{entry}"'
            raise UsageError(msg) from None
    return biases


def _response_format(text: str | None) -> dict[str, Any] | None:
    match text:
        case None:
            return None
        case "json":
            return {"type": "json_object"}
        case "text":
            return {"type": "text"}
        case _:
            return _object("--response-format", text)


def _object(option: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        msg = f"{option}: not JSON: {error}"
        raise UsageError(msg) from None
    if not isinstance(value, dict):
        msg = f"{option}: expected a JSON object"
        raise UsageError(msg)
    return value
