"""Keys and the headers that carry them."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping

from chatstream.errors import RequestError

ApiKey = str | Callable[[], str | Awaitable[str]]
"""A key, or what gives one: asked before each attempt."""


async def key_of(source: ApiKey | None) -> str | None:
    """Return the key, ``None`` or ``""`` if there is none; raise ``RequestError``.

    No message here holds the key.
    """
    failure = None
    if callable(source):
        try:
            answer = source()
            source = await answer if inspect.isawaitable(answer) else answer
        except Exception as error:  # noqa: BLE001 raised again, without what it may quote
            failure = RequestError("api_key", f"{type(error).__name__} from its callable", "a key")
    if failure is not None:
        raise failure
    if source is None:
        return None
    if not isinstance(source, str):
        raise RequestError("api_key", type(source).__name__, "str")
    key = source.strip(" ")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise RequestError(
            "api_key", "a key with other characters", "printable ASCII without spaces"
        )
    return key


def auth_headers(key: str | None, *, azure: bool, given: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that carry *key*, unless the caller's own already do."""
    named = {name.lower() for name in given}
    if not key or "authorization" in named or "api-key" in named:
        return {}
    return {"api-key": key} if azure else {"Authorization": f"Bearer {key}"}


def redact(error: Exception, key: str | None) -> None:
    """Take *key* out of what an error says: some servers quote it back."""
    if not key:
        return
    for name, value in vars(error).items():
        if isinstance(value, str):
            setattr(error, name, value.replace(key, "***"))
    error.args = tuple(
        part.replace(key, "***") if isinstance(part, str) else part for part in error.args
    )
