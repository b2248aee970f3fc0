"""Options that shape the simulated server's answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import attrs
from attrs import frozen
from cyclopts import Group, Parameter

from chatstream.cli.exits import UsageError
from chatstream.cli.options import Connection
from chatstream.testing import Profile

_PACE = Group("Simulation", sort_key=40)
_QUIRKS = Group("Quirks of the simulation", sort_key=50)

_SECONDS = "SECONDS"
_LINE_ENDS = {"lf": "\n", "crlf": "\r\n", "cr": "\r"}


@frozen(kw_only=True)
class _Given:
    """A group of options named like the fields of ``Profile``; ``None`` wasn't given."""

    def given(self) -> dict[str, Any]:
        """Return the options that were given."""
        return {name: value for name, value in attrs.asdict(self).items() if value is not None}


@Parameter(name="*", group=_PACE)
@frozen(kw_only=True)
class Pace(_Given):
    """How fast and how much the simulated server answers."""

    preset: Literal["instant", "fast", "typical", "slow"] | None = None
    """A set of the settings below, which change it."""

    time_to_first_token: Annotated[float | None, Parameter(metavar=_SECONDS)] = None
    """From the request to the first token. [default: 0.05]"""

    gap: Annotated[float | None, Parameter(metavar=_SECONDS)] = None
    """Between chunks with tokens; 0 is as fast as it goes. [default: 0.02]"""

    jitter: Annotated[float | None, Parameter(metavar="SHARE")] = None
    """Move each chunk by up to this share of the gap, 0 to 1. [default: 0]"""

    tokens: int | None = None
    """So many tokens, whatever the prompt asks for."""

    chunk_tokens: int | None = None
    """So many of them in one chunk. [default: 1]"""

    reasoning_tokens: int | None = None
    """So many tokens of reasoning before. [default: 0]"""


@Parameter(name="*", group=_QUIRKS)
@frozen(kw_only=True)
class Quirks(_Given):
    """How else servers differ."""

    time_to_headers: Annotated[float | None, Parameter(metavar=_SECONDS)] = None
    """From the request to the response's headers. [default: 0]"""

    time_to_role: Annotated[float | None, Parameter(metavar=_SECONDS)] = None
    """From the request to the chunk with the role. [default: just before the first token]"""

    reasoning_field: Literal["reasoning_content", "reasoning"] | None = None
    """The field that reasoning comes in. [default: reasoning_content]"""

    keep_alive: Annotated[float | None, Parameter(metavar=_SECONDS)] = None
    """Send a comment after so long a silence."""

    events_per_write: int | None = None
    """Hold so many chunks back and write them at once. [default: 1]"""

    framing: Literal["event", "write", "close"] | None = None
    """An HTTP chunk for each event or each write, or none until the connection ends.
    [default: event]"""

    line_end: Literal["lf", "crlf", "cr"] | None = None
    """How lines of the stream end. [default: lf]"""

    no_done: bool | None = None
    """Leave out the closing [DONE]."""

    payload_bytes: int | None = None
    """Pad each chunk to so many bytes. [default: 0]"""

    error_rate: Annotated[float | None, Parameter(metavar="SHARE")] = None
    """The share of requests that get an error, 0 to 1. [default: 0]"""

    error_status: int | None = None
    """The status of these errors, 400 to 599. [default: 503]"""

    retry_after: Annotated[float | None, Parameter(metavar=_SECONDS)] = None
    """How long these errors ask to wait."""

    def given(self) -> dict[str, Any]:
        """Return the options that were given, as ``Profile`` takes them."""
        given = super().given()
        if given.pop("no_done", False):
            given["include_done"] = False
        if "line_end" in given:
            given["line_end"] = _LINE_ENDS[given["line_end"]]
        return given


def simulated(
    pace: Pace, connection: Connection, *, simulate: bool, seed: int | None
) -> Profile | None:
    """Return how the simulated server behaves, ``None`` if it isn't wanted.

    Raises ``UsageError`` for options that don't go with that.
    """
    if not simulate:
        for name in pace.given():
            msg = f"--{name.replace('_', '-')} shapes the simulated server: give --simulate too"
            raise UsageError(msg)
        return None
    for name in ("base_url", "api_key_file", "api_version", "header", "proxy", "trust_env"):
        if getattr(connection, name):
            msg = f"--{name.replace('_', '-')} and --simulate don't go together"
            raise UsageError(msg)
    return profile_of(pace, seed=seed)


def profile_of(*groups: _Given, seed: int | None = None) -> Profile:
    """Return the profile these options describe. Raises ``UsageError``."""
    given: dict[str, Any] = {"seed": seed or 0}
    for group in groups:
        given |= group.given()
    preset = given.pop("preset", None)
    try:
        return Profile(**given) if preset is None else Profile.preset(preset, **given)
    except ValueError as error:
        # attrs' validators give a sentence that begins with the quoted name.
        _, name, rest = str(error.args[0]).split("'", 2)
        msg = f"--{name.replace('_', '-')}{rest}"
        raise UsageError(msg) from error
