"""Requests and addresses that callers give: rows K13 and K25 of the faults."""

import asyncio
import math

import orjson
import pytest
from yarl import URL

from chatstream import ChatSession, RequestError, user
from tests.faults.acts import ASK, ONCE, read


@pytest.fixture
async def hearing(faulty, wire):
    """A server that notes what it hears, and answers it."""
    return await faulty(wire.always(wire.response(wire.ANSWER)))


# --- What is asked -----------------------------------------------------------------------

LOOP = []
LOOP.append(LOOP)

UNSENDABLE = {
    "an object": {"seed": object()},
    "bytes": {"user": b"x"},
    "a set": {"stop": {"x"}},
    "an object inside": {"extra_body": {"deep": [{"er": object()}]}},
    "a key that is none": {"extra_body": {"deep": {1: 2}}},
    "NaN": {"temperature": math.nan},
    "NaN inside": {"extra_body": {"deep": [math.nan]}},
    "infinite": {"extra_body": {"deep": [-math.inf]}},
    "a huge number": {"extra_body": {"deep": 2**64}},
    "half a character": {"messages": [user("secret \ud83d")]},
    "half a character inside": {"extra_body": {"deep": ["secret \ude00"]}},
    "half a key": {"extra_body": {"secret \ude00": 1}},
    "itself": {"extra_body": {"deep": LOOP}},
    "not to stream": {"extra_body": {"stream": False}},
    "no model": {"model": None},
    "no messages": {"messages": None},
}


@pytest.mark.parametrize("name", UNSENDABLE)
async def test_what_has_no_json_is_refused(hearing, name):
    """
    K13: unserialisable, not a number, half a character, ``stream=False``: before anything
    is sent, and without the content.
    """
    async with ChatSession(hearing.base_url) as session:
        with pytest.raises(RequestError) as caught:
            session.stream(**(ASK | UNSENDABLE[name]))
        if name != "not to stream":
            with pytest.raises(RequestError):
                await session.create(**(ASK | UNSENDABLE[name]))

    assert "secret" not in str(caught.value)
    assert 0 == hearing.connections


@pytest.mark.parametrize("name", [name for name in UNSENDABLE if name != "not to stream"])
async def test_what_has_no_json_is_refused_unchecked_too(hearing, name):
    """
    K13: ``validate=False`` is for servers with other ranges, not for what can't be sent.
    """
    async with ChatSession(hearing.base_url, validate=False) as session:
        with pytest.raises(RequestError):
            session.stream(**(ASK | UNSENDABLE[name]))

    assert 0 == hearing.connections


async def test_a_request_of_50_megabytes(hearing):
    """
    K13: images are that large; it arrives whole, and nothing warns.
    """
    url = "data:image/png;base64," + "A" * 50_000_000
    image = {"type": "image_url", "image_url": {"url": url}}
    ask = {"model": "m", "messages": [{"role": "user", "content": [image]}]}
    async with ChatSession(hearing.base_url, retry=ONCE) as session:
        played = await read(session.stream(ask))

    assert (None, "Hi") == (played.error, played.text)
    assert ask["messages"] == orjson.loads(hearing.requests[0].body)["messages"]


async def test_a_request_that_is_changed_while_it_is_sent(raw_server, wire):
    """
    K13: what counts is what it was at the call, in further attempts too.
    """

    async def refuse_usage_once(connection):
        while (request := await connection.request()) is not None:
            raw.requests.append(orjson.loads(request.body))
            content["text"] = "changed again"
            error = b'{"error":{"message":"stream_options: unknown"}}'
            refusal = wire.response(error, "400 No", "application/json")
            await connection.send(refusal if len(raw.requests) == 1 else wire.response(wire.ANSWER))

    raw = await raw_server(refuse_usage_once)
    content = {"type": "text", "text": "as it was"}
    ask = {"model": "m", "messages": [{"role": "user", "content": [content]}], "metadata": {}}
    async with ChatSession(raw.base_url, retry=ONCE) as session:
        stream = session.stream(ask)
        content["text"] = "changed"
        ask["messages"].clear()
        ask["metadata"]["a"] = "b"
        played = await read(stream)

    assert None is played.error
    for body in raw.requests:
        [message] = body["messages"]
        assert "as it was" == message["content"][0]["text"]
        assert {} == body["metadata"]
    assert 2 == len(raw.requests)


# --- Where it goes ---------------------------------------------------------------------------

REFUSED = [
    "http://me:hidden@127.0.0.1/v1",
    "http://me@127.0.0.1/v1",
    "http://:hidden@127.0.0.1/v1",
    "http://127.0.0.1@evil.invalid/v1",
    "http://127.0.0.1\\@evil.invalid/v1",
    "http://127.0.0.1 .evil.invalid/v1",
    "http:\\\\127.0.0.1\\v1",
    "http://127.0.0.1/v1?key=hidden",
    "http://127.0.0.1/v1#hidden",
    "http://127.0.0.1:80:80/v1",
    "http://127.0.0.1:99999/v1",
    "http://127.0.0.1:x/v1",
    "http://[::1/v1",
    "http:///v1",
    "http://",
    "//127.0.0.1/v1",
    "127.0.0.1:80/v1",
    "127.0.0.1/v1",
    "file:///etc/passwd",
    "ftp://127.0.0.1/v1",
    "ws://127.0.0.1/v1",
    "",
    7,
]


@pytest.mark.parametrize("url", REFUSED)
def test_an_address_that_is_refused(url):
    """
    K25: userinfo, other schemes, no scheme, a query: refused, and not quoted.
    """
    with pytest.raises(RequestError) as caught:
        ChatSession(url, "k")

    assert "base_url" == caught.value.parameter
    assert "hidden" not in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None


ACCEPTED = {
    "http://127.0.0.1:{port}/v1": "/v1/chat/completions",
    "http://127.0.0.1:{port}": "/chat/completions",
    "http://127.0.0.1:{port}/v1/": "/v1/chat/completions",
    "HTTP://LOCALHOST:{port}/v1": "/v1/chat/completions",
    "http://127.0.0.1:{port}/v1/..": "/chat/completions",
    "http://127.0.0.1:{port}/v1/../../..": "/chat/completions",
    "http://127.0.0.1:{port}/v1/%2e%2e/x": "/x/chat/completions",
    "http://127.0.0.1:{port}//evil.invalid/v1": "//evil.invalid/v1/chat/completions",
    "http://127.0.0.1:{port}/\\evil.invalid": "/%5Cevil.invalid/chat/completions",
    "http://127.0.0.1:{port}/v1/http://evil.invalid": "/v1/http://evil.invalid/chat/completions",
    "http://127.0.0.1:{port}/v1\r\nX-Evil: 1": "/v1X-Evil:%201/chat/completions",
}


@pytest.mark.parametrize("form", ACCEPTED)
async def test_an_address_that_is_used(hearing, form):
    """
    K25: with dots and slashes in odd places: the request comes to this very host.
    """
    async with ChatSession(form.format(port=hearing.port), "k", retry=ONCE) as session:
        played = await read(session.stream(ASK))
    [request] = hearing.requests

    assert (None, "Hi") == (played.error, played.text)
    assert f"POST {ACCEPTED[form]} HTTP/1.1" == request.line
    assert "X-Evil" not in [line.partition(":")[0] for line in request.head.split("\r\n")]


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0177.0.0.1", "127.0.0.1."])
async def test_an_address_that_is_read_in_several_ways(hearing, host):
    """
    K25: numbers that one reads as this address and another as that are no host.
    """
    async with ChatSession(f"http://{host}:{hearing.port}/v1", retry=ONCE) as session:
        played = await read(session.stream(ASK))

    assert isinstance(played.error, RequestError)
    assert 0 == hearing.connections


def test_a_host_that_looks_like_another():
    """
    K25: a Cyrillic letter is written as what it is, where it can be seen.
    """
    session = ChatSession("https://\u0430pi.openai.com/v1", "k")

    assert "https://xn--pi-6kc.openai.com/v1" == session.base_url
    assert "xn--pi-6kc" in repr(session)
    assert URL(session.base_url).host != "api.openai.com"


async def test_no_model_changes_the_host(hearing):
    """
    K25: of an Azure deployment the model is one step of the path.
    """
    origin = hearing.origin
    async with ChatSession(origin, "k", api_version="1", retry=ONCE) as session:
        for model in ("//evil.invalid", "..", "a/../../b"):
            with pytest.raises(RequestError):
                await session.stream(ASK, model=model).__aenter__()
        for model in ("@evil.invalid", "a?b#c", "\\evil"):
            assert None is (await read(session.stream(ASK, model=model))).error
        await asyncio.sleep(0)
    paths = [request.line.split(" ")[1] for request in hearing.requests]

    assert 3 == len(paths)
    for path in paths:
        assert path.startswith("/openai/deployments/")
        assert path.endswith("/chat/completions?api-version=1")
        assert 5 == path.count("/")
