"""How a simulated server behaves."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import attrs
from attrs import field, validators

_not_negative = validators.ge(0.0)
_count = validators.ge(0)
_share = validators.and_(validators.ge(0.0), validators.le(1.0))


@attrs.frozen(kw_only=True)
class Profile:
    """How fast, how much and how kindly a ``SimulatedServer`` answers.

    Times are seconds from the moment the whole request had come. Chunk *k* of
    an answer is due at ``time_to_first_token + k * gap``: being late once
    delays nothing after it. The closing chunk (finish, usage, ``[DONE]`` in
    one write) comes one gap after the last token, as if it were a token too.
    """

    time_to_first_token: float = field(default=0.05, validator=_not_negative)
    gap: float = field(default=0.02, validator=_not_negative)
    """Seconds between chunks with tokens; 0 writes as fast as the client reads."""

    jitter: float = field(default=0.0, validator=_share)
    """Each time moves by up to this share of it (of ``gap`` from the second chunk on)."""

    time_to_headers: float = field(default=0.0, validator=_not_negative)
    time_to_role: float | None = field(default=None, validator=validators.optional(_not_negative))
    """When the role chunk comes; ``None``: just before the first token."""

    tokens: int | None = field(default=None, validator=validators.optional(_count))
    """So many content tokens, whatever the prompt asks for (not in JSON or tool calls)."""

    chunk_tokens: int = field(default=1, validator=validators.ge(1))
    """Tokens in one chunk."""

    reasoning_tokens: int = field(default=0, validator=_count)
    reasoning_field: Literal["reasoning_content", "reasoning"] = field(
        default="reasoning_content", validator=validators.in_(("reasoning_content", "reasoning"))
    )
    seed: int = 0
    """Decides all that looks random; a request's own ``seed`` decides its text."""

    keep_alive: float | None = field(default=None, validator=validators.optional(validators.gt(0)))
    """A ``: keep-alive`` comment after so many seconds without a write."""

    events_per_write: int = field(default=1, validator=validators.ge(1))
    """Hold so many chunks back and write them at once, when the last is due."""

    framing: Literal["event", "write", "close"] = field(
        default="event", validator=validators.in_(("event", "write", "close"))
    )
    """One HTTP chunk for each event or each write, or a body that ends with the connection."""

    line_end: Literal["\n", "\r\n", "\r"] = field(
        default="\n", validator=validators.in_(("\n", "\r\n", "\r"))
    )
    include_done: bool = True
    payload_bytes: int = field(default=0, validator=_count)
    """Pad each chunk's JSON to at least so many bytes, in ``obfuscation``."""

    error_rate: float = field(default=0.0, validator=_share)
    """The share of chat requests answered with ``error_status``."""

    error_status: int = field(
        default=503, validator=validators.and_(validators.ge(400), validators.le(599))
    )
    retry_after: float | None = field(default=None, validator=validators.optional(_not_negative))
    """The ``retry-after`` header of these errors."""

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "instant": {"time_to_first_token": 0.0, "gap": 0.0},
        "fast": {"time_to_first_token": 0.05, "gap": 0.005},
        "typical": {"time_to_first_token": 0.4, "gap": 0.02, "jitter": 0.3},
        "slow": {"time_to_first_token": 2.0, "gap": 0.1, "jitter": 0.5},
    }

    @classmethod
    def preset(
        cls, name: Literal["instant", "fast", "typical", "slow"], /, **changes: Any
    ) -> Profile:
        """Take the profile called *name*, with *changes*.

        ``instant`` never waits, which is what most tests want.
        """
        try:
            known = cls.PRESETS[name]
        except KeyError:
            msg = f"no preset {name!r}, there are {', '.join(cls.PRESETS)}"
            raise ValueError(msg) from None
        return cls(**(known | changes))
