"""Keys and the headers that carry them."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import reduce

from multidict import CIMultiDict

from chatstream.errors import RequestError

ApiKey = str | Callable[[], str | Awaitable[str]]
"""A key, or what gives one: asked before each attempt."""


class Secret(str):
    """A string that tools which show local variables don't show: its ``repr`` is stars."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


def is_secret(header: str) -> bool:
    """Whether a header of this name carries a key."""
    name = header.lower()
    return name in {"authorization", "proxy-authorization", "cookie"} or "key" in name


async def key_of(source: ApiKey | None) -> str | None:
    """Return the key, ``None`` or ``""`` if there is none; raise ``RequestError``.

    No message here holds the key.
    """
    failure = None
    if callable(source):
        try:
            source = await _asked(source)
        except Exception as error:  # noqa: BLE001 raised again, without what it may quote
            failure = RequestError("api_key", f"{type(error).__name__} from its callable", "a key")
    if failure is not None:
        raise failure
    if source is None:
        return None
    if not isinstance(source, str):
        kind, source = type(source).__name__, None
        raise RequestError("api_key", kind, "str")
    source = Secret(source)
    key = Secret(source.strip(" "))
    if not key.isascii() or not key.isprintable() or " " in key:
        raise RequestError(
            "api_key", "a key with other characters", "printable ASCII without spaces"
        )
    return key


async def _asked(source: Callable[[], str | Awaitable[str]]) -> str:
    """Return what a callable gives, by itself: no variable of who goes on holds it bare."""
    answer = source()
    return await answer if inspect.isawaitable(answer) else answer


def auth_headers(key: str | None, *, azure: bool, given: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that carry *key*, unless the caller's own already do."""
    named = {name.lower() for name in given}
    if not key or "authorization" in named or "api-key" in named:
        return {}
    return {"api-key": key} if azure else {"Authorization": Secret(f"Bearer {key}")}


def secrets_in(headers: Mapping[str, str]) -> list[str]:
    """Return the values of headers that carry keys."""
    return [Secret(v.removeprefix("Bearer ")) for name, v in headers.items() if is_secret(name)]


def redact(error: Exception, secrets: Iterable[str]) -> None:
    """Take *secrets* out of what an error says: some servers quote a key back."""
    for secret in filter(None, secrets):
        for name, value in vars(error).items():
            if isinstance(value, str):
                setattr(error, name, _hidden(value, secret))
            elif isinstance(value, bytes):
                text = _hidden(value.decode("latin-1"), secret)
                setattr(error, name, _hidden_at_start(text, secret).encode("latin-1"))
        error.args = tuple(
            _hidden(part, secret) if isinstance(part, str) else part for part in error.args
        )


def without(secrets: Iterable[str], headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return a response's headers with no secret in them: some servers quote a key back."""
    said = "\n".join(headers.values())
    found = [secret for secret in secrets if secret and secret in said]
    if not found:
        return headers
    return CIMultiDict((name, reduce(_hidden, found, value)) for name, value in headers.items())


def _hidden(text: str, secret: str) -> str:
    """Return *text* without *secret*, nor a start of it where the text was cut."""
    text = text.replace(secret, "***")
    shortened = text.removesuffix("…")
    for size in range(len(secret) - 1, 5, -1):
        if shortened.endswith(secret[:size]):
            return shortened[:-size] + "***"
    return text


def _hidden_at_start(text: str, secret: str) -> str:
    """Return *text* without an end of *secret* with which it begins, as a tail may."""
    for size in range(len(secret) - 1, 5, -1):
        if text.startswith(secret[-size:]):
            return "***" + text[size:]
    return text
