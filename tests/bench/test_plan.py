import math

import attrs
import orjson
import pytest

from chatstream import RequestError, Timeouts
from chatstream.bench.plan import (
    Goals,
    Load,
    Plan,
    Target,
    goals_from_json,
    load_from_json,
    load_to_json,
    plan_described,
    plan_from_json,
    plan_to_json,
)
from chatstream.bench.workload import Conversation, Prompts, Synthetic, Turn

KEY, PROMPT = "sk-canary", "the prompt"
PLANS = [
    Plan(
        targets=(
            Target(
                base_url="http://127.0.0.1:1/v1",
                model="m",
                api_key=KEY,
                headers={"x-key": KEY},
                proxy=f"http://u:{KEY}@proxy",
            ),
        ),
        load=Load(request_rate=math.inf, burstiness=math.inf, num_prompts=5),
        workload=Synthetic(input_tokens=3, output_tokens=4),
        goals=Goals(time_to_first_token=0.2),
        timeouts=Timeouts(idle=None, total=3),
        params={"temperature": 0.5},
    ),
    Plan(
        targets=(Target(base_url="http://127.0.0.1:1/v1", model="m"),),
        load=Load(schedule=(0.0, 1.5)),
        workload=Prompts(
            conversations=(
                Conversation(turns=(Turn(messages=({"role": "user", "content": PROMPT},)),)),
            )
        ),
    ),
]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({}, "max_concurrency"),
        ({"max_concurrency": 1}, "num_prompts"),
        ({"max_concurrency": 0, "num_prompts": 1}, "max_concurrency"),
        ({"max_concurrency": 1.5, "num_prompts": 1}, "max_concurrency"),
        ({"max_concurrency": True, "num_prompts": 1}, "max_concurrency"),
        ({"request_rate": 0, "num_prompts": 1}, "request_rate"),
        ({"request_rate": math.nan, "num_prompts": 1}, "request_rate"),
        ({"request_rate": "2", "num_prompts": 1}, "request_rate"),
        ({"request_rate": 1, "schedule": (0.0,)}, "request_rate"),
        ({"schedule": (0.0, 2.0, 1.0)}, "schedule"),
        ({"schedule": (-1.0,)}, "schedule"),
        ({"schedule": (0.0,), "ramp": 1}, "ramp"),
        ({"request_rate": math.inf, "duration": 1}, "num_prompts"),
        ({"request_rate": 1, "num_prompts": 1, "burstiness": 0}, "burstiness"),
        ({"max_concurrency": 1, "num_prompts": 1, "ramp": -1}, "ramp"),
        ({"max_concurrency": 1, "num_prompts": 1, "warmup": -1}, "warmup"),
    ],
)
def test_a_load_that_makes_no_sense_is_refused(fields, named):
    with pytest.raises(RequestError) as caught:
        Load(**fields)

    assert named == caught.value.parameter


def test_a_load_is_closed_without_times_of_its_own():
    assert Load(max_concurrency=1, num_prompts=1).closed
    assert not Load(request_rate=1, num_prompts=1).closed
    assert not Load(schedule=(0.0,), max_concurrency=1).closed


def test_goals_are_by_the_names_of_metrics():
    goals = Goals(time_to_first_token=0.2, duration=5)

    assert {"time_to_first_token": 0.2, "duration": 5} == goals.limits()
    assert goals == goals_from_json({"time_to_first_token": 0.2, "duration": 5})


@pytest.mark.parametrize("attainment", [0, 1.1])
def test_an_attainment_is_a_share(attainment):
    with pytest.raises(RequestError, match="attainment"):
        Goals(attainment=attainment)


@pytest.mark.parametrize("plan", PLANS)
def test_a_plan_survives_being_sent(plan):
    assert plan == plan_from_json(orjson.loads(orjson.dumps(plan_to_json(plan))))


@pytest.mark.parametrize("plan", PLANS)
def test_a_load_survives_being_written_down(plan):
    assert plan.load == load_from_json(orjson.loads(orjson.dumps(load_to_json(plan.load))))


@pytest.mark.parametrize("plan", PLANS)
def test_a_report_shows_neither_keys_nor_prompts(plan):
    shown = orjson.dumps(plan_described(plan)).decode()

    assert KEY not in shown
    assert PROMPT not in shown
    assert "http://127.0.0.1:1/v1" in shown


@pytest.mark.parametrize(
    ("shown", "url"),
    [
        ("https://host:1/v1", f"https://user:{KEY}@host:1/v1"),
        ("https://host/v1", f"https://a@b:{KEY}@host/v1"),
        ("https://host/a@b", "https://host/a@b"),
    ],
)
def test_a_url_is_shown_without_its_user(shown, url):
    plan = attrs.evolve(PLANS[0], targets=(Target(base_url=url, model="m"),))

    assert shown == plan_described(plan)["targets"][0]["base_url"]


def test_neither_does_a_plan_itself():
    assert KEY not in repr(PLANS[0])


def test_of_parameters_that_may_hold_text_a_report_has_a_digest():
    """
    Who compares two runs must know whether they are alike, and nobody what they say.
    """
    plan = attrs.evolve(
        PLANS[0], params={"temperature": 0.5, "user": PROMPT}, extra_body={"key": KEY, "top_k": 5}
    )
    shown = plan_described(plan)

    assert 0.5 == shown["params"]["temperature"]
    assert 5 == shown["extra_body"]["top_k"]
    assert PROMPT not in str(shown)
    assert KEY not in str(shown)
    assert shown == plan_described(plan)
    other = attrs.evolve(plan, extra_body={"key": "another", "top_k": 5})
    assert shown["extra_body"] != plan_described(other)["extra_body"]
