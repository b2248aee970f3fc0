"""chatstream.bench.definitions.ours: our own metrics, with their formulas."""

import math

from chatstream.bench.definitions.ours import entries
from chatstream.bench.metrics import series
from tests.bench.definitions.logs import asked, log_of


def test_every_metric_of_ours_has_a_formula():
    """
    A metric that is new must say what it is.
    """
    log = log_of(asked("c100"))
    view = entries(log, None)

    assert series(log).keys() == view.keys()
    assert all(entry["formula"] and entry["source"] for entry in view.values())


def test_a_formula_names_its_origin():
    view = entries(log_of(asked("c100")), None)

    assert "first byte of the body − created" == view["time_to_first_byte"]["formula"]
    assert "first byte of the body − sent" == view["time_to_first_byte_from_sent"]["formula"]
    assert "last event with a token − scheduled" == view["duration_from_schedule"]["formula"]
    assert "created − scheduled" == view["dispatch_delay"]["formula"]


def test_figures_are_those_of_the_summary():
    """
    First token after 90 and 110 ms.
    """
    view = entries(log_of(asked("-90 c100 c130", at=10), asked("c120", at=10)), None)

    assert [2, "s"] == [view["time_to_first_token"]["n"], view["time_to_first_token"]["unit"]]
    assert math.isclose(0.1, view["time_to_first_token"]["mean"])
    assert {"n": 0, "unit": "tokens"}.items() <= view["completion_tokens"].items()
