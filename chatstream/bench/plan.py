"""What a run is to do, as data: it can be written down, repeated, and sent to workers."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import attrs
import cattrs
from attrs import field, frozen, validators

from chatstream.bench.workload import (
    COUNT,
    SECONDS,
    WHOLE,
    Number,
    Prompts,
    Synthetic,
    Workload,
    describe,
    digest,
    workload_from_json,
    workload_to_json,
)
from chatstream.errors import RequestError
from chatstream.timeouts import Timeouts

_POSITIVE = Number("a number above 0", (int, float), sys.float_info.min, math.inf)
_SHARE_ABOVE_0 = Number("a share above 0, up to 1", (int, float), sys.float_info.min, 1)
_OPTIONAL_POSITIVE = validators.optional(_POSITIVE)
_OPTIONAL_COUNT = validators.optional(COUNT)


def _in_order(_: object, __: object, schedule: tuple[float, ...] | None) -> None:
    """Check arrival times: :func:`~chatstream.bench.schedule.read_schedule` sorts a file's."""
    for before, after in pairwise((0.0, *(schedule or ()))):
        if SECONDS.of(after, "schedule") < before:
            raise RequestError("schedule", f"{after:g} after {before:g}", "ascending seconds")


@frozen(kw_only=True)
class Load:
    """How many requests are made, and when.

    Without ``request_rate`` and ``schedule`` the load is *closed*: ``max_concurrency``
    slots, each of which asks again as soon as its answer is whole. With one of them it is
    *open*: requests are due at times of their own, whatever the server does, and
    ``max_concurrency`` is a ceiling; who has to wait for it is late, and the delay is told.
    """

    max_concurrency: int | None = field(default=None, validator=_OPTIONAL_COUNT)
    request_rate: float | None = field(default=None, validator=_OPTIONAL_POSITIVE)
    """Requests due in a second; ``inf`` is all at once."""
    burstiness: float = field(default=1.0, validator=_POSITIVE)
    """Shape of the gamma distribution of the gaps between requests: 1 is Poisson, below it
    bursts, ``inf`` is a constant gap."""
    schedule: tuple[float, ...] | None = field(default=None, validator=_in_order)
    """When requests are due, in seconds from the start."""
    ramp: float = field(default=0.0, validator=SECONDS)
    """Seconds in which rate or concurrency rise linearly to their value."""
    num_prompts: int | None = field(default=None, validator=_OPTIONAL_COUNT)
    """Stop after so many."""
    duration: float | None = field(default=None, validator=_OPTIONAL_POSITIVE)
    """Stop making new ones after so many seconds."""
    warmup: int = field(default=0, validator=WHOLE)
    """The first so many are in no figure. They hand their places over to those that
    count: the load doesn't pause between."""

    def __attrs_post_init__(self) -> None:
        """Check what depends on several fields."""
        if self.closed and self.max_concurrency is None:
            raise RequestError("max_concurrency", "nothing", "a number, a rate or a schedule")
        if self.schedule is not None and self.request_rate is not None:
            raise RequestError("request_rate", "a rate and a schedule", "one of them")
        if self.schedule is not None and self.ramp:
            raise RequestError("ramp", "a ramp and a schedule", "one of them")
        if self.num_prompts is None and self.duration is None and self.schedule is None:
            raise RequestError("num_prompts", "no end", "num_prompts, duration or a schedule")
        if self.num_prompts is None and self.request_rate == math.inf:
            raise RequestError("num_prompts", "no end", "a number, if all are due at once")

    @property
    def closed(self) -> bool:
        """Whether slots ask again when they are free, instead of at times of their own."""
        return self.request_rate is None and self.schedule is None


@frozen(kw_only=True)
class Target:
    """A server and a model to ask."""

    base_url: str
    model: str
    name: str = ""
    """What the figures are shown under."""
    api_key: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(factory=dict, repr=False)
    api_version: str | None = None
    """Azure's."""
    proxy: str | None = field(default=None, repr=False)
    trust_env: bool = False


@frozen(kw_only=True)
class Goals:
    """What a request must keep to be good, in seconds; ``None`` is no goal."""

    time_to_first_token: float | None = field(default=None, validator=_OPTIONAL_POSITIVE)
    time_to_first_output: float | None = field(default=None, validator=_OPTIONAL_POSITIVE)
    time_per_output_token: float | None = field(default=None, validator=_OPTIONAL_POSITIVE)
    duration: float | None = field(default=None, validator=_OPTIONAL_POSITIVE)
    attainment: float = field(default=0.99, validator=_SHARE_ABOVE_0)
    """The share of requests that must be good for a load to be met."""

    def limits(self) -> dict[str, float]:
        """Return the goals that there are, by the name of their metric."""
        found = attrs.asdict(self)
        del found["attainment"]
        return {name: limit for name, limit in found.items() if limit is not None}


@frozen(kw_only=True)
class Plan:
    """One load, made on one or several targets at a time."""

    targets: tuple[Target, ...] = field(validator=validators.min_len(1))
    load: Load
    workload: Workload
    params: Mapping[str, Any] = field(factory=dict)
    """Request parameters of all requests, as ``session.stream`` takes them; they go before
    those of a turn."""
    extra_body: Mapping[str, Any] = field(factory=dict)
    validate: bool = True
    goals: Goals | None = None
    timeouts: Timeouts = field(factory=Timeouts)
    attempts: int = field(default=1, validator=COUNT)
    """Tries of each request; more than one hides failures, and their time counts. A connection
    that the server had closed while it was idle costs none."""
    seed: int = 0
    keep_text: bool = False
    """Whether the log holds what the model said."""


# --- Written down ------------------------------------------------------------

_converter = cattrs.Converter(forbid_extra_keys=True)
_converter.register_unstructure_hook(float, lambda value: "inf" if value == math.inf else value)
_converter.register_structure_hook(float, lambda value, _: float(value))
_converter.register_structure_hook(Workload, lambda value, _: workload_from_json(value))
for _kind in (Prompts, Synthetic):
    _converter.register_unstructure_hook(_kind, workload_to_json)


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """Return a plan as JSON, keys and prompts included: for a worker, not for a report."""
    document: dict[str, Any] = _converter.unstructure(plan)
    return document


def plan_from_json(document: Mapping[str, Any]) -> Plan:
    """Return the plan that :func:`plan_to_json` wrote down."""
    plan: Plan = _converter.structure(document, Plan)
    return plan


def plan_described(plan: Plan) -> dict[str, Any]:
    """Return a plan as JSON for a report: without keys, headers, proxies and prompts.

    Of parameters that may hold text, there is a digest: it tells whether they are alike.
    """
    document: dict[str, Any] = _converter.unstructure(plan)
    document["workload"] = describe(plan.workload)
    document["params"] = {name: _shown(value) for name, value in plan.params.items()}
    document["extra_body"] = {name: _shown(value) for name, value in plan.extra_body.items()}
    for target in document["targets"]:
        target["base_url"] = _USER.sub("", target["base_url"], count=1)
        for secret in ("api_key", "headers", "proxy"):
            del target[secret]
    return document


_USER = re.compile(r"(?<=//)[^/?#]*@")
"""The name and password in a URL."""


def _shown(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | None) else digest(value)


def load_to_json(load: Load) -> dict[str, Any]:
    """Return a load as JSON."""
    document: dict[str, Any] = _converter.unstructure(load)
    return document


def load_from_json(document: Mapping[str, Any]) -> Load:
    """Return the load that :func:`load_to_json` wrote down."""
    load: Load = _converter.structure(document, Load)
    return load


def goals_from_json(document: Mapping[str, Any]) -> Goals:
    """Return the goals that are in a plan's JSON."""
    goals: Goals = _converter.structure(document, Goals)
    return goals
