"""Sessions: where requests go and with what, on which connections, and for how long."""

import asyncio
import gc
import ssl
import warnings
import weakref

import aiohttp
import orjson
import pytest
from yarl import URL

import chatstream
from chatstream import (
    ChatRequest,
    ChatSession,
    FirstTokenTimeoutError,
    IdleTimeoutError,
    InterruptedStreamError,
    NotFoundError,
    RateLimitError,
    RequestError,
    RequestWarning,
    RetryPolicy,
    Timeouts,
    TotalTimeoutError,
    Verdict,
    stamping_session_options,
)
from chatstream.observers.memory import MemoryRecorder
from chatstream.report import ArrivalSource
from chatstream.session import DEFAULT_BASE_URL
from chatstream.testing import Profile, SimulatedServer

ASK = {"model": "m", "messages": [{"role": "user", "content": "count to 3"}]}
LONG = {"model": "m", "messages": [{"role": "user", "content": "count to 50,000"}]}
ONCE = RetryPolicy(1)


async def ask(session, **options):
    """Stream one answer and return the stream."""
    async with session.stream(ASK, **options) as stream:
        await stream.collect()
    return stream


def sent(mocked, url):
    """Return what aiohttp was asked to post to *url* the last time."""
    return mocked.requests["POST", URL(url)][-1].kwargs


# --- Where to, and with which key ------------------------------------------------


async def test_key_and_base_url_as_arguments(server):
    async with ChatSession(server.base_url, "sk-1") as session:
        stream = await ask(session)

    [request] = server.requests
    assert "1, 2, 3" == stream.completion.choices[0].message.content
    assert "/v1/chat/completions" == request.path
    assert "Bearer sk-1" == request.headers["authorization"]
    assert "application/json" == request.headers["content-type"]
    assert "identity" == request.headers["accept-encoding"]
    assert server.base_url == session.base_url


async def test_key_and_base_url_from_the_environment(server, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-env")
    async with ChatSession() as session:
        await ask(session)

    assert "Bearer sk-env" == server.requests[0].headers["authorization"]


async def test_arguments_win_over_the_environment(server, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://192.0.2.1/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-env")
    async with ChatSession(server.base_url, "sk-own") as session:
        await ask(session)

    assert "Bearer sk-own" == server.requests[0].headers["authorization"]


def test_without_a_base_url_openai_is_meant(monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "")

    assert DEFAULT_BASE_URL == ChatSession(api_key="sk-1").base_url


async def test_openai_needs_a_key(mocked):
    async with ChatSession() as session:
        with pytest.raises(RequestError, match="OPENAI_API_KEY") as caught:
            await ask(session)

    assert "api_key" == caught.value.parameter
    assert not mocked.requests


async def test_openai_takes_a_header_for_a_key(mocked, wire):
    url = f"{DEFAULT_BASE_URL}/chat/completions"
    mocked.post(url, body=wire.ANSWER)
    async with ChatSession(headers={"authorization": "Basic x"}) as session:
        await ask(session)

    assert "Basic x" == sent(mocked, url)["headers"]["Authorization"]


async def test_a_callable_key_is_asked_before_each_attempt(server):
    """
    Short-lived tokens may have run out between two attempts.
    """
    keys = iter(["sk-1", "sk-2", "sk-3"])
    headers = {"x-simulate-status": "503"}
    retry = RetryPolicy(2, max_wait=0)
    async with ChatSession(server.base_url, lambda: next(keys), retry=retry) as session:
        with pytest.raises(chatstream.ServerError):
            await ask(session, extra_headers=headers)
        await ask(session)

    seen = [request.headers["authorization"] for request in server.requests]
    assert ["Bearer sk-1", "Bearer sk-2", "Bearer sk-3"] == seen


async def test_an_async_callable_key(server):
    async def key():
        await asyncio.sleep(0)
        return "sk-async"

    async with ChatSession(server.base_url, key) as session:
        await session.create(ASK)

    assert "Bearer sk-async" == server.requests[0].headers["authorization"]


@pytest.mark.parametrize(
    ("given", "base"),
    [
        ("http://127.0.0.1:8000/v1/", "http://127.0.0.1:8000/v1"),
        ("http://127.0.0.1:8000//", "http://127.0.0.1:8000"),
        ("HTTPS://Host/V1", "https://host/V1"),
        ("https://host", "https://host"),
        ("https://host/v1/..", "https://host"),
        ("https://host/a/../../v1", "https://host/v1"),
        ("http://[::1]:1/v1", "http://[::1]:1/v1"),
        ("https://ex\u0430mple.com/v1", "https://xn--exmple-4nf.com/v1"),
    ],
)
def test_base_url(given, base):
    """
    Paths are added to it; whatever it is, the host stays the one given.
    """
    assert URL(base) == URL(ChatSession(given).base_url)


@pytest.mark.parametrize(
    "url", ["http://192.0.2.1/v1", "http://example.com", "http://127.example.com", "http://[::2]"]
)
def test_a_key_in_the_clear_warns(url):
    with pytest.warns(UserWarning, match="unencrypted") as caught:
        ChatSession(url, "sk-1")

    assert __file__ == caught[0].filename


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("http://localhost:1/v1", "sk-1"),
        ("http://127.0.0.1/v1", "sk-1"),
        ("http://127.8.8.8/v1", "sk-1"),
        ("http://[::1]/v1", "sk-1"),
        ("https://example.com/v1", "sk-1"),
        ("http://example.com/v1", None),
    ],
)
def test_no_warning_without_reason(url, key):
    ChatSession(url, key)


def test_repr_shows_no_key(canary):
    session = ChatSession("http://127.0.0.1/v1", canary.key)

    assert canary.key not in repr(session) + str(session) + repr(session._endpoint)


# --- Azure -------------------------------------------------------------------------


async def test_azure(mocked, wire):
    url = "https://x.openai.azure.com/openai/deployments/gpt-4o/chat/completions"
    url += "?api-version=2024-10-21"
    mocked.post(url, body=wire.ANSWER)
    session = ChatSession("https://x.openai.azure.com", "k", api_version="2024-10-21")
    async with session, session.stream(ASK, model="gpt-4o") as stream:
        completion = await stream.collect()

    assert "Hi" == completion.choices[0].message.content
    assert "k" == sent(mocked, url)["headers"]["api-key"]
    assert "Authorization" not in sent(mocked, url)["headers"]


async def test_azure_over_a_socket(server):
    async with ChatSession(server.origin, "k", api_version="2024-10-21") as session:
        await session.create(ASK)

    [request] = server.requests
    assert "/openai/deployments/m/chat/completions" == request.path
    assert "api-version=2024-10-21" == request.query
    assert "k" == request.headers["api-key"]


async def test_azure_with_a_path_of_its_own(mocked, wire):
    url = "https://x.azure.com/openai/v1/chat/completions?api-version=preview"
    mocked.post(url, body=wire.ANSWER)
    base = "https://x.azure.com/openai/v1/"
    async with ChatSession(base, "k", api_version="preview") as session:
        await ask(session)

    assert sent(mocked, url)


@pytest.mark.parametrize("model", ["..", ".", "a/b", "/a", "../../x"])
async def test_an_azure_deployment_is_one_step_of_the_path(mocked, model):
    async with ChatSession("https://x.azure.com", "k", api_version="1") as session:
        with pytest.raises(RequestError) as caught:
            await session.create(ASK, model=model)

    assert "model" == caught.value.parameter
    assert not mocked.requests


async def test_an_azure_deployment_is_quoted(mocked, wire):
    url = URL("https://x.azure.com/openai/deployments/a%3Fb%23c/chat/completions?api-version=1")
    mocked.post(url, body=wire.ANSWER)
    async with ChatSession("https://x.azure.com", "k", api_version="1") as session:
        await ask(session, model="a?b#c")

    assert mocked.requests["POST", url]


# --- Headers ---------------------------------------------------------------------------


async def test_headers_of_the_call_win_over_those_of_the_session(server):
    headers = {"X-A": "session", "X-B": "session"}
    async with ChatSession(server.base_url, "k", headers=headers) as session:
        await ask(session, extra_headers={"X-B": "call", "X-C": "call"})

    request = server.requests[0].headers
    assert ["session", "call", "call"] == [request[name] for name in ("x-a", "x-b", "x-c")]


async def test_headers_are_the_same_in_any_case(raw_server, wire):
    """
    A header that is given again replaces the one before, however it is written.
    """
    raw = await raw_server(wire.response(wire.ANSWER))
    headers = {"user-agent": "mine", "X-A": "session"}
    async with ChatSession(raw.base_url, "k", headers=headers) as session:
        await ask(session, extra_headers={"x-a": "call", "AUTHORIZATION": "Basic own"})

    lines = [line.lower() for line in raw.requests[0].head.split("\r\n")]
    names = [line.partition(":")[0] for line in lines[1:] if line]
    assert sorted(set(names)) == sorted(names)
    assert {"user-agent: mine", "x-a: call", "authorization: basic own"} <= {*lines}


async def test_our_user_agent(server):
    async with ChatSession(server.base_url) as session:
        await ask(session)

    assert server.requests[0].headers["user-agent"].startswith("chatstream")


@pytest.mark.parametrize(
    "headers", [{"X-A": "a\r\nX-B: b"}, {"X-A\n": "b"}, {"X-A": "a\x00"}, {"X-A": 1}, {"": "x"}]
)
async def test_headers_that_cannot_be_sent_are_refused(server, headers):
    async with ChatSession(server.base_url, "k", retry=ONCE) as session:
        with pytest.raises(RequestError):
            await ask(session, extra_headers=headers)
        with pytest.raises(RequestError):
            await session.create(ASK, extra_headers=headers)

    assert [] == server.requests
    with pytest.raises(RequestError):
        ChatSession(server.base_url, headers=headers)


# --- What a response says besides ------------------------------------------------------


async def test_request_id_and_rate_limits(server, session):
    stream = await ask(session)

    response = stream.response
    assert 200 == response.status
    assert "req_0000000000000001" == response.request_id == stream.report.request_id
    assert (10_000, 9_999, "6ms") == (
        response.request_limit.limit,
        response.request_limit.remaining,
        response.request_limit.reset,
    )
    assert 1_999_000 == response.token_limit.remaining


async def test_an_error_of_create_has_the_request_id(session):
    with pytest.raises(chatstream.ServerError) as caught:
        await session.create(ASK, extra_headers={"x-simulate-status": "500"})

    assert "req_0000000000000001" == caught.value.request_id


async def test_an_error_of_a_stream_has_the_request_id(session):
    with pytest.raises(chatstream.ServerError) as caught:
        await ask(session, extra_headers={"x-simulate-status": "500"})

    assert "req_0000000000000001" == caught.value.request_id


# --- Connections ---------------------------------------------------------------------


async def test_a_connection_serves_again_after_done(server, session):
    for _ in range(200):
        stream = await ask(session)
        assert Verdict.FINISHED is stream.verdict

    assert 1 == server.connections
    assert stream.report.phases.reused


async def test_answers_that_are_not_streamed_share_the_connection(server, session):
    for _ in range(5):
        await session.create(ASK)
        await ask(session)

    assert 1 == server.connections


@pytest.mark.parametrize("whole", [False, True], ids=["stream", "create"])
async def test_a_limit_of_the_http_session_ends_no_answer(server, whole):
    """
    aiohttp's default of 300 s for a whole request would; here it is a hundredth of a second.
    """
    server.profile = Profile(time_to_first_token=0.05, gap=0.02, tokens=3)
    options = stamping_session_options() | {"timeout": aiohttp.ClientTimeout(total=0.01)}
    async with (
        aiohttp.ClientSession(**options) as http,
        ChatSession(server.base_url, http=http, retry=ONCE) as session,
    ):
        verdict = (await session.create(ASK)).verdict if whole else (await ask(session)).verdict

    assert verdict in {Verdict.FINISHED, Verdict.LENGTH}


async def test_there_is_no_ceiling_of_100_connections():
    """
    aiohttp's own would let stream 101 wait for the end of another.
    """
    count = 150
    profile = Profile(time_to_first_token=60, time_to_role=0, gap=0)
    async with (
        SimulatedServer(profile) as server,
        ChatSession(server.base_url, "k", retry=ONCE) as session,
    ):
        streams = [session.stream(ASK) for _ in range(count)]
        async with asyncio.timeout(30):
            await asyncio.gather(*(stream.__aenter__() for stream in streams))
        assert count == server.open_streams
        assert count == server.connections
        for stream in streams:
            await stream.__aexit__(None, None, None)
        await server.until(lambda s: s.open_streams == 0)

    assert {Verdict.CLOSED} == {stream.verdict for stream in streams}


async def test_many_streams_at_once_all_arrive(server):
    async with ChatSession(server.base_url, "k", retry=ONCE) as session:
        streams = await asyncio.gather(*(ask(session) for _ in range(150)))

    contents = {stream.completion.choices[0].message.content for stream in streams}
    assert {"1, 2, 3"} == contents


async def test_an_error_in_the_callers_code_closes_the_connection(server, session):
    async def read():
        async with session.stream(LONG) as stream:
            async for _ in stream:
                raise LookupError

    with pytest.raises(LookupError):
        await read()
    async with asyncio.timeout(5):
        await server.until(lambda s: s.open_connections == 0)


async def test_max_in_flight():
    profile = Profile(time_to_first_token=0.01, gap=0)
    seen = [0]
    async with SimulatedServer(profile) as server:

        async def watch():
            while True:
                seen.append(max(seen[-1], server.open_streams))
                await server.until(lambda s: s.open_streams > seen[-1])

        watcher = asyncio.create_task(watch())
        async with ChatSession(server.base_url, "k", retry=ONCE, max_in_flight=3) as session:
            await asyncio.gather(*(ask(session) for _ in range(10)), session.create(ASK))
        watcher.cancel()
        await asyncio.wait([watcher])

    assert 3 == max(seen)
    assert 11 == len(server.requests)


async def test_max_in_flight_is_freed_by_whatever_ends_a_request(server):
    """
    A slot that isn't given back would stop the session for good.
    """
    async with (
        asyncio.timeout(10),
        ChatSession(server.base_url, "k", retry=ONCE, max_in_flight=1) as session,
    ):
        with pytest.raises(chatstream.ServerError):
            await ask(session, extra_headers={"x-simulate-status": "500"})
        with pytest.raises(chatstream.ServerError):
            await session.create(ASK, extra_headers={"x-simulate-status": "500"})
        async with session.stream(LONG):
            pass
        async with session.stream(ASK) as first:
            waiting = asyncio.create_task(ask(session))
            await first.collect()
            await asyncio.sleep(0)
            assert not waiting.done()
        await waiting
        async with session.stream(ASK):
            cancelled = asyncio.create_task(ask(session))
            await asyncio.sleep(0)
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
        await ask(session)


@pytest.mark.parametrize("limit", [0, -1])
def test_max_in_flight_must_let_something_through(limit):
    with pytest.raises(RequestError) as caught:
        ChatSession("http://127.0.0.1", max_in_flight=limit)

    assert "max_in_flight" == caught.value.parameter


# --- Not streamed ------------------------------------------------------------------------


async def test_create(server, session):
    with pytest.warns(RequestWarning, match="deprecated"):
        completion = await session.create(
            model="gpt-4o-mini",
            messages=[{"role": "user", "content": "count to 5"}],
            temperature=0.5,
            n=2,
            stop=[" 4", "x"],
            max_tokens=50,
            presence_penalty=0.1,
            frequency_penalty=-0.1,
            logit_bias={"50256": -100},
            user="somebody",
            seed=7,
            metadata={"a": "b"},
            extra_body={"top_k": 4},
        )

    body = server.requests[0].body
    assert 2 == len(completion.choices)
    assert "1, 2, 3," == completion.choices[0].message.content.rstrip()
    assert "assistant" == completion.choices[0].message.role
    assert "stop" == completion.choices[0].finish_reason
    assert Verdict.FINISHED is completion.verdict
    assert completion.usage.total_tokens > 0
    assert {
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": "count to 5"}],
        "temperature": 0.5,
        "n": 2,
        "stop": [" 4", "x"],
        "max_tokens": 50,
        "presence_penalty": 0.1,
        "frequency_penalty": -0.1,
        "logit_bias": {"50256": -100},
        "user": "somebody",
        "seed": 7,
        "metadata": {"a": "b"},
        "top_k": 4,
    } == body


async def test_create_with_top_p_from_a_request(server, session):
    request = ChatRequest(model="m", messages=[chatstream.user("say hello")], top_p=0.5)
    completion = await session.create(request)

    assert "hello" == completion.choices[0].message.content
    assert 0.5 == server.requests[0].body["top_p"]


async def test_create_cut_by_the_token_limit(session):
    completion = await session.create(ASK, max_completion_tokens=2)

    assert "length" == completion.choices[0].finish_reason
    assert Verdict.LENGTH is completion.verdict


async def test_streamed_and_whole_answers_agree(session):
    """
    A caller may switch between the two without noticing but for the time.
    """
    params = {"n": 3, "logprobs": True, "top_logprobs": 2, "seed": 5}
    message = [{"role": "user", "content": "tell me something"}]
    whole = await session.create(model="m", messages=message, **params)
    async with session.stream(model="m", messages=message, **params) as stream:
        streamed = await stream.collect()

    assert chatstream.to_dict(whole.usage) == chatstream.to_dict(streamed.usage)
    for one, other in zip(whole.choices, streamed.choices, strict=True):
        assert one.message.content == other.message.content
        assert one.finish_reason == other.finish_reason
        assert (
            chatstream.to_dict(one.logprobs)["content"]
            == (chatstream.to_dict(other.logprobs)["content"])
        )


async def test_create_tries_again(server, session):
    server.profile = Profile.preset("instant", error_rate=0.5, error_status=503, seed=3)
    for _ in range(10):
        await session.create(ASK, retry=RetryPolicy(20, max_wait=0))

    assert 10 < len(server.requests)


async def test_create_takes_no_longer_than_total(server, session):
    server.profile = Profile(time_to_first_token=60)
    with pytest.raises(TotalTimeoutError) as caught:
        await session.create(ASK, timeouts=Timeouts(total=0.01))

    assert isinstance(caught.value, TimeoutError)
    assert caught.value.__suppress_context__
    assert (1, Verdict.TIMEOUT) == (len(caught.value.attempts), caught.value.report.verdict)
    async with asyncio.timeout(5):
        await server.until(lambda s: s.open_connections == 0)


async def test_create_waits_for_the_answer_to_begin_no_longer_than_for_a_first_token(server):
    """
    A server that takes the request and stays mute is no reason to wait for ever.
    """
    server.profile = Profile(time_to_first_token=60)
    limits = Timeouts(first_token=0.01)
    async with ChatSession(server.base_url, retry=RetryPolicy(2, max_wait=0)) as session:
        with pytest.raises(FirstTokenTimeoutError) as caught:
            await session.create(ASK, timeouts=limits)

    assert 2 == len(caught.value.attempts)


async def test_create_tells_observers_as_a_stream_does(server):
    """
    Whoever counts calls counts these too.
    """
    ours, theirs = MemoryRecorder(), MemoryRecorder()
    async with ChatSession(server.base_url, observers=[ours], retry=ONCE) as session:
        await session.create(ASK, observers=[theirs])
        with pytest.raises(NotFoundError) as caught:
            await session.create(ASK, model="no-such-model")

    assert {Verdict.FINISHED: 1, Verdict.HTTP_ERROR: 1} == ours.outcomes
    assert {Verdict.FINISHED: 1} == theirs.outcomes
    (report,) = theirs.reports
    assert report.completion_tokens > 0
    assert report.stream_end > report.phases.headers > 0
    assert report.time_to_first_token is None
    assert 404 == caught.value.report.status == caught.value.attempts[0].status


async def test_options_of_a_stream_are_no_options_of_create(session):
    with pytest.raises(RequestError, match="stream_options"):
        await session.create(ASK, stream_options={"include_usage": True})


async def test_an_error_status_tells_its_headers(server, session):
    """
    Rate limits are most wanted when they are hit.
    """
    headers = {"x-simulate-status": "429"}
    with pytest.raises(RateLimitError) as caught:
        async with session.stream(ASK, extra_headers=headers):
            pass

    error = caught.value
    assert 429 == error.response.status == error.report.status == error.attempts[0].status
    assert error.request_id == error.report.request_id == error.response.request_id
    assert error.request_id
    assert error.response.request_limit.limit > 0


async def test_what_came_before_the_connection_broke_is_handed_out(raw_server, wire):
    """
    Also to a caller who was busy when it did.
    """
    began = asyncio.Event()

    async def answer(connection):
        await connection.request()
        await connection.send(wire.STREAM_HEAD + wire.http_chunk(wire.chunk("a")))
        await began.wait()
        await connection.send(wire.http_chunk(wire.chunk("b") + wire.chunk("c")))

    async def busily(stream):
        async with stream:
            async for text in stream.text():
                texts.append(text)
                began.set()
                while stream._body._response.content.exception() is None:  # noqa: ASYNC110
                    await asyncio.sleep(0)

    raw = await raw_server(answer)
    texts = []
    async with ChatSession(raw.base_url, "k", retry=ONCE) as session:
        with pytest.raises(InterruptedStreamError) as caught:
            await busily(session.stream(ASK))

    assert ["a", "b", "c"] == texts
    assert "abc" == caught.value.partial.text


async def test_a_timeout_around_create_is_the_callers(server, session):
    server.profile = Profile(time_to_first_token=60)
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.01):
            await session.create(ASK, timeouts=Timeouts(total=30))

    assert not isinstance(caught.value, chatstream.ChatStreamError)


# --- Before anything is sent ---------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": 3},
        {"model": ""},
        {"messages": []},
        {"top_logprobs": 2},
        {"n": float("nan")},
        {"user": "\ud800"},
    ],
)
async def test_a_wrong_request_is_refused_before_anything_is_sent(server, session, wrong):
    with pytest.raises(RequestError):
        session.stream(ASK, **wrong)
    with pytest.raises(RequestError):
        await session.create(ASK, **wrong)

    assert 0 == server.connections


async def test_unchecked_by_the_call(server, session):
    with pytest.raises(chatstream.BadRequestError, match="temperature"):
        await ask(session, validate=False, extra_body={"temperature": 9})

    assert 9 == server.requests[0].body["temperature"]


async def test_unchecked_by_the_session(server):
    async with ChatSession(server.base_url, validate=False, retry=ONCE) as session:
        with pytest.raises(chatstream.BadRequestError, match="temperature"):
            await session.create(ASK, temperature=9)
        with pytest.raises(RequestError):
            await session.create(ASK, temperature=9, validate=True)

    assert 1 == len(server.requests)


async def test_warnings_name_the_callers_line(session):
    with pytest.warns(RequestWarning) as streamed:
        session.stream(ASK, temperature=1, top_p=0.5)
    with pytest.warns(RequestWarning) as created:
        await session.create(ASK, temperature=1, top_p=0.5)

    assert [__file__] * 2 == [streamed[0].filename, created[0].filename]


async def test_usage_is_asked_for(server, session):
    stream = await ask(session)
    without = await ask(session, stream_options={"include_usage": False})

    assert {"include_usage": True} == server.requests[0].body["stream_options"]
    assert {"include_usage": False} == server.requests[1].body["stream_options"]
    assert stream.report.completion_tokens
    assert without.report.completion_tokens is None


@pytest.mark.parametrize("status", ["400 Bad Request", "422 Unprocessable Entity"])
async def test_usage_is_left_out_where_it_is_refused(raw_server, wire, status):
    """
    Some servers know no stream_options. The caller didn't ask for them.
    """

    async def answer(connection):
        while (request := await connection.request()) is not None:
            body = orjson.loads(request.body)
            bodies.append(body)
            if "stream_options" in body:
                error = b'{"error":{"message":"Extra inputs: stream_options","type":"x"}}'
                await connection.send(wire.response(error, status, "application/json"))
            else:
                await connection.send(wire.response(wire.ANSWER))

    bodies = []
    raw = await raw_server(answer)
    async with ChatSession(raw.base_url, retry=ONCE) as session:
        stream = await ask(session)
        with pytest.raises(chatstream.BadRequestError):
            await ask(session, stream_options={"include_usage": True})

    assert "Hi" == stream.completion.choices[0].message.content
    assert [True, False, True] == ["stream_options" in body for body in bodies]
    assert 1 == len(stream.attempts)


async def test_only_what_we_added_is_left_out(raw_server, wire):
    """
    The caller's own options stay; and a place in the queue is taken each time.
    """

    async def answer(connection):
        while (request := await connection.request()) is not None:
            options.append(orjson.loads(request.body)["stream_options"])
            if "include_usage" in options[-1]:
                error = b'{"detail": "%b include_usage"}' % (b"x" * 400)
                await connection.send(wire.response(error, "400 No", "application/json"))
            else:
                await connection.send(wire.response(wire.ANSWER))

    options = []
    raw = await raw_server(answer)
    async with ChatSession(raw.base_url, retry=ONCE, max_in_flight=1) as session:
        for _ in range(2):
            await ask(session, stream_options={"include_obfuscation": False})

    wanted = {"include_obfuscation": False}
    assert [wanted | {"include_usage": True}, wanted] * 2 == options


async def test_another_complaint_is_not_about_usage(server, session):
    with pytest.raises(chatstream.BadRequestError):
        await ask(session, extra_headers={"x-simulate-status": "400"})

    assert 1 == len(server.requests)


# --- Proxies ---------------------------------------------------------------------------------


class Proxy:
    """Passes on what it is asked to, by CONNECT or by a whole URL."""

    def __init__(self):
        self.lines = []
        self.authorizations = []

    async def __call__(self, connection):
        request = await connection.request()
        if request is None:
            return
        self.lines.append(request.line)
        for line in request.head.split("\r\n"):
            if line.lower().startswith("proxy-authorization:"):
                self.authorizations.append(line)
        method, target, _ = request.line.split(" ")
        url = URL(f"//{target}" if method == "CONNECT" else target)
        reader, writer = await asyncio.open_connection(url.host, url.port)
        try:
            if method == "CONNECT":
                await connection.send(b"HTTP/1.1 200 Connected\r\n\r\n")
            else:
                head = request.head.replace(str(URL(target).origin()), "", 1)
                writer.write(head.encode() + request.body)
            async with asyncio.TaskGroup() as group:
                group.create_task(pump(connection.reader, writer))
                group.create_task(pump(reader, connection.writer))
        finally:
            writer.close()


async def pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()
    except ConnectionError:
        writer.close()


async def test_a_proxy_for_plain_http(server, raw_server):
    through = Proxy()
    proxy = await raw_server(through)
    url = proxy.origin.replace("://", "://me:hidden@")
    async with ChatSession(server.base_url, "k", proxy=url, retry=ONCE) as session:
        stream = await ask(session)

    assert "1, 2, 3" == stream.completion.choices[0].message.content
    assert [f"POST {server.base_url}/chat/completions HTTP/1.1"] == through.lines
    assert 1 == len(through.authorizations)
    assert ArrivalSource.READER is not stream.report.source


async def test_a_connect_proxy(raw_server, wire, server_tls, client_tls):
    through = Proxy()
    proxy = await raw_server(through)
    url = proxy.origin.replace("://", "://me:hidden@")
    server = await raw_server(wire.always(wire.response(wire.ANSWER)), tls=server_tls)
    async with ChatSession(server.base_url, "k", proxy=url, tls=client_tls, retry=ONCE) as session:
        stream = await ask(session)
        again = await ask(session)

    assert "Hi" == stream.completion.choices[0].message.content
    assert [f"CONNECT 127.0.0.1:{server.port} HTTP/1.1"] == through.lines
    assert 1 == len(through.authorizations)
    assert again.report.phases.reused
    assert ArrivalSource.READER is not stream.report.source


@pytest.mark.parametrize("url", ["ftp://h", "h:80", "http://", "http://user:canary@", 7])
def test_proxies_that_are_refused(url):
    with pytest.raises(RequestError) as caught:
        ChatSession("http://127.0.0.1", proxy=url)

    assert "proxy" == caught.value.parameter
    assert "canary" not in str(caught.value)


# --- TLS ----------------------------------------------------------------------------------------


async def test_tls_with_an_authority_of_ones_own(raw_server, wire, server_tls, client_tls):
    server = await raw_server(wire.always(wire.response(wire.ANSWER)), tls=server_tls)
    async with ChatSession(server.base_url, "k", tls=client_tls, retry=ONCE) as session:
        for _ in range(3):
            stream = await ask(session)

    assert "Hi" == stream.completion.choices[0].message.content
    assert stream.report.phases.reused
    assert 1 == server.connections


# --- The caller's own HTTP session ----------------------------------------------------------


async def test_the_callers_own_session_is_used_and_left_open(server):
    """
    A service or a bot has one already, with its own connector and settings.
    """
    async with aiohttp.ClientSession(headers={"X-Mine": "yes"}) as http:
        async with ChatSession(server.base_url, "k", http=http) as session:
            stream = await ask(session)
        assert not http.closed

    assert ArrivalSource.READER is stream.report.source
    assert stream.report.phases.reused is None
    assert stream.report.coalesced_share == 1
    assert "yes" == server.requests[0].headers["x-mine"]


async def test_the_callers_own_session_with_true_arrivals(server):
    async with aiohttp.ClientSession(**stamping_session_options()) as http:
        async with ChatSession(server.base_url, "k", http=http) as session:
            stream = await ask(session)
        assert not http.closed

    assert ArrivalSource.READER is not stream.report.source
    assert stream.report.phases.reused is False
    assert stream.report.sent > 0


async def test_the_callers_own_session_raises_for_no_status_and_ends_no_stream(server):
    """
    Settings that suit the caller's other requests don't break streams.
    """
    timeout = aiohttp.ClientTimeout(total=1e-9)
    async with (
        aiohttp.ClientSession(raise_for_status=True, timeout=timeout) as http,
        ChatSession(server.base_url, "k", http=http, retry=ONCE) as session,
    ):
        with pytest.raises(chatstream.PermissionDeniedError):
            await ask(session, extra_headers={"x-simulate-status": "403"})
        await ask(session)


async def test_the_callers_own_session_closed_by_the_caller(server):
    http = aiohttp.ClientSession()
    await http.close()
    async with ChatSession(server.base_url, "k", http=http) as session:
        with pytest.raises(RuntimeError):
            await ask(session)
        with pytest.raises(RuntimeError):
            await session.create(ASK)


# --- The life of a session -------------------------------------------------------------------


def test_a_session_that_was_never_used_leaves_nothing_open():
    session = ChatSession("http://127.0.0.1/v1")
    asyncio.run(session.aclose())
    asyncio.run(session.aclose())


async def test_a_closed_session_is_misuse(server):
    session = ChatSession(server.base_url)
    unopened = session.stream(ASK)
    async with session:
        await ask(session)
    for _ in range(2):
        await session.aclose()

    with pytest.raises(RuntimeError, match="closed"):
        session.stream(ASK)
    with pytest.raises(RuntimeError, match="closed"):
        await session.create(ASK)
    with pytest.raises(RuntimeError, match="closed"):
        await unopened.__aenter__()
    assert 1 == len(server.requests)


async def test_who_waits_for_a_closed_session_hears_of_it(server):
    """
    A request that waits for its turn is told, instead of waiting for ever.
    """
    session = ChatSession(server.base_url, retry=ONCE, max_in_flight=1)
    async with asyncio.timeout(5), session.stream(LONG):
        waiting = asyncio.create_task(session.create(ASK))
        await asyncio.sleep(0)
        await session.aclose()
        with pytest.raises(RuntimeError, match="closed"):
            await waiting

    assert 1 == len(server.requests)


async def test_a_session_forgets_streams_that_are_over(session):
    """
    Or a service would grow with each request.
    """
    gone = weakref.ref(await ask(session))
    gc.collect()

    assert gone() is None


async def test_nobody_remembers_a_stream_that_was_broken_off(server):
    """
    aiohttp has one error for all bodies that are closed under their reader, and
    it holds on to all that it was raised through: prompt, key and answer.
    """
    server.profile = Profile(time_to_first_token=0, gap=60)

    async def broken_off(session):
        stream = session.stream(ASK)
        with pytest.raises(IdleTimeoutError):
            await take(stream)
        return weakref.ref(stream)

    async def take(stream):
        async with stream:
            await stream.collect()

    timeouts = Timeouts(idle=0.01)
    async with ChatSession(server.base_url, timeouts=timeouts, retry=ONCE) as session:
        gone = await broken_off(session)
        gc.collect()

        assert gone() is None


async def test_defaults_of_a_call_are_those_of_its_session(server):
    recorded = []

    class Observer:
        def stream_ended(self, report):
            recorded.append(report)

    one, other = Observer(), Observer()
    async with ChatSession(server.base_url, observers=[one]) as session:
        await ask(session)
        await ask(session, observers=[other])

    assert 3 == len(recorded)
    assert recorded[1] is recorded[2] or recorded[1] == recorded[2]


def test_no_warning_for_a_trusted_default():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ChatSession(tls=ssl.create_default_context(), api_key="k")
