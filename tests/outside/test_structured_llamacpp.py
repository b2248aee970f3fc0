"""Types and functions at llama.cpp's own server, which holds random weights to a schema."""

import asyncio
import datetime as dt
import enum
from typing import Annotated, Literal

import attrs
import pytest

from chatstream import structured, tools, user
from chatstream.structured import CutShortError
from tests.outside.tiny_llama import FIRST_BYTE, READABLE

pytestmark = pytest.mark.outside

ASK = [user("Hi")]
OPTIONS = {"model": "tiny", "logit_bias": READABLE, "max_completion_tokens": 2000}
BRACE = {str(FIRST_BYTE + ord("{")): 30}


class Size(enum.Enum):
    SMALL = 1
    BIG = 2


@attrs.frozen
class Cat:
    kind: Literal["cat"]
    lives: Literal[7, 9] = 9


@attrs.frozen
class Dog:
    kind: Literal["dog"]
    trained: bool = False


@attrs.frozen
class Household:
    """Who lives there."""

    name: Literal["Miller", "Łukasz", 'O"Hara']
    size: Annotated[Size, "How large it is"]
    pet: Cat | Dog
    other: Cat | Dog | None
    night: dt.time
    alarm: bool | None = None
    pets: tuple[Literal["cat", "dog"], ...] = ()


@attrs.frozen
class Nest:
    """May hold another."""

    egg: bool
    inner: "Nest | None" = None


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("kind", [Household, Nest, Cat | Dog, bool | None, Size])
async def test_what_it_says_is_of_the_type(llama, kind, strict):
    """
    The weights know nothing: that it fits is the schema's doing alone.
    """
    found = []
    for seed in range(4):
        async with structured.stream(
            llama, kind, ASK, strict=strict, seed=seed, **OPTIONS
        ) as answer:
            try:
                found.append(await answer.result())
            except CutShortError:  # chance may go on for ever
                continue

    assert found
    classes = kind if isinstance(kind, type) else kind.__args__
    assert all(isinstance(value, classes) for value in found)


async def test_partial_values_lead_to_the_whole(llama):
    pytest.importorskip("jiter")
    async with structured.stream(llama, Cat, ASK, seed=1, **OPTIONS) as answer:
        found = [value async for value in answer.partials()]
        cat = await answer.result()

    assert {"kind": "cat"} in found or {"kind": "ca"} in found
    assert "cat" == cat.kind
    assert found[-1]["kind"] == cat.kind


async def test_a_function_is_called_with_what_it_takes(llama):
    """
    Then the random weights get words in, with the result in their prompt.
    """
    taken = []

    async def feed(pet: Cat | Dog, portions: Literal[1, 2]) -> str:
        """Feed a pet."""
        taken.append((pet, portions))
        return "It ate."

    options = {"parallel_tool_calls": False, "logit_bias": BRACE, "max_completion_tokens": 300}
    async with tools.run(
        llama, ASK, tools=[feed], max_rounds=1, model="tiny", tool_choice="required", **options
    ) as run:
        with pytest.raises(tools.RoundsError):
            await run.collect()
    await llama.create(model="tiny", messages=run.messages, max_completion_tokens=5)

    assert "It ate." == run.added[-1].content
    assert isinstance(taken[0][0], Cat | Dog)
    assert taken[0][1] in {1, 2}


async def test_many_at_once(llama):
    asks = [structured.parse(llama, Dog, ASK, seed=seed, **OPTIONS) for seed in range(8)]
    dogs = await asyncio.gather(*asks)

    assert all(isinstance(dog, Dog) for dog in dogs)
