"""chatstream.cli.simulation."""

import inspect
import re

import attrs
import pytest

from chatstream.cli import simulation
from chatstream.cli.exits import UsageError
from chatstream.cli.options import Connection
from chatstream.cli.simulation import Pace, Quirks, profile_of, simulated
from chatstream.testing import Profile

DEFAULTS = {field.name: field.default for field in attrs.fields(Profile)}


def test_every_field_of_a_profile_is_an_option():
    options = {field.name for group in (Pace, Quirks) for field in attrs.fields(group)}

    assert {*DEFAULTS} == options - {"preset", "no_done"} | {"seed", "include_done"}


def test_nothing_given_is_the_default_profile():
    assert Profile() == profile_of(Pace(), Quirks())


@pytest.mark.parametrize("name", ["time_to_first_token", "gap", "jitter", "error_rate", "framing"])
def test_the_help_tells_the_profiles_default(name):
    source = inspect.getsource(simulation)
    told = re.search(rf"    {name}: .*?\[default: (.*?)\]", source, re.DOTALL)
    default = DEFAULTS[name]

    assert (f"{default:g}" if isinstance(default, float) else default) == told[1]


def test_options_change_a_preset():
    wanted = Profile.preset("slow", gap=1.0, include_done=False, line_end="\r\n", seed=4)

    assert wanted == profile_of(
        Pace(preset="slow", gap=1.0), Quirks(no_done=True, line_end="crlf"), seed=4
    )


@pytest.mark.parametrize(
    ("words", "given"),
    [
        ("--gap must be >= 0", Pace(gap=-1)),
        ("--chunk-tokens must be >= 1", Pace(chunk_tokens=0)),
        ("--error-status must be <= 599", Quirks(error_status=700)),
    ],
)
def test_a_value_out_of_range_is_named_as_typed(words, given):
    with pytest.raises(UsageError, match=words):
        profile_of(given)


def test_a_simulation_is_there_if_it_is_wanted():
    wanted = simulated(Pace(gap=1), Connection(), simulate=True, seed=4)

    assert profile_of(Pace(gap=1), seed=4) == wanted
    assert simulated(Pace(), Connection(base_url="http://h"), simulate=False, seed=4) is None


@pytest.mark.parametrize(
    ("words", "pace", "connection", "simulate"),
    [
        ("--base-url and --simulate don't go together", Pace(), {"base_url": "http://h"}, True),
        ("--api-version and --simulate don't", Pace(), {"api_version": "v"}, True),
        ("--proxy and --simulate don't", Pace(), {"proxy": "http://h"}, True),
        ("--chunk-tokens shapes the simulated server", Pace(chunk_tokens=1), {}, False),
    ],
)
def test_options_of_one_dont_go_with_the_other(words, pace, connection, simulate):
    with pytest.raises(UsageError, match=words):
        simulated(pace, Connection(**connection), simulate=simulate, seed=None)
