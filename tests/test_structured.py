"""Answers that are instances of a Python type."""

import sys
from itertools import pairwise
from typing import Literal

import attrs
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatstream import (
    ChatStream,
    DecodeError,
    InterruptedStreamError,
    RequestError,
    Verdict,
    structured,
    tools,
    user,
)
from chatstream.schema import UnsupportedTypeError
from chatstream.structured import CutShortError, MisfitError, RefusedError, StructuredError
from chatstream.testing import FakeClock
from chatstream.testing.scripted import scripted

ASK = [user("Oslo?")]


@attrs.frozen
class Weather:
    """What it is like."""

    city: str
    celsius: float
    sky: Literal["clear", "cloudy"]
    gusts: list[float] = attrs.Factory(list)


OSLO = '{"city": "Oslo", "celsius": -1, "sky": "clear", "gusts": null}'


class Says:
    """A session that gives one answer, in pieces."""

    def __init__(self, *pieces, finish_reason="stop", **delta):
        choices = [{"content": piece} for piece in pieces] or [delta]
        chunks = [{"index": 0, "delta": each} for each in choices]
        chunks.append({"index": 0, "delta": {}, "finish_reason": finish_reason})
        self._pieces = [b"data: %b\n\n" % orjson.dumps({"choices": [each]}) for each in chunks]
        if finish_reason is None:
            self._pieces.pop()
        self.asked = {}

    def stream(self, **params):
        self.asked = params
        clock = FakeClock()
        source = scripted(clock, *((0.1, piece) for piece in self._pieces))
        return ChatStream(source, clock=clock, call_later=clock.call_later)


async def partials(session, kind, **options):
    async with structured.stream(session, kind, ASK, **options) as answer:
        return [value async for value in answer.partials()]


# --- Values --------------------------------------------------------------------------


async def test_an_answer_is_an_instance(session, server):
    """
    Over a socket, of a server that answers after the schema.
    """
    weather = await structured.parse(session, Weather, ASK, model="m", seed=1)

    body = server.requests[0].body
    wanted = body["response_format"]["json_schema"]
    assert isinstance(weather, Weather)
    assert ("Weather", True, 1) == (wanted["name"], wanted["strict"], body["seed"])
    assert ["city", "celsius", "sky", "gusts"] == wanted["schema"]["required"]
    assert "What it is like." == wanted["schema"]["description"]


async def test_null_stands_for_a_default():
    """
    Strict schemas have no other way to leave something out.
    """
    expected = Weather("Oslo", -1.0, "clear", [])

    assert expected == await structured.parse(Says(OSLO), Weather, ASK)


@pytest.mark.parametrize(
    ("expected", "kind", "text"),
    [
        (3, int, '{"value": 3}'),
        ([1, 2], list[int], '{"value": [1, 2]}'),
        ("b", Literal["a", "b"], '{"value": "b"}'),
        (None, int | None, '{"value": null}'),
        (Weather("Oslo", -1.0, "clear"), Weather | str, f'{{"value": {OSLO}}}'),
    ],
)
async def test_what_is_no_object_is_asked_for_in_one(expected, kind, text):
    session = Says(text)

    assert expected == await structured.parse(session, kind, ASK)
    assert "object" == session.asked["response_format"]["json_schema"]["schema"]["type"]


async def test_a_schema_need_not_be_strict():
    """
    Then a type may have what strict schemas can't tell.
    """
    session = Says('{"value": {"a": 1}}')

    found = await structured.parse(session, dict[str, int], ASK, strict=False, name="counts")

    wanted = session.asked["response_format"]["json_schema"]
    assert {"a": 1} == found
    assert ("counts", False) == (wanted["name"], wanted["strict"])
    with pytest.raises(UnsupportedTypeError):
        structured.stream(session, dict[str, int], ASK)


def test_a_types_name_is_one_that_a_request_can_have():
    session = Says()
    long = attrs.make_class("Größe" * 20, {"x": attrs.field(type=int)})
    structured.stream(session, long, ASK)

    name = session.asked["response_format"]["json_schema"]["name"]
    assert "Gr__eGr__e" == name[:10]
    assert 64 == len(name)


@pytest.mark.parametrize(
    ("parameter", "options"),
    [("n", {"n": 2}), ("response_format", {"response_format": {"type": "text"}})],
)
def test_what_the_type_decides_is_not_asked_for_otherwise(parameter, options):
    with pytest.raises(RequestError) as caught:
        structured.stream(Says(), Weather, ASK, **options)

    assert parameter == caught.value.parameter


async def test_a_run_of_tools_may_end_with_a_value(session):
    """
    So may any request: the format and the reading go by themselves.
    """

    async def clock() -> str:
        return "noon"

    wanted = structured.response_format(list[Weather], name="all")
    options = {"model": "m", "response_format": wanted}
    async with tools.run(session, [user("clock")], tools=[clock], **options) as run:
        await run.collect()

    [weather] = structured.value_of(list[Weather], run.completion)
    assert "all" == wanted["json_schema"]["name"]
    assert isinstance(weather, Weather)
    with pytest.raises(MisfitError) as caught:
        structured.value_of(Weather, run.completion)
    assert run.completion == caught.value.partial


# --- No value ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("$: expected JSON, got something else at character 0 of 5", "Sunny"),
        ("$: expected object, got array", "[]"),
        ("$.celsius: expected number, got string", OSLO.replace("-1", '"-1"')),
        ('$.sky: expected "clear" or "cloudy", got another string', OSLO.replace("clear", "red")),
    ],
)
async def test_an_answer_that_does_not_fit_is_told_with_its_path(message, text):
    """
    It is kept: what was said may do for something.
    """
    with pytest.raises(MisfitError) as caught:
        await structured.parse(Says(text), Weather, ASK)

    error = caught.value
    assert message == str(error)
    assert message.startswith(error.path)
    assert text == error.text == error.partial.text
    assert Verdict.FINISHED is error.report.verdict
    assert 1 == len(error.attempts)
    assert isinstance(error, StructuredError)
    assert isinstance(error, DecodeError)
    assert error.retryable


async def test_a_refusal_is_an_error_of_its_own():
    """
    Whose sentence doesn't hold what the model said.
    """
    with pytest.raises(RefusedError) as caught:
        await structured.parse(Says(refusal="I won't."), Weather, ASK)

    assert "I won't." == caught.value.refusal
    assert "won't" not in str(caught.value)
    assert "" == caught.value.text


@pytest.mark.parametrize("reason", ["length", "content_filter"])
async def test_an_answer_that_was_cut_is_told_so(reason):
    """
    Even if its JSON can be read: what is missing may be what matters.
    """
    with pytest.raises(CutShortError, match=f"cut: {reason}$") as caught:
        await structured.parse(Says(OSLO, finish_reason=reason), Weather, ASK)

    assert reason == caught.value.verdict
    assert OSLO == caught.value.text


async def test_a_stream_that_was_closed_has_no_value():
    async with structured.stream(Says(OSLO), Weather, ASK) as answer:
        await answer.stream.aclose()
        with pytest.raises(CutShortError) as caught:
            await answer.result()

    assert Verdict.CLOSED is caught.value.verdict


async def test_an_error_of_the_stream_is_raised_as_it_is():
    with pytest.raises(InterruptedStreamError) as caught:
        await structured.parse(Says(OSLO[:9], finish_reason=None), Weather, ASK)

    assert OSLO[:9] == caught.value.partial.text


def test_an_error_that_left_no_stream_has_no_text():
    assert "" == CutShortError(Verdict.LENGTH).text


# --- Partial values ------------------------------------------------------------------


async def test_partial_values_are_what_is_known_so_far():
    pytest.importorskip("jiter")
    session = Says('{"city": "Os', "lo", '", "celsius"', ": 1", '.5, "sky": "clear', '"}')

    async with structured.stream(session, Weather, ASK) as answer:
        found = [value async for value in answer.partials()]
        weather = await answer.result()

    assert [
        {"city": "Os"},
        {"city": "Oslo"},
        {"city": "Oslo", "celsius": 1},
        {"city": "Oslo", "celsius": 1.5, "sky": "clear"},
    ] == found
    assert Weather("Oslo", 1.5, "clear") == weather


async def test_partial_values_of_what_is_no_object():
    """
    There are none before it begins, and of what is no JSON.
    """
    pytest.importorskip("jiter")

    assert [[], [1], [1, 2]] == await partials(
        Says("{", '"val', 'ue": [', "1", ", 2", "]}"), list[int]
    )
    assert [] == await partials(Says("[1]"), list[int])
    assert [] == await partials(Says("Sunny", "."), Weather)
    assert [] == await partials(Says(refusal="No."), Weather)


@given(text=st.text(max_size=300), cut=st.integers(1, 40))
async def test_the_last_partial_value_is_the_whole(text, cut):
    """
    However the text is cut, and though a long one isn't read again at each piece.
    """
    pytest.importorskip("jiter")
    wire = orjson.dumps({"value": text}).decode()
    pieces = [wire[at : at + cut] for at in range(0, len(wire), cut)]
    found = await partials(Says(*pieces), str)

    assert text == found[-1]
    assert all(one != other for one, other in pairwise(found))


async def test_reading_again_takes_no_square_of_the_length():
    """
    A page that comes letter by letter is read some hundred times, not some thousand.
    """
    pytest.importorskip("jiter")
    text = "x" * 5000
    found = await partials(Says(*f'{{"value": "{text}"}}'), str)

    assert text == found[-1]
    assert len(found) < 500


async def test_without_jiter_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "jiter", None)
    async with structured.stream(Says(OSLO), Weather, ASK) as answer:
        with pytest.raises(ImportError, match=r"chatstream-sdk\[jiter\]"):
            async for _ in answer.partials():
                pass
        assert "Oslo" == (await answer.result()).city


async def test_partial_values_may_be_left_early():
    pytest.importorskip("jiter")
    async with structured.stream(Says('{"value": [1', ", 2", "]}"), list[int], ASK) as answer:
        async for value in answer.partials():
            assert [1] == value
            break
        assert [1, 2] == await answer.result()
